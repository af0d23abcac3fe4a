"""Peak memory against allocations of a known size."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from shoestring.core.errors import BadInput, ShoestringError
from shoestring.measure.memory import peak_mb

# The child imports a target by its module's name, which `--import-mode=importlib` gives test files no path for.
TARGETS = """
import multiprocessing, os, sys
import numpy as np
from shoestring.core.errors import BadInput

def allocate(megabytes):
    np.ones(megabytes * 125_000)  # freed again: only the peak shows it

def refuse(): raise BadInput("photo.txt is no photograph")
def fail(number): raise KeyError(number)
def leave(): sys.exit(3)
def crash(): os.abort()
def needs(name):
    if name in sys.modules: raise ImportError(name)
def has_children():
    child = multiprocessing.get_context("spawn").Process(target=allocate, args=(1,))
    child.start()
    child.join()
"""


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "memory_targets.py").write_text(TARGETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "memory_targets", raising=False)
    import memory_targets  # written a line above

    return memory_targets


def test_a_known_allocation_is_seen(targets) -> None:
    nothing, much = peak_mb(targets.allocate, 0), peak_mb(targets.allocate, 200)
    assert 5 < nothing < 150
    # The interpreter and numpy cancel; the allocator rounds to pages.
    assert much - nothing == pytest.approx(200, abs=6)


def test_the_caller_is_not_counted(targets) -> None:
    before = peak_mb(targets.allocate, 1)
    ballast = np.ones(40_000_000)
    assert peak_mb(targets.allocate, 1) == pytest.approx(before, abs=6)
    assert ballast.nbytes == 320_000_000
    peak_mb(targets.needs, "pytest")  # the script that runs these tests is not imported again


def test_what_goes_wrong_comes_back(targets) -> None:
    with pytest.raises(BadInput, match=r"^photo.txt is no photograph$"):
        peak_mb(targets.refuse)
    with pytest.raises(ShoestringError, match=r"memory_targets.fail failed in its own process: KeyError: 7"):
        peak_mb(targets.fail, 7)
    with pytest.raises(ShoestringError, match="SystemExit: 3"):
        peak_mb(targets.leave)
    main = sys.modules["__main__"]
    with pytest.raises(ShoestringError, match=f"died with exit code -{signal.SIGABRT:d}"):
        peak_mb(targets.crash)
    assert sys.modules["__main__"] is main


def test_a_target_may_start_processes(targets) -> None:
    assert peak_mb(targets.has_children) > 5


def test_a_target_nobody_can_import_is_refused() -> None:
    with pytest.raises(BadInput, match="top of a module"):
        peak_mb(lambda: os.getpid())
