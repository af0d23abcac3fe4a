"""Dense 8 bits, post-training: every convolution and linear layer in integers."""

from shoestring.compress.int8.method import (
    CARD,
    Int8,
    apply,
    assign,
    counts,
    lower,
    options,
    parse,
    precision,
    precisions,
    rule,
)

__all__ = ["CARD", "Int8", "apply", "assign", "counts", "lower", "options", "parse", "precision", "precisions", "rule"]
