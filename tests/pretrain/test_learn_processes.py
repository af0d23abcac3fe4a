"""A run that is killed by force goes on where it was; several processes learn one encoder."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

LITTLE = Path(__file__).with_name("little.py")


def program(*arguments: object, processes: int = 1) -> "subprocess.CompletedProcess[str]":
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(LITTLE), *map(str, arguments)]
    paths = [str(LITTLE.parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def encoder(path: Path, rank: int = 0) -> dict[str, Any]:
    return torch.load(f"{path}-{rank}.pt", weights_only=True)


def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    assert program(whole).returncode == 0
    assert program(killed, 0.4).returncode == -signal.SIGKILL
    assert not killed.exists()
    assert killed.with_suffix(".training").exists()
    assert program(killed).returncode == 0
    assert killed.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_two_processes_hold_one_encoder(tmp_path: Path) -> None:
    """What is learned is the same in both (statistics of batch norms are each process's own), and one writes it."""
    path = tmp_path / "both.safetensors"
    ran = program(path, processes=2)
    assert ran.returncode == 0, ran.stderr
    first, second = encoder(path), encoder(path, 1)
    learned = [name for name in first if "running" not in name]
    assert all(torch.equal(first[name], second[name]) for name in learned)
    assert path.exists()
    assert not path.with_suffix(".training").exists()
