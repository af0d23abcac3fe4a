"""Vectors are what the layers say, without what runs along the axis that turns are about."""

import pytest
import torch

from shoestring.pretrain.heads import Vectors, projection


def test_a_projection_is_two_layers() -> None:
    torch.manual_seed(0)
    layers, features = projection(10, 4), torch.randn(5, 10)
    first, norm, _, second = layers
    hidden = features @ first.weight.T + first.bias
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + norm.eps).sqrt()
    torch.testing.assert_close(layers(features), hidden.clamp_min(0) @ second.weight.T + second.bias)


def test_vectors_are_three_numbers_of_it_each() -> None:
    torch.manual_seed(0)
    vectors, features = Vectors(10, 4).eval(), torch.randn(3, 10)
    assert vectors(features).shape == (3, 4, 3)
    torch.testing.assert_close(vectors(features)[:, 1, 2], vectors.layers(features)[:, 5])
    assert all(name.startswith("layers.") for name in vectors.state_dict())


@pytest.mark.parametrize("up", [0, 1, 2])
def test_nothing_runs_along_the_axis_of_the_turns(up: int) -> None:
    vectors = Vectors(10, 4, up).eval()
    found = vectors(torch.randn(3, 10))
    assert not found[..., up].any()
    assert found[..., [axis for axis in range(3) if axis != up]].all()
    again = Vectors(**vectors.settings)
    assert torch.equal(again.keep, vectors.keep)
