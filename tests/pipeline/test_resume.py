"""Plans under way: what is kept comes back, and nothing that belongs to another fit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shoestring.core.budget import Budget
from shoestring.core.proposal import Considered, PlannedLayer, Proposal
from shoestring.pipeline.device import here
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import Ground, steps
from shoestring.pipeline.post_training import EightBit
from shoestring.pipeline.request import Request
from shoestring.pipeline.resume import forget, load, place, save
from shoestring.pipeline.search import Settled
from shoestring.train import checkpoint
from shoestring.train.recipe import Recipe

PICKS = {"stem.0": "int8", "blocks.0.project.0": "magnitude:4x1@50%"}


@pytest.fixture
def where(original: Original, network: EightBit) -> Ground:
    return Ground(original, network, (here("onnxruntime"),), (), {}, (), 1.0, 1000.0)


@pytest.fixture
def settled(where: Ground) -> Settled:
    layers = tuple(PlannedLayer(name, (Considered(pick, 1.0, 5, 0.1),), pick) for name, pick in PICKS.items())
    device = where.devices[0].to_json()
    proposal = Proposal("net", "latency<=1ms", device, layers, {"latency": 2.0}, {"latency": 1.0}, {"loss": 0.2})
    return Settled(where, proposal, tuple(steps(PICKS)), 0.9)


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    return Request(out=tmp_path / "x.shoe", budget=Budget.parse("latency<=1ms"))


def test_what_is_kept_comes_back(where: Ground, settled: Settled, request_: Request) -> None:
    path = place(request_, where, 1, None)
    assert load(path, where) is None
    save(path, settled)
    found = load(path, where)
    assert found is not None
    assert replace(found, proposal=settled.proposal) == settled
    assert json.dumps(found.proposal.to_json()) == json.dumps(settled.proposal.to_json())
    assert path.parent == request_.checkpoints


def test_what_was_taken_back_stays_away(where: Ground, settled: Settled, request_: Request) -> None:
    path = place(request_, where, 1, None)
    save(path, replace(settled, steps=settled.steps[1:], taken_back=(("magnitude", "0.9 ms with it, 0.9 without"),)))
    found = load(path, where)
    assert found is not None
    assert [step.method.CARD.name for step in found.steps] == ["int8"]
    assert found.taken_back == (("magnitude", "0.9 ms with it, 0.9 without"),)


def test_another_fit_has_another_place(where: Ground, request_: Request) -> None:
    other = replace(request_, budget=Budget.parse("latency<=2ms"))
    elsewhere = replace(where, devices=(here("openvino"),))
    asked = [(request_, where, 1, None), (other, where, 1, None), (request_, where, 2, None)]
    asked += [(request_, where, 1, 0.1), (request_, elsewhere, 1, None)]
    asked += [(replace(request_, without=("structured",)), where, 1, None), (replace(request_, seed=1), where, 1, None)]
    asked += [(replace(request_, recipe=Recipe(1.0)), where, 1, None)]
    asked += [(request_, replace(where, network=replace(where.network, held_out=[np.ones(3)])), 1, None)]
    assert len({place(*one) for one in asked}) == len(asked)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"proposal": {}, "ms": 1, "taken_back": []}', b'{"proposal": 1}']
)
def test_what_is_damaged_is_not_there(damage: bytes, where: Ground, settled: Settled, request_: Request) -> None:
    path = place(request_, where, 1, None)
    save(path, settled)
    path.write_bytes(damage)
    assert load(path, where) is None


def test_nothing_is_left(where: Ground, settled: Settled, request_: Request) -> None:
    """Of plans, nor of what was trained for any of them."""
    for number in (1, 2, 3):
        own = replace(request_, number=number)
        save(place(own, where, number, None), settled) if number == 1 else own.checkpoints.mkdir()
        checkpoint.save(own.checkpoints / "magnitude", {}, {})
    forget(request_)
    assert list(request_.out.parent.iterdir()) == []
