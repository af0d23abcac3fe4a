"""Structured convolutions: kernels that are sums of boxes of ones, computed as a sum over windows and a small layer."""

from shoestring.compress.structured_conv.decompose import decompose, project
from shoestring.compress.structured_conv.loss import structural_loss
from shoestring.compress.structured_conv.method import CARD, apply, counts, lower, options
from shoestring.compress.structured_conv.settings import Structured, assign, parse
from shoestring.compress.structured_conv.training import told

__all__ = [
    "CARD",
    "Structured",
    "apply",
    "assign",
    "counts",
    "decompose",
    "lower",
    "options",
    "parse",
    "project",
    "structural_loss",
    "told",
]
