"""`shoestring profile FILE`: where the time goes, operator by operator, against what this machine can do."""

from pathlib import Path
from typing import Annotated

import typer

from shoestring.cli.options import (
    Batch,
    Html,
    Json,
    Report,
    Runtime,
    Seconds,
    Threads,
    console,
    progress,
    require_places,
    write_json,
    write_text,
)
from shoestring.core.profile import Profile


def profile(
    file: str | Path,
    *,
    runtime: str | None = None,
    threads: int = 1,
    batch: int = 1,
    seconds: float = 4.0,
    report: Report | None = None,
) -> Profile:
    """Times `file` (`.shoe` or `.onnx`) whole and operator by operator, and measures the peak of this machine to hold
    the times against. `runtime`: None takes the engine where it is installed and can run the file, else what a `.shoe`
    was measured on, else onnxruntime. Raises BadInput."""
    from shoestring.pipeline.device import here  # loads the runtimes
    from shoestring.pipeline.files import opened, stored, usable_runtime
    from shoestring.pipeline.profile import profile as measured
    from shoestring.pipeline.stopwatch import takes

    path = str(file)
    chosen = runtime or usable_runtime(path)
    device = here(chosen, threads)
    model = opened(stored(path), path, chosen)
    if runtime is None and takes("engine", model):
        device = here("engine", threads)
    return measured(Path(path).name, model, device, batch, seconds, report)


def profile_command(
    file: Annotated[Path, typer.Argument(help="A .shoe or .onnx file.")],
    runtime: Runtime = None,
    threads: Threads = 1,
    batch: Batch = 1,
    seconds: Seconds = 4.0,
    json: Json = None,
    html: Html = None,
) -> None:
    """Shows where the time goes, operator by operator, and how far each is from what this machine can do."""
    from shoestring.report.profile import print_profile, profile_html

    require_places(json, html)
    with progress() as report:
        told = profile(file, runtime=runtime, threads=threads, batch=batch, seconds=seconds, report=report)
    write_json(json, told.to_json())
    if html is not None:
        write_text(html, profile_html(told))
    print_profile(told, console())
