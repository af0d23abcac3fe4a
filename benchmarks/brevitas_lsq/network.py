"""A network quantised by Brevitas where ours is: the same tensors, bits, signs and ranges of codes, no offsets.

What Brevitas has for LSQ is a learned scale (`PARAMETER_FROM_STATS`, floating point, per output for weights) with
gradients straight through the rounding. It differs from LSQ in four things: what is learned is scale times the highest
code; its gradient is not scaled down by the number of values (LSQ section 2.2); it rounds before it clips, so gradients
pass for half a step beyond both ends; and scales start where the squared error is least (`...MSE`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from brevitas.graph.calibrate import calibration_mode
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear
from brevitas.quant.scaled_int import (
    Int8ActPerTensorFloatMSE,
    Int8WeightPerChannelFloatMSE,
    Uint8ActPerTensorFloatMSE,
)
from torch import Tensor, fx, nn

from shoestring.compress.lsq.network import Quantised
from shoestring.compress.lsq.settings import Bits
from shoestring.graph.edges import Edge, edges, insert

_BATCH = 16  # calibration inputs at once
_ROUNDING = 0.01  # of the outputs' mean size; on the processor it was written on, 0


class _FullRange(Int8WeightPerChannelFloatMSE):
    """LSQ's codes below 8 bits: -2^(bits-1) is one. At 8 bits neither side has it."""

    narrow_range = False


def rival(network: fx.GraphModule, ours: Quantised, inputs: Sequence[np.ndarray], same_start: bool) -> fx.GraphModule:
    """`network`, captured, quantised in place by Brevitas as `ours` (settled, not yet trained) is. Scales start where
    Brevitas finds them with `inputs` (float32 [1, C, H, W] each) or, `same_start`, where ours do; then both are the
    same function, or this ends the program."""
    bits = {path: setting.bits for path, setting in ours.settings.items()}
    _quantise_activations(network, ours, bits)
    for path, both in bits.items():
        network.set_submodule(path, _quantised_layer(network.get_submodule(path), both.weights))
    network.eval()
    _calibrate(network, inputs)
    if same_start:
        for scaling, scale, wanted in _scales(network, ours):
            scaling.value.data.mul_((wanted / scale).reshape(scaling.value.shape))
        _require_equal(network, ours.model.eval(), torch.from_numpy(np.concatenate(inputs[:_BATCH])))
    return network


@torch.no_grad()
def _require_equal(network: nn.Module, ours: nn.Module, inputs: Tensor) -> None:
    """Two that start alike must be the same function, but for a code here and there that falls on another side."""
    outputs = ours(inputs)
    error = (network(inputs) - outputs).abs().mean() / outputs.abs().mean()
    if error > _ROUNDING:
        raise SystemExit(f"Brevitas' network is another one: its outputs differ by {error:.1%}; nothing was compared.")


def _quantise_activations(network: fx.GraphModule, ours: Quantised, bits: dict[str, Bits]) -> None:
    def quantiser(edge: Edge, width: int) -> nn.Module:
        signed = int(ours.quantisers[f"{edge.node.name}_{width}"][0].low) < 0
        rule = Int8ActPerTensorFloatMSE if signed else Uint8ActPerTensorFloatMSE
        made: nn.Module = QuantIdentity(act_quant=rule, bit_width=width)
        return made

    insert(network, edges(network, {path: both.activations for path, both in bits.items()}), quantiser)


def _quantised_layer(layer: nn.Module, bits: int) -> nn.Module:
    rule = Int8WeightPerChannelFloatMSE if bits == 8 else _FullRange
    settings = {"bias": layer.bias is not None, "weight_quant": rule, "weight_bit_width": bits}
    if isinstance(layer, nn.Conv2d):
        shape = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
        made = QuantConv2d(*shape, dilation=layer.dilation, groups=layer.groups, **settings)
    else:
        assert isinstance(layer, nn.Linear), "the network has no other"
        made = QuantLinear(layer.in_features, layer.out_features, **settings)
    made.load_state_dict(layer.state_dict(), strict=False)  # the scales are not there yet
    quantised: nn.Module = made
    return quantised


@torch.no_grad()
def _calibrate(network: nn.Module, inputs: Sequence[np.ndarray]) -> None:
    """Without it, Brevitas would take statistics in place of learned scales for the first 300 steps of training."""
    batches = [
        torch.from_numpy(np.concatenate(inputs[start : start + _BATCH])) for start in range(0, len(inputs), _BATCH)
    ]
    with calibration_mode(network):
        for batch in batches:
            network(batch)
    network(batches[0])  # scales of weights are made by the first call that quantises them


@torch.no_grad()
def _scales(network: fx.GraphModule, ours: Quantised) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """What holds the parameter of each scale, the scale, and ours."""
    for path, (quantiser, _) in ours.quantisers.items():
        proxy: Any = network.get_submodule(path).act_quant
        yield proxy.fused_activation_quant_proxy.tensor_quant.scaling_impl, proxy.scale(), quantiser.positive_step()
    for path in ours.settings:
        layer: Any = network.get_submodule(path)
        parametrized: Any = ours.model.get_submodule(path).parametrizations.weight  # type: ignore[union-attr]  # modules
        scale = layer.quant_weight().scale.flatten()
        wanted = parametrized[0].positive_steps(parametrized.original).expand(len(scale))
        yield layer.weight_quant.tensor_quant.scaling_impl, scale, wanted
