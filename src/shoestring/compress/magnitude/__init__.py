"""Magnitude pruning: the blocks of weights with the smallest norms become zero, in one shot or while it trains."""

from shoestring.compress.magnitude.method import (
    CARD,
    alone,
    apply,
    counts,
    feature,
    gather,
    keep,
    lower,
    options,
    pattern,
    priced,
    shared,
)
from shoestring.compress.magnitude.settings import UNIFORM, Magnitude, assign, parse

__all__ = [
    "CARD",
    "UNIFORM",
    "Magnitude",
    "alone",
    "apply",
    "assign",
    "counts",
    "feature",
    "gather",
    "keep",
    "lower",
    "options",
    "parse",
    "pattern",
    "priced",
    "shared",
]
