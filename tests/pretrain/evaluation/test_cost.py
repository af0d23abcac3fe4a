"""Costs of a network one can count by hand."""

import pickle

import torch
from torch import nn

from shoestring.measure.timing import Schedule
from shoestring.models.vn_pointnet import VNPointNet
from shoestring.pretrain.evaluation.cost import network_cost, one_thread, run_once

QUICK = Schedule(seconds=0.2, rounds=(8, 20), warm_up=1)


def test_parameters_macs_time_and_memory() -> None:
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 5))
    found = network_cost(model, torch.randn(1, 100, 3), schedule=QUICK)
    assert found.params == 3 * 16 + 16 + 16 * 5 + 5
    assert found.macs == 100 * (3 * 16 + 16 * 5)
    assert found.ms_p50 and found.ms_p90 and 0 < found.ms_p50 <= found.ms_p90
    assert found.peak_mb and found.peak_mb > 50  # interpreter and torch


def test_the_call_that_is_timed_may_be_another(monkeypatch) -> None:
    monkeypatch.setattr("shoestring.pretrain.evaluation.cost.peak_mb", lambda *_: 1.0)
    calls = []
    network_cost(nn.Linear(3, 2), torch.randn(1, 4, 3), lambda: calls.append(1), QUICK)
    assert len(calls) > 8


def test_a_network_with_operators_of_points_is_counted(monkeypatch) -> None:
    monkeypatch.setattr("shoestring.pretrain.evaluation.cost.peak_mb", lambda *_: 1.0)
    found = network_cost(VNPointNet(5, width=4), torch.randn(1, 32, 3), schedule=QUICK)
    assert found.macs and found.macs > 0


def test_a_process_of_its_own_can_run_it() -> None:
    run_once(pickle.dumps((nn.Linear(3, 2), torch.randn(1, 4, 3).numpy())))


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
