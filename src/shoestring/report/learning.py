"""How an encoder learned without labels: the loss of each epoch and what a probe found, as text and a page."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console

from shoestring.core.evaluation import Evaluation
from shoestring.report.evaluation import evaluation_parts, picture_section
from shoestring.report.markup import Markup, element
from shoestring.report.page import facts, header, page, section, table
from shoestring.report.plane import Plane, dot
from shoestring.report.svg import line, picture

_NAMES = {
    "point_mae": "Point-MAE",
    "point_jepa": "Point-JEPA",
    "contrast": "contrast",
    "cross_modal": "CrossPoint",
    "equivariant": "contrast and equivariance",
}


def print_learning(about: Mapping[str, Any], path: str, console: Console) -> None:
    """`about`: what the JSON beside the encoder says."""
    for text in _sentences(about):
        console.print(text, markup=False)
    console.print(f"written: {path}", markup=False)


def learning_html(
    about: Mapping[str, Any],
    name: str,
    evaluation: Evaluation | None = None,
    pictures: Mapping[str, Markup] | None = None,
) -> str:
    """One self-contained document in the look of the receipt. `evaluation`: what the encoder was found to be worth;
    `pictures`: caption to picture of what it sees."""
    log = about["log"]
    probed = [row for row in log if "probe" in row]
    curves = [_curve("loss", "Loss", log, "loss")] if len(log) > 1 else []  # one epoch is no line
    if probed:
        curves.append(_curve("probe", "Linear probe, % right", probed, "probe"))
    rows = [[f"{row['epoch']}", f"{row['loss']:.4f}", f"{row['probe']:.1f}" if "probe" in row else ""] for row in log]
    return page(
        f"{name} learned",
        header("pretrain", name, f"{_named(about)} on {about['data']['clouds']} clouds without labels."),
        facts(_numbers(about)),
        *([section("Epoch by epoch", *curves)] if curves else []),
        *(evaluation_parts(evaluation, pictures) if evaluation else (picture_section(pictures or {}),)),
        section("Everything", table("Epochs", ["epoch", ">loss", ">probe, %"], rows)),
    )


def _sentences(about: Mapping[str, Any]) -> Iterator[str]:
    log, data = about["log"], about["data"]
    yield f"{about['model']} learned from {data['clouds']} clouds without labels ({_named(about)}, {_epochs(log)})"
    yield f"loss {log[0]['loss']:.4g} to {log[-1]['loss']:.4g} in {_time(about['seconds'])}"
    probed = [row["probe"] for row in log if "probe" in row]
    if probed:
        yield f"linear probe: {probed[0]:.1f} % at first, {probed[-1]:.1f} % at the end (a glance: one ridge, 5 folds)"


def _numbers(about: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    log = about["log"]
    yield "objective", _named(about), f"{about['points']} points a cloud"
    yield "loss", f"{log[-1]['loss']:.4g}", f"from {log[0]['loss']:.4g}"
    probed = [row["probe"] for row in log if "probe" in row]
    if probed:
        yield "probe", f"{probed[-1]:.1f} %", "a ridge on frozen features, 5 folds"
    yield "time", _time(about["seconds"]), _epochs(log)


def _epochs(log: Sequence[object]) -> str:
    return f"{len(log)} epoch{'s' if len(log) > 1 else ''}"


def _curve(key: str, title: str, rows: Sequence[Mapping[str, Any]], column: str) -> Markup:
    plane = Plane([0.0, *(row["epoch"] for row in rows)], [row[column] for row in rows])
    places = [plane.at(row["epoch"], row[column]) for row in rows]
    shapes = [*plane.grid("epoch", title), *(line(*start, *end, "roof") for start, end in pairwise(places))]
    if column == "probe":
        told = [f"epoch {row['epoch']}: {row[column]:.1f} %" for row in rows]
        shapes += [dot(place, text) for place, text in zip(places, told, strict=True)]
    told_all = f"From {rows[0][column]:.4g} in epoch {rows[0]['epoch']} to {rows[-1][column]:.4g}"
    return element("figure", picture(key, title, told_all, plane.height, shapes))


def _named(about: Mapping[str, Any]) -> str:
    frame = {"none": "", "frames": ", in canonical frames", "average": ", averaged over frames"}
    return f"{_NAMES.get(about['objective'], about['objective'])}{frame[about['symmetry']]}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
