"""Every way to compute an operator gives the indices of brute force, on clouds that are difficult."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shoestring.engine import native
from shoestring.geometry import arrays, chunked, dispatch

Cloud = Callable[[str, int, int], np.ndarray]
KINDS = ("normal", "lattice", "same", "line", "tiny", "huge", "outlier", "copies", "denormal")


def as_arrays(module: ModuleType) -> SimpleNamespace:
    """A module whose functions take tensors, taking and giving arrays."""

    def call(name: str) -> Callable[..., np.ndarray]:
        def run(*given: object) -> np.ndarray:
            tensors = [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in given]
            return getattr(module, name)(*tensors).numpy()

        return run

    return SimpleNamespace(**{name: call(name) for name in ("farthest", "nearest", "within")})


WAYS = {"dispatch": as_arrays(dispatch), "arrays": arrays, "chunked": as_arrays(chunked)}


@pytest.mark.parametrize("way", WAYS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_indices_are_those_of_brute_force(way: str, cloud: Cloud, brute: SimpleNamespace, data: st.DataObject) -> None:
    kind, seed = data.draw(st.sampled_from(KINDS)), data.draw(st.integers(0, 2**32 - 1))
    points = data.draw(st.one_of(st.integers(1, 40), st.integers(41, 400)))
    count = data.draw(st.one_of(st.integers(1, points), st.just(points)))
    xyz = cloud(kind, points, seed)
    centres = np.concatenate([xyz[: data.draw(st.integers(0, min(5, points)))], cloud("normal", 3, seed) * xyz[0]])
    batch, around = np.stack([xyz, xyz[::-1]]), np.stack([centres, centres[::-1]])
    found = WAYS[way].farthest(batch, count)
    assert found.dtype == np.int64
    assert found.tolist() == [brute.farthest(x, count) for x in batch]
    near = min(count, data.draw(st.integers(1, 100)))
    found = WAYS[way].nearest(around, batch, near)
    assert found.dtype == np.int64
    assert found.tolist() == [brute.nearest(c, x, near) for c, x in zip(around, batch, strict=True)]
    radius = float(np.abs(xyz).max()) * data.draw(st.floats(0, 3))
    found = WAYS[way].within(around, batch, min(radius, 3e38), near)
    with np.errstate(over="ignore"):
        assert found.tolist() == [
            brute.within(c, x, min(radius, 3e38), near) for c, x in zip(around, batch, strict=True)
        ]


@pytest.mark.parametrize("way", ["dispatch", "arrays"])
@pytest.mark.parametrize("kind", ["normal", "lattice", "copies"])
def test_many_points(way: str, kind: str, cloud: Cloud) -> None:
    """Against the one way that neither sorts nor skips, of as many points as fill several groups of cells."""
    xyz = cloud(kind, 5000, 7)[None]
    for name, given_ in (
        ("farthest", (xyz, 700)),
        ("nearest", (xyz[:, :60], xyz, 24)),
        ("within", (xyz[:, :60], xyz, 0.2, 32)),
    ):
        found, expected = getattr(WAYS[way], name)(*given_), getattr(WAYS["chunked"], name)(*given_)
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_without_the_engine_numpy_computes(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    xyz = torch.from_numpy(cloud("normal", 50, 0))[None]
    expected = [dispatch.farthest(xyz, 9), dispatch.nearest(xyz, xyz, 5), dispatch.within(xyz, xyz, 0.5, 5)]
    monkeypatch.setattr(native, "_library", lambda: "the engine was not built")
    found = [dispatch.farthest(xyz, 9), dispatch.nearest(xyz, xyz, 5), dispatch.within(xyz, xyz, 0.5, 5)]
    assert all(map(torch.equal, found, expected))


def test_double_precision_is_not_rounded() -> None:
    """Two points that float32 cannot tell apart."""
    xyz = torch.tensor([[[0, 0, 0], [1 + 1e-12, 0, 0], [1, 0, 0]]], dtype=torch.float64)
    assert dispatch.farthest(xyz, 2).tolist() == [[0, 1]]
    assert dispatch.nearest(xyz[:, :1], xyz, 3).tolist() == [[[0, 2, 1]]]
    assert dispatch.within(xyz[:, :1], xyz, 1.0, 3).tolist() == [[[0, 2, 0]]]


@pytest.mark.parametrize("clouds", [0, 3])
def test_as_many_clouds_as_there_are(clouds: int) -> None:
    xyz = torch.rand(clouds, 20, 3)
    for one in (WAYS["arrays"], WAYS["chunked"], WAYS["dispatch"]):
        assert one.farthest(xyz.numpy(), 4).shape == (clouds, 4)
        assert one.nearest(xyz[:, :7].numpy(), xyz.numpy(), 4).shape == (clouds, 7, 4)


def test_tensors_are_taken_as_they_lie_in_memory() -> None:
    xyz: Tensor = torch.rand(2, 3, 40).transpose(1, 2).requires_grad_()
    assert torch.equal(dispatch.farthest(xyz, 9), dispatch.farthest(xyz.detach().clone().contiguous(), 9))
