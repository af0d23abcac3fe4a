"""One process sets up nothing; two compute what one does."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from shoestring.train.processes import World, gathered, join

# Gradients are sums over 8 inputs, added as 4 + 4 by two processes: units in the last place of float32 (6e-8), 20 steps
# long. Measured 3e-8; a lost or doubled share of a batch shows in the second digit.
TOLERANCE = 1e-6

Program = Callable[..., Any]


def test_one_process_sets_up_nothing(little: SimpleNamespace) -> None:
    world = join()
    assert (world.rank, world.size, world.leader, world.fabric) == (0, 1, True, None)
    little.job(None)
    assert not torch.distributed.is_initialized()


def test_alone_everything_stays_as_it_is() -> None:
    world, value = World(torch.device("cpu")), torch.arange(3.0)
    world.average([value])
    world.agree(torch.nn.Linear(2, 2))
    world.wait()
    assert value.tolist() == [0, 1, 2]
    assert world.told("value") == "value"
    assert gathered(value) is value


def test_two_processes_give_what_one_gives(little: SimpleNamespace, program: Program, tmp_path: Path) -> None:
    run = program(tmp_path / "run", tmp_path / "two", processes=2)
    assert run.returncode == 0, run.stderr
    first, second = (torch.load(tmp_path / f"two-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert (bool(first.pop("leader")), bool(second.pop("leader"))) == (True, False)
    assert all(torch.equal(value, second[name]) for name, value in first.items())

    model, trained = little.job(None, alone=False)
    expected = {**model.state_dict(), "history": torch.tensor(trained.history)}
    start = little.network(norm=False).get_submodule("0").weight
    assert (expected["0.weight"] - start).abs().max() > 1e-2  # training went somewhere
    for name, value in first.items():
        torch.testing.assert_close(value, expected[name], rtol=TOLERANCE, atol=TOLERANCE)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.pt"]


@pytest.mark.slow
def test_two_killed_processes_go_on_bit_for_bit(program: Program, tmp_path: Path) -> None:
    assert program(tmp_path / "whole", tmp_path / "whole-out", processes=2).returncode == 0
    killed = program(tmp_path / "run", tmp_path / "run-out", 16, processes=2)
    assert killed.returncode != 0
    assert not list(tmp_path.glob("run-out*"))
    assert program(tmp_path / "run", tmp_path / "run-out", processes=2).returncode == 0
    whole, run = (torch.load(tmp_path / f"{name}-out-0.pt", weights_only=True) for name in ("whole", "run"))
    assert all(torch.equal(value, run[name]) for name, value in whole.items())
