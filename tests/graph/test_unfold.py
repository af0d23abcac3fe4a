"""Unfolding in double precision: what folds to given weights, and norms that do the same with other statistics."""

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.graph.unfold import settle_norms, unfold
from shoestring.models.cifar_mobilenet import cifar_mobilenet
from shoestring.models.point_mlp import PointMLP

SHAPE = (3, 7, 5)
NETS = {
    "conv, norm": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)),
    "conv with bias, norm": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
    "norm that is not affine": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)),
    "bias, norm that is not affine": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)),
    "conv": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)),
    "conv with bias": lambda: nn.Sequential(nn.Conv2d(3, 4, 3)),
    "depthwise": lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(105, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)),
    "linear, norm": lambda: nn.Sequential(nn.Flatten(), nn.Linear(105, 4), nn.BatchNorm1d(4)),
    "deep": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Tanh(), nn.BatchNorm2d(5)
    ),
}


def lively(model: nn.Module, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> fx.GraphModule:
    """Captured, in double precision, with batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.1, 3.0, generator=generator)
            if module.affine:
                nn.init.normal_(module.weight, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    return capture(model.double().eval(), shape)


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def wanted(gm: fx.GraphModule, biased: bool = True) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Any weights and biases for the layers of a folded network."""
    layers = {path: layer for path, layer in fold(gm).named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    return {
        path: (noise(layer.weight.shape, index), noise((len(layer.weight),), 100 + index) if biased else None)
        for index, (path, layer) in enumerate(layers.items())
    }


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("biased", [True, False])
def test_it_folds_to_what_is_given(name: str, biased: bool) -> None:
    """Exactly, up to units in the last place; where no bias is given it is the one that was there."""
    gm = lively(NETS[name]())
    before = {key: value.clone() for key, value in gm.state_dict().items()}
    given, old = wanted(gm, biased), dict(fold(gm).named_modules())
    found = unfold(gm, given)
    folded = dict(fold(found).named_modules())
    assert given
    for path, (weight, bias) in given.items():
        torch.testing.assert_close(folded[path].weight, weight, rtol=1e-12, atol=1e-12)
        expected = old[path].bias if bias is None else bias
        if expected is None:
            assert folded[path].bias is None
        else:
            torch.testing.assert_close(folded[path].bias, expected, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(value, before[key]) for key, value in gm.state_dict().items())  # a copy was changed
    assert sum(isinstance(one, _BatchNorm) for one in found.modules()) == sum(
        isinstance(one, _BatchNorm) for one in gm.modules()
    )
    assert all(parameter.requires_grad for parameter in found.parameters())


def test_a_network_on_points() -> None:
    """It folds to what is given, and norms that saw clouds do what they did."""
    gm = lively(PointMLP(3, width=8, neighbours=4, points=64), (64, 3))
    given = wanted(gm)
    found = unfold(gm, given)
    folded = fold(found)
    assert len(given) == 31
    for path, (weight, bias) in given.items():
        torch.testing.assert_close(folded.get_submodule(path).weight, weight, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(folded.get_submodule(path).bias, bias, rtol=1e-12, atol=1e-12)
    xyz = noise((6, 64, 3), 1)
    expected = found(xyz).detach()
    settle_norms(found, [xyz[:3], xyz[3:]])
    torch.testing.assert_close(found(xyz).detach(), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_zeros_stay_zeros() -> None:
    """In the weight that trains, not only in the folded one."""
    gm = lively(NETS["conv, norm"]())
    ((path, (weight, bias)),) = wanted(gm).items()
    weight[:, 1] = 0
    found = unfold(gm, {path: (weight, bias)})
    assert not found.get_submodule(path).weight[:, 1].any()
    assert found.get_submodule(path).weight[:, 0].all()


@pytest.mark.parametrize("gamma", [0.0, 1e-9])
def test_an_output_that_its_norm_has_switched_off(gamma: float) -> None:
    """Keeps its weight, and gets its bias all the same."""
    gm = lively(NETS["conv, norm"]())
    with torch.no_grad():
        gm.get_submodule("1").weight[2] = gamma
    ((path, (weight, bias)),) = wanted(gm).items()
    found = unfold(gm, {path: (weight, bias)})
    assert torch.equal(found.get_submodule(path).weight[2], gm.get_submodule(path).weight[2])
    folded = fold(found).get_submodule(path)
    on = torch.arange(4) != 2
    torch.testing.assert_close(folded.weight[on], weight[on], rtol=1e-12, atol=1e-12)
    assert folded.weight[2].abs().max() < 1e-8
    torch.testing.assert_close(folded.bias, bias, rtol=1e-12, atol=1e-12)
    assert all(value.isfinite().all() for value in found.state_dict().values())


def test_other_layers_are_left_alone() -> None:
    gm = lively(NETS["deep"]())
    path, given = next(iter(wanted(gm).items()))
    found = unfold(gm, {path: given})
    changed = [key for key, value in found.state_dict().items() if not torch.equal(value, gm.state_dict()[key])]
    assert changed == ["0.weight", "1.bias"]


BATCHES = 3
SETTLED = {
    **NETS,
    "between": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
    "mobile": cifar_mobilenet,
}
AFFINE = [name for name in SETTLED if "norm" in name or name in ("deep", "between", "depthwise", "mobile")]
AFFINE = [name for name in AFFINE if "not affine" not in name]


def read(gm: fx.GraphModule, batches: list[Tensor]) -> dict[str, np.ndarray]:
    """Batch norm to what it reads: float64 [channels, values]."""
    found: dict[str, list[np.ndarray]] = {}

    class Reader(fx.Interpreter):
        def run_node(self, node: fx.Node) -> object:
            if node.op == "call_module" and isinstance(self.fetch_attr(str(node.target)), _BatchNorm):
                value = self.env[node.all_input_nodes[0]].numpy()
                rows = np.moveaxis(value, 1, 0).reshape(value.shape[1], -1)
                found.setdefault(str(node.target), []).append(rows)
            return super().run_node(node)

    for batch in batches:
        Reader(gm, garbage_collect_values=False).run(batch)
    return {path: np.concatenate(parts, 1) for path, parts in found.items()}


@pytest.mark.parametrize("name", AFFINE)
@torch.no_grad()
def test_norms_with_the_statistics_of_what_they_read(name: str) -> None:
    """In eval mode the function is what it was, and in training, on the same inputs, it is the same too."""
    shape = (3, 32, 32) if name == "mobile" else SHAPE
    gm = lively(SETTLED[name](), shape)
    batches = [noise((4, *shape), seed) for seed in range(BATCHES)]
    before, seen = [gm(batch) for batch in batches], read(gm, batches)
    settle_norms(gm, batches)
    assert not gm.training
    for batch, expected in zip(batches, before, strict=True):
        torch.testing.assert_close(gm(batch), expected, rtol=1e-8, atol=1e-8)
    again = read(gm, batches)
    assert seen
    for path, values in seen.items():
        norm = gm.get_submodule(path)
        np.testing.assert_allclose(values, again[path], rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(norm.running_mean.numpy(), values.mean(1), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(norm.running_var.numpy(), values.var(1), rtol=1e-7, atol=1e-9)
    whole = torch.cat(batches)
    expected = gm(whole)
    torch.testing.assert_close(gm.train()(whole), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_without_settling_training_would_begin_with_another_network() -> None:
    gm = lively(NETS["deep"]())
    x = noise((12, *SHAPE), 1)
    expected = gm(x)
    assert (gm.train()(x) - expected).abs().max() > 0.1


@torch.no_grad()
def test_norms_that_cannot_be_settled_stay() -> None:
    """One that is not affine would do something else; and nothing at all says nothing."""
    for name, batches in (("norm that is not affine", [noise((4, *SHAPE), 1)]), ("deep", [])):
        gm = lively(NETS[name]())
        before = {key: value.clone() for key, value in gm.state_dict().items()}
        settle_norms(gm, batches)
        assert all(torch.equal(value, before[key]) for key, value in gm.state_dict().items())


@torch.no_grad()
def test_a_channel_that_is_always_the_same() -> None:
    """Has no deviation; nothing is divided by it."""
    gm = lively(NETS["conv, norm"]())
    gm.get_submodule("0").weight[1] = 0
    x = noise((4, *SHAPE), 1)
    expected = gm(x)
    settle_norms(gm, [x])
    torch.testing.assert_close(gm(x), expected, rtol=1e-8, atol=1e-8)
    assert gm.get_submodule("1").running_var[1] == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(gm.train()(x), expected, rtol=1e-6, atol=1e-6)
