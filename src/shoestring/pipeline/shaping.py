"""The methods that take channels or weights away, one after the other, before bits are decided: in training when there
is a recipe, else in one shot. An `.onnx` file is changed in its graph, which nothing can train."""

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import fx

from shoestring.compress import structured_conv
from shoestring.compress.method import Applied, Setting
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.deploy import runtimes
from shoestring.deploy.archive import write_file
from shoestring.graph.masks import cut, hold, layer_at
from shoestring.models.weights import load_weights
from shoestring.pipeline.allotment import allotted
from shoestring.pipeline.asked import Asked
from shoestring.pipeline.costs import ENGINE, Prices, costs
from shoestring.pipeline.decomposing import decomposed
from shoestring.pipeline.device import here
from shoestring.pipeline.following import Place, follow
from shoestring.pipeline.original import Original, remade
from shoestring.pipeline.post_training import outputs
from shoestring.pipeline.pruning import Pruned, features, prune
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.staircase import multiple
from shoestring.pipeline.structure import left_dense, paying, possible
from shoestring.pipeline.trail import Recorder
from shoestring.pipeline.untrained import RUNTIME
from shoestring.train.processes import join
from shoestring.train.recipe import Recipe


@dataclass(frozen=True)
class Shaping:
    """How: `recipe`, None for one shot; `folder`: of checkpoints, one inside it for each method; `trail`: the folder
    for the sparsities that a run passes through; `start`: weights of a point of one, whose zeros are held; `runtime`
    (None: the engine, where it is) and `threads`: what widths and zeros are timed with. `reconstruct`: what is pruned
    in one shot will be made up for, and layers share the zeros with that in mind."""

    recipe: Recipe | None
    folder: Path
    trail: Path
    start: Path | None = None
    runtime: str | None = None
    threads: int = 1
    reconstruct: bool = False


def shape(
    original: Original, samples: Samples, asked: Sequence[Asked], more: bool, how: Shaping, report: Progress
) -> Pruned | None:
    """What is left of the original after the methods of `asked`. `more`: a method that learns bits is to come, which
    needs the torch model. None in a process that only helped to train. Raises BadInput."""
    state = Pruned(original)
    if how.start is not None and not any(step.method.CARD.prunes for step in asked):
        raise BadInput(f"--from: {how.start} holds zeros for a method that prunes; add --method, as it was made with")
    for index, step in enumerate(map(partial(_snapped, how), asked)):
        on = more or index + 1 < len(asked)
        trained = how.recipe is not None or more or how.start is not None
        if state.original.model is None and step.method.CARD.decomposes and not trained:
            state = _in_graph(state, samples, step, how, report)
        elif trained or not step.method.CARD.prunes or step.method.CARD.trains:
            shaped, leads = _in_modules(original, state, samples, step, how, report)
            if not leads and not on:
                return None
            state = shaped
        else:
            found = _in_one_shot(state.original, samples, step, how, report)
            state = replace(found, reshaped=state.reshaped, dense=state.dense or found.dense, told=state.told)
    return state


def _in_graph(state: Pruned, samples: Samples, step: Asked, how: Shaping, report: Progress) -> Pruned:
    """`state` after its float graph was decomposed, as far as its layers can be made modules."""
    before = state.original
    settings, hindered = possible(before, step.settings(before))
    chosen, slow = _worthwhile(before, settings, how, report)
    report("decomposing", 0.0)
    found, residuals = decomposed(before, chosen)
    report("decomposing", 1.0)
    ours, theirs = (outputs(network.graph, RUNTIME, samples.calibration) for network in (found, before))
    moved = float(np.abs(ours - theirs).mean() / max(theirs.std(), 1e-12))
    told = (*state.told, *hindered, *slow, *structured_conv.told({0.0: residuals} if residuals else {}, moved))
    reshaped = {name: (*state.reshaped.get(name, ()), setting) for name, setting in chosen.items()}
    return replace(state, original=found, reshaped=reshaped, dense=before.graph, told=told)


def _in_one_shot(original: Original, samples: Samples, step: Asked, how: Shaping, report: Progress) -> Pruned:
    """The float graph with zeros, its channels in another order first where that is asked for."""
    settings = step.settings(original)
    ordered = None if original.model is None else step.method.gather(original.model, settings)
    if ordered is not None:
        model, settings = ordered
        original = remade(original, model)
    prices = _prices(original, step, settings, how, report)
    if how.reconstruct:
        costs = prices.layers if prices else {}
        settings = allotted(original, step.method, settings, costs, samples.calibration, report)
        return prune(original, step.method, settings)
    return prune(original, step.method, settings, prices.layers if prices else None)


def _snapped(how: Shaping, step: Asked) -> Asked:
    """A method that cuts channels, with widths that suit the device as measured."""
    card = step.method.CARD
    if not card.reshapes or card.decomposes:
        return step
    return replace(step, setting=step.method.snapped(step.setting, multiple(_device(how))))


def _device(how: Shaping) -> Device:
    """What shapes are measured on: where the file will run, or what would be the fastest."""
    runtime = how.runtime or next(name for name in (ENGINE, *runtimes.NAMES) if name in runtimes.installed())
    return here(runtime, how.threads)


def _in_modules(
    original: Original, state: Pruned, samples: Samples, step: Asked, how: Shaping, report: Progress
) -> tuple[Pruned, bool]:
    """`state` after one more method, applied to the torch model and trained; whether this process leads."""
    card, settings, student = step.method.CARD, step.settings(state.original), state.original.model
    if student is None:
        raise BadInput(
            f"{original.name}: {card.name} works on torch modules, and an .onnx file has none; give the torch model as "
            "module:factory, or use --method structured or --method magnitude --epochs 0"
        )
    if card.decomposes:
        settings, told = _worthwhile(state.original, settings, how, report)
        state = replace(state, told=(*state.told, *told))
    moves = (card.reshapes and not card.decomposes) or getattr(step.setting, "permute", False)
    if how.recipe is not None and how.recipe.features and moves:
        raise BadInput(
            f"--features: {step.setting} takes channels away or puts them in another order, so that layers cannot be "
            "compared one by one; leave --features out"
        )
    prices = None
    if how.start is not None and card.prunes:
        applied: Applied = _held(student, settings, how.start)
    else:
        applied = step.method.apply(student, settings)
        prices = _prices(state.original, step, settings, how, report)
        if prices is not None:
            applied.price(prices.paths)
    applied.settle(samples.calibration)
    recorder = Recorder(original, state.original, samples, step, settings, how.trail, prices) if card.prunes else None
    epochs, leads = state.epochs, join().leader
    if how.recipe is not None:
        recipe = replace(how.recipe, frozen=1.0) if how.start is not None and card.prunes else how.recipe
        place = Place(how.folder / card.name, {name: str(setting) for name, setting in settings.items()})
        watch = None if recorder is None or how.start is not None or not leads else recorder.watching(applied)
        leads = follow(original, student, applied, samples, recipe, place, report, watch)
        epochs += recipe.epochs
    report("exporting", 0.0)
    found = _remade(state.original, applied)
    report("exporting", 1.0)
    told = (*state.told, *applied.told())
    if how.recipe is not None and leads and (log := applied.log()):
        write_file(how.folder.with_name(f"{how.folder.stem}.{card.name}.json"), json.dumps(log, indent=1).encode())
    if not card.prunes:
        reshaped = {name: (*state.reshaped.get(name, ()), setting) for name, setting in settings.items()}
        # A reconstruction can follow what was there before where every layer still writes what it wrote.
        dense = state.original.graph if how.recipe is None and card.decomposes else None
        return replace(state, original=found, reshaped=reshaped, epochs=epochs, dense=dense, told=told), leads
    masks = applied.zeros()
    own = {name: setting for name, setting in settings.items() if name.partition(":")[0] in masks}
    untouched = how.recipe is None and how.start is None and not getattr(step.setting, "permute", False)
    before = state.original.graph if state.dense is None else state.dense
    pruned = Pruned(
        found,
        own,
        features(step.method, own),
        state.reshaped,
        masks,
        epochs,
        recorder.trail() if recorder is not None else None,
        how.start.name if how.start is not None else "",
        dense=before if untouched else None,
        told=told,
    )
    return pruned, leads


def _worthwhile(
    original: Original, settings: Mapping[str, Setting], how: Shaping, report: Progress
) -> tuple[dict[str, Setting], tuple[str, ...]]:
    """`settings` without what is not faster decomposed, and what a reader must know of that. Of several processes one
    measures."""
    world, device, chosen = join(), _device(how), dict(settings)
    if world.leader:
        chosen = paying(original, settings, device, lambda share: report("timing sums", share))
    chosen = world.told(chosen)
    return chosen, left_dense(settings, chosen, device)


def _remade(before: Original, applied: Applied) -> Original:
    """The network that `applied` left, as one float graph with its layers."""
    model = applied.bake()
    assert isinstance(model, fx.GraphModule), "methods are applied to captured models"
    return remade(before, model)


def _prices(
    original: Original, step: Asked, settings: Mapping[str, Setting], how: Shaping, report: Progress
) -> Prices | None:
    """What zeros cost in the layers that the method wants priced, None when it wants none. Of several processes one
    measures."""
    patterns, world = step.method.priced(settings) if step.method.CARD.prunes else {}, join()
    if not patterns:
        return None
    measure = partial(costs, original, patterns, how.threads, lambda share: report("timing zeros", share))
    found: Prices | None = world.told(measure() if world.leader else None)
    return found


class _Held(Applied):
    """Zeros that a file brought."""

    masks: Mapping[str, torch.Tensor]

    def zeros(self) -> dict[str, torch.Tensor]:
        return dict(self.masks)

    def bake(self) -> torch.nn.Module:
        return cut(self.model, self.masks)


def _held(student: torch.nn.Module, settings: Mapping[str, Setting], start: Path) -> _Held:
    """`student` with the weights of `start`, in which the zeros of the layers of `settings` stay zeros."""
    model = copy.deepcopy(student)
    load_weights(model, start)
    paths = dict.fromkeys(name.partition(":")[0] for name in settings)
    kept = {path: layer_at(model, path).weight.detach() != 0 for path in paths}
    masks = {path: keep for path, keep in kept.items() if not keep.all()}
    if not masks:
        warnings.warn(f"{start} holds no zeros in the layers that were asked for", NoEffectWarning, stacklevel=2)
    hold(model, masks)
    found = _Held(model)
    found.masks = masks
    return found
