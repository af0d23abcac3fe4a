"""The relation against vectors whose symmetry is known by construction; the head learns it, and says what cannot be."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.contrast import Contrast, ntxent, vicreg
from shoestring.pretrain.equivariant import Equivariant, relation
from shoestring.pretrain.evaluation.equivariance import equivariance_error
from shoestring.pretrain.evaluation.subjects import through
from shoestring.pretrain.views import Views

TURNS = Views(rotate="so3", scale=1.0, shift=0.0)
LARGE = 400  # things, so that means over them are near what is expected
STEPS = 60


def random_turns(count: int, seed: int, up: bool = False) -> np.ndarray:
    if not up:
        return Rotation.random(count, random_state=seed).as_matrix()
    angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, count)
    return Rotation.from_rotvec(angles[:, None] * [0, 1, 0]).as_matrix()


def looks(vectors: np.ndarray, up: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors [n, k, 3] of things, turned twice, and the turn between the two."""
    first, second = (random_turns(len(vectors), seed, up) for seed in (1, 2))
    a, b = (np.einsum("nij,nkj->nki", by, vectors) for by in (first, second))
    return torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(second @ first.transpose(0, 2, 1))


def some_vectors(count: int = 3) -> np.ndarray:
    """Long enough for the variance that is asked for, and unlike one another."""
    return 3 * np.random.default_rng(0).standard_normal((LARGE, count, 3))


def test_what_turns_along_costs_nothing() -> None:
    """Exactly equivariant, long and uncorrelated: the squared error is 0 and so is the hinge; the covariances of 9
    numbers are those of chance, squared and summed over 72 pairs / 9 x 0.04: 9^2 x 8 x 0.04 / 400 = 0.065 a side."""
    found = relation(*looks(some_vectors()))
    assert 0 <= found < 0.3


@pytest.mark.parametrize("wrong", ["constant", "invariant", "none", "backwards", "alike"])
def test_what_does_not_turn_along_costs(wrong: str) -> None:
    a, b, turns = looks(some_vectors())
    exact = relation(a, b, turns)
    if wrong == "constant":  # whatever the cloud
        a = b = torch.from_numpy(np.broadcast_to(some_vectors()[:1], a.shape).copy())
    elif wrong == "invariant":  # of the cloud, but not of its pose
        a = b = torch.from_numpy(some_vectors())
    elif wrong == "none":  # 0 turns along exactly
        a, b = 0 * a, 0 * b
    elif wrong == "backwards":
        turns = turns.transpose(1, 2)
    else:  # one vector three times
        a, b = a[:, :1].expand(-1, 3, -1), b[:, :1].expand(-1, 3, -1)
    assert relation(a, b, turns) > exact + 0.9


def test_invariance_is_the_squared_equivariance_error() -> None:
    """Without hinge and covariance what is left is the mean of |b - R a|^2 over all numbers."""
    a, b, turns = looks(some_vectors())
    b = b + 0.5 * torch.from_numpy(np.random.default_rng(3).standard_normal(b.shape))
    expected = np.mean([(w - turn @ v) ** 2 for v, w, turn in _triples(a, b, turns)])
    carried = torch.einsum("nij,nkj->nki", turns, a)
    rest = vicreg(carried.flatten(1), b.flatten(1), (0.0, 1.0, 0.04))
    assert (relation(a, b, turns) - rest).item() == pytest.approx(expected)


def _triples(a: Tensor, b: Tensor, turns: Tensor) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    each = zip(a.numpy(), b.numpy(), turns.numpy(), strict=True)
    return [(v, w, turn) for vs, ws, turn in each for v, w in zip(vs, ws, strict=True)]


def test_about_the_vertical_a_constant_is_not_enough() -> None:
    """The vertical itself turns along exactly, of any cloud; where it counts, it needs a variance it cannot have."""
    up = np.zeros((LARGE, 2, 3))
    up[:, :, 1] = 3
    a, b, turns = looks(up, up=True)
    torch.testing.assert_close(a, b)
    level = relation(*looks(some_vectors(2), up=True), (0, 2))
    assert relation(a, b, turns, (0, 2)) > level + 0.9
    rising = some_vectors(2)
    rising[..., 1] = 1e3 * np.random.default_rng(1).standard_normal(rising.shape[:2])
    torch.testing.assert_close(relation(*looks(rising, up=True), (0, 2)), level)


def test_gradients_go_to_the_vectors_of_both_looks() -> None:
    a, b, turns = looks(some_vectors())
    a, b = (0.1 * a).requires_grad_(), b.requires_grad_()
    relation(a, b, turns).backward()
    assert a.grad is not None and b.grad is not None
    assert a.grad.abs().max() > 0 and b.grad.abs().max() > 0


@pytest.mark.parametrize("loss", ["ntxent", "vicreg"])
def test_the_loss_is_contrast_and_relation(xyz: Tensor, encoder: PointViT, loss: str) -> None:
    model = Equivariant(encoder, TURNS, loss, vectors=5, weight=2.0)
    seen: dict[str, Tensor] = {}
    model.project.register_forward_hook(lambda module, given, made: seen.update(codes=made, features=given[0]))
    model.vectors.register_forward_hook(lambda module, given, made: seen.update(vectors=made))
    torch.manual_seed(3)
    found = model(xyz, torch.arange(6))
    torch.manual_seed(3)
    by = [_turn_of(xyz, model) for _ in range(2)]
    a, b = seen["codes"].chunk(2)
    expected = ntxent(a, b) if loss == "ntxent" else vicreg(a, b)
    v, w = seen["vectors"].chunk(2)
    assert v.shape == (6, 5, 3)
    expected = expected + 2 * relation(v, w, by[1] @ by[0].transpose(1, 2))
    torch.testing.assert_close(found, expected)
    found.backward()
    assert model.vectors.linear.weight.grad is not None
    assert encoder.embed.conv1.weight.grad is not None


def _turn_of(xyz: Tensor, model: Contrast) -> Tensor:
    """The turn of the next look, found from the points alone (Kabsch)."""
    from shoestring.pretrain.views import view

    shown = view(xyz, model.look).double().numpy()
    found = []
    for before, after in zip(xyz.double().numpy(), shown, strict=True):
        u, _, v = np.linalg.svd(after.T @ before)
        found.append(u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v)
    return torch.from_numpy(np.array(found)).float()


@pytest.mark.parametrize("rotate", ["up", "so3"])
def test_vectors_learn_to_turn_along(rotate: str) -> None:
    """Little clouds with a side that is unlike the others."""
    random = np.random.default_rng(0)
    clouds = random.standard_normal((12, 48, 3)) * [1.0, 0.6, 0.3]
    clouds += np.where(clouds[..., :1] > 0, [[[0.0, 1.0, 0.5]]], 0.0)
    xyz = torch.from_numpy((clouds / 4).astype(np.float32))
    torch.manual_seed(0)
    encoder = PointViT(dim=24, depth=1, heads=3, patches=8, neighbours=6)
    model = Equivariant(encoder, Views(rotate=rotate, scale=1.0, shift=0.0), vectors=2, weight=4.0)
    of = through(lambda some: model.eval().vectors(encoder.features(some)))

    def error() -> float:
        return float(equivariance_error(of, xyz.numpy(), 8, "SO3" if rotate == "so3" else "z").mean())

    before, losses = error(), []
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(STEPS):
        loss = model.train()(xyz, torch.arange(12))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert error() < 0.75 * before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rotate": "none"}, "with --rotate none no turn is there to be told; write --rotate up or so3"),
        ({"symmetry": "frames"}, "with --symmetry frames all looks are turned into frames.*; write --symmetry none"),
        ({"symmetry": "average"}, "with --symmetry average all looks are turned into frames"),
    ],
)
def test_where_no_turn_is_left_it_is_told(encoder: PointViT, changes: dict[str, str], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        Equivariant(encoder, Views(**changes))


def test_settings_that_do_not_do_are_told(encoder: PointViT) -> None:
    with pytest.raises(BadInput, match="vectors: 0 are none; give 1 or more"):
        Equivariant(encoder, TURNS, vectors=0)
    with pytest.raises(BadInput, match="loss: 'l2' is not known"):
        Equivariant(encoder, TURNS, "l2")
