"""The quantiser of LSQ (arXiv 1902.08153) and LSQ+ (arXiv 2004.09576), with its gradients.

    z = (x - offset) / step,    y = step * round(clip(z, low, high)) + offset

| gradient of y by | low < z < high | z <= low | z >= high |
| ---------------- | -------------- | -------- | --------- |
| x                | 1              | 0        | 0         |
| step             | round(z) - z   | low      | high      |
| offset           | 0              | 1        | 1         |

(LSQ equations 3 and 5, LSQ+ equations 4 to 6.) Rounding is to the nearest even code, as the file's QuantizeLinear does.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

LEAST_STEP = 1e-15


def quantise(
    x: Tensor, step: Tensor, offset: Tensor | None, low: int, high: int, gradient_scale: float = 1.0
) -> Tensor:
    """`x` on the grid, same shape. `step` > 0 and `offset` have one element, or (step only) one for each entry of the
    first axis of `x`. `gradient_scale` multiplies the gradients of step and offset alone (LSQ section 2.2)."""
    if step.numel() > 1:
        return _quantise_channels(x, step, low, high, gradient_scale)
    result: Tensor = _Quantise.apply(x, step, offset, low, high, gradient_scale)
    return result


def positive(step: Tensor) -> Tensor:
    """The steps in use. Training may push one below zero; its square, by which gradients are divided, is not 0."""
    return step.abs().clamp_min(LEAST_STEP)


def scaled_gradient(x: Tensor, scale: float) -> Tensor:
    """`x`, whose gradient is multiplied by `scale` (LSQ appendix A)."""
    return x.detach() + (x - x.detach()) * scale


class _Quantise(Function):
    """One step for the whole tensor. Few passes over memory: on a CPU they are what quantisation costs."""

    @staticmethod
    def forward(  # noqa: PLR0913 - autograd's context and what `quantise` takes
        ctx: Any, x: Tensor, step: Tensor, offset: Tensor | None, low: int, high: int, gradient_scale: float
    ) -> Tensor:
        z = (x / step) if offset is None else torch.sub(x, offset).div_(step)
        ctx.save_for_backward(z, step)
        ctx.bounds, ctx.scale, ctx.has_offset = (low, high), gradient_scale, offset is not None
        codes = z.round().clamp_(low, high)
        return codes.mul_(step) if offset is None else torch.addcmul(offset, codes, step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z, step = ctx.saved_tensors
        low, high = ctx.bounds
        if gradient.stride() != z.stride():
            gradient = torch.empty_like(z).copy_(gradient)
        inside = torch.ops.aten.hardtanh_backward(gradient, z, low, high)  # the gradient of x: 0 where clipped
        codes = z.round().clamp_(low, high)
        by_step = torch.dot(_flat(gradient), _flat(codes)) - torch.dot(_flat(inside), _flat(z))
        by_offset = (gradient.sum() - inside.sum()).mul(ctx.scale).reshape(step.shape) if ctx.has_offset else None
        return inside, by_step.mul(ctx.scale).reshape(step.shape), by_offset, None, None, None


def _flat(x: Tensor) -> Tensor:
    """The elements in the order they lie in memory, not copied; the results of elementwise operations are dense."""
    return x.as_strided((x.numel(),), (1,))


def _quantise_channels(x: Tensor, step: Tensor, low: int, high: int, gradient_scale: float) -> Tensor:
    """A step for each entry of the first axis. Weights are small, so autograd does it, with the gradient of a rounding
    set to that of no rounding: LSQ's gradients follow."""
    step = scaled_gradient(step, gradient_scale).reshape(-1, *[1] * (x.ndim - 1))
    z = x / step
    # clamp passes the gradient at its very bounds; LSQ does not
    clipped = torch.where(z <= low, low, torch.where(z >= high, high, z))
    codes = clipped + (clipped.round() - clipped).detach()
    return codes * step
