"""Networks on learned grids: nothing changes before they start, and what was trained is what is baked and exported."""

import copy
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from shoestring.compress.lsq import initialise, plain, plus
from shoestring.compress.lsq.activations import ActivationQuantiser
from shoestring.compress.lsq.network import Quantised
from shoestring.core.errors import BadInput
from shoestring.deploy import parity, runtimes
from shoestring.deploy.export import export
from shoestring.deploy.grids import stored
from shoestring.deploy.learned import realise
from shoestring.deploy.normal_form import violations
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.graph.marker import MARKER
from shoestring.models.point_mlp import PointMLP
from shoestring.models.squeeze_excite import SqueezeExcite

SHAPE = (3, 10, 10)
CONFIGS = ("lsq:config1", "lsq:config2", "lsq+:config3", "lsq+:config4")
ALL_BITS = ("w8a8", "w4a4", "w3a3", "w2a2")


def normed(inputs: int, outputs: int, size: int = 3, groups: int = 1) -> list[nn.Module]:
    """A convolution and a batch norm that has seen data; some of its factors are negative."""
    norm = nn.BatchNorm2d(outputs)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1.5, 2, outputs))
        norm.bias.normal_()
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.3, 2)
    return [nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=outputs % 4 == 0), norm]


class Everything(nn.Module):
    """A swish stem, a depthwise ReLU6, a gate, a residual, a concatenation, padding, pooling, flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*normed(3, 8), nn.SiLU())
        self.depthwise = nn.Sequential(*normed(8, 8, groups=8), nn.ReLU6())
        self.gate = SqueezeExcite(8, 4, nn.ReLU(), nn.Sigmoid())
        self.project = nn.Sequential(*normed(8, 8, 1))
        self.odd = nn.Conv2d(16, 6, 3, stride=2)
        self.pool, self.drop, self.head = nn.MaxPool2d(2), nn.Dropout(0.2), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.relu(x + self.project(self.gate(self.depthwise(x))))
        x = F.silu(self.odd(F.pad(torch.cat([x, y], 1), (0, 1, 0, 1))))
        return self.head(self.drop(self.pool(x).flatten(1)))


def noise(count: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> list[np.ndarray]:
    return [np.random.default_rng((seed, i)).standard_normal((1, *shape), np.float32) for i in range(count)]


def captured(module: nn.Module, shape: tuple[int, ...] = SHAPE) -> fx.GraphModule:
    return capture(module, shape)


def everything() -> fx.GraphModule:
    torch.manual_seed(0)
    return captured(Everything())


def layers_of(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def applied(model: fx.GraphModule, text: str, layers: Sequence[str] | None = None) -> Quantised:
    """`text`: `lsq+:w4a4`, for all layers, not settled."""
    method, _, setting = text.partition(":")
    of = plain if method == "lsq" else plus
    return of.apply(model, dict.fromkeys(layers if layers is not None else layers_of(model), of.parse(setting)))


def settled(model: fx.GraphModule, text: str, inputs: Sequence[np.ndarray] | None = None) -> Quantised:
    result = applied(model, text)
    result.settle(inputs or noise(20, (*model_input(model),)))
    return result


def model_input(model: fx.GraphModule) -> tuple[int, ...]:
    return tuple(next(iter(model.graph.nodes)).meta["tensor_meta"].shape[1:])


def train(quantised: Quantised, steps: int, rate: float = 0.02) -> None:
    """Towards zero; what matters is that everything moves."""
    parameters = [p for p in quantised.model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, rate, momentum=0.9)
    quantised.model.train()
    for step in range(steps):
        x = torch.from_numpy(np.concatenate(noise(8, model_input(quantised.model), step + 50)))
        optimiser.zero_grad()
        quantised.model(x).square().mean().backward()
        optimiser.step()
        quantised.on_step((step + 1) / steps)
    quantised.model.eval()


def run(module: nn.Module, inputs: Sequence[np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([module(torch.from_numpy(x)).numpy() for x in inputs])


def executed(graph: ModelProto, inputs: Sequence[np.ndarray], literal: bool = True) -> np.ndarray:
    session = runtimes.get("onnxruntime").open(graph.SerializeToString(), literal=literal)
    return np.concatenate([session(x)[0] for x in inputs])


def markers(model: fx.GraphModule) -> dict[str, str]:
    """Each marker's source, in the order they run."""
    return {n.all_input_nodes[0].name: n.name for n in model.graph.nodes if n.target is MARKER}


# -- before and after they start


@pytest.mark.parametrize("config", CONFIGS)
def test_until_it_settles_nothing_changes(config: str) -> None:
    """Turning channels around included, to the last bit; the model that was given stays what it was."""
    model = everything()
    before = copy.deepcopy(model.state_dict())
    result = applied(model, f"{config}:w2a2")
    assert np.array_equal(run(result.model, noise(4)), run(model, noise(4)))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    result.settle(noise(4))
    assert not np.array_equal(run(result.model, noise(4)), run(model, noise(4)))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_layers_that_are_not_named_are_left_alone() -> None:
    model = everything()
    result = applied(model, "lsq+:w2a2", ["odd"])
    result.settle(noise(4))
    for name in layers_of(model):
        layer = result.model.get_submodule(name)
        assert parametrize.is_parametrized(layer) == (name == "odd")
        if name != "odd":
            assert torch.equal(layer.weight, model.get_submodule(name).weight)
    kinds = [module for module in result.model.modules() if isinstance(module, ActivationQuantiser)]
    assert list(result.quantisers) == ["cat_2"] and len(kinds) == 1
    baked = result.bake()
    assert list(result.grids) == ["odd"] and len(markers(baked)) == 1


@pytest.mark.parametrize("config", CONFIGS)
def test_where_the_activations_start(config: str) -> None:
    """Codes from zero upwards and no offset after ReLU and sigmoid; elsewhere as the configuration says."""
    result = settled(everything(), f"{config}:w4a4")
    offset, signed = config.startswith("lsq+"), config in ("lsq:config2", "lsq+:config3")
    found = {path: q for path, (q, _) in result.quantisers.items()}
    zero = ("depthwise_2_8", "gate_activation_4", "gate_scale_activation_8", "relu_8")
    for name in zero:
        assert int(found[name].low) == 0 and found[name].fixed and found[name].byte_grid().zero_point == 0, name
    swishes, floats = ("stem_2_8", "stem_2_4", "silu_4"), ("x_4", "stem_1_8", "project_1_8", "odd_8")
    for name in (*swishes, *floats):
        assert (int(found[name].low) < 0) == (signed or (config == "lsq:config1" and name in floats)), name
        assert found[name].offset.requires_grad == offset and bool(found[name].fixed) != offset, name
    rest = ("mean_4", "mul_4", "cat_4", "gate_fc2_8")
    assert set(found) == {*zero, *swishes, *floats, *rest}


@pytest.mark.parametrize("rule", ["min-max", "mean", "mse", "sigma"])
@pytest.mark.parametrize("method", ["lsq", "lsq+"])
def test_each_rule_starts_what_it_should(method: str, rule: str) -> None:
    """Against the rule itself on the values of the edge, which the float network computes."""
    model, inputs = everything(), noise(20)
    result = settled(model, f"{method}:w3a3:{rule}", inputs)
    values = torch.from_numpy(np.concatenate([x.ravel() for x in inputs]))
    quantiser, _ = result.quantisers["x_3"]
    low = 0 if method == "lsq+" else -4
    high = low + 7
    expected = {
        "min-max": initialise.min_max(values, low, high, method == "lsq+"),
        "mean": initialise.mean(values, high),
        "mse": initialise.least_error(values, low, high, method == "lsq+"),
        "sigma": initialise.least_error(values, low, high, method == "lsq+"),
    }[rule]
    assert (quantiser.step.item(), quantiser.offset.item()) == pytest.approx(expected)
    weight = model.get_submodule("odd").weight
    steps = result.model.get_submodule("odd").parametrizations.weight[0].steps
    by_hand = {
        "min-max": initialise.weight_min_max,
        "mean": initialise.weight_mean,
        "mse": initialise.weight_least_error,
        "sigma": initialise.weight_three_sigma,
    }[rule]
    torch.testing.assert_close(steps, by_hand(weight, 3))


@pytest.mark.parametrize("scope", ["channel", "tensor"])
def test_steps_of_weights_by_channel_or_by_tensor(scope: str) -> None:
    result = settled(everything(), f"lsq+:w4a4:{scope}")
    for path in result.settings:
        layer = result.model.get_submodule(path)
        assert len(layer.parametrizations.weight[0].steps) == (len(layer.weight) if scope == "channel" else 1)


# -- training


@pytest.mark.parametrize("text", ["lsq:w2a2", "lsq+:w2a2:config3", "lsq+:w4a4:config4:tensor"])
def test_everything_trains(text: str) -> None:
    """Each step and weight gets a finite gradient and moves, and so do offsets where values are clipped. What does not
    are biases in front of a batch norm."""
    result = settled(everything(), text)
    before = {name: p.detach().clone() for name, p in result.model.named_parameters() if p.requires_grad}
    train(result, 3)
    after = dict(result.model.named_parameters())
    still = [name for name, value in before.items() if torch.equal(after[name], value)]
    assert {name for name in still if "offset" not in name} <= {"stem.0.bias", "depthwise.0.bias", "project.0.bias"}
    offsets = [name for name in before if "offset" in name]
    assert len(set(offsets) & set(still)) <= len(offsets) / 2
    assert all(p.isfinite().all() for p in after.values())
    assert bool(offsets) == text.startswith("lsq+")


def test_steps_and_offsets_are_vectors() -> None:
    """The optimiser's policy (`train.groups`) is that what has fewer than two dimensions never decays."""
    result = settled(everything(), "lsq+:w4a4")
    small = [p for name, p in result.model.named_parameters() if name.rpartition(".")[2] in ("step", "steps", "offset")]
    assert len(small) > 20 and all(p.ndim == 1 for p in small)


def test_freezing_twice_is_freezing_once() -> None:
    result = settled(everything(), "lsq+:w4a4")
    train(result, 2)
    result.freeze()
    once = copy.deepcopy(result.model.state_dict())
    y = run(result.model, noise(3))
    result.freeze()
    assert all(torch.equal(value, once[name]) for name, value in result.model.state_dict().items())
    assert np.array_equal(run(result.model, noise(3)), y)
    assert not any(q.offset.requires_grad for q, _ in result.quantisers.values())


@pytest.mark.parametrize("frozen", [False, True])
def test_the_state_is_all_there_is(frozen: bool) -> None:
    """Into a fresh model that has seen no calibration input, as a run that goes on elsewhere finds it."""
    result = settled(everything(), "lsq+:w4a4:config3")
    train(result, 2)
    if frozen:
        result.freeze()
    fresh = applied(everything(), "lsq+:w4a4:config3")
    fresh.model.load_state_dict(result.model.state_dict())
    assert np.array_equal(run(fresh.model, noise(3)), run(result.model, noise(3)))
    assert np.array_equal(run(fresh.bake(), noise(3)), run(result.bake(), noise(3)))


def test_a_copy_is_on_its_own() -> None:
    result = settled(everything(), "lsq+:w4a4")
    other = copy.deepcopy(result)
    y = run(result.model, noise(3))
    train(other, 2)
    other.bake()
    assert np.array_equal(run(result.model, noise(3)), y)
    assert not np.array_equal(run(other.model, noise(3)), y)


# -- baking


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("bits", ALL_BITS)
def test_what_was_trained_is_what_is_baked(bits: str, config: str) -> None:
    """Batch norm goes into the scales: the same codes, and outputs equal but for the rounding of float sums, which may
    turn a rare code; in float64 it turns none."""
    result = settled(everything(), f"{config}:{bits}")
    train(result, 3)
    baked = result.bake()
    assert not any(isinstance(m, nn.BatchNorm2d | ActivationQuantiser) for m in baked.modules())
    assert not any(parametrize.is_parametrized(module) for module in baked.modules())
    inputs = [x.astype(np.float64) for x in noise(6, seed=9)]
    expected = run(copy.deepcopy(result.model).double(), inputs)
    # grids were folded in float32: 2^-24 of a weight
    np.testing.assert_allclose(run(baked.double(), inputs), expected, rtol=0, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("bits", ALL_BITS)
def test_grids_are_the_baked_weights(bits: str) -> None:
    result = settled(everything(), f"lsq+:{bits}")
    train(result, 3)
    reference = fold(float_again(result))
    baked, width = result.bake(), int(bits[1])
    assert list(result.grids) == layers_of(everything())
    for path, grid in result.grids.items():
        assert grid.bits == width and grid.codes.dtype == np.int8 and (grid.scales > 0).all()
        assert grid.codes.min() >= -(2 ** (width - 1)) and grid.codes.max() < 2 ** (width - 1)
        weight = baked.get_submodule(path).weight.numpy()
        np.testing.assert_allclose(grid.values, weight, rtol=1e-6, atol=0)
        if width == 8:  # and near the float weights they stand for
            float_weight = reference.get_submodule(path).weight.detach().numpy()
            steps = grid.scales.reshape(-1, *[1] * (weight.ndim - 1))
            inside = np.abs(grid.codes) < 127
            assert (
                np.abs(grid.values - float_weight)[inside] <= (0.51 * np.broadcast_to(steps, weight.shape))[inside]
            ).all()


@torch.no_grad()
def float_again(result: Quantised) -> fx.GraphModule:
    """The model with the float weights that training keeps under the grids, its batch norms as they are."""
    model = everything()
    for name, value in model.state_dict().items():
        path, _, kind = name.rpartition(".")
        module = result.model.get_submodule(path)
        trained = getattr(module, kind) if path not in result.settings or kind != "weight" else None
        value.copy_(module.parametrizations.weight.original if trained is None else trained)
    return model


@pytest.mark.parametrize("bits", ["w2a2", "w4a4", "w8a8"])
def test_a_batch_norm_that_training_turned_negative(bits: str) -> None:
    """Its channel cannot take the opposite codes, which the lowest code does not have; the file is what was trained."""
    model = everything()
    with torch.no_grad():  # beyond the grid: the lowest code is in use
        model.get_submodule("project.0").weight[:, 0] = -20
    result = settled(model, f"lsq:{bits}")
    norm = result.model.get_submodule("project.1")
    with torch.no_grad():
        next(p for name, p in norm.named_parameters() if "weight" in name).sub_(3)
    result.freeze()
    x = [noise(1)[0].astype(np.float64)]
    expected, baked = run(copy.deepcopy(result.model).double(), x), result.bake()
    grid = result.grids["project.0"]
    assert grid.codes.min() == -(2 ** (grid.bits - 1)) or bits == "w8a8"
    assert (grid.scales > 0).all() and grid.codes.max() < 2 ** (grid.bits - 1)
    np.testing.assert_allclose(run(baked.double(), x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [0.0, 1e-44, 1e-30])
def test_a_channel_that_batch_norm_cut_off(factor: float) -> None:
    """It has a scale that a file can hold, and zeros where the float weight underflows."""
    model = everything()
    with torch.no_grad():
        model.get_submodule("project.1").weight[:3] = factor
        model.get_submodule("project.0").weight[1] *= 1e-25
    result = settled(model, "lsq+:w4a4")
    result.bake()
    scales = result.grids["project.0"].scales
    assert (scales >= np.finfo(np.float32).tiny).all()
    assert np.abs(result.grids["project.0"].values[:3]).max() <= 1e-25


def test_baking_leaves_the_model_trainable() -> None:
    result = settled(everything(), "lsq+:w4a4")
    baked = run(result.bake(), noise(3))
    assert np.array_equal(run(result.bake(), noise(3)), baked)
    train(result, 2)
    assert not np.array_equal(run(result.bake(), noise(3)), baked)


def test_markers_are_repeated_behind_what_moves_values_but_not_behind_padding() -> None:
    baked = settled(everything(), "lsq+:w4a4").bake()
    found = markers(baked)
    by_name = {node.name: node for node in baked.graph.nodes}
    assert "pad" not in found and by_name["pad"].all_input_nodes[0].target is MARKER
    flat = by_name[found["flatten"]]
    assert flat.args[1:] == by_name[found["silu"]].args[1:]
    assert [user.target for user in flat.users] == ["head"]
    assert "pool" not in found  # only what is flattened is read
    for node in baked.graph.nodes:  # a grid right behind itself would be one too many
        if node.target is MARKER and node.all_input_nodes[0].target is MARKER:
            assert node.args[1:] != node.all_input_nodes[0].args[1:]


def test_dropout_between_two_layers_leaves_one_marker() -> None:
    model = captured(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Dropout(), nn.Identity(), nn.Conv2d(4, 2, 1)))
    baked = settled(model, "lsq+:w4a4").bake()
    assert [node.name for node in baked.graph.nodes if node.op == "call_module"] == ["_0", "_1", "_4"]
    assert len(markers(baked)) == 2


# -- the file


def realised(result: Quantised) -> ModelProto:
    shape = model_input(result.model)
    return realise(export(result.bake(), shape), result.grids)


@pytest.mark.parametrize("text", ["lsq:w4a4", "lsq+:w2a3:config3", "lsq+:w8a8"])
def test_the_file_computes_what_was_trained(text: str) -> None:
    """Executed literally, and in integers. Only biases are rounded (to a step of the accumulators), and sums of floats
    differ in their last bits; both may turn a code here and there."""
    result = settled(everything(), text)
    train(result, 3)
    graph, inputs = realised(result), noise(24, seed=7)
    assert violations(graph) == []
    expected = run(result.model, inputs)
    for literal in (True, False):
        difference = np.abs(executed(graph, inputs, literal) - expected) / np.ptp(expected)
        assert np.median(difference) < 1e-3 and difference.mean() < 0.01
    parity.gate(parity.compare(graph, "onnxruntime", inputs[:4]))


@pytest.mark.parametrize("text", ["lsq+:w4a4", "lsq+:w8a8"])
def test_a_network_on_points(text: str) -> None:
    """What is sampled stays float; codes of coordinates and offsets go below zero; the file computes what was trained,
    but for its biases: where they are rounded too, the same. (One code that turns over turns others, in 31 layers.)"""
    torch.manual_seed(0)
    model = PointMLP(3, width=8, neighbours=4, points=64)
    model(torch.randn(8, 64, 3))
    result = settled(capture(model.eval(), (64, 3)), text, noise(8, (64, 3)))
    train(result, 3)
    baked = result.bake()
    sources = markers(baked)
    assert {"xyz", "mul", "mul_1"} <= set(sources) and not {"take", "farthest", "nearest"} & set(sources)
    zeros = {n.all_input_nodes[0].name: n.args[2] for n in baked.graph.nodes if n.target is MARKER}
    assert all(isinstance(zeros[name], int) and zeros[name] > 0 for name in ("xyz", "mul", "mul_1"))
    assert zeros["stages_0_before_0_act"] == 0
    exported, inputs = export(baked, (64, 3)), noise(12, (64, 3), 7)
    graph = realise(exported, result.grids)
    assert violations(graph) == []
    expected = run(result.model, inputs)
    np.testing.assert_allclose(executed(exported, inputs), expected, rtol=0, atol=1e-5 * np.ptp(expected))
    biases, tensors = stored(graph), {tensor.name: tensor for tensor in exported.graph.initializer}
    for layer in stored(exported).values():
        own = next(node for node in exported.graph.node if node.output[0] == layer.writes)
        value = np.asarray(biases[own.name].bias, np.float32)
        tensors[own.input[2]].CopyFrom(numpy_helper.from_array(value, own.input[2]))
    expected = executed(exported, inputs)
    for literal in (True, False):
        np.testing.assert_allclose(executed(graph, inputs, literal), expected, rtol=0, atol=1e-5 * np.ptp(expected))
    parity.gate(parity.compare(graph, "onnxruntime", inputs[:4]))


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@pytest.mark.parametrize(
    ("bits", "offset", "zero_point", "low"),
    [(4, 0.75, 0, 3), (4, -0.75, 3, 0), (4, -7.5, 30, 0), (8, -30.0, 120, 0)],
    ids=["above zero", "around zero", "below zero", "8 bits"],
)
def test_padding_is_zero_at_the_borders(bits: int, offset: float, zero_point: int, low: int) -> None:
    """Wherever the grid lies: in the file it is the byte of the zero point, inside the bounds of the codes or not."""
    torch.manual_seed(0)
    result = settled(captured(Padded()), f"lsq+:w8a{bits}")
    quantiser, _ = result.quantisers[f"x_{bits}"]
    with torch.no_grad():
        quantiser.step.fill_(0.25)
        quantiser.offset.fill_(offset)
    result.freeze()
    assert quantiser.byte_grid() == (0.25, zero_point, low, low + 2**bits - 1)
    graph, inputs = realised(result), [x + np.float32(offset + 1) for x in noise(3)]
    assert [node.op_type for node in graph.graph.node].count("Pad") == 0
    expected = run(result.model, inputs)
    step = float(result.grids["conv"].scales.max()) * 0.25  # biases are rounded to such a step
    for literal in (True, False):
        np.testing.assert_allclose(executed(graph, inputs, literal), expected, rtol=0, atol=0.51 * step + 1e-5)


class Attention(nn.Module):
    """[B, 6, 8]: one head; the same linear layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.out(x)
        scores = self.q(x) @ self.k(x).transpose(1, 2) * 0.35
        return self.out(scores.softmax(-1) @ self.v(x))


def test_attention_and_a_layer_that_is_called_twice() -> None:
    torch.manual_seed(0)
    result = settled(captured(Attention(), (6, 8)), "lsq+:w4a8")
    assert {"q_8", "transpose_8", "k_8"} & set(result.quantisers) == {"q_8", "k_8"}
    train(result, 2)
    graph, inputs = realised(result), noise(8, (6, 8), 7)
    assert set(result.grids) == {"q", "k", "v", "out"}
    assert violations(graph) == []
    expected = run(result.model, inputs)
    difference = np.abs(executed(graph, inputs) - expected) / np.ptp(expected)
    assert np.median(difference) < 1e-3 and difference.max() < 0.02


# -- what cannot be done


def test_without_inputs_or_layers() -> None:
    result = applied(everything(), "lsq+:w4a4")
    with pytest.raises(BadInput, match="calibration"):
        result.settle([])
    with pytest.warns(UserWarning, match="no layer"):
        nothing = applied(everything(), "lsq+:w4a4", [])
    nothing.settle(noise(2))
    nothing.freeze()
    assert np.allclose(run(nothing.bake(), noise(2)), run(everything(), noise(2)), atol=1e-5)
    assert nothing.grids == {} and nothing.quantisers == {}


class SharedNorm(nn.Module):
    """Two layers before one batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = normed(3, 4, 1)
        self.b = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.a(x)) + self.norm(self.b(x))


def test_a_batch_norm_behind_two_layers() -> None:
    torch.manual_seed(0)
    model = captured(SharedNorm())
    result = applied(model, "lsq+:w4a4")
    assert np.array_equal(run(result.model, noise(3)), run(model, noise(3)))
    result.settle(noise(3))
    result.freeze()
    x = [noise(1)[0].astype(np.float64)]
    expected = run(copy.deepcopy(result.model).double(), x)
    np.testing.assert_allclose(run(result.bake().double(), x), expected, rtol=0, atol=1e-5)


def settings_by_layer(quantised: Quantised) -> Mapping[str, str]:
    return {path: str(setting.bits) for path, setting in quantised.settings.items()}


def test_bits_of_each_layer() -> None:
    """The pattern's own bits, the narrower grid behind the wider where readers differ."""
    model = everything()
    pairs = itertools.cycle(("w8a8", "w4a4", "w2a3"))
    given = {name: plus.parse(bits) for name, bits in zip(layers_of(model), pairs, strict=False)}
    result = plus.apply(model, given)
    result.settle(noise(4))
    assert settings_by_layer(result) == {name: str(setting.bits) for name, setting in given.items()}
    for path, (quantiser, _) in result.quantisers.items():
        assert int(path.rpartition("_")[2]) == quantiser.bits
    result.bake()
    assert {name: grid.bits for name, grid in result.grids.items()} == {n: s.bits.weights for n, s in given.items()}


class Halves(nn.Module):
    """`widths` channels: a stem, a depthwise layer, a residual and a head, of which half a network can be cut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*normed(3, width), nn.ReLU())
        self.depthwise = nn.Sequential(*normed(width, width, groups=width), nn.ReLU6())
        self.project = nn.Sequential(*normed(width, width, 1))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.project(self.depthwise(x))).mean((2, 3)))


def first(values: Tensor, like: Tensor) -> Tensor:
    return values[tuple(slice(size) for size in like.shape)]


@pytest.mark.parametrize("text", ["lsq+:w4a4", "lsq+:w8a8", "lsq:w3a4:tensor"])
def test_a_network_inside_has_codes_in_common_and_grids_of_its_own(text: str) -> None:
    torch.manual_seed(0)
    wide, narrow = captured(Halves(16)), captured(Halves(8))
    result = settled(wide, text)
    sizes = dict(narrow.named_parameters())
    small = copy.deepcopy(narrow)
    inner = result.within(small, lambda name, values: first(values, sizes[name]))
    assert set(inner.settings) == set(result.settings)
    assert not any(parametrize.is_parametrized(module) for module in small.modules())
    large = {
        name: getattr(result.model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in sizes
    }

    def fill() -> None:
        with torch.no_grad():
            for name, value in small.named_parameters():
                if name in sizes:
                    value.copy_(first(large[name], value))

    fill()
    inner.settle(noise(20, seed=1))
    train(result, 6)
    large = {
        name: getattr(result.model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in sizes
    }
    fill()
    inner.freeze()
    x = [noise(1)[0].astype(np.float64)]
    expected = run(copy.deepcopy(small).double(), x)
    found = run(inner.bake().double(), x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    result.bake()
    for path, grid in inner.grids.items():
        wide_grid = result.grids[path]
        cut = tuple(slice(size) for size in grid.codes.shape)
        np.testing.assert_array_equal(grid.codes, wide_grid.codes[cut], path)
        assert grid.bits == wide_grid.bits
        # What the two norms multiply by, and nothing else, is between the scales.
        pairs = zip((small, result.model), (grid.scales, wide_grid.scales[cut[0]]), strict=True)
        bare = [scales / factor(model, path)[: len(scales)] for model, scales in pairs]
        np.testing.assert_allclose(*bare, rtol=1e-5)
    steps = [float(quantiser.step.detach()) for of in (inner, result) for quantiser, _ in of.quantisers.values()]
    assert len(set(steps)) == len(steps)


def factor(model: fx.GraphModule, path: str) -> np.ndarray:
    """Of the norm behind a layer, in NumPy."""
    if not path.endswith(".0"):
        return np.ones(1)
    norm = model.get_submodule(path[:-1] + "1")
    weight, variance = norm.weight.detach().double().numpy(), norm.running_var.double().numpy()
    return weight / np.sqrt(variance + norm.eps)


def test_only_what_is_left_of_the_layers_is_quantised_inside() -> None:
    class Stem(nn.Module):
        def __init__(self, stem: nn.Module, head: nn.Module) -> None:
            super().__init__()
            self.stem, self.head = stem, head

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.stem(x).mean((2, 3)))

    torch.manual_seed(0)
    whole = Halves(8)
    result = settled(captured(whole), "lsq+:w4a4")
    inner = result.within(captured(Stem(whole.stem, whole.head)), lambda name, values: values)
    assert set(inner.settings) == {"stem.0", "head"}
    with pytest.raises(BadInput, match="lsq: steps start from calibration inputs, and there are none"):
        inner.settle([])
