"""What is written comes back, whole or as it was before; what is not ours is refused."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from shoestring.core.errors import BadInput
from shoestring.train import checkpoint

IDENTITY = {"model": "little", "recipe": {"lr": 0.1, "features": ("a", "b")}}
STATE: dict[str, Any] = {"step": 3, "history": [0.5], "model": {"w": torch.arange(6.0).reshape(2, 3)}}


def test_round_trip(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    assert checkpoint.load(folder, IDENTITY) is None
    checkpoint.save(folder, IDENTITY, STATE)
    state = checkpoint.load(folder, IDENTITY)
    assert state is not None
    assert (state["step"], state["history"]) == (3, [0.5])
    assert torch.equal(state["model"]["w"], STATE["model"]["w"])
    assert [path.name for path in folder.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_write_that_is_cut_short_leaves_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    whole = torch.save

    def half(content: Any, file: io.BufferedWriter) -> None:
        buffer = io.BytesIO()
        whole(content, buffer)
        file.write(buffer.getvalue()[: buffer.tell() // 2])
        raise error

    checkpoint.save(tmp_path, IDENTITY, STATE)
    before = (tmp_path / "last.pt").read_bytes()
    monkeypatch.setattr(torch, "save", half)
    with pytest.raises((BadInput, KeyboardInterrupt)):
        checkpoint.save(tmp_path, IDENTITY, {"step": 4})
    assert (tmp_path / "last.pt").read_bytes() == before
    monkeypatch.setattr(torch, "save", whole)
    checkpoint.save(tmp_path, IDENTITY, {"step": 4})
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({**IDENTITY, "model": "large"}, r'model: "little" there, "large" here'),
        ({**IDENTITY, "recipe": {"lr": 0.2, "features": ("a", "b")}}, r"recipe\.lr: 0\.1 there, 0\.2 here"),
        ({**IDENTITY, "data": "photographs"}, r'data: null there, "photographs" here'),
    ],
)
def test_another_run_is_refused_with_what_differs(tmp_path: Path, other: dict[str, Any], told: str) -> None:
    checkpoint.save(tmp_path, IDENTITY, STATE)
    with pytest.raises(BadInput, match=rf"last\.pt: belongs to another run \({told}\)"):
        checkpoint.load(tmp_path, other)


@pytest.mark.parametrize("spoil", ["empty", "text", "truncated", "code", "tensor", "keys"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, spoil: str) -> None:
    checkpoint.save(tmp_path, IDENTITY, STATE)
    path = tmp_path / "last.pt"
    whole = path.read_bytes()
    if spoil == "code":
        torch.save({"identity": IDENTITY, "state": pytest.raises}, path)
    elif spoil == "tensor":
        torch.save(torch.zeros(3), path)
    elif spoil == "keys":
        torch.save({"state": {}}, path)
    else:
        path.write_bytes({"empty": b"", "text": b"weights", "truncated": whole[: len(whole) // 2]}[spoil])
    with pytest.raises(BadInput, match=r"last\.pt: is not a checkpoint"):
        checkpoint.load(tmp_path, IDENTITY)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"file: cannot hold checkpoints"):
        checkpoint.save(tmp_path / "file", IDENTITY, STATE)
