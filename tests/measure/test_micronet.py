"""The score against a count by hooks that shares no code with it, and against what the challenge's entries published.

What entries stated (parameters and operations after each step) is in the reports of Qualcomm's submissions
(github.com/yashbhalgat/QualcommAI-MicroNet-submission-MixNet and -EfficientNet), how they counted in
`lsq_quantizer/flops_counter.py` there.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shoestring.core.counts import Counts, dense, sparse
from shoestring.core.elementwise import whole
from shoestring.core.errors import BadInput
from shoestring.core.layer import Layer
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.graph.inventory import inventory
from shoestring.measure.micronet import CIFAR100, IMAGENET, WIKITEXT103, Bill, bill, micronet
from shoestring.models.efficientnet_b0 import EfficientNetB0, MBConv, efficientnet_b0
from shoestring.models.mixnet_s import mixnet_s
from shoestring.models.mobilenet_v2 import mobilenet_v2
from shoestring.models.squeeze_excite import SqueezeExcite

SHAPE = (3, 224, 224)
NETWORKS = {"efficientnet_b0": efficientnet_b0, "mixnet_s": mixnet_s, "mobilenet_v2": lambda: mobilenet_v2(width=1.4)}


@cache
def network(name: str) -> nn.Module:
    return NETWORKS[name]().eval()


@cache
def layers_of(name: str) -> tuple[Layer, ...]:
    return inventory(fold(capture(network(name), SHAPE)), SHAPE)


def fp32(name: str) -> Bill:
    return bill(whole(layers_of(name), {}), free=False)


def work(module: nn.Module, x: Tensor, output: Tensor) -> tuple[int, int, int]:
    """Parameters, multiplications and additions of one module of EfficientNet-B0 as it runs, its children's left out:
    the formulas of the organisers' counting.py."""
    size = output.numel()
    match module:
        case nn.Conv2d() | nn.Linear():  # each has a bias once batch norm is folded
            length = module.weight[0].numel()
            return module.weight.numel() + len(module.weight), length * size, (length - 1) * size + size
        case nn.SiLU():
            return 0, 3 * size, size
        case nn.Sigmoid():
            return 0, 2 * size, size
        case SqueezeExcite():  # a global average, and the product with the gate
            channels, pixels = x.shape[1], x.shape[2] * x.shape[3]
            return 0, channels + size, (pixels - 1) * channels
        case MBConv():
            return 0, 0, size if module.residual else 0
        case EfficientNetB0():  # a global average of the last map, 1280 x 7 x 7
            return 0, 1280, 48 * 1280
    return 0, 0, 0


def test_every_operation_of_efficientnet_by_hooks() -> None:
    tally = np.zeros(3, np.int64)

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        tally[:] += work(module, inputs[0], output)

    model = efficientnet_b0().eval()
    for module in model.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, *SHAPE))
    parameters, multiplies, adds = tally.tolist()
    counts = sum(whole(layers_of("efficientnet_b0"), {}).values(), Counts())
    assert (counts.bits, counts.multiplies, counts.adds) == (32 * parameters, {32: multiplies}, {32: adds})
    assert fp32("efficientnet_b0") == Bill(parameters, multiplies + adds)


def test_the_reference_of_the_challenge() -> None:
    """1170M operations are met; 6.9M parameters, which the paper prints (arXiv 1801.04381, Table 4), are not: the
    network of that paper has 6.1M, and so say its authors' checkpoints (6.06M without biases, tensorflow/models)."""
    found = fp32("mobilenet_v2")
    assert found.operations == pytest.approx(IMAGENET.operations, rel=0.005)
    assert found.parameters / 1e6 == pytest.approx(6.085, abs=0.001)
    assert Bill(IMAGENET.parameters, IMAGENET.operations).score() == 2
    # What the 16 bits for free make of it: half of the storage, half of the multiplications.
    free = bill(whole(layers_of("mobilenet_v2"), {}))
    assert free.free and free.parameters == found.parameters / 2
    assert free.operations == pytest.approx(0.75 * found.operations, rel=0.005)


@pytest.mark.parametrize(
    ("name", "parameters", "operations", "score"),
    [("efficientnet_b0", 5.3, 0.79, 1.45), ("mixnet_s", 4.1, 0.49, 1.04)],
)
def test_published_figures_in_fp32(name: str, parameters: float, operations: float, score: float) -> None:
    """Qualcomm's first rows, in millions and billions. They count no activation, gate or residual sum, but batch norms:
    the two all but cancel."""
    found = fp32(name)
    assert found.parameters / 1e6 == pytest.approx(parameters, abs=0.05)
    assert found.operations / 1e9 == pytest.approx(operations, rel=0.02)
    assert found.score() == pytest.approx(score, rel=0.02)


# Bits of each layer of the submitted EfficientNet-B0, in the order they run (evaluation.py there).
SEARCHED = [int(bits) for bits in "7777757777777766776767777677776777747675777775777557775677764776547655477654776553"]


class Entry:
    """A network of Qualcomm's after pruning, counted as they counted: dot products alone, a mask bit for each weight
    that is *kept*, biases and the scale and shift of batch norms in 32 bits. `stated`: their parameters and operations
    after pruning. Which weights went is not published: two shares of kept weights, one for the layers on maps of 14 x
    14 and more and one for the others, are what gives both numbers."""

    def __init__(self, name: str, stated: tuple[float, float]) -> None:
        modules = dict(network(name).named_modules())
        weighted = [layer for layer in layers_of(name) if layer.weight]
        self.layers = [replace(layer, bias=modules[layer.name].bias is not None) for layer in weighted]
        vectors = sum(p.numel() for p in network(name).parameters() if p.dim() == 1)
        self.norms = Counts(bits=32 * (vectors - sum(layer.weight[0] for layer in self.layers if layer.bias)))
        unbiased = sum(math.prod(layer.output) for layer in self.layers if not layer.bias)
        kept = (stated[0] - vectors) * 32 / 33, (stated[1] + unbiased) / 2  # weights, multiplications
        early = np.array([layer.output[-1] >= 14 and len(layer.output) == 3 for layer in self.layers])
        of_all = np.array([(layer.weights, layer.macs) for layer in self.layers], float)
        shares = np.linalg.solve(np.stack([of_all[early].sum(0), of_all[~early].sum(0)], 1), kept)
        assert (shares > 0.4).all() and (shares < 1).all()
        self.kept = [round(share * layer.weights) for share, layer in zip(shares[1 - early], self.layers, strict=True)]

    def bill(self, bits: int | Sequence[int]) -> Bill:
        each = [bits] * len(self.layers) if isinstance(bits, int) else bits
        told = zip(self.layers, self.kept, each, strict=True)
        return bill({layer.name: sparse(layer, kept, kept, b, b) for layer, kept, b in told} | {"": self.norms}, False)


ENTRIES = {"mixnet_s": (2.2637e6, 0.3827e9), "efficientnet_b0": (3.6117e6, 0.5583e9)}


@cache
def entry(name: str) -> Entry:
    return Entry(name, ENTRIES[name])


@pytest.mark.parametrize(
    ("name", "bits", "score"),
    [
        ("mixnet_s", 32, 0.655),
        ("mixnet_s", 8, 0.2968),  # as submitted, and on the leaderboard
        ("efficientnet_b0", 32, 1.000),
        ("efficientnet_b0", SEARCHED, 0.3789),  # as submitted, and on the leaderboard
    ],
)
def test_published_scores_of_pruned_and_quantised_entries(name: str, bits: int | list[int], score: float) -> None:
    assert entry(name).bill(bits).score() == pytest.approx(score, rel=0.01)


def test_published_scores_that_do_not_follow_from_what_was_stated() -> None:
    """EfficientNet-B0 at 7 bits, before the search for bits, is stated as 0.378G operations and 0.4403: 12 % more
    operations than 7 bits give. No count can say both that and the 0.332G of the submission, since the bits that the
    search took off are worth 0.012G. (WRN-40-4 on CIFAR-100 is left out: of its stated 1.378G operations after pruning
    half are additions, which at 32 bits are more than the 0.599G it was submitted with.)"""
    uniform, searched = entry("efficientnet_b0").bill(7), entry("efficientnet_b0").bill(SEARCHED)
    assert uniform.score() == pytest.approx(0.4257, abs=5e-4)
    assert uniform.operations < 0.9 * 0.3781e9
    assert uniform.operations - searched.operations == pytest.approx(0.012e9, rel=0.03)
    assert searched.operations == pytest.approx(0.3320e9, rel=0.02)


def test_the_rules_ask_more_than_the_entry_counted() -> None:
    """MixNet-S at 8 bits with all that the rules count: a mask bit for every weight, kept or not, a scale for each
    channel, biases instead of batch norms, and the elementwise work in 32 bits: a tenth more."""
    changed = {
        layer.name: sparse(replace(layer, bias=True), kept, layer.weights, 8, 8)
        for layer, kept in zip(entry("mixnet_s").layers, entry("mixnet_s").kept, strict=True)
    }
    full = bill(whole(layers_of("mixnet_s"), changed))
    assert not full.free
    assert full.score() == pytest.approx(0.3271, abs=5e-4)


LAYER = Layer("l", "linear", "Linear", (100,), (10,), (10, 100), bias=True, macs=1000, activation="relu")


def test_sixteen_bits_are_free_only_without_any_quantisation() -> None:
    other = replace(LAYER, name="o", activation="")
    plain = whole([LAYER, other], {})
    assert bill(plain) == Bill(1010, (2000 + 10) / 2 + 2000, True)
    assert bill(plain, free=False) == Bill(2020, 2010 + 2000)
    # A mask keeps its bits: the zeros are not quantised.
    half = {"o": sparse(other, 500, 1000)}
    assert bill(whole([LAYER, other], half)) == Bill((1010 + 510) / 2 + 1000 / 32, (1510) / 2 + 1500, True)
    forfeits = (
        dense(other, 8, 8),
        dense(other, 8, 32),  # weights alone: stored in less, multiplied in full
        dense(other, 16, 16),
        dense(other, accumulator_bits=16),
    )
    assert not any(bill({**plain, "o": counts}).free for counts in forfeits)


@pytest.mark.parametrize(
    ("widths", "storage", "operations"),
    [
        ((8, 8, 32), 250 + 20, 250 + 1000),
        ((3, 5, 32), 1000 * 3 / 32 + 20, 1000 * 5 / 32 + 1000),  # the rules' own example: 5/32 of an operation
        ((8, 32, 32), 250 + 20, 1000 + 1000),
        ((4, 4, 16), 125 + 20, 125 + 500),  # integer sums of a stated width
    ],
)
def test_widths(widths: tuple[int, int, int], storage: float, operations: float) -> None:
    assert bill({"l": dense(LAYER, *widths)}) == Bill(storage, operations)


def test_the_example_of_the_rules() -> None:
    """3 million parameters and 500 million operations score 3 / 6.9 + 500 / 1170 = .862."""
    assert Bill(3e6, 500e6).score() == pytest.approx(0.862, abs=5e-4)
    assert Bill(36.5e6, 10.49e9).score(CIFAR100) == Bill(159e6, 318e6).score(WIKITEXT103) == 2


def test_the_measurement_says_how_it_was_made() -> None:
    counts = {"l": dense(LAYER, 8, 8)}
    told = micronet(counts)
    assert told.value == told.low == told.high == bill(counts).score()
    assert told.how == "0.00027M of 6.9M parameters and 0.00125M of 1170M operations (ImageNet's reference)"
    assert micronet(counts, CIFAR100).value == bill(counts).score(CIFAR100)
    assert micronet({"l": dense(LAYER)}).how.endswith("(ImageNet's reference), 16 bits for free")
    with pytest.raises(BadInput, match="no layer to count"):
        micronet({})
