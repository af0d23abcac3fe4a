"""`shoestring fit MODEL`: the main job."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoestring.cli.explain import require_cpu
from shoestring.cli.options import (
    Batch,
    BudgetText,
    Data,
    Demo,
    DeviceName,
    Html,
    Input,
    Json,
    Latency,
    Lose,
    Report,
    Runtime,
    Seconds,
    Seed,
    Size,
    Threads,
    Weights,
    console,
    progress,
    require_places,
    write_json,
    write_text,
)
from shoestring.core.budget import Budget
from shoestring.core.errors import BadInput
from shoestring.core.receipt import HOLDS

if TYPE_CHECKING:
    from shoestring.pipeline.fit import Fitted


def fit(
    model: str,
    *,
    data: str | Path | None = None,
    demo: bool = False,
    budget: str | Budget | None = None,
    method: Sequence[str] = (),
    out: str | Path | None = None,
    weights: str | Path | None = None,
    input: str | None = None,
    runtime: str | None = None,
    threads: int = 1,
    batch: int = 1,
    seconds: float = 20.0,
    calibration: int = 64,
    epochs: int = 0,
    seed: int = 0,
    report: Report | None = None,
) -> "Fitted":
    """Fits MODEL to `budget` and writes `out` (default: NAME.shoe here). `data`: images to calibrate and judge on, or
    `demo` for the photographs of installed packages. `seconds`: how long the receipt may time. Returns the receipt, the
    latency table and the plan; whether the budget holds is `.receipt.verdict`. Raises BadInput, and NotMet when the
    runtime fails the parity gate."""
    from shoestring.image.fitting import image_task, labels, load  # loads what the verb needs, torch included
    from shoestring.image.samples import samples
    from shoestring.pipeline.fit import Request
    from shoestring.pipeline.fit import fit as fitted
    from shoestring.pipeline.original import resolve

    if epochs:
        raise BadInput(f"--epochs: int8 works after training; write --epochs 0 (got {epochs})")
    limits = budget if isinstance(budget, Budget) else Budget.of(budget)
    if fronts := [limit for limit in limits.limits if limit.upper is not None]:
        raise BadInput(
            f"--budget: {fronts[0]} asks for a front; fit one limit at a time, for example {fronts[0].name}<="
        )
    original = resolve(model, None if weights is None else str(weights), input)
    task = image_task(original)
    dataset = load(data, demo, task)
    request = Request(
        out=Path(out) if out is not None else Path(f"{original.name}.shoe"),
        budget=limits,
        methods=tuple(method),
        runtime=runtime,
        threads=threads,
        batch=batch,
        seconds=seconds,
        seed=seed,
        preprocess=task.preprocess,
        labels=labels(task, dataset),
    )
    return fitted(original, samples(dataset, task, calibration, seed), request, report)


def fit_command(
    model: Annotated[str, typer.Argument(help="A name in the zoo, module:factory, file.py:factory or FILE.onnx.")],
    data: Data = None,
    demo: Demo = False,
    budget: BudgetText = None,
    latency: Latency = None,
    size: Size = None,
    lose: Lose = None,
    method: Annotated[list[str] | None, typer.Option(help="NAME[:SETTINGS]; default: the planner chooses.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; default NAME.shoe.")] = None,
    weights: Weights = None,
    input: Input = None,
    runtime: Runtime = None,
    device: DeviceName = "cpu",
    threads: Threads = 1,
    batch: Batch = 1,
    seconds: Seconds = 20.0,
    calibration: Annotated[int, typer.Option(help="Inputs to calibrate on; the others judge.", min=1)] = 64,
    epochs: Annotated[int, typer.Option(help="Epochs of training; 0 applies and exports.", min=0)] = 0,
    seed: Seed = 0,
    json: Json = None,
    html: Html = None,
) -> int:
    """Fits a model to a budget: measures, plans, compresses, exports, and proves it with a receipt."""
    from shoestring.report.html import receipt_html
    from shoestring.report.text import print_receipt

    require_cpu(device)
    require_places(json, html)
    with progress() as report:
        done = fit(
            model,
            data=data,
            demo=demo,
            budget=Budget.of(budget, latency=latency, size=size, lose=lose),
            method=method or (),
            out=out,
            weights=weights,
            input=input,
            runtime=runtime,
            threads=threads,
            batch=batch,
            seconds=seconds,
            calibration=calibration,
            epochs=epochs,
            seed=seed,
            report=report,
        )
    # Written first: whoever reads the terminal may stop reading (`| head`).
    write_json(json, done.receipt.to_json())
    if html is not None:
        write_text(html, receipt_html(done.receipt))
    print_receipt(done.receipt, console())
    typer.echo(f"wrote {done.path}" + (f" and {html}" if html is not None else ""))
    return 0 if done.receipt.verdict == HOLDS else 3
