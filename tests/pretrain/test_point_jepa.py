"""The sequence, its runs, the slow copy; and the loss put together again from its parts."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from shoestring.core.errors import BadInput
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.point_jepa import PointJEPA, content, runs, sequence
from shoestring.pretrain.views import Views

STILL = Views(rotate="none", scale=1.0, shift=0.0)


def test_the_sequence_goes_to_the_nearest_that_is_left() -> None:
    centres = np.random.default_rng(0).standard_normal((4, 20, 3)).astype(np.float32)
    for cloud, found in zip(centres, sequence(torch.from_numpy(centres)).tolist(), strict=True):
        order = [int(cloud.sum(1).argmin())]
        while len(order) < 20:
            left = [i for i in range(20) if i not in order]
            order.append(min(left, key=lambda i: float(np.square(cloud[i] - cloud[order[-1]]).sum())))
        assert found == order


def test_runs_are_regions_and_the_context_meets_no_target() -> None:
    torch.manual_seed(0)
    lengths = set()
    for _ in range(30):
        context, targets = runs(16, 64, 4)
        assert targets.shape[:2] == (4, 16)
        lengths.add((targets.shape[2], context.shape[1]))
        assert (targets.diff(dim=2) == 1).all()
        assert targets.min() >= 0
        assert targets.max() < 64
        for own, held in zip(context.tolist(), targets.transpose(0, 1).flatten(1).tolist(), strict=True):
            assert len(set(own)) == len(own)
            assert not set(own) & set(held)
            steps = [(there - here) % 64 for here, there in pairwise(own)]
            skipped = {(here + k) % 64 for here, step in zip(own, steps, strict=False) for k in range(1, step)}
            assert skipped <= set(held)  # nothing that is free is left out between its ends
    assert {target for target, _ in lengths} <= set(range(10, 14))
    assert all(12 <= context <= 48 for _, context in lengths)


def beyond_places(tokens: Tensor, places: Tensor) -> Tensor:
    """By NumPy's least squares, in float64."""
    flat, at = tokens.detach().double().flatten(0, 1).numpy(), places.double().flatten(0, 1).numpy()
    products = [at[:, i] * at[:, j] for i in range(3) for j in range(i + 1)]
    known = np.column_stack([np.ones(len(at)), at, *products])
    left = flat - known @ np.linalg.lstsq(known, flat, rcond=None)[0]
    return torch.from_numpy(left / left.std(0)).float().view_as(tokens)


def told_by_places(values: Tensor, centres: Tensor) -> float:
    """The share of the variance of [B, M, d] that a linear function of the centres [B, M, 3] explains."""
    y, at = values.flatten(0, 1).double().numpy(), centres.flatten(0, 1).double().numpy()
    y, at = y - y.mean(0), at - at.mean(0)
    left = y - at @ np.linalg.lstsq(at, y, rcond=None)[0]
    return float(1 - np.square(left).sum() / np.square(y).sum())


def test_what_is_foretold_cannot_be_told_without_a_look_at_the_cloud() -> None:
    """The cause of a collapse: normalised each on its own, tokens of an untrained encoder are mostly one vector for
    all, and what is left of them a function of the place, so that a predictor that is blind to the cloud does well."""
    torch.manual_seed(0)
    encoder = PointViT(patches=16, neighbours=8).eval()
    xyz = torch.nn.functional.normalize(torch.randn(16, 96, 3), dim=2) * torch.rand(16, 1, 3)
    tokens, centres = encoder.tokens(xyz)
    alone = functional.layer_norm(tokens.detach(), tokens.shape[-1:])
    assert alone.flatten(0, 1).var(0).mean() < 0.2
    assert told_by_places(alone, centres) > 0.5
    expected = PointJEPA(encoder, STILL).eval().expected(encoder.group(xyz)[0], centres)
    torch.testing.assert_close(expected.flatten(0, 1).var(0, correction=0), torch.ones(96), atol=1e-2, rtol=0)
    assert told_by_places(expected, centres) < 1e-3


def test_content_is_what_least_squares_leaves(xyz: Tensor, encoder: PointViT) -> None:
    tokens, centres = encoder.eval().tokens(xyz)
    torch.testing.assert_close(content(tokens.detach(), centres), beyond_places(tokens, centres), atol=1e-3, rtol=0)


def test_the_loss_is_that_of_its_parts(xyz: Tensor, encoder: PointViT) -> None:
    torch.manual_seed(0)
    model = PointJEPA(encoder, STILL, targets=2).eval()
    torch.manual_seed(1)
    found = model(xyz, torch.arange(6)).item()
    torch.manual_seed(1)
    context, targets = runs(6, 8, 2)
    tokens, places = encoder.tokens(xyz)
    groups, _ = encoder.group(xyz)
    left = beyond_places(tokens, places)  # the copy is still the encoder
    values = []
    for b in range(6):
        order = sequence(places[b : b + 1])[0]
        seen = order[context[b]]
        told = encoder.encode(groups[b : b + 1, seen], places[b : b + 1, seen])
        for run in targets:
            hidden = order[run[b]]
            expected = left[b, hidden]
            said = model.foretold(told, places[b : b + 1, seen], places[b : b + 1, hidden])[0]
            apart = (said - expected).abs()
            values.append(torch.where(apart < 1, apart**2 / 2, apart - 0.5).mean().item())
    assert found == pytest.approx(np.mean(values), rel=1e-3)


def test_the_slow_copy_follows_and_does_not_learn(xyz: Tensor, encoder: PointViT) -> None:
    model = PointJEPA(encoder, STILL, slow=(0.9, 1.0))
    model(xyz, torch.arange(6)).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert encoder.embed.conv1.weight.grad is not None
    assert model.teacher[0].conv1.weight is not encoder.embed.conv1.weight
    before = {name: value.clone() for name, value in model.teacher.named_parameters()}
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 1
    model.follow(0.0)
    for name, value in model.teacher.named_parameters():
        torch.testing.assert_close(value.detach(), before[name] + 0.1)
    model.follow(1.0)
    for name, value in model.teacher.named_parameters():
        torch.testing.assert_close(value.detach(), before[name] + 0.1)


def test_what_is_foretold_depends_on_where_it_is(xyz: Tensor, encoder: PointViT) -> None:
    model = PointJEPA(encoder, STILL).eval()
    tokens, places = encoder.tokens(xyz)
    one = model.foretold(tokens[:, :4], places[:, :4], places[:, 4:6])
    assert one.shape == (6, 2, 24)
    other = model.foretold(tokens[:, :4], places[:, :4], places[:, 4:6] + 0.5)
    assert (one - other).abs().max() > 1e-4
    assert not functional.cosine_similarity(one[:, 0], one[:, 1]).allclose(torch.ones(6))


def test_it_learns(xyz: Tensor, encoder: PointViT) -> None:
    torch.manual_seed(0)
    model = PointJEPA(encoder, STILL, targets=2)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 2e-3)
    losses = []
    for step in range(150):
        loss = model(xyz, torch.arange(6))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        model.follow(step / 150)
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])


def test_few_patches_leave_a_context_too() -> None:
    for seed in range(50):
        torch.manual_seed(seed)
        context, targets = runs(64, 8, 4)
        assert context.shape[1] >= 1
        assert not (context.unsqueeze(2) == targets.permute(1, 0, 2).flatten(1).unsqueeze(1)).any()
    with pytest.raises(BadInput, match="8 targets leave nothing of 8 patches"):
        runs(2, 8, 8)
