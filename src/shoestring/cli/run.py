"""`shoestring run FILE INPUT...`: runs an artifact on photographs, point clouds, folders of them, or a video; with
`--deadline` by the point that will be in time, frame by frame. Needs no torch."""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from shoestring.cli.frames import frames as walk
from shoestring.cli.frames import inputs_of, is_video, opened
from shoestring.cli.live import Milliseconds, require_picture, show, timeline_of, told, write_timeline
from shoestring.cli.options import Json, Runtime, Threads, console, require_places, write_json
from shoestring.core.errors import BadInput
from shoestring.core.timeline import Turn
from shoestring.report.wording import clean

if TYPE_CHECKING:
    from shoestring.deploy.adaptive import Adaptive
    from shoestring.deploy.prediction import Prediction
    from shoestring.deploy.session import Model
    from shoestring.measure.load import Script

MISS = 0.001  # the share of frames that may be late


@dataclass(frozen=True)
class Answer:
    """What one input gave. `prepare_ms`: decoding and preprocessing; `run_ms`: the network, or with a deadline both,
    without decoding; `turn`: how a deadline was met. `error`: why not."""

    input: str
    predictions: tuple["Prediction", ...] = ()
    prepare_ms: float = 0.0
    run_ms: float = 0.0
    error: str = ""
    turn: Turn | None = None


def run(
    file: str | Path,
    inputs: Sequence[str | Path],
    *,
    top: int = 5,
    runtime: str | None = None,
    threads: int = 1,
    deadline_ms: float | None = None,
    miss: float = MISS,
    frames: int | None = None,
    load: "Script | None" = None,
) -> Iterator[Answer]:
    """Answers for photographs (or `.npy` tensors), point clouds and the frames of videos, one by one; a folder stands
    for what is in it. An input that cannot be read gives an Answer with an error. `deadline_ms`: each frame by the
    richest point that will be in time, all but a share `miss` of them; `frames`: so many, walking the inputs again and
    again; `load`: other processes that take the cores meanwhile. Raises BadInput for the artifact, a missing path, an
    empty folder, and a broken video."""
    from shoestring.deploy.session import load as load_model  # loads a runtime

    if frames is not None and frames < 1:
        raise BadInput(f"frames: {frames} is none; give 1 or more")
    model = load_model(file, runtime, threads)
    kind = str(model.spec["kind"])
    paths = [path for given in inputs for path in inputs_of(Path(given), kind)]
    if deadline_ms is not None:
        return _in_time(model.adaptive(deadline_ms, miss), paths, top, frames, load)
    if load is not None:
        raise BadInput("load: is for frames with a deadline; give one, for example --deadline 33ms")
    if frames is None and not any(map(is_video, paths)):
        return (_answer(model, path, top, kind) for path in paths)
    return (_framed(model, name, frame, top) for name, frame in walk(paths, frames, kind))


def run_command(
    file: Annotated[Path, typer.Argument(help="A .shoe file.")],
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Photographs, point clouds, folders, videos.")
    ],
    top: Annotated[int, typer.Option(help="Classes to show.", min=1)] = 5,
    runtime: Runtime = None,
    threads: Threads = 1,
    deadline: Milliseconds = None,
    miss: Annotated[float | None, typer.Option(help="Share of the frames that may be late; default 0.001.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames, walking the inputs again and again.", min=1)] = None,
    load: Annotated[bool, typer.Option("--load", help="Let other processes come and go meanwhile.")] = False,
    script: Annotated[Path | None, typer.Option(help="When which load comes, as JSON (docs/adaptive.md).")] = None,
    timeline: Annotated[Path | None, typer.Option(help="Write what happened: .html, .svg or .json.")] = None,
    json: Json = None,
) -> None:
    """Runs an artifact on photographs, point clouds or a video: top classes with labels, and the throughput; with
    --deadline by the point that will be in time."""
    require_places(json)
    require_picture(timeline)
    if deadline is None and (load or script or timeline or miss is not None):
        raise BadInput("--load, --script, --timeline and --miss are for frames with a deadline; write --deadline 33ms")
    playing = _script(script) if load or script else None
    out, answers = console(), []
    found = run(
        file,
        inputs,
        top=top,
        runtime=runtime,
        threads=threads,
        deadline_ms=deadline,
        miss=MISS if miss is None else miss,
        frames=frames,
        load=playing,
    )
    for answer in found if deadline is None else show(found):
        if deadline is None or answer.error:
            _print(answer, out)
        answers.append(answer)
    good = [answer for answer in answers if not answer.error]
    if not good:
        raise BadInput(f"none of the {len(answers)} inputs could be read")
    if deadline is None:
        prepare, network = (sum(getattr(a, name) for a in good) / len(good) for name in ("prepare_ms", "run_ms"))
        rate = 1000 / max(prepare + network, 1e-9)
        each = f"{prepare:.1f} ms to prepare and {network:.1f} ms to run each"
        out.print(f"{len(good)} inputs, {rate:.0f} a second: {each}")
    else:
        _summed_up(file, deadline, good, timeline, out)
    write_json(json, [asdict(answer) for answer in answers])


def _summed_up(file: Path, deadline_ms: float, good: Sequence[Answer], picture: Path | None, out: Console) -> None:
    from shoestring.deploy.shoe import read  # --help needs no archive

    turns = [answer.turn for answer in good if answer.turn is not None]
    kept = timeline_of(file, read(file).points, deadline_ms, turns)
    for text in told(kept):
        out.print(text, markup=False, soft_wrap=True)
    write_timeline(picture, kept)


def _script(path: Path | None) -> "Script":
    from shoestring.measure import load, machine  # only a load needs them

    return load.script(machine.cores()) if path is None else load.read(path)


def _in_time(
    model: "Adaptive", paths: Sequence[Path], top: int, count: int | None, load: "Script | None"
) -> Iterator[Answer]:
    """Frame by frame; whatever ends it, the load ends too."""
    from shoestring.measure.load import playing  # only a load needs it

    with playing(load) if load is not None else nullcontext(0.0) as start:
        for name, frame in walk(paths, count, str(model.artifact.preprocess["kind"])):
            busy = 0 if load is None else load.busy(time.monotonic() - start)
            try:
                if isinstance(frame, BadInput):
                    raise frame
                predictions = tuple(model(frame, top))
            except BadInput as error:
                yield Answer(name, error=str(error))
                continue
            assert model.last is not None
            turn = replace(model.last, busy=busy)
            yield Answer(name, predictions, 0.0, turn.ms, turn=turn)


def _answer(model: "Model", path: Path, top: int, kind: str) -> Answer:
    try:
        start = time.perf_counter()
        return _timed(model, str(path), opened(path, kind), top, start)
    except BadInput as error:
        return Answer(str(path), error=str(error))


def _framed(model: "Model", name: str, frame: Any, top: int) -> Answer:
    try:
        if isinstance(frame, BadInput):
            raise frame
        return _timed(model, name, frame, top, time.perf_counter())
    except BadInput as error:
        return Answer(name, error=str(error))


def _timed(model: "Model", name: str, x: Any, top: int, start: float) -> Answer:
    prepared_input = model.prepare(x)
    prepared = time.perf_counter()
    outputs = model.run(prepared_input)
    done = time.perf_counter()
    predictions = tuple(model.best(outputs, top))
    return Answer(name, predictions, 1000 * (prepared - start), 1000 * (done - prepared))


def _print(answer: Answer, out: Console) -> None:
    # A file's name and a label are a stranger's text, and longer than a line at times.
    lines = [f"  {100 * item.probability:5.1f} %  {item.label}" for item in answer.predictions]
    for line in [answer.error] if answer.error else [answer.input, *lines]:
        out.print(clean(line), markup=False, soft_wrap=True, style="bold" if line == answer.input else None)
