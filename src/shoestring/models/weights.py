"""Checkpoints: reading them without running what they hold, and a clear word when they do not fit."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from shoestring.core.errors import BadInput

# What torch.load raises on a file that is cut off, altered or no checkpoint at all, beside the pickle's own error.
_BROKEN = (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError, IndexError)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.pth`, `.pt` or `.safetensors` file by name, on the CPU, in the file's own types.

    `{"state_dict": ...}` and `{"model": ...}` are unwrapped, and the prefix `module.` of parallel training is dropped.
    Raises BadInput when the file is missing, broken, or would have to run code to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"weights: {path} does not exist; give a .pth, .pt or .safetensors file")
    if path.suffix == ".safetensors":
        return _without_prefix(_read_safetensors(path))
    if path.suffix not in (".pth", ".pt"):
        raise BadInput(f"weights: cannot read {path.name}; give a .pth, .pt or .safetensors file")
    state = _read_pickle(path)
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadInput(f"weights: {path.name} holds no state dict; save one with torch.save(model.state_dict(), file)")
    return _without_prefix(state)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fills `model` from a file (see `read_weights`); values take the model's type, so half precision becomes float32.

    Raises BadInput, naming the first tensor that does not fit, before anything in `model` was changed.
    """
    load_state(model, read_weights(path), Path(path).name)


def load_state(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Fills `model` from tensors by name; `source` is what an error message calls them. Raises BadInput."""
    own = model.state_dict()
    # Checkpoints from before torch 0.4.1 have no such counters; nothing in a forward pass reads them.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    misshaped = [name for name in own if name in state and own[name].shape != state[name].shape]
    problems = [f"{name} is missing" for name in missing]
    problems += [f"{name} is not in the model" for name in state if name not in own]
    problems += [f"{name} is {_shape(state[name])}, the model has {_shape(own[name])}" for name in misshaped]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise BadInput(
            f"weights: {source} does not fit {type(model).__name__}: {problems[0]}{more}; "
            "give the checkpoint of this network with as many classes"
        )
    model.load_state_dict(state, strict=False)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"weights: {path.name} is not a readable safetensors file: {_first_line(error)}") from error


def _read_pickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"weights: {path.name} holds more than tensors and is not loaded, because that could run code; "
            "save the state dict alone"
        ) from error
    except _BROKEN as error:
        raise BadInput(f"weights: {path.name} is not a readable checkpoint: {_first_line(error)}") from error


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    wrapped = bool(state) and all(name.startswith("module.") for name in state)
    return {name.removeprefix("module."): value for name, value in state.items()} if wrapped else state


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
