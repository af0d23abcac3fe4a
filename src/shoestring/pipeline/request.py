"""Request: what is asked of a fit, apart from the network and the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shoestring.core.budget import Budget
from shoestring.train.recipe import Recipe


@dataclass(frozen=True)
class Request:
    """`methods`: as written (`int8`, `block_ltp:4x1@80%`), one for channels, one for zeros, one for bits; none lets the
    planner choose, `without` those of a name. `recipe`: how to train, for methods that do, which share its epochs;
    None applies and exports without. `start`: weights of a point of a sparsity trail, to go on from. `runtime`: None
    takes the fastest here. `seconds`: how long the receipt may time. `preprocess`, `labels`: go into the file.
    `reconstruct`: what no training makes up for is fitted layer by layer to the original's outputs. `rounds`: how often
    a plan that no training follows is made anew around the network that came of it. `ladder`: how many operating points
    the file is to have, 0 for one network; `slim`: of what (`compress.slim`), beside which `methods` are at work.
    `exits`: where it can be left early (`compress.exits`), empty for nowhere."""

    out: Path
    budget: Budget = field(default_factory=Budget)
    methods: tuple[str, ...] = ()
    recipe: Recipe | None = None
    start: Path | None = None
    runtime: str | None = None
    threads: int = 1
    batch: int = 1
    seconds: float = 20.0
    seed: int = 0
    preprocess: Mapping[str, Any] | None = None
    labels: Sequence[str] = ()
    reconstruct: bool = True
    without: tuple[str, ...] = ()
    rounds: int = 1
    ladder: int = 0
    slim: str = ""
    exits: str = ""
    number: int = 1
    """Of the plan that is made, where several are."""

    @property
    def checkpoints(self) -> Path:
        """The folder in which a training that is under way keeps its state, beside the file to come."""
        return self.out.with_suffix(".training" if self.number == 1 else f".training-{self.number}")

    @property
    def trail(self) -> Path:
        """The folder for the sparsities that a pruning run passes through, beside the file."""
        return self.out.with_suffix(".trail")
