"""The loop: trains a model in place, follows its teacher, and goes on exactly where a killed run stopped."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shoestring.core.errors import BadInput
from shoestring.train import checkpoint
from shoestring.train.data import Batches, load, steps_per_epoch
from shoestring.train.distil import Loss, criterion
from shoestring.train.layout import choose_layout, lay_out
from shoestring.train.processes import World, join
from shoestring.train.recipe import Recipe
from shoestring.train.run import Hooks, Run

Progress = Callable[[str, float], object]

SAVE_SECONDS = 120.0
REPORT_SECONDS = 0.3
LOOK_STEPS = 10  # between two looks at whether all is finite; a look waits for the device


@dataclass(frozen=True)
class Trained:
    """`history`: mean loss of each epoch begun. `seconds`: spent training, earlier parts of the run included. `leader`:
    whether this process goes on to export; of several, only the first does."""

    history: tuple[float, ...]
    seconds: float
    leader: bool = True


def train(  # noqa: PLR0913 - the flow of `fit` hands over everything here, once
    model: nn.Module,
    data: Batches,
    recipe: Recipe,
    hooks: Hooks | None = None,
    teacher: nn.Module | None = None,
    folder: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains `model` in place on `data`; at the end it holds the averaged weights, in eval mode, where it was.

    `teacher`: the original, set to eval mode; None learns from labels alone, or by the loss that `hooks` has. `folder`:
    where a checkpoint is kept, written after every epoch and every two minutes; a run found there is continued and
    gives bit for bit what it would have given uninterrupted on as many processes and threads. `identity`: JSON values
    that say what run this is (model, method, data). What a step draws at random depends on the seed, the step and the
    process only. Under `torchrun` the processes share each batch (`train.processes`), and process 0 writes and reports.

    Raises BadInput when there is nothing to learn from or nothing to train, when `batch` does not divide by the number
    of processes, when `folder` holds another run, and when the loss is no longer finite; the last good checkpoint then
    stays.
    """
    world, hooks = join(), hooks or Hooks()
    _require(data, recipe, hooks, teacher, world)
    networks = [model] if teacher is None else [model, teacher]
    home = next((parameter.device for parameter in model.parameters()), world.device)
    layout = _place(networks, data, world)
    run = Run(_awake(model, recipe.norms), recipe, hooks, steps_per_epoch(data, recipe.batch), world)
    known = {**(identity or {}), "recipe": asdict(recipe), "inputs": len(data)}

    def save() -> None:
        if folder and world.leader:
            checkpoint.save(folder, known, run.state())

    state = world.told(checkpoint.load(folder, known) if folder and world.leader else None)
    if state:
        run.restore(state)
    else:
        save()  # a place that cannot be written is found out now

    devices = [world.device] if world.device.type == "cuda" else []
    with torch.random.fork_rng(devices), criterion(model, teacher, recipe) as usual:
        _steps(run, _batches(run, data, layout), hooks.loss or usual, save, progress if world.leader else None)
    run.finish()
    world.wait()  # the checkpoint is on disk before anybody goes on
    lay_out(networks, torch.contiguous_format)
    for network in networks:
        network.to(home).eval()
    return Trained(tuple(run.history), run.seconds, world.leader)


def _require(data: Batches, recipe: Recipe, hooks: Hooks, teacher: nn.Module | None, world: World) -> None:
    if len(data) < world.size:
        raise BadInput(f"data: has {len(data)} inputs; training needs at least {world.size}, one for each process")
    if recipe.batch % world.size:
        raise BadInput(f"batch: {recipe.batch} inputs cannot be shared by {world.size} processes; give a multiple")
    if hooks.loss is not None:
        return
    if teacher is None and not data.labelled:
        raise BadInput("data: has no labels and there is no teacher; give labelled data or the original as teacher")
    if not data.labelled and recipe.distil < 1:
        raise BadInput(f"distil: {recipe.distil} asks for labels, which the data lacks; give 1")


def _awake(model: nn.Module, norms: bool) -> nn.Module:
    """`model` in training mode; its batch norms only if they are to learn statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train(norms)
    return model


def _place(networks: list[nn.Module], data: Batches, world: World) -> torch.memory_format:
    """Moves the networks to their device, equal in every process and laid out for speed; the format of their inputs."""
    for network in networks:
        network.to(world.device).eval()
        world.agree(network)
    example, _ = next(data.epoch(0, world.size, 0, world.rank, world.size))
    return choose_layout(networks, torch.tensor(example, device=world.device))


def _batches(run: Run, data: Batches, layout: torch.memory_format) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(step, inputs, labels) of the steps that are left, where the networks are."""
    world, left = run.world, range(run.step, run.total)
    for step, inputs, labels in load(data, run.recipe.batch, left, world.rank, world.size):
        yield step, inputs.to(world.device, memory_format=layout), labels.to(world.device)


def _steps(
    run: Run,
    batches: Iterator[tuple[int, Tensor, Tensor]],
    loss: Loss,
    save: Callable[[], None],
    report: Progress | None,
) -> None:
    """The steps that are left, and what happens between them."""
    saved = reported = time.monotonic()
    began, note = saved - run.seconds, ""
    for step, inputs, labels in batches:
        torch.manual_seed(_seed(run.recipe.seed, step, run.world.rank))
        if step == run.freezes:
            run.freeze()
        run.advance(_of(loss, inputs, labels) + run.hooks.penalty())

        now = time.monotonic()
        run.seconds = now - began
        epoch, ended = step // run.per_epoch + 1, run.between_epochs
        if (ended or run.step % LOOK_STEPS == 0) and not run.sound():
            raise BadInput(
                f"training: the loss is no longer finite in epoch {epoch}; try a smaller --lr than {run.recipe.lr:g} "
                "(what was kept before stays)"
            )
        if ended and run.world.leader:
            note = run.hooks.on_epoch((*run.history, run.mean_loss()))
        if report and (ended or now - reported > REPORT_SECONDS):
            report(_told(run, epoch, note), run.step / run.total)
            reported = now
        if ended:
            run.end_epoch()
        if ended or (now - saved > SAVE_SECONDS and run.sound()):
            save()
            saved = now
    if not run.frozen:
        run.freeze()


def _of(loss: Loss, inputs: Tensor, labels: Tensor) -> Tensor:
    try:
        return loss(inputs, labels)
    except ValueError as error:
        if len(inputs) > 1:
            raise
        raise BadInput(
            f"batch: one input is too few ({error}); give --train-batch 2 or more, or --fixed-norms"
        ) from error


def _told(run: Run, epoch: int, note: str) -> str:
    """How it goes, in a line."""
    text = f"training, epoch {epoch} of {math.ceil(run.recipe.epochs)}, loss {run.mean_loss():.3f}"
    return f"{text}, {note}" if note else text


def _seed(*parts: int) -> int:
    """A seed for torch that no other parts share."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
