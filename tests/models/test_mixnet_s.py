"""MixNet-S against published sizes, counts by hand, and a second forward pass reading a checkpoint of timm's form."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from shoestring.models.mixnet_s import MixNetS, cifar_mixnet_s, mixnet_s, rename_released
from shoestring.models.weights import load_state

# The authors' code (tensorflow/tpu, mixnet_builder.py), a block a line: stage, inputs, expansion, outputs, kernels,
# parts of the expansion and of the projection, squeezed channels, stride. Stages 0 and 1 use ReLU, the others swish.
BLOCKS = [
    (0, 16, 1, 16, [3], 1, 1, 0, 1),
    (1, 16, 6, 24, [3], 2, 2, 0, 2),
    (1, 24, 3, 24, [3], 2, 2, 0, 1),
    (2, 24, 6, 40, [3, 5, 7], 1, 1, 12, 2),
    *[(2, 40, 6, 40, [3, 5], 2, 2, 20, 1)] * 3,
    (3, 40, 6, 80, [3, 5, 7], 1, 2, 10, 2),
    *[(3, 80, 6, 80, [3, 5], 1, 2, 20, 1)] * 2,
    (4, 80, 6, 120, [3, 5, 7], 2, 2, 40, 1),
    *[(4, 120, 3, 120, [3, 5, 7, 9], 2, 2, 60, 1)] * 2,
    (5, 120, 6, 200, [3, 5, 7, 9, 11], 1, 1, 60, 2),
    *[(5, 200, 6, 200, [3, 5, 7, 9], 1, 2, 100, 1)] * 2,
]
NAMES = [
    f"blocks.{line[0]}.{[other[0] for other in BLOCKS[:index]].count(line[0])}" for index, line in enumerate(BLOCKS)
]


def timms(classes: int) -> dict[str, Tensor]:
    """A checkpoint as timm writes it: a mixed convolution's parts are numbered, one batch norm comes after all."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def add(name: str, *shape: int) -> None:
        fan_in = torch.Size(shape[1:]).numel()
        state[name] = torch.randn(shape, generator=generator, dtype=torch.float64) / fan_in**0.5

    def convs(name: str, cin: int, cout: int, kernels: list[int], depthwise: bool = False) -> None:
        for index, kernel in enumerate(kernels):
            one = f"{name}.{index}.weight" if len(kernels) > 1 else f"{name}.weight"
            add(one, cout // len(kernels), 1 if depthwise else cin // len(kernels), kernel, kernel)

    def norm(name: str, channels: int) -> None:
        for key in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{key}"] = torch.rand(channels, generator=generator, dtype=torch.float64) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(3)

    convs("conv_stem", 3, 16, [3])
    norm("bn1", 16)
    for name, (_, cin, expansion, cout, kernels, expands, projects, squeezed, _) in zip(NAMES, BLOCKS, strict=True):
        wide, first = cin * expansion, expansion == 1  # the first block is of another class, which counts otherwise
        if not first:
            convs(f"{name}.conv_pw", cin, wide, [1] * expands)
            norm(f"{name}.bn1", wide)
        convs(f"{name}.conv_dw", wide, wide, kernels, depthwise=True)
        norm(f"{name}.bn{1 if first else 2}", wide)
        if squeezed:
            for part, shape in (("reduce", (squeezed, wide)), ("expand", (wide, squeezed))):
                add(f"{name}.se.conv_{part}.weight", *shape, 1, 1)
                add(f"{name}.se.conv_{part}.bias", shape[0])
        convs(f"{name}.conv_pw{'' if first else 'l'}", wide, cout, [1] * projects)
        norm(f"{name}.bn{2 if first else 3}", cout)
    convs("conv_head", 200, 1536, [1])
    norm("bn2", 1536)
    add("classifier.weight", classes, 1536)
    add("classifier.bias", classes)
    return state


def reference(state: dict[str, Tensor], x: Tensor, full: int) -> Tensor:
    """The network, reading weights by timm's names; `full`: how many first strides of 2 are left out."""
    strides = iter([1] * full + [2] * 5)

    def mixed(x: Tensor, name: str, norm: str, stride: int = 1, depthwise: bool = False) -> Tensor:
        weights = [value for key, value in state.items() if key.startswith(f"{name}.")]
        shares = torch.split(x, x.shape[1] // len(weights), 1)
        y = torch.cat([
            F.conv2d(share, w, None, stride, w.shape[2] // 2, groups=share.shape[1] if depthwise else 1)
            for share, w in zip(shares, weights, strict=True)
        ], 1)  # fmt: skip
        values = [state[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(y, *values, eps=1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].flatten(1).T + state[f"{name}.bias"]

    x = F.relu(mixed(x, "conv_stem", "bn1", next(strides)))
    for name, (stage, cin, expansion, cout, _, _, _, squeezed, stride) in zip(NAMES, BLOCKS, strict=True):
        act, first, y = F.silu if stage > 1 else F.relu, expansion == 1, x
        if not first:
            y = act(mixed(y, f"{name}.conv_pw", f"{name}.bn1"))
        step = next(strides) if stride == 2 else 1
        y = act(mixed(y, f"{name}.conv_dw", f"{name}.bn{1 if first else 2}", step, depthwise=True))
        if squeezed:
            gate = linear(act(linear(y.mean((2, 3)), f"{name}.se.conv_reduce")), f"{name}.se.conv_expand")
            y = y * torch.sigmoid(gate)[:, :, None, None]
        y = mixed(y, f"{name}.conv_pw{'' if first else 'l'}", f"{name}.bn{2 if first else 3}")
        x = x + y if stride == 1 and cin == cout else y
    return linear(F.relu(mixed(x, "conv_head", "bn2")).mean((2, 3)), "classifier")


def by_hand(side: int, full: int, classes: int) -> tuple[int, int, int]:
    """Parameters, multiply-accumulates and outputs of all layers with weights, for pictures of `side` pixels."""
    strides = iter([1] * full + [2] * 5)
    side //= next(strides)
    parameters, macs, outputs = 27 * 16 + 32, 27 * 16 * side**2, 16 * side**2
    for _, cin, expansion, cout, kernels, expands, projects, squeezed, stride in BLOCKS:
        wide = cin * expansion
        if expansion > 1:
            parameters += cin * wide // expands + 2 * wide
            macs += cin * wide // expands * side**2
            outputs += wide * side**2
        side //= next(strides) if stride == 2 else 1
        weights = wide // len(kernels) * sum(kernel**2 for kernel in kernels) + wide * cout // projects
        parameters += weights + 2 * wide + 2 * cout
        macs += weights * side**2
        outputs += (wide + cout) * side**2
        if squeezed:
            parameters += 2 * wide * squeezed + wide + squeezed
            macs += 2 * wide * squeezed
            outputs += wide + squeezed
    parameters += 200 * 1536 + 2 * 1536 + 1537 * classes
    return parameters, macs + 200 * 1536 * side**2 + 1536 * classes, outputs + 1536 * side**2 + classes


def test_published_figures() -> None:
    """imgclsmob: 4134606 parameters; timm: 6.25 million activations, and 0.25 billion MACs with two for every output of
    a batch norm (so counted, EfficientNet-B0 has the 0.40 billion that timm prints beside 0.386 of dot products)."""
    parameters, macs, outputs = by_hand(224, 0, 1000)
    assert (parameters, round(outputs / 1e6, 2), round((macs + 2 * outputs) / 1e9, 2)) == (4_134_606, 6.25, 0.25)


@pytest.mark.parametrize(
    ("model", "side", "full"), [(mixnet_s(), 224, 0), (cifar_mixnet_s(), 32, 2)], ids=["large", "small"]
)
def test_counts(model: MixNetS, side: int, full: int) -> None:
    parameters, macs, _ = by_hand(side, full, model.classifier.out_features)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side))
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize(("factory", "full"), [(mixnet_s, 0), (cifar_mixnet_s, 2)])
def test_timms_checkpoint_loads_and_computes_the_same(factory: type[MixNetS], full: int) -> None:
    released = timms(classes=7)
    model = factory(classes=7).double().eval()
    load_state(model, rename_released(model, released), "timm")
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(x), reference(released, x, full), rtol=1e-9, atol=1e-9)


def test_renaming_leaves_other_checkpoints_alone_and_hides_nothing() -> None:
    model = mixnet_s(classes=7)
    own = model.state_dict()
    assert rename_released(model, own) is own
    released = timms(classes=7)
    del released["blocks.3.0.bn2.weight"]
    renamed = rename_released(model, {**released, "extra.weight": torch.zeros(1)})
    assert set(own) - set(renamed) == {f"blocks.3.0.depthwise.{part}.1.weight" for part in range(3)}
    assert set(renamed) - set(own) == {"extra.weight"}


def test_the_small_one_keeps_swish_and_ends_at_4x4() -> None:
    model = cifar_mixnet_s().eval()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert model.head(model.blocks(model.stem(torch.zeros(1, 3, 32, 32)))).shape == (1, 1536, 4, 4)
    assert (
        sum(isinstance(module, nn.SiLU) for module in model.modules()) == 2 * 13
    )  # one for both layers, one to squeeze
