"""What the tests of this room learn from: small clouds of two kinds, and an encoder of a few thousand parameters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shoestring.models.point_vit import PointViT
from shoestring.pretrain.learn import Request, recipe

SMALL = {"dim": 24, "depth": 1, "heads": 3, "patches": 8, "neighbours": 6}


@pytest.fixture
def clouds() -> np.ndarray:
    """float16 [14, 80, 3]: balls and flat discs in turn."""
    points = np.random.default_rng(0).standard_normal((14, 80, 3))
    points[1::2] *= [1.0, 0.1, 1.0]
    return points.astype(np.float16)


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(14) % 2


@pytest.fixture
def xyz(clouds: np.ndarray) -> torch.Tensor:
    """float32 [6, 60, 3]."""
    return torch.from_numpy(clouds[:6, :60].astype(np.float32)) / 3


@pytest.fixture
def encoder() -> PointViT:
    torch.manual_seed(0)
    return PointViT(**SMALL)


@pytest.fixture
def asked(tmp_path: Path) -> Any:
    """`asked(objective="point_mae")`: a request of a few steps."""

    def make(epochs: float = 3, **changes: Any) -> Request:
        known: dict[str, Any] = {"points": 48, "encoder": SMALL, "every": 2, "objective": "point_mae"}
        known |= {"out": tmp_path / "encoder.safetensors", "recipe": recipe(epochs, 4)}
        return Request(**(known | changes))

    return make
