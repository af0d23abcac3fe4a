"""Memory layout: convolutions train faster on a CPU when the channels of a pixel lie side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def lay_out(networks: Sequence[nn.Module], layout: torch.memory_format) -> None:
    """Stores all 4-D parameters and buffers in `layout`; values and shapes stay."""
    for network in networks:
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=layout)


def choose_layout(networks: Sequence[nn.Module], inputs: Tensor) -> torch.memory_format:
    """Lays the networks out channels last where they run so in their present mode, and returns the format that inputs
    like these [n, ...] should have. Code that takes views of its activations may refuse channels last."""
    if inputs.ndim != 4:
        return torch.preserve_format
    lay_out(networks, torch.channels_last)
    try:
        with torch.no_grad():
            for network in networks:
                network(inputs.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        lay_out(networks, torch.contiguous_format)
        return torch.contiguous_format
    return torch.channels_last
