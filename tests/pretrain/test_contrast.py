"""The two losses against NumPy, written from the papers' sums; two looks go through one batch."""

import numpy as np
import pytest
import torch
from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.contrast import Contrast, ntxent, vicreg
from shoestring.pretrain.views import Views

STILL = Views(rotate="none", scale=1.0, shift=0.0)


def codes(n: int = 7, d: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, d))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_ntxent_is_simclr_equation_1(temperature: float) -> None:
    a, b = codes()
    z = np.concatenate([a, b])
    near = np.array([[p @ q / np.linalg.norm(p) / np.linalg.norm(q) for q in z] for p in z]) / temperature
    values = []
    for i in range(14):
        pair = (i + 7) % 14
        values.append(-np.log(np.exp(near[i, pair]) / sum(np.exp(near[i, k]) for k in range(14) if k != i)))
    assert ntxent(torch.from_numpy(a), torch.from_numpy(b), temperature).item() == pytest.approx(np.mean(values))


def test_vicreg_is_the_sum_of_three() -> None:
    a, b = codes()
    invariance = np.mean([np.square(p - q).sum() for p, q in zip(a, b, strict=True)]) / 5
    variance = covariance = 0.0
    for z in (a * 0.5, b * 0.5):
        variance += np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + 1e-4)).mean()
        c = np.cov(z.T)
        covariance += (np.square(c).sum() - np.square(np.diag(c)).sum()) / 5
    expected = 25 * invariance / 4 + 25 * variance + covariance
    found = vicreg(torch.from_numpy(a * 0.5), torch.from_numpy(b * 0.5)).item()
    assert found == pytest.approx(expected)


def test_what_agrees_and_differs_from_the_rest_costs_least() -> None:
    a, b = map(torch.from_numpy, codes())
    assert ntxent(a, a) < ntxent(a, b)
    collapsed = torch.ones(7, 5) + 1e-6 * a
    assert vicreg(collapsed, collapsed) > vicreg(2 * a, 2 * a)


@pytest.mark.parametrize("loss", ["ntxent", "vicreg"])
def test_two_looks_pass_as_one_batch(xyz: Tensor, encoder: PointViT, loss: str) -> None:
    model = Contrast(encoder, STILL, loss, width=16)
    a, b = model.codes(xyz)
    assert a.shape == b.shape == (6, 16)
    torch.testing.assert_close(a, b)  # the looks are the same, and so are the statistics
    found = model(xyz, torch.arange(6))
    expected = ntxent(a, b) if loss == "ntxent" else vicreg(a, b)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert encoder.embed.conv1.weight.grad is not None


def test_pairs_are_found_after_a_while(xyz: Tensor, encoder: PointViT) -> None:
    torch.manual_seed(0)
    model = Contrast(encoder, Views(rotate="up", scale=1.0, shift=0.0))
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(40):
        loss = model(xyz, torch.arange(6))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_another_loss_is_told(encoder: PointViT) -> None:
    with pytest.raises(BadInput, match="loss: 'l2' is not known; write one of ntxent, vicreg"):
        Contrast(encoder, STILL, "l2")
