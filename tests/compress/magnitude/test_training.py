"""Pruning while a network trains: the ramp, what masks follow, what comes back, and where nothing moves any more."""

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from shoestring.compress import magnitude
from shoestring.compress.magnitude.training import RAMP, Gradual
from shoestring.core.cost import Cost
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.pattern import BlockPattern, NMPattern
from shoestring.graph.capture import capture
from shoestring.graph.parametrized import before, transforms


class Net(nn.Module):
    """Two convolutions under norms, attention-like products, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(4, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.grouped, self.behind = nn.Conv2d(16, 16, 3, groups=2, bias=False), nn.BatchNorm2d(16)
        self.query, self.key, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.behind(self.grouped(self.norm(self.first(x)).relu())).flatten(2).transpose(1, 2)
        weight = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1)
        return self.head((weight @ x).mean(1))


LAYERS = ("first", "grouped", "query", "key")


@pytest.fixture
def model() -> fx.GraphModule:
    torch.manual_seed(0)
    return capture(Net(), (4, 6, 6))


def applied(model: fx.GraphModule, text: str, layers: tuple[str, ...] = LAYERS) -> Gradual:
    return magnitude.apply(model, {name: magnitude.parse(text) for name in layers})


def step(found: Gradual, optimiser: torch.optim.Optimizer, seed: int = 0) -> None:
    x = torch.randn(4, 4, 6, 6, generator=torch.Generator().manual_seed(seed))
    found.model(x).square().sum().backward()
    optimiser.step()
    optimiser.zero_grad()


def gone(found: Gradual) -> list[float]:
    return [1 - float(keep.float().mean()) for keep in found.zeros().values()]


def test_sparsity_follows_the_cubic_ramp(model: fx.GraphModule) -> None:
    """s(t) = s (1 - (1 - t)^3), arXiv 1710.01878 equation 1, in a run of a thousand steps."""
    found = applied(model, "1x1@80%:uniform")
    for number in range(1, 1001):
        found.on_step(number / 1000)
        at = min(int(number / 1000 / RAMP * 40) / 40, 1.0)  # masks are set anew forty times
        for share in gone(found):
            assert share == pytest.approx(0.8 * (1 - (1 - at) ** 3), abs=0.02)
    found.freeze()
    assert gone(found) == pytest.approx([0.8] * 4, abs=0.01)


@pytest.mark.parametrize(
    "text", ["4x1@50%:uniform", "4x4@50%:global", "1x1@70%:global", "2:4", "4x1@50%:uniform:regrow"]
)
def test_masks_hold_from_the_freeze_on(text: str, model: fx.GraphModule) -> None:
    """What training does to the weights afterwards does not touch zeros, nor the pattern; biases and norms are free."""
    found = applied(model, text)
    optimiser = torch.optim.SGD(found.model.parameters(), 0.1, weight_decay=0.1)
    for number in range(1, 5):
        step(found, optimiser, number)
        found.on_step(number / 8)
    found.freeze()
    zeros = {path: keep.clone() for path, keep in found.zeros().items()}
    for number in range(5, 9):
        step(found, optimiser, number)
        found.on_step(number / 8)
    baked = found.bake()
    for path, keep in zeros.items():
        weight = baked.get_submodule(path).weight.detach()
        assert torch.equal(weight == 0, ~keep)
        assert not torch.equal(weight, model.get_submodule(path).weight)
        pattern = magnitude.parse(text).blocks.pattern
        if isinstance(pattern, NMPattern):
            assert (NMPattern(2, 4).keep(weight.numpy()) | (weight.numpy() == 0)).all()
        else:
            groups = 2 if path == "grouped" else 1
            assert pattern.sparsity(weight.numpy(), groups) == pytest.approx(float((weight == 0).float().mean()))
    assert float(found.penalty()) == 0
    assert not any(
        torch.equal(baked.get_submodule(n).weight, model.get_submodule(n).weight) for n in ("norm", "behind")
    )
    assert model.get_submodule("query").bias.shape == baked.get_submodule("query").bias.shape


def test_folded_weights_as_they_are_at_the_time_decide(model: fx.GraphModule) -> None:
    """The batch norm's statistics move while it trains; what goes is what is small under the norm as it is now."""
    found = applied(model, "1x1@50%:uniform", ("first",))
    norm = found.model.get_submodule("norm")
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1e-3] * 8 + [1.0] * 8))
    found.on_step(RAMP * 0.99)
    assert found.zeros()["first"][:8].sum() <= 1  # the ramp is not quite over
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0] * 8 + [1e-3] * 8))
    found.on_step(RAMP)
    assert not found.zeros()["first"][8:].any()
    assert found.zeros()["first"][:8].all()


def test_only_regrowth_brings_back(model: fx.GraphModule) -> None:
    """A weight that was removed has a gradient only with `regrow`; grown large, it is kept at the next look."""
    for text, grows in (("1x1@50%:uniform", False), ("1x1@50%:uniform:regrow", True)):
        found = applied(model, text, ("query",))
        found.on_step(RAMP / 2)
        removed = ~found.zeros()["query"].clone()
        layer = found.model.get_submodule("query")
        found.model(torch.randn(2, 4, 6, 6)).square().sum().backward()
        gradient = layer.parametrizations.weight.original.grad
        assert bool(gradient[removed].any()) == grows
        with torch.no_grad():
            layer.parametrizations.weight.original[removed] += 100.0  # as if it had learned
        found.on_step(RAMP)
        assert found.zeros()["query"][removed].all()
        found.freeze()
        layer.parametrizations.weight.original.grad = None
        found.model(torch.randn(2, 4, 6, 6)).square().sum().backward()
        assert not layer.parametrizations.weight.original.grad[~found.zeros()["query"]].any()


def test_taylor_scores_against_gradients_by_hand(model: fx.GraphModule) -> None:
    """One batch: what stays has the largest (gradient x weight)^2 (arXiv 1906.10771)."""
    found = applied(model, "4x1@50%:uniform:taylor", ("query",))
    found.model.train()
    x = torch.randn(8, 4, 6, 6)
    found.model(x).square().sum().backward()
    plain = applied(model, "4x1@50%:uniform", ("query",)).model.train()
    layer = plain.get_submodule("query")
    plain(x).square().sum().backward()
    product = (layer.weight * layer.parametrizations.weight.original.grad).detach().numpy()
    norms = BlockPattern(4, 1).norms(product)
    keep = BlockPattern(4, 1).expand(norms > np.median(norms), product.shape)
    found.freeze()
    np.testing.assert_array_equal(found.zeros()["query"].numpy(), keep)


def test_taylor_needs_training(model: fx.GraphModule) -> None:
    with pytest.raises(BadInput, match="taylor scores come from training; add --epochs N, or write norm"):
        applied(model, "4x1@50%:taylor").freeze()


def test_milliseconds_decide_who_loses_how_much(model: fx.GraphModule) -> None:
    """The layer that takes the time gives the most; together they take what the same share of each would."""
    found = applied(model, "4x1@50%:milliseconds")
    costs = {name: Cost((0.0, 0.9), (10.0 if name == "grouped" else 1.0, 0.1)) for name in LAYERS}
    found.price(costs)
    found.freeze()
    shares = dict(zip(LAYERS, gone(found), strict=True))
    assert shares["grouped"] > 0.5
    assert all(shares[name] < 0.5 for name in LAYERS if name != "grouped")
    total = sum(costs[name].at(shares[name]) for name in LAYERS)
    assert total == pytest.approx(sum(cost.at(0.5) for cost in costs.values()), rel=0.1)
    with pytest.raises(BadInput, match=r"goes by milliseconds, and zeros of first were not timed; .* write global"):
        applied(model, "4x1@50%:milliseconds").freeze()


def test_a_run_that_is_continued_gives_the_same_masks(model: fx.GraphModule) -> None:
    """State dict and `on_step`, as training does it, at a place between two looks."""
    runs = [applied(model, "4x1@70%:global:regrow:taylor") for _ in range(2)]
    optimisers = [torch.optim.SGD(found.model.train().parameters(), 0.05) for found in runs]
    for number in range(1, 8):
        step(runs[0], optimisers[0], number)
        runs[0].on_step(number / 16)
    runs[1].on_step(7 / 16)
    runs[1].model.load_state_dict(runs[0].model.state_dict())
    for number in range(8, 17):
        for found, optimiser in zip(runs, optimisers, strict=True):
            step(found, optimiser, number)
            found.on_step(number / 16)
    for found in runs:
        found.freeze()
    one, other = (found.bake().state_dict() for found in runs)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_nothing_to_remove(model: fx.GraphModule) -> None:
    for text in ("dense", "32x32@50%"):  # less than a block
        with pytest.warns(NoEffectWarning, match="magnitude removed no weight"):
            applied(model, text, ("query",)).freeze()


def test_the_original_and_other_layers_stay(model: fx.GraphModule) -> None:
    values = {name: value.clone() for name, value in model.state_dict().items()}
    found = applied(model, "4x1@50%", ("query",))
    found.freeze()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in values.items())
    assert transforms(found.model.get_submodule("key")) == ()
    layer = found.model.get_submodule("query")
    assert torch.equal(before(layer, transforms(layer)[0]), values["query.weight"])
