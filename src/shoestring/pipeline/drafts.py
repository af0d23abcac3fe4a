"""Drafts: networks in 8 bits for their speed only, and what they tell before anything is trained."""

from collections.abc import Callable

import numpy as np
from onnx import ModelProto

from shoestring.compress import int8
from shoestring.compress.slim.network import plain
from shoestring.compress.slim.views import Views
from shoestring.core.errors import BadInput, NotMet
from shoestring.deploy import runtimes
from shoestring.pipeline.original import Original, remade
from shoestring.pipeline.post_training import calibrate
from shoestring.pipeline.request import Request
from shoestring.pipeline.stopwatch import against, fastest, milliseconds

_SLACK = 1.1  # of a limit: a quick look at a busy machine refuses nothing that training might still be worth


def draft(network: Original) -> ModelProto:
    """In 8 bits, calibrated on noise."""
    precisions = int8.precisions(network.of_kinds(int8.CARD.kinds))
    return calibrate(network.graph, network.noise(), precisions).build()


def limit_ms(request: Request, original: Original, beside: Callable[[], ModelProto], runtime: str) -> float:
    """The budget's limit on latency, infinite without one; a share of the original's, which is timed in turns with the
    draft that `beside` makes."""
    limit = request.budget.get("latency")
    if limit is None:
        return np.inf
    if not limit.relative:
        return limit.value
    _, before = against({"draft": (beside(), runtime)}, original.graph, request.threads)
    return limit.value * before


def unmet(request: Request, least: float) -> NotMet:
    """What is said of a limit on latency that the fastest network of a ladder, of `least` ms, is not within."""
    limit = request.budget.get("latency")
    return NotMet(f"budget: {limit} cannot be met by this ladder; latency<={least:.3g}ms would do")


def refusal(original: Original, views: Views, request: Request, sparse: bool) -> BadInput | NotMet | None:
    """Why a ladder of the networks of `views` cannot become what is asked: the runtime refuses its largest network, or
    its smallest for inputs of full size, as the richest point has them, is slower than the budget lets that be. None
    where nothing speaks against it; zeros (`sparse`) may make any network faster. Nothing is timed without training,
    which would be what is saved, and when that goes on."""
    if request.runtime is not None:
        try:
            runtimes.get(request.runtime).open(draft(original).SerializeToString(), threads=request.threads)
        except BadInput as error:
            return error
    limit = request.budget.get("latency")
    if limit is None or sparse or request.recipe is None or request.checkpoints.exists():
        return None
    small = draft(remade(original, plain(views, views.space.smallest_of_full_inputs, original.noise())))
    runtime = request.runtime or fastest(small, request.threads)
    least = milliseconds({"smallest": (small, runtime)}, request.threads)["smallest"]
    return unmet(request, least) if least > _SLACK * limit_ms(request, original, lambda: small, runtime) else None
