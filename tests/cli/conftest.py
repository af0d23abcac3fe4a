"""The command line in this process, and what it is given."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from shoestring.cli import main
from shoestring.pipeline.original import Original, resolve


class Ran(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """The one line of an error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def shoestring(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`shoestring("fit", "x", "--seed", 1)` as in a shell."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        return Ran(main._code(list(map(str, arguments))), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def resolve_once() -> Callable[..., Original]:
    """`resolve`, which takes half a second, for each network of a session once."""
    return functools.cache(resolve)


@pytest.fixture
def quick(timed, resolve_once, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timings and memory made by hand: the subject takes 2 ms, fp32 4 ms, int8 3 ms."""
    monkeypatch.setattr("shoestring.pipeline.original.resolve", resolve_once)
    timed({"subject": 2.0, "fp32": 4.0, "fp32@onnxruntime": 4.0, "fp32@openvino": 4.0})
    monkeypatch.setattr("shoestring.pipeline.receipt.peak_mb", lambda *_: 60.0)


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty unlabelled 32x32 pictures in a .npz."""
    path = tmp_path_factory.mktemp("packed") / "pictures.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
    return path
