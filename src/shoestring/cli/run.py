"""`shoestring run FILE INPUT...`: runs an artifact on photographs or a folder of them. Needs no torch."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from shoestring.cli.options import Json, Runtime, Threads, console, require_places, write_json
from shoestring.core.errors import BadInput
from shoestring.report.wording import clean

if TYPE_CHECKING:
    from shoestring.deploy.session import Model, Prediction

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".npy"}


@dataclass(frozen=True)
class Answer:
    """What one input gave. `prepare_ms`: decoding and preprocessing; `run_ms`: the network. `error`: why not."""

    input: str
    predictions: tuple["Prediction", ...] = ()
    prepare_ms: float = 0.0
    run_ms: float = 0.0
    error: str = ""


def run(
    file: str | Path,
    inputs: Sequence[str | Path],
    *,
    top: int = 5,
    runtime: str | None = None,
    threads: int = 1,
) -> Iterator[Answer]:
    """Answers for photographs (or `.npy` tensors), one by one; a folder stands for the photographs in it. An input
    that cannot be read gives an Answer with an error. Raises BadInput for the artifact, a missing path or an empty
    folder."""
    from shoestring.deploy.session import load  # loads a runtime

    paths = [path for given in inputs for path in _paths(Path(given))]
    model = load(file, runtime, threads)
    return (_answer(model, path, top) for path in paths)


def run_command(
    file: Annotated[Path, typer.Argument(help="A .shoe file.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Photographs, or folders of them.")],
    top: Annotated[int, typer.Option(help="Classes to show.", min=1)] = 5,
    runtime: Runtime = None,
    threads: Threads = 1,
    json: Json = None,
) -> None:
    """Runs an artifact on photographs: top classes with labels, and the throughput."""
    require_places(json)
    out, answers = console(), []
    for answer in run(file, inputs, top=top, runtime=runtime, threads=threads):
        _print(answer, out)
        answers.append(answer)
    good = [answer for answer in answers if not answer.error]
    if not good:
        raise BadInput(f"none of the {len(answers)} inputs could be read")
    prepare, network = (sum(getattr(a, name) for a in good) / len(good) for name in ("prepare_ms", "run_ms"))
    rate = 1000 / max(prepare + network, 1e-9)
    out.print(f"{len(good)} inputs, {rate:.0f} a second: {prepare:.1f} ms to prepare and {network:.1f} ms to run each")
    write_json(json, [asdict(answer) for answer in answers])


def _answer(model: "Model", path: Path, top: int) -> Answer:
    try:
        start = time.perf_counter()
        x = model.prepare(_opened(path))
        prepared = time.perf_counter()
        outputs = model.session(x)[0][0]
        done = time.perf_counter()
        predictions = tuple(model.best(outputs, top))
    except BadInput as error:
        return Answer(str(path), error=str(error))
    return Answer(str(path), predictions, 1000 * (prepared - start), 1000 * (done - prepared))


def _opened(path: Path) -> Any:
    if path.suffix.lower() != ".npy":
        return path
    import numpy as np  # only arrays need it here

    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # a broken file makes numpy raise many types
        raise BadInput(f"{path}: is no .npy array: {error}") from None


def _paths(given: Path) -> list[Path]:
    if given.is_dir():
        found = sorted(path for path in given.rglob("*") if path.suffix.lower() in _SUFFIXES)
        if not found:
            raise BadInput(f"{given}: holds no image ({', '.join(sorted(_SUFFIXES))})")
        return found
    if not given.exists():
        raise BadInput(f"{given}: there is no such file or folder")
    return [given]


def _print(answer: Answer, out: Console) -> None:
    # A file's name and a label are a stranger's text, and longer than a line at times.
    lines = [f"  {100 * item.probability:5.1f} %  {item.label}" for item in answer.predictions]
    for line in [answer.error] if answer.error else [answer.input, *lines]:
        out.print(clean(line), markup=False, soft_wrap=True, style="bold" if line == answer.input else None)
