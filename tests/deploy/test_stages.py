"""Points opened together: chains, other sizes, and what does not fit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.core.ladder import Ladder, Point
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.check import trust
from shoestring.deploy.preprocess import preprocess
from shoestring.deploy.session import load
from shoestring.deploy.stages import open_stages

SPEC = {"kind": "image", "resize": 8, "interpolation": "bilinear", "crop": [8, 8], "mean": [127] * 3, "std": [128] * 3}
PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
Write = Callable[..., shoe.Artifact]


def graph(nodes: list[NodeProto], constants: dict[str, np.ndarray], inputs: dict, outputs: dict) -> bytes:
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in of.items()]
        for of in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "part", *ends, tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    data = model.SerializeToString()
    trust(data)
    return data


@pytest.fixture
def parts(classifier: ModelProto) -> dict[str, bytes]:
    """The classifier, also cut after its ReLU: `head` answers early and hands on "r", `tail` answers as the whole."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in classifier.graph.initializer}
    node = {item.name: item for item in classifier.graph.node}
    early = [helper.make_node("GlobalAveragePool", ["r"], ["p"]), helper.make_node("Flatten", ["p"], ["early"])]
    whole = classifier.SerializeToString()
    trust(whole)
    return {
        "whole.onnx": whole,
        "head.onnx": graph(
            [node["stem"], node["relu"], *early],
            {"w": found["w"], "b": found["b"]},
            {"x": [1, 3, 8, 8]},
            {"early": [1, 4], "r": [1, 4, 8, 8]},
        ),
        "tail.onnx": graph(
            [node["pool"], node["flatten"], node["head"]],
            {"head": found["head"], "offset": found["offset"]},
            {"r": [1, 4, 8, 8]},
            {"y": [1, 5]},
        ),
    }


@pytest.fixture
def written(parts: dict[str, bytes], tmp_path: Path) -> Write:
    def make(points: Ladder, **more: bytes) -> shoe.Artifact:
        members = {**parts, **{name.replace("_", "."): data for name, data in more.items()}}
        shoe.write(tmp_path / "x.shoe", shoe.Contents(SPEC, (), points, members))
        return shoe.read(tmp_path / "x.shoe")

    return make


CHAIN = (Point("head.onnx"), Point("tail.onnx", after=0))


@pytest.mark.parametrize("runtime", runtimes.installed(runtimes.STOCK))
def test_a_chain_answers_as_the_whole(written: Write, runtime: str) -> None:
    artifact = written((*CHAIN, Point("whole.onnx")))
    stages = open_stages(artifact, runtime, 1, range(3))
    assert [stages[point].path for point in range(3)] == [(0,), (0, 1), (2,)]
    x = preprocess(SPEC, PHOTOGRAPH)[None]
    early, handed = stages[0](x)
    assert early.shape == (4,)
    assert set(handed) == {"r"}
    whole = stages[2](x)[0]
    atol = 0.05 if runtimes.get(runtime).default_precision() == "bf16" else 1e-5
    assert np.allclose(stages[1](handed)[0], whole, atol=atol)
    assert np.allclose(load(artifact.file, runtime=runtime, point=1).outputs(PHOTOGRAPH), whole, atol=atol)


def test_only_what_is_needed_is_opened(written: Write) -> None:
    artifact = written((*CHAIN, Point("whole.onnx")))
    assert set(open_stages(artifact, "onnxruntime", 1, [1])) == {0, 1}
    assert set(open_stages(artifact, "onnxruntime", 1, [2])) == {2}


def test_a_point_of_another_size_is_shown_the_same_part(written: Write, build) -> None:
    pool = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
    graphs = {f"s{size}_onnx": build(pool, {}, [1, 3, size, size], [1, 3]).SerializeToString() for size in (8, 16)}
    for data in graphs.values():
        trust(data)
    artifact = written((Point("s8.onnx"), Point("s16.onnx")), **graphs)
    stages = open_stages(artifact, "onnxruntime", 1, range(2))
    assert stages[0].spec == SPEC
    assert stages[1].spec == {**SPEC, "resize": 16, "crop": [16, 16]}
    means = [stage(preprocess(stage.spec, PHOTOGRAPH)[None])[0] for stage in stages.values()]
    assert np.allclose(*means, atol=0.05)


def test_what_does_not_fit_is_refused_in_one_line(written: Write, build) -> None:
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    other = build(relu, {}, [1, 4, 8, 8], [1, 4, 8, 8]).SerializeToString()
    wide = graph([helper.make_node("Relu", ["r"], ["y"])], {}, {"r": [1, 5, 8, 8]}, {"y": [1, 5, 8, 8]})
    trust(other)
    for points, words in (
        ((Point("head.onnx"), Point("other.onnx", after=0)), "point 1 takes 'x', which point 0 does not hand on"),
        ((Point("head.onnx"), Point("wide.onnx", after=0)), "point 1 takes 'r', which point 0 does not hand on"),
        ((Point("whole.onnx"), Point("tail.onnx", after=0)), "point 1 takes 'r', which point 0 does not hand on"),
        ((Point("head.onnx"), Point("tail.onnx")), r"its network takes \[\(1, 4, 8, 8\)\]"),
    ):
        artifact = written(points, other_onnx=other, wide_onnx=wide)
        with pytest.raises(BadInput, match=rf"x\.shoe: {words}") as refused:
            open_stages(artifact, "onnxruntime", 1, range(2))
        assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match="there is no point 2"):
        open_stages(written(CHAIN), "onnxruntime", 1, [2])


@pytest.mark.parametrize(
    ("inputs", "outputs", "node", "words"),
    [
        ((TensorProto.INT64, [1, 3, 8, 8]), [1, 3, 8, 8], "Abs", "takes int64 where its preprocessing gives float32"),
        ((TensorProto.FLOAT, [1, 3, 8, 8]), [], "ReduceSum", "gives one number for all inputs together"),
    ],
)
def test_ends_that_cannot_be_used_are_refused(
    written: Write, inputs: tuple, outputs: list, node: str, words: str
) -> None:
    kind, shape = inputs
    ends = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", kind, outputs)
    nodes = [helper.make_node(node, ["x"], ["y"], **({} if outputs else {"keepdims": 0}))]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    data = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    trust(data)
    with pytest.raises(BadInput, match=words):
        open_stages(written((Point("odd.onnx"),), odd_onnx=data), "onnxruntime", 1, [0])


def test_stages_are_opened_together(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the runtime may share weights between them."""
    asked, open_all = [], runtimes.open_all

    def noted(runtime: str, graphs: list[bytes], threads: int) -> list[runtimes.Session]:
        asked.append((runtime, len(graphs), threads))
        return open_all(runtime, graphs, threads)

    monkeypatch.setattr(runtimes, "open_all", noted)
    open_stages(written(CHAIN), "onnxruntime", 2, range(2))
    assert asked == [("onnxruntime", 2, 2)]
