"""Equivariance learned: two looks at a cloud agree in what a turn must not change, and differ in the rest by the turn.

Beside the codes of `contrast` a linear head reads the features as vectors v_1 .. v_k in space. Of two looks that were
turned by known R_a and R_b, those of the first, turned by R = R_b R_a', are to be those of the second: what is learned
is the equivariance error that `evaluation` reports. A code that is split into an invariant and an equivariant part is
SIE's (arXiv 2302.10283), and so is VICReg (arXiv 2105.04906) against collapse. There, as in EquiMod (arXiv 2211.01244),
a network foretells what a transformation does to a code, because nobody knows what a crop or a colour does to it. We
know: rotations act on vectors, so there is nothing to foretell and nothing to make it collapse to invariance. CARE
(arXiv 2306.13924) asks for some rotation of the code space; ours is the rotation of space itself, so that what comes
out is a direction one can use. Rotations are not regressed (6 numbers, arXiv 1812.07035): of a thing that looks the
same after a turn, the turn cannot be told, and any answer is wrong, while its vectors may all lie in the axis or be 0.
"""

from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.contrast import Contrast, together, vicreg
from shoestring.pretrain.vectors import Vectors
from shoestring.pretrain.views import Views, turned_view

_WEIGHTS = (1.0, 1.0, 0.04)  # VICReg's 25, 25 and 1, over 25: of the order of a cross entropy


def relation(a: Tensor, b: Tensor, turns: Tensor, axes: tuple[int, ...] = (0, 1, 2)) -> Tensor:
    """Of vectors [n, k, 3] and [n, k, 3], the second those of the same things turned by rotations [n, 3, 3]: VICReg of
    the first, turned, and the second, as codes of 3 k numbers. Its invariance is the squared equivariance error; since
    things are turned at random, its variance asks for vectors that have a length, and its covariance for vectors that
    differ from one another. `axes`: the components that count."""
    carried = a @ turns.transpose(1, 2)
    return vicreg(carried[..., axes].flatten(1), b[..., axes].flatten(1), _WEIGHTS)


class Equivariant(Contrast):
    """The loss of `Contrast` plus `weight` times the `relation` of `vectors` so many. Where clouds are turned about the
    vertical only, so are vectors, and what they have along it does not count: a constant would do for that. The head
    is kept with the encoder. Raises BadInput where looks are not turned, or in frames that undo it."""

    vectors: Vectors

    def __init__(
        self,
        encoder: PointViT,
        look: Views,
        loss: str = "ntxent",
        temperature: float = 0.1,
        vectors: int = 16,
        weight: float = 1.0,
    ):
        super().__init__(encoder, look, loss, temperature=temperature)
        _require(look, vectors)
        self.weight = weight
        up = "xyz".index(look.up) if look.rotate == "up" else None
        self.vectors = Vectors(2 * encoder.dim, vectors, up)

    def forward(self, xyz: Tensor, index: Tensor) -> Tensor:
        (first, by_first), (second, by_second) = (turned_view(xyz, self.look) for _ in range(2))
        both = together(self.encoder, (first, second))
        turns = by_second @ by_first.transpose(1, 2)
        a, b = self.vectors(both).chunk(2)
        return self.agreement(*self.project(both).chunk(2)) + self.weight * relation(a, b, turns, self.vectors.axes)


def _require(look: Views, vectors: int) -> None:
    if look.rotate == "none":
        raise BadInput("equivariant: with --rotate none no turn is there to be told; write --rotate up or so3")
    if look.symmetry != "none":
        told = f"with --symmetry {look.symmetry} all looks are turned into frames, and no turn is left to be told"
        raise BadInput(f"equivariant: {told}; write --symmetry none")
    if vectors < 1:
        raise BadInput(f"vectors: {vectors} are none; give 1 or more")
