"""Equivariance learned: two looks at a cloud agree in what a turn must not change, and tell by which turn they differ.

Beside the codes of `contrast` a second head reads the features as vectors v_1 .. v_k in space. Of two looks that were
turned by known R_a and R_b, those of the first, turned by R = R_b R_a', are to be those of the second, and by that R is
told from all other turns of the batch (InfoNCE, arXiv 1807.03748, over turns in place of clouds). What is learned is
the equivariance error that `evaluation` reports: of vectors of equal length, a cosine is 1 less half its square.

Two heads, one for what is invariant and one for what is not, are SIE's (arXiv 2302.10283). There, as in EquiMod (arXiv
2211.01244), a network foretells what a transformation does to a code, because nobody knows what a crop or a colour does
to it. We know: rotations act on vectors; there is nothing to foretell, and what comes out is a direction in space (in
CARE, arXiv 2306.13924, it is some rotation of the codes). Rotations are not regressed (6 numbers, arXiv 1812.07035):
of a thing that looks the same after a turn, no turn can be told and every answer is wrong, while its vectors may lie in
its axis. VICReg's form, the squared error with a variance against collapse, was tried and is slower to begin: there,
vectors that know nothing lower the loss by becoming short, here only by turning along.
"""

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.core.errors import BadInput
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.contrast import Contrast, together
from shoestring.pretrain.heads import Vectors
from shoestring.pretrain.views import Views, turned_view
from shoestring.train.processes import gathered


def turn_told(a: Tensor, b: Tensor, turns: Tensor, temperature: float = 0.3) -> Tensor:
    """Of vectors [n, k, 3] and [n, k, 3], the second those of the same things turned by rotations [n, 3, 3]: cross
    entropy of telling each thing's rotation from those of the others, by the cosine of its first vectors, turned, and
    its second, all k as one, over `temperature`. Vectors that are 0 or do not depend on the pose give log n or more.
    Under several processes the turns of all are told apart (`train.processes.gathered`)."""
    a, b, turns = gathered(a), gathered(b), gathered(turns)
    first, second = (functional.normalize(each.flatten(1), dim=1).view_as(each) for each in (a, b))
    both = second.transpose(1, 2) @ first  # <b, R a>, summed over the vectors, is <R, b' a>
    near = both.flatten(1) @ turns.flatten(1).T / temperature
    return functional.cross_entropy(near, torch.arange(len(near), device=near.device))


class Equivariant(Contrast):
    """The loss of `Contrast` plus `weight` times that of the turn, told by `vectors` so many. Where clouds are turned
    about the vertical only, vectors have no part along it: a constant would turn along exactly. They are kept with the
    encoder. Raises BadInput where looks are not turned, or in frames that undo it."""

    vectors: Vectors

    def __init__(
        self,
        encoder: PointViT,
        look: Views,
        loss: str = "ntxent",
        temperature: float = 0.1,
        vectors: int = 8,
        weight: float = 1.0,
    ):
        super().__init__(encoder, look, loss, temperature=temperature)
        _require(look, vectors)
        self.weight = weight
        self.vectors = Vectors(2 * encoder.dim, vectors, "xyz".index(look.up) if look.rotate == "up" else None)

    def forward(self, xyz: Tensor, index: Tensor) -> Tensor:
        (first, by_first), (second, by_second) = (turned_view(xyz, self.look) for _ in range(2))
        both = together(self.encoder, (first, second))
        a, b = self.vectors(both).chunk(2)
        told = turn_told(a, b, by_second @ by_first.transpose(1, 2))
        return self.agreement(*self.project(both).chunk(2)) + self.weight * told


def _require(look: Views, vectors: int) -> None:
    if look.rotate == "none":
        raise BadInput("equivariant: with --rotate none no turn is there to be told; write --rotate up or so3")
    if look.symmetry != "none":
        told = f"with --symmetry {look.symmetry} all looks are turned into frames, and no turn is left to be told"
        raise BadInput(f"equivariant: {told}; write --symmetry none")
    if vectors < 1:
        raise BadInput(f"vectors: {vectors} are none; give 1 or more")
