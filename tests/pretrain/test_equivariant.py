"""What is told of turns, against vectors whose symmetry is known by construction; they are learned; what cannot be."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.contrast import Contrast, ntxent, vicreg
from shoestring.pretrain.equivariant import Equivariant, turn_told
from shoestring.pretrain.evaluation.equivariance import equivariance_error
from shoestring.pretrain.evaluation.subjects import through
from shoestring.pretrain.views import Views

TURNS = Views(rotate="so3", scale=1.0, shift=0.0)
LARGE = 400  # things, so that means over them are near what is expected
STEPS = {"up": 70, "so3": 140}


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
    return np.random.default_rng(0).standard_normal((LARGE, count, 3))


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_the_turn_is_told_from_all_others(temperature: float) -> None:
    """The sum written out: of each thing, how well each turn brings its first vectors to its second."""
    a, b, turns = (each[:7] for each in looks(some_vectors()))
    b = b + 0.5 * torch.from_numpy(np.random.default_rng(3).standard_normal(b.shape))
    values = []
    for own, (before, after) in enumerate(zip(a.numpy(), b.numpy(), strict=True)):
        size = np.linalg.norm(before) * np.linalg.norm(after)
        near = [sum(w @ turn @ v for v, w in zip(before, after, strict=True)) / size for turn in turns.numpy()]
        near = np.array(near) / temperature
        values.append(np.log(np.exp(near).sum()) - near[own])
    assert turn_told(a, b, turns, temperature).item() == pytest.approx(np.mean(values))


@pytest.mark.parametrize("up", [False, True])
def test_what_turns_along_tells_and_costs_least(up: bool) -> None:
    """Exactly equivariant vectors single out their turn; those that are off by 20 degrees cost more."""
    a, b, turns = looks(some_vectors(), up)
    exact = turn_told(a, b, turns)
    assert exact < np.log(LARGE) - 1
    assert turn_told(a, b, turns, 1e-7) < 0.5
    off = Rotation.from_euler("y", 20, degrees=True).as_matrix()
    for by in (off, off.T):
        assert turn_told(a, b @ torch.from_numpy(by), turns) > exact + 0.05


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("wrong", ["constant", "invariant", "none", "backwards", "alike"])
def test_what_does_not_turn_along_costs(wrong: str, up: bool) -> None:
    """Whatever does not know the pose is at chance, log n, or worse; lengths do not matter."""
    a, b, turns = looks(some_vectors(), up)
    exact, chance = turn_told(a, b, turns), np.log(LARGE)
    torch.testing.assert_close(turn_told(9 * a, 0.1 * b, turns), exact)
    if wrong == "constant":  # whatever the cloud: exactly log n is out of reach (Gibbs)
        a = b = torch.from_numpy(np.broadcast_to(some_vectors()[:1], a.shape).copy())
    elif wrong == "invariant":  # of the cloud, but not of its pose
        a = b = torch.from_numpy(some_vectors())
    elif wrong == "none":  # 0 turns along exactly
        a, b = 0 * a, 0 * b
        assert turn_told(a, b, turns).item() == pytest.approx(chance)
    elif wrong == "backwards":
        assert turn_told(a, b, turns.transpose(1, 2)) > exact + 0.3  # small turns are like their inverses
        return
    elif not up:  # one vector three times: it turns along, but tells no turn about itself
        a, b = a[:, :1].expand(-1, 3, -1), b[:, :1].expand(-1, 3, -1)
        assert exact + 0.05 < turn_told(a, b, turns) < chance
        return
    else:  # the vertical, which no turn about it changes
        a = b = torch.from_numpy(np.broadcast_to([0.0, 1.0, 0.0], a.shape).copy())
    assert turn_told(a, b, turns) > chance - 0.05


def test_gradients_go_to_the_vectors_of_both_looks() -> None:
    a, b, turns = looks(some_vectors())
    a, b = (0.1 * a).requires_grad_(), b.flip(0).requires_grad_()
    turn_told(a, b, turns).backward()
    assert a.grad is not None and b.grad is not None
    assert a.grad.abs().max() > 0 and b.grad.abs().max() > 0


@pytest.mark.parametrize("loss", ["ntxent", "vicreg"])
def test_the_loss_is_that_of_contrast_and_of_the_turn(xyz: Tensor, encoder: PointViT, loss: str) -> None:
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
    expected = expected + 2 * turn_told(v, w, by[1] @ by[0].transpose(1, 2))
    torch.testing.assert_close(found, expected)
    found.backward()
    assert model.vectors.layers[0].weight.grad is not None
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
    model = Equivariant(encoder, Views(rotate=rotate, scale=1.0, shift=0.0), vectors=4, weight=3.0)
    of = through(lambda some: model.eval().vectors(encoder.features(some)))

    def error() -> float:
        return float(equivariance_error(of, xyz.numpy(), 8, "SO3" if rotate == "so3" else "z").mean())

    before, losses = error(), []
    optimiser = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(STEPS[rotate]):
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
