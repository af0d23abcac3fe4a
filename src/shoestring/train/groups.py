"""Which parameters decay: the one policy of the project."""

from typing import Any

from torch import nn


def groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Optimiser groups of the parameters that require a gradient: those with two or more dimensions decay; vectors and
    scalars (biases, norms, steps and offsets of quantisers) never do, since pulling them to zero changes what is
    computed instead of how large the weights are. Under `torch.nn.utils.parametrize` the stored original counts.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in parameters if parameter.ndim >= 2]
    others = [parameter for parameter in parameters if parameter.ndim < 2]
    policy = [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in policy if group["params"]]
