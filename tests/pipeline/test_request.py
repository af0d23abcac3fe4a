from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from shoestring.core.budget import Budget
from shoestring.pipeline.request import Request


def test_what_is_left_behind_lies_beside_the_file() -> None:
    request = Request(Path("folder/x.shoe"))
    assert request.checkpoints == Path("folder/x.training")
    assert request.trail == Path("folder/x.trail")


def test_without_more_nothing_is_limited_and_the_planner_has_everything() -> None:
    request = Request(Path("x.shoe"))
    assert request.budget == Budget.parse("")
    assert (request.methods, request.without, request.rounds, request.reconstruct) == ((), (), 1, True)
    assert request.runtime is None
    with pytest.raises(FrozenInstanceError):
        request.rounds = 2
