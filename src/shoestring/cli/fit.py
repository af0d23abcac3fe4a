"""`shoestring fit MODEL`: the main job."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shoestring.cli.explain import require_cpu
from shoestring.cli.methods import beside, exits_of, read_bits, require_apart, space_of, with_bits
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
    from shoestring.pipeline.front import FittedFront
    from shoestring.train.recipe import Recipe


def fit(
    model: str,
    *,
    data: str | Path | None = None,
    judge: str | Path | None = None,
    demo: bool = False,
    budget: str | Budget | None = None,
    method: str | Sequence[str] = (),
    bits: Mapping[str, str] | None = None,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    input: str | None = None,
    runtime: str | None = None,
    threads: int = 1,
    batch: int = 1,
    seconds: float = 20.0,
    calibration: int = 64,
    epochs: float = 0,
    optimiser: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    start: str | Path | None = None,
    reconstruct: bool = True,
    without: str | Sequence[str] = (),
    rounds: int | None = None,
    ladder: int = 0,
    seed: int = 0,
    report: Report | None = None,
) -> "Fitted | FittedFront | None":
    """Fits MODEL to `budget` and writes `out` (default: NAME.shoe here). `data`: images or point clouds, as the network
    takes, to train, calibrate and judge on, or `demo` for what installed packages bring; `judge`: others to judge on.
    `bits`: of single layers, by pattern (`{"stem.*": "w8a8"}`), for a method that knows bits. `epochs`: of training;
    `optimiser`: sgd (the default) or adamw; `recipe`: the other fields of `train.recipe.Recipe` by name, of which those
    that are left out are as suits the optimiser. `start`: weights of a point of a sparsity trail,
    whose zeros stay while it trains on. `reconstruct`: what no training makes up for is fitted, layer by layer, to the
    original's outputs; False shows the raw damage. Without `method` the planner chooses: not among methods of
    `without`; `rounds`: how often, without training, it plans anew around the network that came of a plan (default 1);
    with `method` or `ladder` both are refused. `seconds`: how long the receipt may time. `ladder`: how many operating
    points the file is to have: an elastic network is trained, of which `method="slim:..."` says what may be smaller;
    one method that prunes and one that learns bits may be given beside it. `method="exits:2"`: a network that inputs
    can leave early; some of the data is then held to decide when.

    Returns the receipt and the plan; whether the budget holds is `.receipt.verdict`. With a range in the budget
    (`latency=0.5ms..3ms`): a fit for each of five budgets, in a folder, and their front. None in a process that
    torchrun started only to help with training. Raises BadInput, and NotMet when the runtime fails the parity gate, and
    when a limit is out of reach before any training."""
    from shoestring.cli.modality import with_data  # loads what the verb needs, torch included
    from shoestring.pipeline.drawing import labels, samples
    from shoestring.pipeline.exiting import fit_exits
    from shoestring.pipeline.fit import fit as fitted
    from shoestring.pipeline.front import fit_front, is_front
    from shoestring.pipeline.ladder import fit_ladder
    from shoestring.pipeline.original import resolve
    from shoestring.pipeline.request import Request

    trained_by = _recipe(epochs, optimiser, seed, recipe or {})
    limits = budget if isinstance(budget, Budget) else Budget.of(budget)
    if is_front(limits) and method:
        raise BadInput("--method: a front is planned, and with methods there is nothing to plan; leave --method out")
    about = [name for name, there in {"--without": bool(without), "--rounds": rounds is not None}.items() if there]
    if about and (method or ladder):
        they_leave, other = ("methods leave", "--method") if method else ("a ladder leaves", "--ladder")
        raise BadInput(f"{about[0]}: is about plans, and {they_leave} nothing to plan; leave it or {other} out")
    methods = with_bits((method,) if isinstance(method, str) else tuple(method), bits or {})
    exits = exits_of(methods, ladder)
    slim = space_of(methods, ladder, is_front(limits))
    if ladder or exits:
        adaptive = "--ladder" if ladder else "--method exits"
        fixed = bool(ladder) and not (recipe or {}).get("norms", True)
        require_apart(adaptive, start is not None, reconstruct, bool((recipe or {}).get("features")), fixed)
    original = resolve(model, None if weights is None else str(weights), input)
    original, task, dataset = with_data(original, data, demo)
    request = Request(
        out=Path(out) if out is not None else Path(f"{original.name}.shoe"),
        budget=limits,
        methods=() if exits else beside(methods),
        recipe=trained_by,
        start=None if start is None else Path(start),
        runtime=runtime,
        threads=threads,
        batch=batch,
        seconds=seconds,
        seed=seed,
        preprocess=task.preprocess,
        labels=labels(task, dataset),
        reconstruct=reconstruct,
        without=(without,) if isinstance(without, str) else tuple(without),
        rounds=1 if rounds is None else rounds,
        ladder=ladder,
        slim=slim,
        exits=exits,
    )
    judged = None if judge is None else task.load(judge)
    given = samples(dataset, task, calibration, seed, judged, train=epochs > 0, hold=bool(exits))
    one = fit_ladder if ladder else fit_exits if exits else fit_front if is_front(limits) else fitted
    return one(original, given, request, report)


def _recipe(epochs: float, optimiser: str | None, seed: int, others: Mapping[str, Any]) -> "Recipe | None":
    """How to train, None for not at all."""
    from shoestring.train.recipe import suited  # loads torch, as above

    if not epochs and optimiser is not None:
        raise BadInput("--optimiser: is about training; add --epochs N")
    asked = {"seed": seed, **others} | ({} if optimiser is None else {"optimiser": optimiser})
    return suited(epochs, **asked) if epochs else None


def fit_command(
    model: Annotated[str, typer.Argument(help="A name in the zoo, module:factory, file.py:factory or FILE.onnx.")],
    data: Data = None,
    judge: Annotated[Path | None, typer.Option(help="Other inputs to judge on; without, a part of --data.")] = None,
    demo: Demo = False,
    budget: BudgetText = None,
    latency: Latency = None,
    size: Size = None,
    lose: Lose = None,
    method: Annotated[
        list[str] | None, typer.Option(help="NAME[:SETTINGS]; may be repeated; default: the planner chooses.")
    ] = None,
    bits: Annotated[Path | None, typer.Option(help='JSON of bits by layer: {"stem.*": "w8a8"}.')] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; default NAME.shoe.")] = None,
    weights: Weights = None,
    input: Input = None,
    runtime: Runtime = None,
    device: DeviceName = "cpu",
    threads: Threads = 1,
    batch: Batch = 1,
    seconds: Seconds = 20.0,
    calibration: Annotated[int, typer.Option(help="Inputs to calibrate on; none of them judges.", min=1)] = 64,
    epochs: Annotated[float, typer.Option(help="Epochs of training; 0 applies and exports.", min=0)] = 0,
    optimiser: Annotated[
        str | None, typer.Option(help="Of training: sgd, the default, or adamw, as for point clouds and transformers.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate of training; default 0.01 for sgd, 0.002 for adamw.")
    ] = None,
    train_batch: Annotated[int | None, typer.Option(help="Inputs a training step; default 128.")] = None,
    distil: Annotated[
        float | None, typer.Option(help="The original's part in what is learned, 1 for all; the labels have the rest.")
    ] = None,
    fixed_norms: Annotated[
        bool, typer.Option("--fixed-norms", help="Keep the statistics of batch norms: for a few hundred inputs.")
    ] = False,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Weights of a point of NAME.trail to go on from; their zeros stay."),
    ] = None,
    reconstruct: Annotated[
        bool,
        typer.Option(
            "--reconstruct/--no-reconstruct",
            help="Without training, fit layer by layer to the original's outputs, or show the raw damage.",
        ),
    ] = True,
    without: Annotated[
        list[str] | None, typer.Option(help="A method that the planner leaves out; may be repeated.")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(help="How often, without training, to plan anew around what came of a plan; default 1.", min=0),
    ] = None,
    ladder: Annotated[
        int, typer.Option(help="Operating points in one file, from one elastic network (--method slim:...).", min=0)
    ] = 0,
    features: Annotated[
        list[str] | None, typer.Option(help="A layer whose outputs follow the original's; may be repeated.")
    ] = None,
    seed: Seed = 0,
    json: Json = None,
    html: Html = None,
) -> int:
    """Fits a model to a budget: measures, plans, compresses, exports, and proves it with a receipt."""
    from shoestring.pipeline.front import FittedFront

    require_cpu(device)
    require_places(json, html)
    given = {"lr": lr, "train_batch": train_batch, "distil": distil, "fixed_norms": fixed_norms, "features": features}
    about = [name.replace("_", "-") for name, value in given.items() if value]
    if about and not epochs:
        raise BadInput(f"--{about[0]}: is about training; add --epochs N")
    asked = {"lr": lr, "batch": train_batch, "distil": distil, "norms": not fixed_norms}
    recipe = {name: value for name, value in asked.items() if value is not None} | {"features": tuple(features or ())}
    with progress() as report:
        done = fit(
            model,
            data=data,
            judge=judge,
            demo=demo,
            budget=Budget.of(budget, latency=latency, size=size, lose=lose),
            method=method or (),
            bits=None if bits is None else read_bits(bits),
            out=out,
            weights=weights,
            input=input,
            runtime=runtime,
            threads=threads,
            batch=batch,
            seconds=seconds,
            calibration=calibration,
            epochs=epochs,
            optimiser=optimiser,
            recipe=recipe,
            start=start,
            reconstruct=reconstruct,
            without=without or (),
            rounds=rounds,
            ladder=ladder,
            seed=seed,
            report=report,
        )
    if done is None:
        return 0  # this process only helped to train
    return _told(done, json, html) if isinstance(done, FittedFront) else _proved(done, json, html)


def _told(done: "FittedFront", json: Path | None, html: Path | None) -> int:
    """Shows a front. Fails when no point holds."""
    from shoestring.report.front import front_html, print_front

    write_json(json, done.front.to_json())
    write_text(html or done.folder / "front.html", front_html(done.front))
    print_front(done.front, console())
    typer.echo(f"wrote {done.folder}: {', '.join(point.file for point in done.front.points)}")
    return 0 if any(point.verdict == HOLDS for point in done.front.points) else 3


def _proved(done: "Fitted", json: Path | None, html: Path | None) -> int:
    """Shows the receipt. Fails when it does."""
    from shoestring.report.html import receipt_html
    from shoestring.report.text import print_receipt
    from shoestring.report.trail import print_trail, trail_html

    # Written first: whoever reads the terminal may stop reading (`| head`).
    write_json(json, done.receipt.to_json())
    if html is not None:
        write_text(html, receipt_html(done.receipt))
    if done.trail is not None:
        place = done.path.with_suffix(".trail")
        write_text(place / "trail.html", trail_html(done.trail, str(place)))
        print_trail(done.trail, console(), str(place))
    print_receipt(done.receipt, console())
    typer.echo(f"wrote {done.path}" + (f" and {html}" if html is not None else ""))
    return 0 if done.receipt.verdict == HOLDS else 3
