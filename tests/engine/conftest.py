"""What the tests of this room share."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from shoestring.engine import native, reference
from shoestring.engine.lower import lower
from shoestring.engine.program import Program

ROOT = Path(__file__).parents[2]
NATIVE, NATIVE_TESTS = ROOT / "src/shoestring/engine/native", ROOT / "tests/engine/native"


@pytest.fixture
def check() -> Callable[..., list[np.ndarray]]:
    """check(program, *inputs): every instruction set on 1 to 3 threads gives the reference's bytes; returns them."""

    def run(program: Program, *inputs: np.ndarray) -> list[np.ndarray]:
        expected = reference.run(program, *inputs)
        for isa in native.isas():
            for threads in (1, 2, 3):
                found = native.Network(program, threads=threads, isa=isa)(*inputs)
                for got, wanted in zip(found, expected, strict=True):
                    assert got.dtype == wanted.dtype
                    np.testing.assert_array_equal(got, wanted, err_msg=f"{isa}, {threads} threads")
        return expected

    return run


class Drawing:
    """Nodes as they are drawn; every method returns the name of what it made. Weights stay within +-63, so that
    ONNX Runtime's 8-bit products cannot saturate on processors without VNNI."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = shape
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, value: object, dtype: type = np.float32) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str | list[str]:
        number = len(self.nodes)
        made = [f"{op.lower()}{number}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=f"{op.lower()}{number}", **attributes))
        return made if outputs > 1 else made[0]

    def one(self, op: str, *inputs: str, **attributes: object) -> str:
        made = self.node(op, *inputs, **attributes)
        assert isinstance(made, str)
        return made

    def edge(self, x: str, scale: float = 0.05, zero: int = 0, clip: tuple[int, int] | None = None) -> str:
        """A quantiser and a dequantiser of one grid, with a Clip of the codes between."""
        grid = self.constant(scale), self.constant(zero, np.uint8)
        codes = self.one("QuantizeLinear", x, *grid)
        if clip:
            codes = self.one("Clip", codes, *(self.constant(bound, np.uint8) for bound in clip))
        return self.one("DequantizeLinear", codes, *grid)

    def weight(self, shape: Sequence[int], axis: int = 0, size: float = 0.01) -> str:
        codes = self.rng.integers(-63, 64, shape).astype(np.int8)
        scales = (self.rng.uniform(0.5, 1, shape[axis]) * size).astype(np.float32)
        names = self.constant(codes, np.int8), self.constant(scales), self.constant(np.zeros(shape[axis]), np.int8)
        return self.one("DequantizeLinear", *names, axis=axis)

    def bias(self, weight: str, x_scale: float) -> str:
        scales = self.constants[self.made(weight).input[1]] * np.float32(x_scale)
        names = self.constant(self.rng.integers(-2000, 2000, scales.size), np.int32), self.constant(scales)
        return self.one("DequantizeLinear", *names, axis=0)

    def conv(self, x: str, *shape: int, x_scale: float = 0.05, **attributes: object) -> str:
        """With weights [out, in / groups, ...] and a bias, for an input on a grid of `x_scale`."""
        weight = self.weight(shape)
        return self.one("Conv", x, weight, self.bias(weight, x_scale), **attributes)

    def made(self, name: str) -> NodeProto:
        """The node that makes a tensor."""
        return next(node for node in self.nodes if name in node.output)

    def model(self, *outputs: str, dtype: int = TensorProto.FLOAT) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "drawing",
            [helper.make_tensor_value_info("x", dtype, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.fixture
def draw() -> Callable[..., Drawing]:
    """draw(*shape): a Drawing whose input "x" has this shape."""
    return Drawing


@pytest.fixture
def same() -> Callable[..., Program]:
    """same(model, images=1, steps=0): the reference executes the lowered model to the last bit as ONNX Runtime does,
    image by image; or some elements are up to so many times 1 off, where the graph says how much 1 is."""

    def compare(model: ModelProto, off: float = 0.0) -> Program:
        program = lower(model)
        dims = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
        x = np.random.default_rng(0).uniform(-6, 6, (3, *dims[1:])).astype(np.float32)
        if model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8:
            x = (x * 20 + 127).astype(np.uint8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        images = [session.run(None, {"x": image[None]}) for image in x]
        for index, ours in enumerate(reference.run(program, x)):
            theirs = np.concatenate([image[index] for image in images])
            if off:
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=off)
            else:
                np.testing.assert_array_equal(ours, theirs)
        return program

    return compare


def _tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if not path:
        pytest.skip(f"{name} is missing; Debian, Ubuntu: apt install {package}")
    return path


@pytest.fixture
def tool() -> Callable[[str, str], str]:
    """tool(name, Debian package): where it is; skips when it is missing."""
    return _tool


def _run(command: Sequence[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture
def built() -> Callable[..., Path]:
    """built(name, target, **settings): the program that native/CMakeLists.txt makes with these CMake
    settings. It stays in build/, so that the next run compiles what changed."""

    def build(name: str, target: str, **settings: str) -> Path:
        folder = ROOT / "build/tests" / name
        path = os.pathsep.join([str(ROOT / ".venv/bin"), os.environ["PATH"]])
        cmake, ninja = (shutil.which(program, path=path) for program in ("cmake", "ninja"))
        if not cmake or not ninja:
            pytest.skip("cmake or ninja is missing; Debian, Ubuntu: apt install cmake ninja-build")
        options = [f"-D{key}={value}" for key, value in settings.items()]
        _run([cmake, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-S", NATIVE_TESTS, "-B", folder, *options])
        _run([cmake, "--build", folder, "--target", target])
        return folder / target

    return build


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """compiled(compiler, source, *flags): one file as a program."""

    def build(compiler: str, source: str, *flags: str) -> Path:
        exact = ("-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno")
        _run([compiler, *exact, *flags, "-I", NATIVE, NATIVE_TESTS / source, "-o", tmp_path / "program"])
        return tmp_path / "program"

    return build
