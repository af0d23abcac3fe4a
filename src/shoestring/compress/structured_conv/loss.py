"""The regulariser: how far the weights of a network are from structured ones."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shoestring.compress.structured_conv.settings import Kept
from shoestring.compress.structured_conv.shape import Shape, shape_of
from shoestring.compress.structured_conv.windows import projected
from shoestring.core.errors import BadInput


def residual(weight: Tensor, shape: Shape) -> Tensor:
    """The share of `weight` that is not structured: |W - P W| / |W|, a scalar from 0 to 1 with gradients. A weight of
    independent numbers begins at the root of 1 - c n^2 / (C N^2), which is 0.745 for n = 2 of 3 x 3. P is applied axis
    by axis and never built."""
    rest = weight - projected(weight, shape.projectors())
    return rest.norm() / weight.norm().clamp_min(torch.finfo(weight.dtype).tiny)


def structural_loss(model: nn.Module, c: float | None = None, n: int | None = 2) -> Tensor:
    """The sum of the residuals (the structural regularisation of arXiv 2008.02454, without its factor lambda) of the
    layers of any module: convolutions with a kernel of more than `n` taps, and with `c`, the share of input channels
    kept, 1x1 convolutions and linear layers. Raises BadInput when there is none."""
    shapes = {path: shape for path, module in model.named_modules() if (shape := _aim(module, c, n))}
    if not shapes:
        raise BadInput(f"structured: the model has no layer for n={n}, c={c}; give c for 1x1 and linear layers")
    return penalty(model, shapes)


def penalty(model: nn.Module, shapes: Mapping[str, Shape]) -> Tensor:
    """The sum of the residuals of layers by module path."""
    weights: list[Tensor] = [model.get_submodule(path).weight for path in shapes]  # type: ignore[misc]  # a tensor
    return torch.stack([residual(w, shape) for w, shape in zip(weights, shapes.values(), strict=True)]).sum()


def _aim(module: nn.Module, c: float | None, n: int | None) -> Shape | None:
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        return None
    taps, inputs = module.weight.shape[2:], module.weight.shape[1]
    if any(size > 1 for size in taps):
        found = shape_of(module, None, n)
    elif c is None or getattr(module, "groups", 1) > 1:
        return None
    else:
        found = shape_of(module, Kept(c).channels(inputs), None)
    return found if found.changes else None
