"""Checkpoints of every form come in; broken, hostile and unfitting ones are refused, the model untouched."""

import argparse
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from shoestring.core.errors import BadInput
from shoestring.models.weights import load_state, load_weights, read_weights


def network(seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def refused(model: nn.Module, path: Path) -> str:
    """The refusal, which is one line and leaves the model as it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(BadInput) as caught:
        load_weights(model, path)
    assert same(model.state_dict(), before)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WRAPPINGS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "module.": lambda state: {f"module.{name}": value for name, value in state.items()},
    "all": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "old": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
}


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_torch_checkpoints(wrapping: str, suffix: str, tmp_path: Path):
    source, target, path = network(1), network(2), tmp_path / f"net{suffix}"
    torch.save(WRAPPINGS[wrapping](source.state_dict()), path)
    load_weights(target, path)
    assert same(target.state_dict(), source.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_safetensors_of_half_precision_become_float32(dtype: torch.dtype, tmp_path: Path):
    source, target, path = network(1), network(2), tmp_path / "net.safetensors"
    state = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in source.state_dict().items()
    }
    save_file(state, path)
    load_weights(target, path)
    assert {value.dtype for value in target.parameters()} == {torch.float32}
    assert same(target.state_dict(), {name: value.to(target.state_dict()[name].dtype) for name, value in state.items()})
    assert same(read_weights(path), state)


class Hostile:
    """A pickle that would make a folder when loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_hostile_pickle_is_refused_and_does_nothing(tmp_path: Path):
    path = tmp_path / "net.pth"
    torch.save({"state_dict": Hostile(tmp_path / "gotcha")}, path)
    assert "could run code" in refused(network(), path)
    assert not (tmp_path / "gotcha").exists()


def test_checkpoint_with_foreign_objects_is_refused(tmp_path: Path):
    path = tmp_path / "net.pth"
    torch.save({"state_dict": network().state_dict(), "args": argparse.Namespace(lr=1)}, path)
    assert "save the state dict alone" in refused(network(), path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_cut_off_or_overwritten_files_are_refused(suffix: str, tmp_path: Path):
    path, state = tmp_path / f"net{suffix}", network().state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    data = path.read_bytes()
    for cut in [0, 1, 7, 8, 9, 100, *range(200, len(data), len(data) // 20)]:
        path.write_bytes(data[:cut])
        assert refused(network(), path).startswith("weights: net")
    path.write_bytes(bytes(len(data)))
    refused(network(), path)
    path.write_bytes(b"\x80\x02garbage.")
    refused(network(), path)


@pytest.mark.parametrize("content", [[1, 2], {"lr": 0.1}, torch.zeros(3), {"state_dict": {"w": 1}}])
def test_file_without_state_dict(content: object, tmp_path: Path):
    torch.save(content, tmp_path / "net.pt")
    assert "holds no state dict" in refused(network(), tmp_path / "net.pt")


def test_missing_file_and_unknown_suffix(tmp_path: Path):
    assert "does not exist" in refused(network(), tmp_path / "absent.pth")
    assert "does not exist" in refused(network(), tmp_path)
    (tmp_path / "net.h5").write_bytes(b"")
    assert "give a .pth" in refused(network(), tmp_path / "net.h5")


def test_mismatch_names_the_first_tensor(tmp_path: Path):
    path, state = tmp_path / "net.pth", network(classes=5).state_dict()
    torch.save(state, path)
    assert "3.weight is 5x4, the model has 3x4 (and 1 more)" in refused(network(), path)
    state = network().state_dict()
    torch.save({**state, "4.weight": torch.zeros(1)}, path)
    assert "4.weight is not in the model;" in refused(network(), path)
    del state["0.bias"]
    torch.save(state, path)
    assert "0.bias is missing;" in refused(network(), path)
    with pytest.raises(BadInput, match=r"weights: here does not fit Linear: weight is missing \(and 1 more\)"):
        load_state(nn.Linear(2, 2), {}, "here")
