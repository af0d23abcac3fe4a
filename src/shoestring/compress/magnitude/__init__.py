"""Magnitude pruning: the blocks of weights with the smallest norms become zero, in one shot or while it trains."""

from shoestring.compress.magnitude.method import CARD, apply, counts, feature, keep, lower, options, priced
from shoestring.compress.magnitude.settings import UNIFORM, Magnitude, assign, parse

__all__ = [
    "CARD",
    "UNIFORM",
    "Magnitude",
    "apply",
    "assign",
    "counts",
    "feature",
    "keep",
    "lower",
    "options",
    "parse",
    "priced",
]
