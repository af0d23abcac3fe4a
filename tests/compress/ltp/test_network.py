"""Networks that learn thresholds: what is asked for is met, what is fixed stays, and what a lambda does."""

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from shoestring.compress import METHODS
from shoestring.compress.ltp.network import RAMP, Thresholded
from shoestring.core.allot import allot
from shoestring.core.cost import Cost
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.pattern import BlockPattern
from shoestring.graph.capture import capture
from shoestring.train.groups import groups

LAYERS = ("first", "grouped", "query", "key")


class Net(nn.Module):
    """Convolutions under norms, one of them grouped, and attention of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(4, 32, 1, bias=False), nn.BatchNorm2d(32)
        self.grouped, self.behind = nn.Conv2d(32, 16, 3, groups=2, bias=False), nn.BatchNorm2d(16)
        self.query, self.key, self.head = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.behind(self.grouped(self.norm(self.first(x)).relu())).flatten(2).transpose(1, 2)
        weight = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1)
        return self.head((weight @ x).mean(1))


@pytest.fixture
def model() -> fx.GraphModule:
    torch.manual_seed(0)
    return capture(Net(), (4, 6, 6))


def applied(model: fx.GraphModule, text: str, layers: tuple[str, ...] = LAYERS) -> Thresholded:
    name, _, setting = text.partition(":")
    method = METHODS[name]
    found: Thresholded = method.apply(model, {layer: method.parse(setting) for layer in layers})
    return found


def train(found: Thresholded, steps: int, start: int = 0, stop: int | None = None, rate: float = 0.01) -> None:
    """Steps `start` to `stop` of `steps`, as the loop does them; frozen for the last fifth."""
    optimiser = torch.optim.SGD(groups(found.model, 1e-4, found.undecayed()), rate, 0.9, nesterov=True)
    found.model.train()
    for number in range(start, steps if stop is None else stop):
        if number == steps * 4 // 5:
            found.freeze()
        x = torch.randn(8, 4, 6, 6, generator=torch.Generator().manual_seed(number))
        (found.model(x).square().mean() + found.penalty()).backward()
        optimiser.step()
        optimiser.zero_grad()
        found.on_step((number + 1) / steps)


def share(keep: Tensor) -> float:
    return 1 - float(keep.float().mean())


def total(zeros: dict[str, Tensor]) -> float:
    return 1 - sum(float(keep.sum()) for keep in zeros.values()) / sum(keep.numel() for keep in zeros.values())


@pytest.mark.parametrize("text", ["ltp:1x1@80%", "ltp:1x1@50%", "block_ltp:4x1@60%", "block_ltp:4x4@50%"])
def test_what_is_asked_for_is_met_and_holds(text: str, model: fx.GraphModule) -> None:
    """Of single weights and blocks alike, by the number of weights where nothing was priced; after the freeze weights
    move, zeros do not."""
    found = applied(model, text)
    train(found, 50, stop=41)
    zeros = {path: keep.clone() for path, keep in found.zeros().items()}
    percent = float(text.partition("@")[2].rstrip("%")) / 100
    assert percent <= total(zeros) <= percent + 0.02
    before = {path: found.model.get_submodule(path).weight.detach().clone() for path in LAYERS}
    train(found, 50, start=41)
    baked = found.bake()
    pattern = BlockPattern.parse(text.split(":")[1].partition("@")[0])
    for path, keep in zeros.items():
        weight = baked.get_submodule(path).weight.detach()
        assert torch.equal(weight == 0, ~keep)
        assert not torch.equal(weight, before[path])
        assert pattern.sparsity(weight.numpy(), 2 if path == "grouped" else 1) == pytest.approx(share(keep))
    assert found.penalty() == 0


def test_the_cost_follows_the_ramp(model: fx.GraphModule) -> None:
    """After each of two hundred looks, hard masks leave no more than the cubic ramp allows, and not much less."""
    found = applied(model, "ltp:1x1@80%")
    found.model.train()
    for number in range(1, 150):
        found.on_step(number / 200)
        left = 0.2 + 0.8 * (1 - min(number / 200 / RAMP, 1)) ** 3
        assert left - 0.03 <= 1 - total(found.zeros()) <= left + 1e-6


def test_priced_in_milliseconds(model: fx.GraphModule) -> None:
    """Where the time is, more is removed; together they take what the same share of each would, and as an exact
    solver allots it to begin with."""
    found = applied(model, "block_ltp:4x1@50%")
    costs = {path: Cost((0.0, 0.5, 0.9), (8.0, 3.0, 2.0) if path == "grouped" else (1.0, 0.5, 0.1)) for path in LAYERS}
    found.price(costs)
    weights = {path: found.thresholds[path].energies(model.get_submodule(path).weight).sqrt() for path in LAYERS}
    wanted = allot(
        {path: values.detach().numpy() for path, values in weights.items()},
        {path: found.thresholds[path].sizes.numpy() for path in LAYERS},
        50,
        costs,
    )
    found.freeze()
    zeros = {path: share(keep) for path, keep in found.zeros().items()}
    took = sum(costs[path].at(zeros[path]) for path in LAYERS)
    assert took <= sum(cost.at(0.5) for cost in costs.values()) * (1 + 1e-6)
    assert zeros == pytest.approx({path: percent / 100 for path, percent in wanted.items()}, abs=0.06)
    with pytest.raises(BadInput, match="zeros of query were not timed"):
        applied(model, "block_ltp:4x1@50%").price({path: costs[path] for path in ("first", "grouped")})


def test_a_lambda_pushes_from_zero_until_enough_is_gone(model: fx.GraphModule) -> None:
    """Larger ones remove more, in the same steps; none goes far beyond what was asked for."""
    gone = []
    for penalty in (0.001, 0.1, 100.0):
        found = applied(model, f"ltp:1x1@90%:lambda{penalty}")
        assert all(float(threshold.learned.detach()) == 0 for threshold in found.thresholds.values())
        train(found, 120, stop=96, rate=0.05)
        gone.append(total(found.zeros()))
    assert gone[0] < gone[1] < gone[2]
    found = applied(model, "ltp:1x1@30%:lambda100")
    train(found, 200, stop=160, rate=0.05)
    assert 0.25 < total(found.zeros()) < 0.45


def test_weights_under_norms_do_not_decay(model: fx.GraphModule) -> None:
    found = applied(model, "block_ltp:4x1@50%")
    names = {f"{path}.parametrizations.weight.original" for path in ("first", "grouped")}
    assert found.undecayed() == names
    policy = groups(found.model, 0.1, found.undecayed())
    decays = {id(p): group["weight_decay"] for group in policy for p in group["params"]}
    for name, parameter in found.model.named_parameters():
        assert decays[id(parameter)] == (0.1 if parameter.ndim > 1 and name not in names else 0.0)


def test_biases_and_norms_are_no_ones_blocks(model: fx.GraphModule) -> None:
    found = applied(model, "ltp:1x1@80%")
    found.freeze()
    baked = found.bake()
    for name, value in model.state_dict().items():
        if not any(name == f"{layer}.weight" for layer in LAYERS):
            assert torch.equal(value, baked.state_dict()[name])


def test_a_run_that_is_continued_gives_the_same(model: fx.GraphModule) -> None:
    """By state dict and callbacks, as the loop does it; momentum apart."""
    runs = [applied(model, "block_ltp:4x1@60%") for _ in range(2)]
    train(runs[0], 60, stop=33)
    runs[1].on_step(33 / 60)
    runs[1].model.load_state_dict(runs[0].model.state_dict())
    for found in runs:
        train(found, 60, start=33)
    one, other = (found.bake().state_dict() for found in runs)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_prices_are_part_of_a_checkpoint(model: fx.GraphModule) -> None:
    """Measured anew, they would be others, and the run another."""
    runs = [applied(model, "block_ltp:4x1@50%", ("query", "key")) for _ in range(2)]
    for found, ms in zip(runs, (4.0, 1.0), strict=True):
        found.price({"query": Cost((0.0, 1.0), (ms, 0.0)), "key": Cost((0.0, 1.0), (1.0, 0.0))})
    runs[1].model.load_state_dict(runs[0].model.state_dict())
    assert runs[1].thresholds["query"].cost == runs[0].thresholds["query"].cost
    assert runs[1].wanted == runs[0].wanted


def test_nothing_goes(model: fx.GraphModule) -> None:
    with pytest.warns(NoEffectWarning, match="ltp removed no weight"):
        applied(model, "ltp:dense")
    with pytest.warns(NoEffectWarning, match="ltp removed no weight"):
        applied(model, "ltp:1x1@50%:lambda0.1").freeze()


def test_the_soft_network_is_what_trains(model: fx.GraphModule) -> None:
    """In the middle of the ramp the loss sees masks between 0 and 1, and thresholds have gradients."""
    found = applied(model, "block_ltp:4x1@60%")
    train(found, 50, stop=20)
    found.model(torch.randn(2, 4, 6, 6)).square().mean().backward()
    assert all(threshold.learned.grad is not None for threshold in found.thresholds.values())
    soft = [found.thresholds[path].left / found.thresholds[path].cost.ms[0] for path in LAYERS]
    hard = [1 - share(keep) for keep in found.zeros().values()]
    assert not np.allclose(soft, hard, atol=1e-4)
    assert np.allclose(soft, hard, atol=0.1)
