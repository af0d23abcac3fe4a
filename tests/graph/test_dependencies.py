"""What was followed of a network, where torch-pruning alone would guess."""

import pytest
import torch
from torch import Tensor, nn

from shoestring.core.errors import BadInput
from shoestring.graph.capture import capture
from shoestring.graph.dependencies import trace


class Joined(nn.Module):
    """Pieces of unequal width, split in one order and joined in another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 12, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(8, 10, 1)
        self.last = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).split([4, 8], 1)
        return self.last(torch.cat([self.right(right), self.left(left)], 1))


def test_pieces_have_their_own_channels() -> None:
    traced = trace(capture(Joined(), (3, 4, 4)), (3, 4, 4))
    (pieces,) = traced.pieces.values()
    assert pieces == (4, 8)
    paths = {module: path for path, module in traced.model.named_modules()}
    ties: dict[tuple[str, str], dict[int, int]] = {}
    for group in traced.found:
        root = paths[group[0].dep.target.module]
        for item in group:
            name = paths.get(item.dep.target.module)
            if name and not traced.graph.is_out_channel_pruning_fn(item.dep.handler):
                ties[root, name] = dict(zip(item.root_idxs, item.idxs, strict=True))
    assert ties["stem", "left"] == {i: i for i in range(4)}
    assert ties["stem", "right"] == {4 + i: i for i in range(8)}
    assert ties["right", "last"] == {i: i for i in range(10)}
    assert ties["left", "last"] == {i: 10 + i for i in range(6)}


def test_the_network_stays_as_it_is() -> None:
    model = capture(Joined(), (3, 4, 4))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    trace(model, (3, 4, 4))
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_what_torch_pruning_stumbles_on_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("two\nlines")

    monkeypatch.setattr("torch_pruning.DependencyGraph.build_dependency", fail)
    with pytest.raises(BadInput, match="torch-pruning cannot follow this network") as refused:
        trace(capture(Joined(), (3, 4, 4)), (3, 4, 4))
    assert "\n" not in str(refused.value)
