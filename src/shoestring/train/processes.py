"""One process or many: started by `torchrun`, they share each batch and hold the same weights.

Each process computes the gradient of its share of the batch; the mean over the processes is the gradient of the whole
batch, since all shares are of one size. What is computed over a batch is not shared, unless it is `gathered` first:
batch norm normalises each process's part by itself (the running statistics that are kept are those of process 0), and
so does the variance of a teacher's features. Without these, many processes give what one gives up to the order of
float32 sums.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class World:
    """This process among `size`; `fabric` joins them and is None when there is one."""

    device: torch.device
    rank: int = 0
    size: int = 1
    fabric: "Fabric | None" = None

    @property
    def leader(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Sets each tensor to its mean over the processes, in one exchange. All are of one type."""
        tensors = list(tensors)
        if self.fabric is not None:
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            self.fabric.all_reduce(flat, reduce_op="mean")
            for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def agree(self, model: nn.Module) -> None:
        """Sets parameters and buffers to those of process 0."""
        if self.fabric is not None:
            model.load_state_dict(self.told({name: value.cpu() for name, value in model.state_dict().items()}))

    def told(self, value: Any) -> Any:
        """The value that process 0 has."""
        return value if self.fabric is None else self.fabric.broadcast(value)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.fabric is not None:
            self.fabric.barrier()


def join() -> World:
    """The world `torchrun` describes in the environment; without it, one process and no process group at all. On the
    GPU where each process of this machine can have its own."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    on_gpu = torch.cuda.is_available() and torch.cuda.device_count() >= here
    if size == 1:
        return World(torch.device("cuda" if on_gpu else "cpu"))
    from lightning_fabric import Fabric  # takes over a second to import; most runs are one process

    fabric = Fabric(accelerator="cuda" if on_gpu else "cpu", strategy="ddp", devices=here, num_nodes=size // here)
    fabric.launch()
    return World(fabric.device, fabric.global_rank, fabric.world_size, fabric)


def gathered(share: Tensor) -> Tensor:
    """What all processes have, [processes x n, ...] in their order, of this one's share [n, ...]; alone, the share.

    A loss of all of it, computed by every process alike, has after `World.average` the gradient that it has in one
    process with the whole batch: each share is told what all losses want of it, their sum, and the mean over the
    processes makes one of as many. All shares are of one shape, and all processes must call it."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return share
    gathering: Callable[[Tensor], Tensor] = _Gathered.apply
    return gathering(share)


class _Gathered(torch.autograd.Function):
    """torch's own form of this has a new name with every release."""

    @staticmethod
    def forward(ctx: Any, share: Tensor) -> Tensor:
        parts = [torch.empty_like(share, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, share.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, wanted: Tensor) -> Tensor:
        total = wanted.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
