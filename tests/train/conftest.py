"""What the tests of this room share: the small network and its data (`little.py`), in this process or another."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

LITTLE = Path(__file__).with_name("little.py")


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The names in `little.py`."""
    monkeypatch.setattr("shoestring.train.loop.SAVE_SECONDS", 120.0)  # restored after a test that shortens it
    return SimpleNamespace(**runpy.run_path(str(LITTLE), run_name="little"))


@pytest.fixture
def program() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs `little.py` with the given arguments, on `processes`, with warnings as errors."""

    def run(*arguments: object, processes: int = 1) -> "subprocess.CompletedProcess[str]":
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *(launcher if processes > 1 else []), str(LITTLE), *map(str, arguments)]
        paths = [str(LITTLE.parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run
