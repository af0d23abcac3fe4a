"""Proposal: what is picked of the options, and what is written as JSON."""

import json

import pytest

from shoestring.core.proposal import UNCHANGED, Considered, PlannedLayer, Proposal

DENSE, SPARSE = Considered(UNCHANGED, 1.0, 4000, 0.0), Considered("magnitude:4x1@50%", 0.4, 600, 0.01, 0.002)
LAYER = PlannedLayer("conv", (DENSE, SPARSE), "magnitude:4x1@50%", UNCHANGED)


def test_the_pick_is_one_of_the_options() -> None:
    assert LAYER.picked is SPARSE
    with pytest.raises(StopIteration):
        _ = PlannedLayer("conv", (DENSE,), "int8").picked


def test_json_holds_every_field() -> None:
    proposal = Proposal(
        "net",
        "latency<=1ms",
        {"threads": 2},
        (LAYER,),
        {"latency": 3.0},
        {"latency": 1.0},
        {"latency": 0.9, "loss": 0.01},
        prices={"latency": 0.1},
        methods=("magnitude:4x1@50%",),
        runtimes={"engine": {"latency": 0.9}},
        met=False,
        reason="why",
    )
    data = json.loads(json.dumps(proposal.to_json()))
    assert data.pop("layers") == [
        {
            "layer": "conv",
            "options": [
                {"option": "fp32", "ms": 1.0, "size": 4000, "loss": 0.0, "noise": 0.0},
                {"option": "magnitude:4x1@50%", "ms": 0.4, "size": 600, "loss": 0.01, "noise": 0.002},
            ],
            "pick": "magnitude:4x1@50%",
            "runner_up": "fp32",
        }
    ]
    assert data == {
        "schema": 1,
        "model": "net",
        "budget": "latency<=1ms",
        "device": {"threads": 2},
        "original": {"latency": 3.0},
        "limits": {"latency": 1.0},
        "totals": {"latency": 0.9, "loss": 0.01},
        "prices": {"latency": 0.1},
        "gap": 0.0,
        "methods": ["magnitude:4x1@50%"],
        "runtimes": {"engine": {"latency": 0.9}},
        "met": False,
        "reason": "why",
        "notes": [],
    }
