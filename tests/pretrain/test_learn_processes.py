"""A run that is killed by force goes on where it was; several processes learn one encoder."""

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from shoestring.train.processes import World

LITTLE, SHARES = (Path(__file__).with_name(name) for name in ("little.py", "shares.py"))

# Sums over 8 codes, added as 4 + 4 by two processes and divided by temperatures of 0.1; of order 1 to 100 in float32.
TOLERANCE = 1e-5


def program(*arguments: object, processes: int = 1, file: Path = LITTLE) -> "subprocess.CompletedProcess[str]":
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(file), *map(str, arguments)]
    paths = [str(file.parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
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


def test_two_processes_contrast_with_all_that_one_has(tmp_path: Path) -> None:
    """Losses and gradients are those of one process with the whole batch, and of no share of it."""
    ran = program(tmp_path / "two", processes=2, file=SHARES)
    assert ran.returncode == 0, ran.stderr
    first, second = (encoder(tmp_path / "two", rank) for rank in (0, 1))
    results = runpy.run_path(str(SHARES))["results"]
    whole, half = results(World(torch.device("cpu"))), results(World(torch.device("cpu"), 0, 2))
    assert set(whole) == set(first)
    for name, value in whole.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=TOLERANCE, atol=TOLERANCE)
        assert (half[name] - value).abs().max() > 100 * TOLERANCE


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
