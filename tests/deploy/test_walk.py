"""Walking along a graph: every tensor as the whole graph makes it, from wherever the walk has come to."""

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, helper

from shoestring.deploy.rewrite import infer
from shoestring.deploy.walk import Walk, last_cut, section, upstream

LAYERS = ["stem.1", "depthwise.0", "project.0", "reduce", "expand", "grouped", "mix", "head"]


def whole(model: ModelProto, tensors: list[str], inputs: list[np.ndarray]) -> list[list[np.ndarray]]:
    """With the runtime alone: every tensor an output of the whole graph."""
    copy = infer(model)
    have = {value.name for value in copy.graph.output}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors if name not in have)
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run(tensors, {session.get_inputs()[0].name: x}) for x in inputs]


def node(model: ModelProto, name: str):
    return next(node for node in model.graph.node if node.name == name)


@pytest.mark.parametrize("which", ["floats", "quantised"])
@pytest.mark.parametrize("layer", LAYERS)
def test_what_is_read_is_what_the_whole_graph_makes(which: str, layer: str, inputs, request) -> None:
    model = request.getfixturevalue(which)
    walk = Walk(model, inputs)
    names = [node(model, layer).input[0], node(model, layer).output[0]]
    expected = whole(model, names, inputs)
    for walked in (False, True):
        if walked:
            for passed in LAYERS[: LAYERS.index(layer) + 1]:
                walk.go(passed)
        for ours, theirs in zip(walk.read(names), expected, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(one, other, atol=2e-5)
    assert walk.inputs == len(inputs)


def test_the_input_itself_and_a_name_twice(floats: ModelProto, inputs) -> None:
    name, output = floats.graph.input[0].name, floats.graph.output[0].name
    for (x, y, again), given in zip(Walk(floats, inputs).read([name, output, name]), inputs, strict=True):
        assert x is given
        assert again is given
        assert y.shape == (1, 5)


def test_beyond_its_place_a_graph_may_change(floats: ModelProto, inputs) -> None:
    """What was changed behind the place that was reached is seen; the values kept there are as they were."""
    model = ModelProto()
    model.CopyFrom(floats)
    walk = Walk(model, inputs)
    walk.go("head")
    place = walk._place
    assert place != model.graph.input[0].name
    weight = next(t for t in model.graph.initializer if t.name == node(model, "head").input[1])
    weight.raw_data = np.zeros(weight.dims, np.float32).tobytes()
    bias = next(t for t in model.graph.initializer if t.name == node(model, "head").input[2])
    expected = np.frombuffer(bias.raw_data, np.float32)
    for (y,) in walk.read([model.graph.output[0].name]):
        np.testing.assert_allclose(y[0], expected)


def test_a_residual_is_one_place_only_after_the_sum(floats: ModelProto) -> None:
    """While the branch is under way two tensors are alive: the last place is in front of it."""
    depthwise, project, grouped = (last_cut(floats, name) for name in ("depthwise.0", "project.0", "grouped"))
    assert depthwise == project
    assert grouped not in (depthwise, None)
    assert last_cut(floats, "stem.1") != floats.graph.output[0].name


def test_no_room_no_step(floats: ModelProto, inputs) -> None:
    walk = Walk(floats, inputs, room=10)
    walk.go("head")
    assert walk._place == floats.graph.input[0].name
    assert len(list(walk.read([floats.graph.output[0].name]))) == len(inputs)


def test_a_section_is_a_model_of_its_own(floats: ModelProto) -> None:
    start, end = node(floats, "grouped").input[0], node(floats, "mix").output[0]
    part = section(floats, start, [end])
    assert [value.name for value in part.graph.input] == [start]
    assert [value.name for value in part.graph.output] == [end]
    assert {"grouped", "mix"} <= {node.name for node in part.graph.node}
    assert "stem.1" not in {node.name for node in part.graph.node}


def test_upstream(floats: ModelProto) -> None:
    found = upstream(floats, node(floats, "project.0").output[0])
    assert {"stem.1", "depthwise.0", "project.0"} <= found
    assert not found & {"reduce", "grouped", "head"}
    assert upstream(floats, floats.graph.input[0].name) == set()
