"""The forms in torch: in pieces they give what they give at once. (That all ways agree: test_dispatch.py.)"""

import pytest
import torch

from shoestring.geometry import chunked, reference


@pytest.mark.parametrize("elements", [1, 100, 350, 10**6])
def test_pieces_make_no_difference(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "_ELEMENTS", elements)
    xyz = torch.round(torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0)) * 3)
    assert torch.equal(chunked.nearest(xyz[:, :9], xyz, 6), reference.nearest(xyz[:, :9], xyz, 6))
    assert torch.equal(chunked.within(xyz[:, :9], xyz, 2.0, 6), reference.within(xyz[:, :9], xyz, 2.0, 6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_type(dtype: torch.dtype) -> None:
    xyz = torch.randn(2, 60, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(chunked.farthest(xyz, 20), reference.farthest(xyz, 20))
    assert torch.equal(chunked.nearest(xyz, xyz, 8), reference.nearest(xyz, xyz, 8))
    assert torch.equal(chunked.within(xyz, xyz, 0.7, 8), reference.within(xyz, xyz, 0.7, 8))


def test_never_more_distances_at_once_than_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "_ELEMENTS", 1000)
    largest, distances = 0, reference.distances

    def watched(centres: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        found = distances(centres, xyz)
        largest = max(largest, found.numel())
        return found

    monkeypatch.setattr(reference, "distances", watched)
    chunked.nearest(torch.rand(2, 90, 3), torch.rand(2, 100, 3), 3)
    assert 0 < largest <= 1000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu() -> None:
    xyz = torch.round(torch.randn(2, 3000, 3) * 8) / 4
    there = xyz.cuda()
    assert torch.equal(chunked.farthest(there, 300).cpu(), chunked.farthest(xyz, 300))
    assert torch.equal(chunked.nearest(there[:, :99], there, 20).cpu(), chunked.nearest(xyz[:, :99], xyz, 20))
    assert torch.equal(chunked.within(there[:, :99], there, 0.5, 20).cpu(), chunked.within(xyz[:, :99], xyz, 0.5, 20))
