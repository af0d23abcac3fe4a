"""Options that mean the same in every verb, and what verbs share of talking to a person."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Threads = Annotated[int, typer.Option(help="Threads of the runtime.", min=1)]
Batch = Annotated[int, typer.Option(help="Inputs a run.", min=1)]
Runtime = Annotated[
    str | None,
    typer.Option(help="onnxruntime, openvino or engine; default: the fastest, or what a file was measured on."),
]
DeviceName = Annotated[str, typer.Option(help="Where to run; cpu.")]
Seconds = Annotated[float, typer.Option(help="How long to time at most.", min=1)]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Data = Annotated[
    Path | None,
    typer.Option(help="Images or point clouds: class per folder, labels.csv, a folder without labels, or a .npz."),
]
Demo = Annotated[bool, typer.Option("--demo", help="Use photographs of installed packages, or made shapes.")]
Json = Annotated[Path | None, typer.Option(help="Write the result as JSON.")]
Html = Annotated[Path | None, typer.Option(help="Write the result as one HTML page.")]
BudgetText = Annotated[str | None, typer.Option(help='Limits: "latency<=2ms, size<=4MB, quality>=-1pt".')]
Latency = Annotated[str | None, typer.Option(help="Twin of latency<=: 2ms, 0.6x.")]
Size = Annotated[str | None, typer.Option(help="Twin of size<=: 4MB.")]
Lose = Annotated[str | None, typer.Option(help="Twin of quality>=-: 1pt.")]
Weights = Annotated[Path | None, typer.Option(help="Trained weights: .pth or .safetensors.")]
Input = Annotated[str | None, typer.Option(help="Shape of one input, CxHxW, or POINTSx3.")]

Report = Callable[[str, float], object]


def console() -> Console:
    """Standard output; a pipe is given 100 columns, so that tables do not depend on who reads."""
    return Console(width=None if sys.stdout.isatty() else 100, highlight=False)


@contextmanager
def progress() -> Iterator[Report]:
    """A bar for the running stage, on standard error; silent when that is no terminal."""
    error = Console(stderr=True)
    if not error.is_terminal:
        yield lambda stage, share: None
        return
    columns = TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn()
    # No thread of its own: it would run, and be counted, while networks are timed.
    with Progress(*columns, console=error, transient=True, auto_refresh=False) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, share: float) -> None:
            name = stage.partition(",")[0]  # what follows says how it is going
            if name not in tasks:
                tasks[name] = bars.add_task(stage, total=1.0)
            bars.update(tasks[name], completed=share, description=stage)
            bars.refresh()

        yield report


def require_places(*paths: Path | None) -> None:
    """Raises BadInput when a result could not be written, before anything is measured for it."""
    from shoestring.deploy.shoe import require_writable  # the light verbs' --help needs no archive

    for path in paths:
        if path is not None:
            require_writable(path)


def write_text(path: Path, text: str) -> None:
    """Atomically: whoever looks sees the old file or the new one."""
    from shoestring.deploy.archive import write_file  # the light verbs' --help needs no archive

    write_file(path, text.encode())


def write_json(path: Path | None, data: Any) -> None:
    if path is not None:
        write_text(path, json.dumps(data, indent=1) + "\n")
