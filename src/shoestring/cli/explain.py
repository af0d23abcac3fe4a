"""`shoestring explain MODEL`: before any training, what each method would really do here."""

from typing import Annotated

import typer

from shoestring.cli.options import (
    DeviceName,
    Html,
    Input,
    Json,
    Report,
    Runtime,
    Threads,
    Weights,
    console,
    progress,
    require_places,
    write_json,
    write_text,
)
from shoestring.core.errors import BadInput
from shoestring.core.explanation import Explanation


def explain(
    model: str,
    *,
    weights: str | None = None,
    input: str | None = None,
    runtime: str | None = None,
    threads: int = 1,
    report: Report | None = None,
) -> Explanation:
    """Layers, MACs, bytes, and the measured cost of 8 bits for each. MODEL as in `fit`. Raises BadInput."""
    from shoestring.pipeline.device import here  # loads the runtimes
    from shoestring.pipeline.explain import explain as explained  # loads torch
    from shoestring.pipeline.original import resolve

    return explained(resolve(model, weights, input), here(runtime or "onnxruntime", threads), report)


def explain_command(
    model: Annotated[str, typer.Argument(help="A name in the zoo, module:factory, file.py:factory or FILE.onnx.")],
    weights: Weights = None,
    input: Input = None,
    runtime: Runtime = None,
    device: DeviceName = "cpu",
    threads: Threads = 1,
    json: Json = None,
    html: Html = None,
) -> None:
    """Shows, per layer, what each method would really do on this device, with the measured cost."""
    from shoestring.report.explanation import explanation_html, print_explanation

    require_cpu(device)
    require_places(json, html)
    with progress() as report:
        told = explain(
            model,
            weights=None if weights is None else str(weights),
            input=input,
            runtime=runtime,
            threads=threads,
            report=report,
        )
    write_json(json, told.to_json())
    if html is not None:
        write_text(html, explanation_html(told))
    print_explanation(told, console())


def require_cpu(device: str) -> None:
    if device != "cpu":
        raise BadInput(f"--device: {device!r} is not offered here; write cpu")
