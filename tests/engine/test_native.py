"""Networks of the native library: what they compute, in how many threads, of how many images; what they refuse."""

import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.engine import native, reference
from shoestring.engine.program import (
    F32,
    U8,
    Add,
    AveragePool,
    Const,
    Conv,
    Copy,
    Dequantise,
    Linear,
    Op,
    Pool,
    Program,
    Quantise,
    Requantise,
    Sum,
    Tensor,
)

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")

ONE = "import numpy as np; from shoestring.engine import native; print(native.why_absent())"


def deep(blocks: int = 6, channels: int = 24, size: int = 17, seed: int = 0) -> Program:
    """A residual network of 1x1 and depthwise 3x3 convolutions with an average and a linear layer, as deep as asked."""
    rng, pool = np.random.default_rng(seed), Pool()
    tensors = [Tensor("x", (channels, size, size), F32)]
    ops: list[Op] = []

    def floats(*values: float) -> Const:
        return pool.add(np.array(values, np.float32))

    def tensor(*shape: int, dtype: int = U8) -> int:
        tensors.append(Tensor(f"t{len(tensors)}", shape, dtype))
        return len(tensors) - 1

    def weights(*shape: int) -> tuple[Const, Requantise]:
        weight = rng.integers(-127, 128, shape).astype(np.int8)
        multiplier = np.full(shape[0], 1.2 / np.sqrt(weight[0].size) / 100, np.float32)
        bias = rng.integers(-999, 999, shape[0]).astype(np.int32)
        return pool.add(weight), Requantise(pool.add(bias), pool.add(multiplier), 128)

    def conv(at: int, kernel: int, groups: int, added: int = -1) -> int:
        weight, how = weights(channels, channels // groups, kernel, kernel)
        out, pad = tensor(channels, size, size), kernel // 2
        sum_ = Sum(added, 0, floats(0.6, 0.6, -20)) if added >= 0 else Sum()
        one = (1, 1)
        ops.append(Conv("c", at, out, weight, 128, groups, (kernel, kernel), one, one, (pad,) * 4, how, sum_))
        return out

    at = tensor(channels, size, size)
    ops.append(Quantise("quantise", 0, at, floats(0.02), 128))
    for _ in range(blocks):
        at = conv(conv(at, 1, 1), 3, channels, at)
    means, rows, logits, outputs = tensor(channels, 1, 1), tensor(channels), tensor(10), tensor(10, dtype=F32)
    counts = pool.add((1 / np.arange(1, size * size + 1)).astype(np.float32))
    one = (1, 1)
    ops.append(
        AveragePool("mean", at, means, 128, 0, (size, size), one, (0,) * 4, Requantise(Const(), counts, 128))  # type: ignore[arg-type]
    )
    ops.append(Copy("flat", means, rows, 0, 0, (*(1,) * 5, channels), (*(0,) * 5, 1), (*(0,) * 5, 1)))  # type: ignore[arg-type]
    weight, how = weights(10, channels)
    ops.append(Linear("linear", rows, logits, weight, 128, 8, how))
    ops.append(Dequantise("floats", logits, outputs, pool.add(np.arange(256, dtype=np.float32) - 128)))
    return Program(tuple(tensors), tuple(ops), (0,), (outputs, at), pool.bytes())


DEEP = deep()


def images(count: int, program: Program = DEEP, seed: int = 1) -> np.ndarray:
    shape = program.tensors[program.inputs[0]].shape
    return np.random.default_rng(seed).uniform(-3, 3, (count, *shape)).astype(np.float32)


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


@pytest.mark.parametrize("isa", native.isas() if native.available() else [])
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_batches_of_every_size_one_after_the_other(threads: int, isa: str) -> None:
    network = native.Network(DEEP, threads, isa)
    assert network.isa == isa
    x = images(5)
    expected = reference.run(DEEP, x)
    assert all(len(np.unique(y)) > 10 for y in expected)  # not saturated
    for count in (1, 5, 2, 2, 1):
        found = network(x[:count])
        assert [y.dtype for y in found] == [np.float32, np.uint8]
        assert same(found, [y[:count] for y in expected])


def test_many_callers_of_one_network_and_of_several() -> None:
    x = images(16)
    expected = reference.run(DEEP, x)
    networks = [native.Network(DEEP, threads) for threads in (1, 2, 3)]

    def call(number: int) -> bool:
        first, count = number % 12, 1 + number % 4
        found = networks[number % 3](x[first : first + count])
        return same(found, [y[first : first + count] for y in expected])

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(call, range(240)))


def test_networks_come_and_go_while_others_run() -> None:
    x = images(1)
    expected = reference.run(DEEP, x)

    def live(number: int) -> bool:
        network = native.Network(DEEP, 1 + number % 3)
        good = same(network(x), expected)
        network.close()
        return good

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(live, range(60)))


def test_other_python_threads_run_meanwhile() -> None:
    """The interpreter is free while the library works."""
    network, x = native.Network(deep(blocks=12, channels=64, size=40)), images(8, deep(1, 64, 40))
    running, ticks = threading.Event(), 0
    running.set()

    def tick() -> None:
        nonlocal ticks
        while running.is_set():
            ticks += 1

    other = threading.Thread(target=tick)
    other.start()
    before = ticks
    network(x)
    after = ticks
    running.clear()
    other.join()
    assert after - before > 100


def test_closed_while_it_runs() -> None:
    """The run goes on; later ones are refused."""
    network, x = native.Network(DEEP, 2), images(4)
    expected = reference.run(DEEP, x)
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(network, x) for _ in range(30)]
        network.close()
        for run in runs:
            error = run.exception()
            assert same(run.result(), expected) if error is None else "has been closed" in str(error)
    with pytest.raises(BadInput, match="closed; load it again"):
        network(x)
    network.close()


def test_the_profile_has_a_time_for_every_run_and_step() -> None:
    network = native.Network(DEEP, 2)
    times = network.profile(images(2), runs=3)
    assert times.shape == (3, len(DEEP.ops))
    assert times.dtype == np.int64
    assert (times > 0).all()
    with pytest.raises(BadInput, match="no room"):
        network.profile(images(2), runs=0)


def test_steps_say_what_they_execute() -> None:
    steps = native.Network(DEEP).steps
    assert [step.name for step in steps] == [op.name for op in DEEP.ops]
    assert all(step.label for step in steps)
    depthwise = steps[2]
    assert "depthwise" in depthwise.label
    assert depthwise.multiplies >= 24 * 17 * 17 * 9
    assert depthwise.weight_bytes >= 24 * 9


def test_memory_is_reused() -> None:
    """A deeper network needs no more memory for what flows through it, a batch needs as much for each image."""
    shallow, deeper = native.Network(deep(3)), native.Network(deep(30))
    assert shallow.arena_bytes == deeper.arena_bytes
    assert deeper.weight_bytes > 5 * shallow.weight_bytes
    plane = 24 * 17 * 17
    assert 3 * plane <= shallow.arena_bytes < 8 * plane
    one = shallow.arena_bytes
    shallow(images(4))
    assert 2 * one < shallow.arena_bytes <= 4 * one
    shallow(images(1))
    assert shallow.arena_bytes == one


def test_memory_comes_back() -> None:
    """Loading and dropping networks does not grow the process."""
    resident = Path("/proc/self/statm")
    if not resident.exists():
        pytest.skip("only Linux says how much memory a process has")
    program = deep(blocks=8, channels=128)
    sizes = []
    for _ in range(3):
        for _ in range(10):
            native.Network(program)(images(1, program))
        gc.collect()
        sizes.append(int(resident.read_text().split()[1]) * os.sysconf("SC_PAGESIZE"))
    assert sizes[2] - sizes[1] < 4e6


def test_inputs_are_taken_as_they_lie_in_memory() -> None:
    network, x = native.Network(DEEP), images(4)
    expected = reference.run(DEEP, x)
    backwards = np.ascontiguousarray(x[::-1])[::-1]
    transposed = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = x.ravel().view(np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(x.shape)
    assert not unaligned.flags.aligned
    frozen = x.copy()
    frozen.flags.writeable = False
    for given in (backwards, transposed, unaligned, frozen):
        kept = given.copy()
        assert same(network(given), expected)
        np.testing.assert_array_equal(given, kept)


def test_values_no_image_has() -> None:
    """Infinities and huge numbers saturate; what is not a number is some code, and nothing else comes of it."""
    network, x = native.Network(DEEP, 2), images(1)
    x[0, 0] = np.inf
    x[0, 1] = -np.inf
    x[0, 2] = 3e36
    assert same(network(x), reference.run(DEEP, x))
    x[0, 3] = np.nan
    network(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "0 inputs given; the network takes 1"),
        ((images(1), images(1)), "2 inputs given; the network takes 1"),
        ((images(1).astype(np.float64),), "input x is float64; give float32"),
        ((images(1).astype(">f4"),), "input x is >f4; give float32"),
        ((images(1)[0],), r"input x has shape \(24, 17, 17\); give \(N, 24, 17, 17\)"),
        ((images(1)[:, :, :, :16],), r"input x has shape \(1, 24, 17, 16\)"),
        ((images(1)[:0],), r"input x has shape \(0, 24, 17, 17\)"),
        ((np.float32(3),), r"input x has shape \(\)"),
    ],
)
def test_wrong_inputs_are_refused(arguments: tuple[np.ndarray, ...], message: str) -> None:
    network = native.Network(DEEP)
    for call in (network, network.profile):
        with pytest.raises(BadInput, match=message):
            call(*arguments)


def test_several_inputs_have_as_many_images() -> None:
    tensors = (Tensor("a", (300,)), Tensor("b", (300,)), Tensor("c", (300,)))
    pool = Pool()
    added = Add("add", 0, 2, Sum(1, 0, pool.add(np.array([0.5, 0.5, 0], np.float32))))
    program = Program(tensors, (added,), (0, 1), (2, 0), pool.bytes())
    network = native.Network(program, 2)
    a, b = np.random.default_rng(0).integers(0, 256, (2, 3, 300)).astype(np.uint8)
    assert same(network(a, b), reference.run(program, a, b))
    with pytest.raises(BadInput, match=r"input b has shape \(2, 300\); give \(N, 300\), N alike for all"):
        network(a, b[:2])


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_a_number_of_threads_nobody_has(threads: int) -> None:
    with pytest.raises(BadInput, match=f"{threads} threads asked for, 1 to 256 expected"):
        native.Network(DEEP, threads)


def test_instruction_sets() -> None:
    assert native.isas()[-1] == "portable"
    with pytest.raises(BadInput, match=r"instruction set mmx cannot be used here; there are .*portable"):
        native.Network(DEEP, isa="mmx")
    assert native.peak("portable") > 0


def test_more_than_any_memory_holds() -> None:
    """A small file may ask for anything; it is told no."""
    pool, count = Pool(), 17_000  # times 4 GiB
    table = pool.add(np.zeros(256, np.float32))
    tensors = (Tensor("x", (1 << 30,)), *(Tensor("y", (1 << 30,), F32) for _ in range(count)))
    outputs = tuple(range(1, count + 1))
    program = Program(tensors, tuple(Dequantise("d", 0, at, table) for at in outputs), (0,), outputs, pool.bytes())
    with pytest.raises(BadInput, match="there is not enough memory"):
        native.Network(program)


def test_a_forked_process_is_told_to_load_again() -> None:
    """The threads of the library do not follow a fork; a run would wait for them for ever."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    code = """
import os, sys, numpy as np
from test_native import DEEP, images
from shoestring.core.errors import BadInput
from shoestring.engine import native
network = native.Network(DEEP, 2)
network(images(1))
child = os.fork()
if child == 0:
    try:
        network(images(1))
    except BadInput as error:
        del network
        native.Network(DEEP, 2)(images(1))
        os._exit(0 if "forked" in str(error) else 1)
    os._exit(2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "was not built (lib.so is absent)"), (b"not a library", "the engine does not load")],
)
def test_why_it_is_absent(text: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    if text is not None:
        path.write_bytes(text)
    env = {**os.environ, "SHOESTRING_ENGINE_LIBRARY": str(path)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", ONE], env=env, capture_output=True, text=True)
    assert reason in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_the_environment_chooses_an_instruction_set() -> None:
    code = "from shoestring.engine import native, program\n"
    code += "t = (program.Tensor('x', (4,)),)\nprint(native.Network(program.Program(t, (), (0,), (0,), b'')).isa)"
    for isa, expected in (("portable", "portable\n"), ("mmx", "the instruction set in SHOESTRING_ISA cannot be used")):
        env = {**os.environ, "SHOESTRING_ISA": isa}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert expected in done.stdout + done.stderr


def test_an_output_that_is_an_input() -> None:
    program = replace(DEEP, ops=(), outputs=(0, 0))
    x = images(3)
    assert same(native.Network(program)(x), [x, x])
