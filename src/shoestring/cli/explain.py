"""`shoestring explain MODEL`: before any training, what each method would really do here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from shoestring.cli.options import (
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
from shoestring.core.explanation import Explanation
from shoestring.core.proposal import Proposal


def explain(
    model: str,
    *,
    weights: str | None = None,
    input: str | None = None,
    runtime: str | None = None,
    threads: int = 1,
    budget: str | Budget | None = None,
    data: str | Path | None = None,
    demo: bool = False,
    calibration: int = 64,
    method: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    seed: int = 0,
    report: Report | None = None,
) -> Explanation | Proposal:
    """Layers, MACs, bytes, and the measured cost of 8 bits for each. MODEL as in `fit`. With `budget`: the plan that
    `fit` would begin with, before anything is applied, which needs `data` (or `demo`) to tell what options do to the
    outputs. `method`: what `fit` would be asked for; what has no effect on the runtime is refused. Raises BadInput."""
    from shoestring.pipeline.device import here  # loads the runtimes
    from shoestring.pipeline.explain import explain as explained  # loads torch
    from shoestring.pipeline.explain import require_effect
    from shoestring.pipeline.original import resolve

    limits = budget if isinstance(budget, Budget) else Budget.of(budget)
    original = resolve(model, weights, input)
    require_effect((method,) if isinstance(method, str) else tuple(method), original, runtime, threads)
    if not limits.limits:
        return explained(original, here(runtime or "onnxruntime", threads), report)
    from shoestring.cli.modality import with_data
    from shoestring.pipeline.drawing import samples
    from shoestring.pipeline.explain import proposed

    original, task, dataset = with_data(original, data, demo)
    given = samples(dataset, task, calibration, seed)
    left = (without,) if isinstance(without, str) else tuple(without)
    return proposed(original, given, limits, runtime, threads, left, report)


def explain_command(
    model: Annotated[str, typer.Argument(help="A name in the zoo, module:factory, file.py:factory or FILE.onnx.")],
    weights: Weights = None,
    input: Input = None,
    runtime: Runtime = None,
    device: DeviceName = "cpu",
    threads: Threads = 1,
    budget: BudgetText = None,
    latency: Latency = None,
    size: Size = None,
    lose: Lose = None,
    data: Data = None,
    demo: Demo = False,
    calibration: Annotated[int, typer.Option(help="Inputs to measure losses on.", min=1)] = 64,
    method: Annotated[
        list[str] | None, typer.Option(help="NAME[:SETTINGS] that fit would be asked for: has it an effect here?")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="A method that the planner leaves out; may be repeated.")
    ] = None,
    seed: Seed = 0,
    json: Json = None,
    html: Html = None,
) -> int:
    """Shows, per layer, what each method would really do on this device; with a budget, the plan before any training.

    Exit code 3 when no plan is expected to meet the budget."""
    from shoestring.report.explanation import explanation_html, print_explanation
    from shoestring.report.proposal import print_proposal, proposal_html

    require_cpu(device)
    require_places(json, html)
    with progress() as report:
        told = explain(
            model,
            weights=None if weights is None else str(weights),
            input=input,
            runtime=runtime,
            threads=threads,
            budget=Budget.of(budget, latency=latency, size=size, lose=lose),
            data=data,
            demo=demo,
            calibration=calibration,
            method=method or (),
            without=without or (),
            seed=seed,
            report=report,
        )
    write_json(json, told.to_json())
    if isinstance(told, Proposal):
        if html is not None:
            write_text(html, proposal_html(told))
        print_proposal(told, console())
        return 0 if told.met else 3
    if html is not None:
        write_text(html, explanation_html(told))
    print_explanation(told, console())
    return 0


def require_cpu(device: str) -> None:
    if device != "cpu":
        raise BadInput(f"--device: {device!r} is not offered here; write cpu")
