"""`shoestring pretrain point_vit`: an encoder of point clouds learns without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shoestring.cli.options import (
    Html,
    Json,
    Report,
    Seed,
    console,
    progress,
    require_places,
    write_json,
    write_text,
)
from shoestring.core.errors import BadInput

if TYPE_CHECKING:
    from numpy import ndarray

    from shoestring.points.segmented import Segmented
    from shoestring.pretrain import Labelled, Pretrained
    from shoestring.pretrain.evaluation.judge import Exam
    from shoestring.pretrain.evaluation.segmentation import PointLabels
    from shoestring.report.markup import Markup

_DRAWN = 3  # clouds in the page
_LOOKS = ("contrast", "cross_modal", "equivariant")  # what compares two looks at a cloud
_SPARE = 2  # times the points of an epoch are taken of each cloud, so that epochs differ


def pretrain(
    model: str = "point_vit",
    *,
    data: str | Path | Sequence[str | Path] | None = None,
    demo: bool = False,
    objective: str = "cross_modal",
    epochs: float = 100,
    batch: int = 32,
    lr: float = 1e-3,
    points: int = 1024,
    symmetry: str = "none",
    rotate: str = "up",
    up: str = "y",
    probe: str | Path | None = None,
    protocols: str = "linear,knn",
    every: int = 10,
    pictures: str | Path | None = None,
    out: str | Path = "encoder.safetensors",
    seed: int = 0,
    encoder: Mapping[str, int] | None = None,
    settings: Mapping[str, Any] | None = None,
    views: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> "Pretrained":
    """Trains an encoder on clouds without labels and writes it: OUT holds the weights, and the JSON beside it what they
    are and where they come from (`pretrain.load_encoder` opens the two).

    `model`: a name in `pretrain.ENCODERS`. `data`: as in `fit`, labels and all, one or several; labels are not used.
    `demo`: made shapes instead. `objective`: a name in `pretrain.OBJECTIVES`. `symmetry`, `rotate`, `up`: how clouds
    are shown (`pretrain.Views`, of which `views` gives more). `probe`: labelled clouds to look at the encoder with
    after `every` so many epochs and to judge it with at the end, beside the untrained one and hand-made features,
    under `protocols` (`pretrain.evaluation.judge`): `evaluation` of what is returned. For `segmentation` its points
    have classes (`points.segmented`). `pictures`: a folder of one for each cloud, for cross_modal; without it draws its
    own. `encoder`, `settings`: of the encoder and the objective,
    where they differ. What was stopped goes on. Raises BadInput."""
    from shoestring.pretrain import Request, Views, recipe  # loads torch
    from shoestring.pretrain import pretrain as learned
    from shoestring.pretrain.evaluation.table import learned_table
    from shoestring.pretrain.icons import read_pictures

    look = Views(**{"rotate": rotate, "up": up, "symmetry": symmetry, **_usual(objective), **(views or {})})
    request = Request(
        Path(out),
        recipe(epochs, batch, lr, seed),
        model,
        objective,
        look,
        points,
        encoder or {},
        settings or {},
        every,
    )
    require_places(request.out)
    clouds, name = _clouds(data, demo, points, pictures is not None)
    asked, labelled, exam = _asked(probe, protocols, points, up)
    shown = None if pictures is None else read_pictures(pictures, len(clouds))
    done = learned(clouds, request, labelled, report, {"source": name}, shown)
    if exam is None or not done.leader:
        return done
    return replace(done, evaluation=learned_table(done, request, exam, asked, report))


def pretrain_command(
    model: Annotated[str, typer.Argument(help="point_vit, point_vit_ti or point_vit_s.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Clouds: a folder (class per folder or not; meshes, too), labels.csv, a .npz or a .h5. Repeatable."
        ),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Learn from made shapes.")] = False,
    objective: Annotated[
        str, typer.Option(help="cross_modal, contrast, equivariant, point_jepa or point_mae.")
    ] = "cross_modal",
    epochs: Annotated[float, typer.Option(help="Passes over the data.")] = 100,
    batch: Annotated[int, typer.Option(help="Clouds a step.", min=2)] = 32,
    lr: Annotated[float, typer.Option(help="The highest learning rate.")] = 1e-3,
    points: Annotated[int, typer.Option(help="Of a cloud that the network is shown.", min=1)] = 1024,
    symmetry: Annotated[
        str, typer.Option(help="none; frames: clouds are brought to canonical frames; average: over the four frames.")
    ] = "none",
    rotate: Annotated[str, typer.Option(help="How clouds are turned while learning: none, up or so3.")] = "up",
    up: Annotated[str, typer.Option(help="The axis that points up: x, y or z.")] = "y",
    probe: Annotated[
        Path | None,
        typer.Option(help="Labelled clouds to look at the encoder with on the way and to judge it at the end."),
    ] = None,
    protocols: Annotated[
        str,
        typer.Option(
            help="How --probe judges: linear,knn,few-shot,labels,rotation,invariance,cost, or all of them; fine-tune, "
            "also from scratch, which takes hours; segmentation, where its points have classes (a split of "
            "ShapeNetPart, a .npz with points and parts, .las files)."
        ),
    ] = "linear,knn",
    every: Annotated[int, typer.Option(help="Epochs between two looks.", min=1)] = 10,
    pictures: Annotated[
        Path | None, typer.Option(help="A folder with a picture of each cloud, for cross_modal; default: drawn.")
    ] = None,
    out: Annotated[Path, typer.Option(help="NAME.safetensors to write; NAME.json beside it.")] = Path(
        "encoder.safetensors"
    ),
    seed: Seed = 0,
    json: Json = None,
    html: Html = None,
) -> None:
    """Trains an encoder of point clouds without labels; what was stopped goes on where it was."""
    from shoestring.report.evaluation import print_evaluation
    from shoestring.report.learning import learning_html, print_learning

    require_places(json, html)
    with progress() as report:
        done = pretrain(
            model,
            data=data,
            demo=demo,
            objective=objective,
            epochs=epochs,
            batch=batch,
            lr=lr,
            points=points,
            symmetry=symmetry,
            rotate=rotate,
            up=up,
            probe=probe,
            protocols=protocols,
            every=every,
            pictures=pictures,
            out=out,
            seed=seed,
            report=report,
        )
    if not done.leader:
        return
    found = done.evaluation
    write_json(json, done.about if found is None else {**done.about, "evaluation": found.to_json()})
    if html is not None:
        drawn = _drawn(done, _shown(probe, data, demo, points), up)
        write_text(html, learning_html(done.about, done.path.stem, found, drawn))
    print_learning(done.about, str(done.path), console())
    if found is not None:
        print_evaluation(found, console())


def _usual(objective: str) -> dict[str, Any]:
    """Two looks at a cloud must differ by more than a turn, or to tell them from others is too easy."""
    return {"crop": 0.7, "jitter": 0.01} if objective in _LOOKS else {}


def _clouds(
    data: str | Path | Sequence[str | Path] | None, demo: bool, points: int, pictured: bool = False
) -> tuple["ndarray", str]:
    """All clouds there are, labelled or not, and what they are called; each once, unless each is `pictured`."""
    import numpy as np

    from shoestring.points.data import load_clouds
    from shoestring.points.demo import demo_shapes
    from shoestring.points.stacked import distinct, stacked

    if bool(data) == demo:
        raise BadInput("data: nothing, or two things, to learn from; give either --data DIR or --demo")
    paths = [data] if isinstance(data, str | Path) else list(data or ())
    if pictured and len(paths) > 1:
        raise BadInput(f"pictures: are of the clouds of one --data, not of {len(paths)}; give one")
    sets = [load_clouds(path, unlabelled=True) for path in paths] or [demo_shapes()]
    clouds = np.concatenate([stacked(each, _SPARE * points)[0] for each in sets])
    name = ", ".join(Path(path).name for path in paths) or "demo"
    return clouds if pictured else clouds[distinct(clouds)], name


def _asked(
    probe: str | Path | None, protocols: str, points: int, up: str
) -> tuple[tuple[str, ...], "Labelled | None", "Exam | None"]:
    """The protocols, what is looked at on the way (clouds of two classes or more) and what is judged at the end."""
    from shoestring.points.segmented import load_segmented
    from shoestring.pretrain.evaluation.judge import SEGMENTATION, parse_protocols
    from shoestring.pretrain.evaluation.table import require_exam, require_point_exam

    asked = parse_protocols(protocols)
    if probe is None:
        return asked, None, None
    found = load_segmented(probe, points) if SEGMENTATION in parse_protocols(protocols, points=True) else None
    if found is None:
        labelled = _labelled(probe, points)
        return asked, labelled, require_exam(labelled, asked, up)
    asked = parse_protocols(protocols, clouds=found.categories is not None, points=True)
    return asked, _glanced(found, points), require_point_exam(*_classes(found), asked, up)


def _classes(found: "Segmented") -> tuple["ndarray", "PointLabels", "ndarray"]:
    """What `require_point_exam` takes, without clouds none of whose points has a class."""
    from shoestring.pretrain.evaluation.segmentation import PointLabels

    known = (found.labels >= 0).any(1)
    categories = None if found.categories is None else found.categories[known]
    return found.clouds[known], PointLabels(found.labels[known], categories), found.groups[known]


def _glanced(found: "Segmented", points: int) -> "Labelled | None":
    """Shapes of two categories or more; of others there is nothing to see on the way."""
    from shoestring.pretrain import Labelled

    if found.categories is None or len(set(found.categories.tolist())) < 2:
        return None
    return Labelled(found.clouds, found.categories, points)


def _labelled(probe: str | Path, points: int) -> "Labelled":
    from shoestring.points.data import load_clouds
    from shoestring.points.stacked import stacked
    from shoestring.pretrain import Labelled

    return Labelled(*stacked(load_clouds(probe, unlabelled=True), points), points)


def _shown(probe: Path | None, data: Sequence[Path] | None, demo: bool, points: int) -> "ndarray":
    """The clouds that pictures are made of: those that were judged, or else learned from."""
    from shoestring.points.segmented import load_segmented

    if probe is None:
        return _clouds(data, demo, points)[0]
    found = load_segmented(probe, points)  # a file of lidar is one of tiles there, and no data of itself
    return _clouds(probe, False, points)[0] if found is None else found.clouds


def _drawn(done: "Pretrained", clouds: "ndarray", up: str) -> dict[str, "Markup"]:
    """What the encoder sees of some clouds, far apart in the data."""
    from shoestring.pretrain.clouds import in_unit_sphere
    from shoestring.pretrain.evaluation.pictures import feature_pictures

    clouds = in_unit_sphere(clouds)
    few = clouds[:: max(1, len(clouds) // _DRAWN)][:_DRAWN]
    return feature_pictures(done.encoder, few, done.about["symmetry"], up)
