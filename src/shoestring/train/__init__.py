"""The loop that recovers quality: distillation, one optimiser policy, averaged weights, exact resume, many processes.

The room knows no method: what a method needs during training arrives as `Hooks`.
"""

from shoestring.train.data import Batches
from shoestring.train.loop import Hooks, Trained, train
from shoestring.train.recipe import Recipe

__all__ = ["Batches", "Hooks", "Recipe", "Trained", "train"]
