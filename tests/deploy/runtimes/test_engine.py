"""Our own engine as a runtime: what it refuses, and graphs whose ends run on ONNX Runtime."""

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from shoestring import engine as own
from shoestring.core.errors import BadInput, GivenUp
from shoestring.deploy import runtimes
from shoestring.deploy.runtimes import TensorSpec, onnxruntime

if own.why_absent():
    pytest.skip(own.why_absent(), allow_module_level=True)

from shoestring.deploy.runtimes import engine
from shoestring.engine.program import Program

Build = Callable[..., ModelProto]
REFUSES = rf"^engine {own.VERSION} \({own.isas()[0]}\) refuses the graph: "
GRID = {"scale": np.float32(0.5), "zero": np.uint8(10)}
EDGE = [
    helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["codes"], name="quantise"),
    helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["b"], name="dequantise"),
]


def test_it_is_there_after_its_module_was_loaded() -> None:
    assert runtimes.get("engine") is engine
    assert "engine" in runtimes.installed()


def test_literal_execution_is_refused(quantised: ModelProto) -> None:
    with pytest.raises(BadInput, match="run the graph literally on onnxruntime"):
        engine.open(quantised.SerializeToString(), literal=True)


def test_floats_are_refused_with_what_to_do(floats: ModelProto, mixed: ModelProto) -> None:
    with pytest.raises(BadInput, match=REFUSES + "it computes in integers only.*; fit the graph, or use onnxruntime"):
        engine.open(floats.SerializeToString())
    with pytest.raises(BadInput, match=REFUSES + r"depthwise.0 \(Conv\): its weight is not quantised; quantise"):
        engine.open(mixed.SerializeToString())


@pytest.mark.parametrize("threads", [-1, 100000])
def test_threads_that_cannot_be_are_refused(quantised: ModelProto, threads: int) -> None:
    with pytest.raises(BadInput, match=f"{threads} threads asked for"):
        engine.open(quantised.SerializeToString(), threads=threads)


def test_many_images_are_each_by_itself(quantised: ModelProto, inputs: list[np.ndarray]) -> None:
    session = engine.open(quantised.SerializeToString())
    (together,) = session(np.concatenate(inputs))
    assert np.array_equal(together, np.concatenate([session(x)[0] for x in inputs]))


def test_it_keeps_time(build: Build, quantised: ModelProto, inputs: list[np.ndarray]) -> None:
    """Where all of the graph is its own: the runtimes at the ends look at no clock."""
    session = engine.open(quantised.SerializeToString())
    assert session.keeps_time
    with pytest.raises(GivenUp, match="engine: the run was given up"):
        session(inputs[0], within=0.0)
    with pytest.raises(GivenUp):
        session(inputs[0], within=60.0, gap=60.0)
    assert np.array_equal(session(inputs[0], within=60.0, gap=1.0)[0], session(inputs[0])[0])
    ends = engine.open(
        build(
            [
                helper.make_node("Neg", ["x"], ["a"], name="head"),
                *EDGE,
                helper.make_node("Neg", ["b"], ["y"], name="tail"),
            ],
            GRID,
            [1, 2],
            [1, 2],
        ).SerializeToString()
    )
    assert not ends.keeps_time


def test_codes_may_be_inputs_and_outputs(build: Build) -> None:
    model = build([helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["y"])], GRID, [2, 3], [2, 3])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    session = engine.open(model.SerializeToString())
    assert session.inputs == (TensorSpec("x", (2, 3), np.dtype(np.uint8)),)
    x = np.array([[0, 10, 255], [1, 2, 3]], np.uint8)
    assert session(x)[0].tolist() == ((x.astype(np.float32) - 10) / 2).tolist()
    with pytest.raises(BadInput, match="input x is float32; give uint8"):
        session(x.astype(np.float32))


def with_ends(build: Build) -> ModelProto:
    """What the engine lacks before and behind: a difference of floats, a cumulative sum. Open batch."""
    nodes: list[NodeProto] = [
        helper.make_node("Sub", ["x", "mean"], ["a"], name="less"),
        *EDGE,
        helper.make_node("CumSum", ["b", "axis"], ["y"], name="sum"),
    ]
    constants = GRID | {"mean": np.array([1, 2, 3], np.float32), "axis": np.int64(1)}
    model = build(nodes, constants, ["n", 3], ["n", 3])
    model.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 3]))
    return model


def test_ends_run_on_another_runtime(build: Build) -> None:
    model = with_ends(build).SerializeToString()
    x = np.random.default_rng(0).uniform(-8, 80, (4, 3)).astype(np.float32)
    session, other = engine.open(model, threads=2), onnxruntime.open(model)
    assert (session.inputs, session.outputs) == (other.inputs, other.outputs)
    for got, expected in zip(session(x), other(x), strict=True):
        assert np.array_equal(got, expected)
    assert all(step.label and step.bytes == 3 * 5 and not step.multiplies for step in session.steps())


def test_what_is_given_up_at_one_end_does_not_go_on(build: Build) -> None:
    session = engine.open(with_ends(build).SerializeToString())
    x, ran = np.full((4, 3), 5, np.float32), list[int]()
    expected, whole = session(x), list(session._stages)

    class During:
        """Given up while it runs, which it does not notice."""

        def __init__(self, number: int, stops: int):
            self.number, self.stops = number, stops

        def __call__(self, *inputs: np.ndarray) -> Any:
            ran.append(self.number)
            if self.number == self.stops:
                session.give_up()
            return whole[self.number].run(*inputs)

        def give_up(self) -> None:
            whole[self.number].run.give_up()

    for stops in (0, 1):
        ran.clear()
        session._stages = [replace(stage, run=During(number, stops)) for number, stage in enumerate(whole)]
        with pytest.raises(GivenUp):
            session(x)
        assert ran == list(range(stops + 1))
    session._stages = whole
    assert all(map(np.array_equal, session(x), expected))


def test_profiles_have_the_ends_too(build: Build) -> None:
    session = engine.open(with_ends(build).SerializeToString(), profile=True)
    times = session.profile(np.zeros((1, 3), np.float32), runs=2)
    assert {"less", "sum"} < times.keys() and all(ms >= 0 for ms in times.values())


def test_a_wrong_number_of_inputs_is_refused(quantised: ModelProto) -> None:
    with pytest.raises(BadInput, match="2 inputs given; the network takes 1"):
        engine.open(quantised.SerializeToString())(np.zeros(1), np.zeros(1))


def point(build: Build, hidden: int, ends: bool = False) -> bytes:
    """Two convolutions with so many channels between, of weights that are cut from one set, and scales of its own;
    `ends`: with what the engine lacks behind them."""
    rng, own = np.random.default_rng(0), np.random.default_rng(hidden)
    codes = [rng.integers(-127, 128, shape).astype(np.int8) for shape in ((64, 3, 3, 3), (40, 64, 1, 1))]
    constants: dict[str, np.ndarray | np.generic] = {"xs": np.float32(0.03), "z": np.uint8(128), "axis": np.int64(1)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "z"], ["q0"]),
        helper.make_node("DequantizeLinear", ["q0", "xs", "z"], ["d0"]),
    ]
    for number, weight in enumerate((codes[0][:hidden], codes[1][:, :hidden])):
        scales = own.uniform(1e-3, 2e-3, len(weight)).astype(np.float32)
        zeros = np.zeros(len(weight), np.int8)
        constants |= {f"w{number}": weight, f"ws{number}": scales, f"wz{number}": zeros}
        weights = [f"{name}{number}" for name in ("w", "ws", "wz")]
        after = f"q{number + 1}", f"d{number + 1}" if ends or number == 0 else "y"
        nodes += [
            helper.make_node("DequantizeLinear", weights, [f"v{number}"], axis=0),
            helper.make_node("Conv", [f"d{number}", f"v{number}"], [f"c{number}"], name=f"conv{number}"),
            helper.make_node("QuantizeLinear", [f"c{number}", "xs", "z"], [after[0]]),
            helper.make_node("DequantizeLinear", [after[0], "xs", "z"], [after[1]]),
        ]
    if ends:
        nodes.append(helper.make_node("CumSum", ["d2", "axis"], ["y"], name="sum"))
    return build(nodes, constants, [1, 3, 8, 8], [1, 40, 6, 6]).SerializeToString()


def memory(session: engine.EngineSession) -> tuple[int, int]:
    return session._network.weight_bytes, session._network.arena_bytes


def test_points_of_one_network_share(build: Build) -> None:
    graphs = [point(build, hidden) for hidden in (16, 40, 64)]
    sessions = runtimes.open_all("engine", graphs, threads=2)
    alone = [engine.open(graph) for graph in graphs]
    x = np.random.default_rng(1).standard_normal((5, 3, 8, 8), dtype=np.float32)
    for _ in range(2):
        for together, by_itself in zip(sessions, alone, strict=True):
            assert np.array_equal(together(x)[0], by_itself(x)[0])
            assert (together.inputs, together.outputs) == (by_itself.inputs, by_itself.outputs)
    shared, single = ([memory(session) for session in group] for group in (sessions, alone))  # type: ignore[arg-type]
    assert [arena for _, arena in shared[:2]] == [0, 0]
    assert [session.memory_bytes for session in sessions] == [sum(both) for both in shared]  # type: ignore[attr-defined]
    assert shared[2][0] == single[2][0]
    assert all(ours < 0.6 * theirs for (ours, _), (theirs, _) in zip(shared[:2], single[:2], strict=True))


def test_points_with_ends_are_on_their_own(build: Build) -> None:
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8), dtype=np.float32)
    for ends in ([True, False, False], [False, False, True], [True, True, True]):
        graphs = [point(build, 16 * (n + 1), end) for n, end in enumerate(ends)]
        sessions = engine.open_all(graphs)
        for session, graph in zip(sessions, graphs, strict=True):
            assert np.array_equal(session(x)[0], engine.open(graph)(x)[0])
        shares = [memory(session)[1] == 0 for session in sessions]
        assert shares == [not ends[2] and not ends[0], not ends[2], False]


def test_no_points_and_bad_ones(build: Build) -> None:
    assert engine.open_all([]) == []
    assert len(engine.open_all([point(build, 8)], threads=0)) == 1
    with pytest.raises(BadInput, match=REFUSES):
        engine.open_all([b"nothing", point(build, 8)])


def test_a_session_keeps_no_second_copy_of_the_weights(build: Build) -> None:
    """A program holds the weights as they are in the file; once they are packed it is of no use."""
    graph = point(build, 64)
    gc.collect()
    before = sum(type(thing) is Program for thing in gc.get_objects())  # of other tests' fixtures
    session = engine.open(graph)
    gc.collect()
    assert sum(type(thing) is Program for thing in gc.get_objects()) == before
    assert session.memory_bytes > 0
