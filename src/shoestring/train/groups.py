"""Which parameters decay: the one policy of the project."""

from collections.abc import Collection
from typing import Any

from torch import nn


def groups(model: nn.Module, weight_decay: float, undecayed: Collection[str] = ()) -> list[dict[str, Any]]:
    """Optimiser groups of the parameters that require a gradient: those with two or more dimensions decay; vectors and
    scalars (biases, norms, steps and offsets of quantisers) never do, since pulling them to zero changes what is
    computed instead of how large the weights are. Under `torch.nn.utils.parametrize` the stored original counts.
    `undecayed`: names of others that must not decay.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    decays = {name: parameter.ndim >= 2 and name not in undecayed for name, parameter in parameters.items()}
    weights = [parameter for name, parameter in parameters.items() if decays[name]]
    others = [parameter for name, parameter in parameters.items() if not decays[name]]
    policy = [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in policy if group["params"]]
