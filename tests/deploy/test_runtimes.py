"""What all runtimes have in common: the same outputs for the same graph, and one line for a bad one."""

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from shoestring.core.errors import BadInput, GivenUp
from shoestring.deploy import runtimes
from shoestring.deploy.runtimes import STOCK, TensorSpec, get, installed

Build = Callable[..., ModelProto]


def test_the_base_runtime_is_always_there() -> None:
    assert installed()[0] == "onnxruntime" == get("onnxruntime").NAME


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(BadInput, match="unknown 'tensorrt'; known are onnxruntime, openvino, engine"):
        get("tensorrt")


def test_an_absent_runtime_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: sys if name == "onnxruntime" else None)
    monkeypatch.setattr(runtimes, "why_no_engine", lambda: "the engine was not built")
    assert installed() == ("onnxruntime",)
    with pytest.raises(BadInput, match=r'pip install "shoestring\[openvino\]"'):
        get("openvino")
    with pytest.raises(BadInput, match="runtime: the engine was not built"):
        get("engine")


def test_floats_run_on_a_stock_runtime() -> None:
    assert [runtimes.for_floats(name) for name in runtimes.NAMES] == ["onnxruntime", "openvino", "onnxruntime"]


@pytest.mark.parametrize("graph", ["floats", "quantised", "mixed"])
def test_all_give_the_same_outputs(request: pytest.FixtureRequest, inputs: list[np.ndarray], graph: str) -> None:
    model = request.getfixturevalue(graph).SerializeToString()
    names = installed() if graph == "quantised" else installed(STOCK)
    sessions = [get(name).open(model, precision="fp32") for name in names]
    outputs = [np.concatenate([session(x)[0] for x in inputs]) for session in sessions]
    # Of a quantised network, a code on a rounding border may fall to the other side: the loss of a step.
    tolerance = 1e-4 if graph == "floats" else 1e-2
    for other in outputs[1:]:
        assert np.linalg.norm(other - outputs[0]) < tolerance * np.linalg.norm(outputs[0])


@pytest.mark.parametrize("name", installed())
def test_sessions_tell_what_they_take_and_give(quantised: ModelProto, name: str) -> None:
    session = get(name).open(quantised.SerializeToString())
    assert session.inputs == (TensorSpec("input", (1, 3, 16, 16), np.dtype(np.float32)),)
    assert session.outputs == (TensorSpec("output", (1, 5), np.dtype(np.float32)),)
    assert session.keeps_time == (name == "engine")
    assert get(name).default_precision() in ("fp32", "bf16")
    assert get(name).version()[0].isdigit()


def on_a_grid(x: str, y: str) -> list[NodeProto]:
    """From x to y through codes: whole numbers from -128 to 127 stay what they are."""
    return [
        helper.make_node("QuantizeLinear", [x, "scale", "zero"], [f"{y}/codes"]),
        helper.make_node("DequantizeLinear", [f"{y}/codes", "scale", "zero"], [y]),
    ]


GRID = {"scale": np.float32(1), "zero": np.uint8(128)}


@pytest.mark.parametrize("name", installed())
def test_open_axes_are_told_as_one(build: Build, name: str) -> None:
    nodes = [*on_a_grid("x", "a"), helper.make_node("Relu", ["a"], ["b"]), *on_a_grid("b", "y")]
    model = build(nodes, GRID, ["batch", 3], ["batch", 3])
    session = get(name).open(model.SerializeToString())
    assert session.inputs[0].shape == session.outputs[0].shape == (1, 3)
    x = np.array([[-1, 0, 2], [3, -4, 5]], np.float32)
    assert np.array_equal(session(x)[0], np.maximum(x, 0))


@pytest.mark.parametrize("name", installed())
def test_inputs_and_outputs_keep_their_order(build: Build, name: str) -> None:
    nodes = [*on_a_grid("x", "b"), helper.make_node("Neg", ["b"], ["c"]), *on_a_grid("c", "y")]
    model = build(nodes, GRID, [1, 2], [1, 2])
    model.graph.input.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 2]))
    model.graph.output.append(helper.make_tensor_value_info("d", TensorProto.FLOAT, [1, 2]))
    more = [*on_a_grid("a", "e"), helper.make_node("Add", ["e", "c"], ["f"]), *on_a_grid("f", "d")]
    model.graph.node.extend(more)
    session = get(name).open(model.SerializeToString())
    assert [spec.name for spec in session.inputs] == ["x", "a"]
    assert [spec.name for spec in session.outputs] == ["y", "d"]
    got = session(np.full((1, 2), 5, np.float32), np.full((1, 2), 3, np.float32))
    assert [value.tolist() for value in got] == [[[-5, -5]], [[-2, -2]]]


@pytest.mark.parametrize("name", installed())
def test_outputs_are_the_callers_own(quantised: ModelProto, inputs: list[np.ndarray], name: str) -> None:
    """A later call does not change what an earlier one gave."""
    session = get(name).open(quantised.SerializeToString())
    first = session(inputs[0])[0]
    kept = first.copy()
    assert not np.array_equal(session(inputs[1])[0], kept)
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("name", installed())
def test_threads_change_nothing_but_speed(quantised: ModelProto, inputs: list[np.ndarray], name: str) -> None:
    one, two, all_of_them = (get(name).open(quantised.SerializeToString(), threads=threads) for threads in (1, 2, 0))
    assert np.allclose(one(inputs[0])[0], two(inputs[0])[0], rtol=1e-5)
    assert np.allclose(one(inputs[0])[0], all_of_them(inputs[0])[0], rtol=1e-5)


@pytest.mark.parametrize("name", installed())
def test_bad_graphs_are_refused_in_one_line(quantised: ModelProto, name: str) -> None:
    broken, unknown = ModelProto(), ModelProto()
    for model in (broken, unknown):
        model.CopyFrom(quantised)
    first, other = (next(node for node in m.graph.node if node.op_type == "Conv") for m in (broken, unknown))
    first.input[1] = "nowhere"
    other.op_type = "NoSuchOperator"
    for data in (b"", b"no graph", broken.SerializeToString(), unknown.SerializeToString()):
        with pytest.raises(BadInput, match=f"^{name} .* refuses the graph: ") as refused:
            get(name).open(data)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("graph", "name"),
    [*(("floats", name) for name in installed(STOCK)), *(("quantised", name) for name in installed())],
)
def test_profiles_speak_of_layers(
    request: pytest.FixtureRequest, inputs: list[np.ndarray], graph: str, name: str
) -> None:
    """Every layer is found by the beginning of a name: runtimes append what they fused."""
    model = request.getfixturevalue(graph)
    profile = get(name).open(model.SerializeToString(), profile=True).profile(inputs[0], runs=3)
    assert profile and all(ms >= 0 for ms in profile.values())
    layers = ["stem.1", "depthwise.0", "project.0", "reduce", "expand", "grouped", "mix", "head"]
    assert [layer for layer in layers if not any(node.startswith(layer) for node in profile)] == []


@pytest.mark.parametrize("name", installed(STOCK))
def test_profiles_name_a_convolution_that_writes_the_output(build: Build, name: str) -> None:
    """Runtimes would call it after the output."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
        helper.make_node("Conv", ["a", "w"], ["result"], name="second"),
        helper.make_node("Neg", ["a"], ["y"], name="other"),
    ]
    model = build(nodes, {"w": np.ones((8, 8, 1, 1), np.float32)}, [1, 8, 9, 9], [1, 8, 9, 9])
    model.graph.output.append(helper.make_tensor_value_info("result", TensorProto.FLOAT, [1, 8, 9, 9]))
    profile = get(name).open(model.SerializeToString(), profile=True).profile(np.ones((1, 8, 9, 9), np.float32), runs=3)
    assert any(node.startswith("second") for node in profile), profile
    assert profile.keys().isdisjoint({"result", "result_nchwc"}), profile


@pytest.mark.parametrize("name", installed())
def test_points_are_opened_together(quantised: ModelProto, inputs: list[np.ndarray], name: str) -> None:
    graph = quantised.SerializeToString()
    sessions = runtimes.open_all(name, [graph, graph])
    expected = get(name).open(graph)(inputs[0])[0]
    assert [np.array_equal(session(inputs[0])[0], expected) for session in sessions] == [True, True]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", installed())
def test_a_run_that_is_given_up_ends_soon_and_harms_none(drawn_out: ModelProto, name: str, threads: int) -> None:
    """The best of several tries: on a busy machine any single one may be late."""
    session = get(name).open(drawn_out.SerializeToString(), threads=threads)
    x = np.random.default_rng(0).uniform(-3, 3, (1, 16, 64, 64)).astype(np.float32)
    expected, lengths, went_on, asked = session(x)[0], list[float](), list[float](), [0.0]
    for _ in range(5):
        begun = time.perf_counter()
        session(x)
        lengths.append(time.perf_counter() - begun)

    def ask() -> None:
        asked[0] = time.perf_counter()
        session.give_up()

    for _ in range(50):
        timer = threading.Timer(min(lengths) / 10, ask)
        timer.start()
        try:
            found = session(x)[0]
        except GivenUp:
            went_on.append(time.perf_counter() - asked[0])
        else:
            assert np.array_equal(found, expected)
        timer.join()
        assert np.array_equal(session(x)[0], expected)
        if went_on and min(went_on) < min(lengths) / 2:
            break
    assert min(went_on) < min(lengths) / 2


@pytest.mark.parametrize("name", installed())
def test_giving_up_is_in_vain_when_nothing_runs(quantised: ModelProto, inputs: list[np.ndarray], name: str) -> None:
    session = get(name).open(quantised.SerializeToString())
    expected = session(inputs[0])[0]
    for _ in range(3):
        session.give_up()
        assert np.array_equal(session(inputs[0])[0], expected)


@pytest.mark.parametrize("name", installed(STOCK))
def test_what_goes_wrong_otherwise_is_not_taken_for_it(quantised: ModelProto, name: str) -> None:
    session = get(name).open(quantised.SerializeToString())
    session.give_up()
    with pytest.raises(Exception) as wrong:  # each has its own
        session(np.zeros((1, 3, 7, 7), np.float32))
    assert not isinstance(wrong.value, GivenUp)
