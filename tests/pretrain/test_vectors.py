"""Vectors are a linear map of features, without what runs along the axis that turns are about."""

import pytest
import torch

from shoestring.pretrain.vectors import Vectors


def test_vectors_are_linear_in_the_features() -> None:
    torch.manual_seed(0)
    vectors, features = Vectors(10, 4), torch.randn(3, 10)
    expected = torch.einsum("of,nf->no", vectors.linear.weight, features) + vectors.linear.bias
    torch.testing.assert_close(vectors(features).flatten(1), expected)
    assert vectors(features).shape == (3, 4, 3)
    assert set(vectors.state_dict()) == {"linear.weight", "linear.bias"}


@pytest.mark.parametrize("up", [0, 1, 2])
def test_nothing_runs_along_the_axis_of_the_turns(up: int) -> None:
    vectors = Vectors(10, 4, up)
    found = vectors(torch.randn(3, 10))
    assert not found[..., up].any()
    assert found[..., list(vectors.axes)].all()
    again = Vectors(**vectors.settings)
    again.load_state_dict(vectors.state_dict())
    assert again.axes == vectors.axes == tuple(axis for axis in range(3) if axis != up)
