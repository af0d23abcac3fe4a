"""Checkpoints: one file, written in one step, so that whatever kills a run leaves the last whole one."""

import contextlib
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shoestring.core.errors import BadInput

NAME = "last.pt"


def save(folder: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Writes `folder`/last.pt: tensors and plain values, nothing that needs code to be read. Makes the folder. Raises
    BadInput when it cannot be written."""
    part = folder / f".{NAME}.part"  # one name: what a killed run left is written over, not collected
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save({"identity": _plain(identity), "state": dict(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / NAME)
    except OSError as error:
        raise BadInput(f"{folder}: cannot hold checkpoints ({error.strerror or error}); give another folder") from error


def load(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state that `save` wrote, on the CPU; None when there is none. Raises BadInput when it belongs to a run with
    another identity, naming what differs, or when the file is not a checkpoint."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        theirs, state = content["identity"], content["state"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: is not a checkpoint of a training run; remove it to start anew") from error
    ours = _plain(identity)
    if theirs != ours:
        raise BadInput(
            f"{path}: belongs to another run ({_difference(theirs, ours)}); give another folder or remove it"
        )
    return state


def remove(folder: Path) -> None:
    """Takes away what `save` wrote, and the folder if nothing else is in it."""
    for name in (NAME, f".{NAME}.part"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # absent, or somebody else's files are in it
        folder.rmdir()


def remove_all(folder: Path) -> None:
    """`remove` for `folder` and for the runs inside it, one folder each."""
    for inside in [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else ():
        remove(inside)
    remove(folder)


def _plain(identity: Mapping[str, Any]) -> Any:
    """As JSON gives it back: tuples become lists, keys strings."""
    return json.loads(json.dumps(identity))


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The first value that differs, however deep: `recipe.lr: 0.1 there, 0.2 here`."""
    key = next(key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key))
    there, here = theirs.get(key), ours.get(key)
    if isinstance(there, dict) and isinstance(here, dict):
        return f"{key}.{_difference(there, here)}"
    return f"{key}: {json.dumps(there):.60} there, {json.dumps(here):.60} here"
