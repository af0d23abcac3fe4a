"""Training an elastic network, by itself or with methods beside it: zeros while it learns to be many sizes, then, on
what that left, grids for its bits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from shoestring.compress.method import Applied, Setting
from shoestring.compress.slim.network import Slimming, beside
from shoestring.compress.slim.space import NAME, parse
from shoestring.compress.slim.views import MULTIPLE, Views
from shoestring.core.blocks import Blocks
from shoestring.core.errors import BadInput
from shoestring.core.pattern import BlockPattern
from shoestring.graph.masks import hold
from shoestring.pipeline.asked import Asked, asked
from shoestring.pipeline.costs import Prices, costs
from shoestring.pipeline.drafts import refusal
from shoestring.pipeline.following import Place, follow
from shoestring.pipeline.learned import fitting
from shoestring.pipeline.original import Original
from shoestring.pipeline.pruning import Pruned, features
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.processes import join
from shoestring.train.recipe import Recipe


@dataclass(frozen=True)
class Company:
    """The methods beside slim: one that prunes, one that learns bits."""

    zeros: Asked | None = None
    bits: Asked | None = None


@dataclass(frozen=True)
class Elastic:
    """What came of training: `slimming` hands out its networks. `pruned`: what a method set to zero, None without one.
    `bits`: of layers whose grids were learned, by layer; empty where 8 bits are to be calibrated."""

    slimming: Slimming
    pruned: Pruned | None = None
    bits: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def widths(self) -> dict[str, int]:
        """Layer to the bits of its weight, where those were learned."""
        return {name: precision.weights for name, precision in self.slimming.precisions.items() if name in self.bits}

    @property
    def methods(self) -> tuple[str, ...]:
        """Their names, in the order in which they applied."""
        zeros = () if self.pruned is None else (own.method for own in self.pruned.settings.values())
        return tuple(dict.fromkeys([NAME, *zeros, *(own.method for own in self.bits.values())]))

    def written(self, layer: str) -> str:
        """What a file tells of a layer."""
        path = layer.partition(":")[0]
        zeros = None if self.pruned is None else self.pruned.settings.get(path)
        told = [self.slimming.views.space, zeros, self.bits.get(layer)]
        return ", ".join(str(own) for own in told if own is not None)


def company(original: Original, methods: tuple[str, ...]) -> Company:
    """What is asked for beside slim. Raises BadInput for what does not go with it."""
    *shaping, bits = asked(original, methods)
    learned = bits if bits.method.CARD.trains else None
    if methods and learned is None and len(methods) > len(shaping):
        raise BadInput(f"--ladder: calibrates 8 bits by itself; leave {bits.method.CARD.name} out")
    for step in shaping:
        name = step.method.CARD.name
        if step.method.CARD.reshapes:
            raise BadInput(f"--ladder: takes channels and blocks away by itself (--method slim:...); leave {name} out")
        if getattr(step.setting, "permute", False):
            raise BadInput("--ladder: puts channels in the order of what they are worth; leave permute out")
    return Company(next(iter(shaping), None), learned)


def multiple(settings: Mapping[str, Setting]) -> int:
    """Of widths, so that no block of these settings is cut by one."""
    found = [getattr(setting, "blocks", None) for setting in settings.values()]
    patterns = {blocks.pattern for blocks in found if isinstance(blocks, Blocks) and blocks.percent}
    sides = [(one.outputs, one.inputs) if isinstance(one, BlockPattern) else (one.of,) for one in patterns]
    return math.lcm(MULTIPLE, *(side for pair in sides for side in pair))


def trained(original: Original, samples: Samples, request: Request, report: Progress) -> Elastic | None:
    """The elastic network, trained by the recipe, of which stages have equal parts; without one, as it is cut out of
    the original. None in a process that only helped to train. Raises BadInput, and NotMet for a limit on latency that
    is out of reach."""
    if original.model is None:
        raise BadInput(f"{original.name}: --ladder works on torch modules; give the torch model as module:factory")
    given = company(original, request.methods)
    space = parse(request.slim)
    if samples.resized is None and len(space.side) > 1:
        if "r=" in request.slim:
            raise BadInput("slim: these inputs cannot be made smaller; leave r= out")
        space = replace(space, side=space.side[:1])
    settings = given.zeros.settings(original) if given.zeros else {}
    views = Views(original.model, space, multiple(settings))
    _require_reachable(original, views, request, given.zeros is not None)
    recipe = request.recipe and replace(request.recipe, epochs=request.recipe.epochs / (1 + bool(given.bits)))
    way = _Way(original, samples, request, report, {NAME: str(views.space)})

    method = _pruning(given.zeros, settings, views, way) if given.zeros else Applied(views.gm)
    slimming = beside(views, method)
    leads = way.go(slimming, NAME, settings, recipe)
    large = slimming.bake()
    join().agree(large)  # processes keep statistics of their own parts of batches
    views, masks = views.holding(large), method.zeros()
    pruned = _pruned(original, given.zeros, settings, masks, recipe)
    if given.bits is None:
        return Elastic(beside(views, Applied(large)), pruned) if leads else None

    settings = given.bits.settings(original)
    report("starting the grids", 0.0)
    method = given.bits.method.apply(large, settings)
    hold(method.model, masks)
    slimming = beside(views, method, ready=recipe is not None)
    slimming.settle(samples.calibration)
    report("starting the grids", 1.0)
    bits = {name: precision.weights for name, precision in slimming.precisions.items()}
    leads = way.go(slimming, given.bits.method.CARD.name, settings, recipe and fitting(recipe, bits))
    slimming.freeze()
    return Elastic(slimming, pruned, settings) if leads else None


def _require_reachable(original: Original, views: Views, request: Request, sparse: bool) -> None:
    """Raises what one process finds in all of them."""
    world = join()
    found = world.told(refusal(original, views, request, sparse) if world.leader else None)
    if found is not None:
        raise found


@dataclass(frozen=True)
class _Way:
    """How all stages are trained. `told`: what the run is, beside the settings of layers."""

    original: Original
    samples: Samples
    request: Request
    report: Progress
    told: Mapping[str, str]

    def go(self, slimming: Slimming, name: str, settings: Mapping[str, Setting], recipe: Recipe | None) -> bool:
        """Whether this process goes on to export."""
        if recipe is None:
            return True
        own = {layer: str(setting) for layer, setting in settings.items()}
        place = Place(self.request.checkpoints / name, {**self.told, **own})
        original = self.original
        assert original.model is not None, "looked at"
        # A run is known by what it came from: what is computed here may differ in a last bit when it goes on.
        return follow(original, original.model, slimming, self.samples, recipe, place, self.report)


def _pruning(step: Asked, settings: Mapping[str, Setting], views: Views, way: _Way) -> Applied:
    """The method that prunes, at work on a copy of the large network."""
    applied: Applied = step.method.apply(views.gm, settings)
    if patterns := step.method.priced(settings):
        world = join()
        prices = _costs(patterns, way) if world.leader else None
        prices = world.told(prices)  # one measures, all go by it
        applied.price(prices.paths)
    applied.settle(way.samples.calibration)
    return applied


def _costs(patterns: Mapping[str, BlockPattern], way: _Way) -> Prices:
    return costs(way.original, patterns, way.request.threads, lambda share: way.report("timing zeros", share))


def _pruned(
    original: Original,
    step: Asked | None,
    settings: Mapping[str, Setting],
    masks: Mapping[str, Tensor],
    recipe: Recipe | None,
) -> Pruned | None:
    if step is None:
        return None
    own = {name: setting for name, setting in settings.items() if name.partition(":")[0] in masks}
    return Pruned(original, own, features(step.method, own), masks=masks, epochs=recipe.epochs if recipe else 0.0)
