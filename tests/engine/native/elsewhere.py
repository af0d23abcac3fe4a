"""A pytest plugin: programs are executed by another process, `driver.cpp` built for another processor, under a
sanitizer or with emulated instructions. SHOESTRING_TEST_DRIVER is the command. The tests themselves do not notice.
SHOESTRING_TEST_PROGRAMS: a folder that gets every program."""

import hashlib
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from shoestring.engine import native
from shoestring.engine.program import DTYPES, Program

COMMAND = os.environ.get("SHOESTRING_TEST_DRIVER", "").split()
THREADS = (1, 2, 3)


def _said(*arguments: str) -> str:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{COMMAND[-1]} exited with {done.returncode}:\n{done.stderr}"
    return done.stdout


@cache
def isas() -> tuple[str, ...]:
    return tuple(_said().split())


def _kept(program: bytes) -> None:
    if folder := os.environ.get("SHOESTRING_TEST_PROGRAMS"):
        Path(folder, hashlib.sha256(program).hexdigest()).write_bytes(program)


@cache
def _executed(program: bytes, inputs: bytes, images: int, arrays: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        _kept(program)
        files = [Path(folder, name) for name in ("program", "inputs", "outputs")]
        files[0].write_bytes(program)
        files[1].write_bytes(inputs)
        _said(*map(str, files), str(images), *arrays)
        return files[2].read_bytes()


class Network(native.Network):
    """One of this process, too, for all but the results."""

    def __init__(self, program: Program, threads: int = 1, isa: str | None = None) -> None:
        super().__init__(program, threads)
        self._program, self._setting = program, (isas().index(isa or isas()[0]), THREADS.index(threads))

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        images = len(inputs[0])
        outputs = [self._program.tensors[index] for index in self._program.outputs]
        sizes = [images * int(np.prod(tensor.shape)) * np.dtype(DTYPES[tensor.dtype]).itemsize for tensor in outputs]
        arrays = [*(f"in:{array.nbytes}" for array in inputs), *(f"out:{size}" for size in sizes)]
        given = b"".join(np.ascontiguousarray(array).tobytes() for array in inputs)
        found = _executed(self._program.to_bytes(), given, images, tuple(arrays))
        assert len(found) == sum(sizes) * len(isas()) * len(THREADS)
        at = sum(sizes) * (self._setting[0] * len(THREADS) + self._setting[1])
        results = []
        for size, tensor in zip(sizes, outputs, strict=True):
            values = np.frombuffer(found[at : at + size], DTYPES[tensor.dtype])
            results.append(values.reshape(images, *tensor.shape))
            at += size
        return results


def pytest_configure() -> None:
    """Not on import: those who collect doctests import this file, too."""
    native.Network = Network  # type: ignore[misc]
    native.isas = isas
