"""`shoestring receipt FILE...`: measures artifacts against baselines and says whether their claims hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

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
    Report,
    Runtime,
    Seconds,
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
from shoestring.core.receipt import HOLDS, Receipt


def receipt(
    file: str | Path,
    *,
    budget: str | Budget | None = None,
    against: Sequence[str | Path] = (),
    original: str | None = None,
    weights: str | Path | None = None,
    input: str | None = None,
    data: str | Path | None = None,
    demo: bool = False,
    runtime: str | None = None,
    threads: int = 1,
    batch: int = 1,
    seconds: float = 20.0,
    calibration: int | None = None,
    seed: int | None = None,
    report: Report | None = None,
) -> Receipt:
    """Measures `file` (`.shoe` or `.onnx`) against the best baselines here and against the files of `against`. Judged
    on `budget`, or on the one the file was fitted to. `original`: MODEL as in `fit`, for quality and true baselines.
    `data` or `demo` judge quality, but for the `calibration` inputs drawn with `seed` that the fit took (as a `.shoe`
    says; else 64 and 0). Raises BadInput."""
    from shoestring.cli.modality import task_of  # loads what the verb needs
    from shoestring.pipeline import cases
    from shoestring.pipeline.device import here
    from shoestring.pipeline.drawing import judged_samples
    from shoestring.pipeline.files import usable_runtime
    from shoestring.pipeline.original import resolve
    from shoestring.pipeline.receipt import measure

    path = str(file)
    limits = budget if isinstance(budget, Budget) else Budget.of(budget) if budget else cases.claims(path)
    if fronts := [limit for limit in limits.limits if limit.upper is not None]:
        raise BadInput(f"--budget: {fronts[0]} asks for a front; a receipt judges one point: {fronts[0].name}<=")
    if original is None and (weights or input):
        raise BadInput("--weights, --input: they belong to --original MODEL; add it, or leave them out")
    known = None if original is None else resolve(original, None if weights is None else str(weights), input)
    device = here(runtime or usable_runtime(path), threads)
    split = cases.split_of(path)
    calibration = split.get("calibration", 64) if calibration is None else calibration
    seed = split.get("seed", 0) if seed is None else seed
    task = None if known is None or not (data or demo) else task_of(known)
    case = cases.case_of(path, device, known, judged_samples(task, data, demo, calibration, seed, split))
    for other in against:
        case = cases.against(case, str(other))
    return measure(case, limits, batch, seconds, report)


def receipt_command(
    files: Annotated[list[Path], typer.Argument(help=".shoe or .onnx files.")],
    budget: BudgetText = None,
    against: Annotated[list[Path] | None, typer.Option(help="Another file to compare with.")] = None,
    original: Annotated[str | None, typer.Option(help="The MODEL the file was made from.")] = None,
    weights: Weights = None,
    input: Input = None,
    data: Data = None,
    demo: Demo = False,
    runtime: Runtime = None,
    device: DeviceName = "cpu",
    threads: Threads = 1,
    batch: Batch = 1,
    seconds: Seconds = 20.0,
    calibration: Annotated[
        int | None,
        typer.Option(help="Inputs the fit calibrated on, which do not judge; default: as the file says.", min=1),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the fit; default: as the file says.")] = None,
    json: Json = None,
    html: Html = None,
) -> int:
    """Measures files against every baseline on every runtime here; exit 3 when a claim does not hold."""
    from shoestring.report.html import receipt_html
    from shoestring.report.text import print_receipt

    require_cpu(device)
    require_places(json, html)
    receipts = []
    for file in files:
        with progress() as report:
            measured = receipt(
                file,
                budget=budget,
                against=against or (),
                original=original,
                weights=weights,
                input=input,
                data=data,
                demo=demo,
                runtime=runtime,
                threads=threads,
                batch=batch,
                seconds=seconds,
                calibration=calibration,
                seed=seed,
                report=report,
            )
        receipts.append(measured)
        # Written first, after every file: whoever reads the terminal may stop reading (`| head`).
        told = [item.to_json() for item in receipts]
        write_json(json, told[0] if len(files) == 1 else told)
        if html is not None:
            page = html if len(files) == 1 else html.with_name(f"{html.stem}-{file.stem}{html.suffix}")
            write_text(page, receipt_html(measured))
        print_receipt(measured, console())
    return 0 if all(item.verdict == HOLDS for item in receipts) else 3
