"""What a network costs, for the same row that says what it is worth: parameters, MACs, milliseconds, peak memory."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from shoestring.core.evaluation import Cost
from shoestring.measure.memory import peak_mb
from shoestring.measure.timing import Schedule, interleave

SCHEDULE = Schedule(seconds=5.0, rounds=(20, 200), warm_up=2)


def network_cost(
    model: nn.Module, example: Tensor, call: Callable[[], object] | None = None, schedule: Schedule = SCHEDULE
) -> Cost:
    """`model` in eval mode on `example` [1, N, 3], on one core.

    MACs are those of matrix products and convolutions as torch executes them; sampling and searching have none. Times
    are CPU time of `call`, a session of the exported file for example, or of the torch model where none is given: say
    so beside the number. Memory is the peak of a process of its own that runs the torch model once, interpreter and
    torch in it. Raises ShoestringError when the model's class cannot be imported there.
    """
    model.eval()
    with torch.no_grad(), one_thread():
        counter = FlopCounterMode(display=False)
        with counter:
            model(example)
        samples = interleave({"call": call or (lambda: model(example))}, schedule).primary()["call"]
    p50, p90 = np.quantile(samples, (0.5, 0.9))
    params = sum(parameter.numel() for parameter in model.parameters())
    peak = peak_mb(run_once, pickle.dumps((model, example.numpy())))
    return Cost(params, counter.get_total_flops() // 2, float(p50), float(p90), peak)


def run_once(pickled: bytes) -> None:
    """In a process of its own: one call of the (model, example) that this one's parent wrote."""
    model, example = pickle.loads(pickled)
    torch.set_num_threads(1)
    with torch.no_grad():
        model(torch.from_numpy(example))


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
