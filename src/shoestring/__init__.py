"""Shoestring puts perception models on a budget and hands you the receipt.

Every verb of the command line is a function here: `fit`, `explain`, `receipt`, `profile`, `run`, `devices` (its --table
is `staircases`); and `load` opens an artifact. Importing this page loads neither torch nor a runtime; what a verb needs
is loaded on its first use.
"""

from importlib import import_module
from typing import Any

from shoestring.core.budget import Budget
from shoestring.core.errors import BadInput, NoEffectWarning, NotMet, ShoestringError
from shoestring.core.receipt import Receipt

_ON_FIRST_USE = {
    "fit": "shoestring.cli.fit",
    "explain": "shoestring.cli.explain",
    "receipt": "shoestring.cli.receipt",
    "profile": "shoestring.cli.profile",
    "run": "shoestring.cli.run",
    "devices": "shoestring.cli.devices",
    "staircases": "shoestring.cli.devices",
    "load": "shoestring.deploy.session",
}

__all__ = [
    "BadInput",
    "Budget",
    "NoEffectWarning",
    "NotMet",
    "Receipt",
    "ShoestringError",
    "devices",  # the verbs come from __getattr__
    "explain",
    "fit",
    "load",
    "profile",
    "receipt",
    "run",
    "staircases",
]


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module 'shoestring' has no attribute {name!r}")
