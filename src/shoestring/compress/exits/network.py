"""The network with exits in training, and what its exits learn: what its own last layer says."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from shoestring.compress.exits.heads import CLASSIFIER, NORM, head, with_exits
from shoestring.compress.exits.places import Place, chosen, work
from shoestring.compress.exits.settings import Exits
from shoestring.compress.method import Applied
from shoestring.graph.settle import batches, settle

_RIDGE = 0.1  # of the features' mean variance


class Leaving(nn.Module):
    """Runs `gm`, which returns (outputs, exit 0, ...), and gives the outputs; in training it keeps the others for
    `Exiting.penalty`."""

    def __init__(self, gm: fx.GraphModule):
        super().__init__()
        self.gm = gm
        self.seen: tuple[Tensor, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor
        outputs, *exits = self.gm(x)
        if self.training:
            self.seen = (outputs.detach(), *exits)
        return outputs


@dataclass
class Exiting(Applied):
    """`places`: of the exits, the first one first. `weights`: of their losses, beside 1 for the last layer's own (joint
    training: arXiv 1709.01686, section 3.2; equal weights: arXiv 1703.09844, section 4). Each learns the distribution
    that the last layer gives, as it is: labels and teacher reach them through it."""

    places: Sequence[Place] = field(kw_only=True)
    weights: Sequence[float] = field(kw_only=True)

    @property
    def gm(self) -> fx.GraphModule:
        assert isinstance(self.model, Leaving), "`apply` made it"
        return self.model.gm

    def penalty(self) -> Tensor | float:
        """The weighted sum of KL(last || exit), mean over the batch."""
        assert isinstance(self.model, Leaving), "`apply` made it"
        if not self.model.seen:
            return 0.0
        target, *exits = self.model.seen
        self.model.seen = ()
        expected = functional.log_softmax(target, 1)
        losses = [
            weight
            * functional.kl_div(functional.log_softmax(found, 1), expected, reduction="batchmean", log_target=True)
            for weight, found in zip(self.weights, exits, strict=True)
        ]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def settle(self, inputs: Sequence[np.ndarray]) -> None:
        """Gives each head the batch statistics of `inputs` and the linear layer that is nearest to the last layer's
        outputs on them (ridge regression): what training starts from, and all there is without."""
        gm = self.gm
        given = [torch.from_numpy(batch) for batch in batches(inputs)]
        norms = [gm.get_submodule(f"{head(index)}.{NORM}") for index in range(len(self.places))]
        settle(gm, given, [norm for norm in norms if isinstance(norm, nn.BatchNorm2d)])  # `with_exits` made them all
        for index in range(len(self.places)):
            layer = gm.get_submodule(f"{head(index)}.{CLASSIFIER}")
            assert isinstance(layer, nn.Linear), "`with_exits` made it"
            _fit(layer, *_pairs(gm, layer, given))

    def bake(self) -> nn.Module:
        """The graph that returns (outputs, exit 0, ...)."""
        return self.gm.eval()


def apply(gm: fx.GraphModule, exits: Exits) -> Exiting:
    """`gm` (captured, batch norms in place) with exits, made ready to train. Raises BadInput where it has too few
    places, or no class scores."""
    found = chosen(gm, exits)
    return Exiting(Leaving(with_exits(gm, found, work(gm))), places=found, weights=[1.0] * len(found))


def _pairs(gm: fx.GraphModule, layer: nn.Linear, given: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What `layer` reads, [n, in], and what the network says, [n, classes], in float64."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].double()))
    outputs = [gm(batch)[0].double() for batch in given]
    handle.remove()
    return torch.cat(seen), torch.cat(outputs)


def _fit(layer: nn.Linear, features: Tensor, target: Tensor) -> None:
    """Least squares, the weights being held small."""
    middle, mean = features.mean(0), target.mean(0)
    centred = features - middle
    damping = _RIDGE * centred.square().sum() / centred.shape[1] + 1e-9
    moments = centred.T @ centred + damping * torch.eye(centred.shape[1], dtype=centred.dtype)
    weight = torch.linalg.solve(moments, centred.T @ (target - mean)).T
    layer.weight.copy_(weight)
    layer.bias.copy_(mean - weight @ middle)
