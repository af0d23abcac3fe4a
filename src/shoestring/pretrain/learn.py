"""An encoder learns from clouds without labels: the objective by name, the loop of `train`, plain files at the end."""

import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from numpy import ndarray

from shoestring.core.errors import BadInput
from shoestring.core.evaluation import Evaluation
from shoestring.deploy.shoe import require_writable
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.clouds import Clouds, digest
from shoestring.pretrain.contrast import Contrast
from shoestring.pretrain.cross_modal import CrossModal
from shoestring.pretrain.encoder_file import require_name, save_encoder
from shoestring.pretrain.equivariant import Equivariant
from shoestring.pretrain.heads import Vectors
from shoestring.pretrain.live import Labelled, Log
from shoestring.pretrain.objective import Objective
from shoestring.pretrain.point_jepa import PointJEPA
from shoestring.pretrain.point_mae import PointMAE
from shoestring.pretrain.views import Views
from shoestring.train import Hooks, Recipe, checkpoint, train
from shoestring.train.loop import Progress

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "point_mae": PointMAE,
    "point_jepa": PointJEPA,
    "contrast": Contrast,
    "cross_modal": CrossModal,
    "equivariant": Equivariant,
}
ENCODERS: dict[str, dict[str, int]] = {
    "point_vit": {},
    "point_vit_ti": {"dim": 192, "depth": 12, "heads": 3},
    "point_vit_s": {"dim": 384, "depth": 12, "heads": 6},
}
_PACKAGES = ("shoestring", "torch", "numpy")


def recipe(epochs: float, batch: int = 32, lr: float = 1e-3, seed: int = 0) -> Recipe:
    """Point-MAE's: AdamW with decay 0.05, a cosine after a tenth of warm-up; no averaged weights, nothing frozen."""
    return Recipe(epochs, batch, lr, weight_decay=0.05, warmup=0.1, frozen=0.0, ema=0.0, seed=seed, optimiser="adamw")


@dataclass(frozen=True)
class Request:
    """What is asked for. `model`: a name in ENCODERS, `encoder`: settings of it that differ. `objective`: a name in
    OBJECTIVES, `settings`: of it. `points`: of each cloud in an epoch. `out`: NAME.safetensors; NAME.json and
    NAME.log.json lie beside it, and the checkpoints in NAME.training until it is done. `every`: epochs between two
    looks with labelled data."""

    out: Path
    recipe: Recipe
    model: str = "point_vit"
    objective: str = "cross_modal"
    look: Views = field(default_factory=Views)
    points: int = 1024
    encoder: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    every: int = 10

    def __post_init__(self) -> None:
        for name, value, known in (("model", self.model, ENCODERS), ("objective", self.objective, OBJECTIVES)):
            if value not in known:
                raise BadInput(f"{name}: {value!r} is not known; write one of {', '.join(known)}")
        require_name(self.out)


@dataclass(frozen=True)
class Pretrained:
    """`encoder`, in eval mode, and the file it was written to. `log`: a row an epoch (`live.Log`). `about`: what the
    JSON beside the file says. `leader`: whether this process, of several, wrote it. `evaluation`: what it was found to
    be worth, where that was asked for. `vectors`: what makes vectors of its features, where it learned some."""

    path: Path
    encoder: PointViT
    log: list[dict[str, Any]]
    about: dict[str, Any]
    leader: bool = True
    evaluation: Evaluation | None = None
    vectors: Vectors | None = None


def pretrain(
    clouds: ndarray,
    request: Request,
    labelled: Labelled | None = None,
    progress: Progress | None = None,
    extra: Mapping[str, Any] | None = None,
    shown: ndarray | None = None,
) -> Pretrained:
    """Trains an encoder on `clouds` [n, N, 3] and writes it. `labelled`: to look at it with on the way; nothing is
    learned from that. `extra`: JSON values to be told of the data. `shown`: pictures of all clouds, for `cross_modal`
    (which draws its own without). A run that was stopped goes on where it was. Raises BadInput as `Clouds`, `train`
    and the objectives."""
    require_writable(request.out)
    data = Clouds(clouds, request.points, request.recipe.seed)
    model = built(request, _pictures(request, clouds, shown))
    _require_points(request, model.encoder)
    about = described(request, clouds) | dict(extra or {})
    if shown is not None:
        about["data"]["pictures"] = digest(shown)
    log = _log(request, model.encoder, labelled)
    hooks = Hooks(on_step=model.follow, loss=model, on_epoch=log.on_epoch)
    place = request.out.with_suffix(".training")
    trained = train(model, data, request.recipe, hooks, None, place, about, progress)
    rows = log.finish(trained.history)
    about |= {"seconds": round(trained.seconds, 1), "finished": time.strftime("%Y-%m-%d", time.gmtime()), "log": rows}
    if trained.leader:
        save_encoder(request.out, model.encoder, about, model.vectors)
        checkpoint.remove(place)
    return Pretrained(request.out, model.encoder, rows, about, trained.leader, vectors=model.vectors)


def built(request: Request, also: Mapping[str, Any] | None = None) -> Objective:
    """The objective with its encoder, untrained: the same for the same seed, whoever draws beside it. `also`: settings
    that are no JSON values. Raises BadInput for settings that it does not have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.recipe.seed)
        try:
            encoder = PointViT(**(ENCODERS[request.model] | dict(request.encoder)))
            return OBJECTIVES[request.objective](encoder, request.look, **request.settings, **(also or {}))
        except TypeError as error:
            raise BadInput(f"{request.objective}: has no such setting ({error})") from None


def described(request: Request, clouds: ndarray) -> dict[str, Any]:
    """What says which run this is, as JSON values: also the identity of its checkpoints."""
    return {
        "model": request.model,
        "objective": request.objective,
        "settings": dict(request.settings),
        "encoder_settings": dict(request.encoder),
        "look": asdict(request.look),
        "symmetry": request.look.symmetry,
        "points": request.points,
        "seed": request.recipe.seed,
        "recipe": asdict(request.recipe),
        "data": {"sha256": digest(clouds), "clouds": len(clouds), "points": clouds.shape[1]},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


def _require_points(request: Request, encoder: PointViT) -> None:
    """Raises BadInput where the smallest look has fewer points than patches are made of."""
    most = max(encoder.patches, encoder.neighbours)
    shown = max(1, round(request.look.crop * request.points))
    if shown >= most:
        return
    told = "" if shown == request.points else f", cropped to {shown},"
    enough = math.ceil(most / request.look.crop)
    raise BadInput(
        f"points: {request.points}{told} are fewer than {most}, the patches or a patch's points; give {enough} or more"
    )


def _pictures(request: Request, clouds: ndarray, shown: ndarray | None) -> dict[str, ndarray]:
    """What of the pictures the objective is given. Raises BadInput where they are not one a cloud, or not wanted."""
    if shown is None:
        return {}
    if request.objective != "cross_modal":
        raise BadInput(f"pictures: {request.objective} learns from clouds alone; leave them out, or take cross_modal")
    if len(shown) != len(clouds):
        raise BadInput(f"pictures: {len(shown)} are not one for each of {len(clouds)} clouds")
    return {"shown": shown}


def _log(request: Request, encoder: PointViT, labelled: Labelled | None) -> Log:
    path = request.out.with_suffix(".log.json")
    return Log(path, encoder, request.look.symmetry, labelled, request.every, math.ceil(request.recipe.epochs))
