"""Grid: a layer's weight as it was learned, integer codes and their scales. Training bakes it, `deploy` realises it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """The weight is `codes * scales`, one scale for each output channel.

    `codes`: int8, OIHW (linear: out x in), within -2^(bits-1) .. 2^(bits-1)-1. `scales`: float32 [out], positive.
    `bits`: what a code is stored in, 2 to 8. Only shapes are checked here: raises ValueError when there is not one
    scale for each output."""

    codes: np.ndarray
    scales: np.ndarray
    bits: int

    def __post_init__(self) -> None:
        if self.codes.ndim < 2 or self.scales.shape != self.codes.shape[:1]:
            raise ValueError(f"grid: codes {list(self.codes.shape)} with scales {list(self.scales.shape)}, not [out]")

    @property
    def values(self) -> np.ndarray:
        """The weight in float32, in the shape of the codes."""
        weight: np.ndarray = self.codes * self.scales.reshape(-1, *[1] * (self.codes.ndim - 1))
        return weight
