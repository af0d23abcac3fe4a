"""scikit-learn, if it is there: the probes that need it say so in one line, the others go without."""

import importlib
from typing import Any

from shoestring.core.errors import BadInput


def scikit_learn(module: str) -> Any:
    """`sklearn.<module>`. Raises BadInput when scikit-learn is not installed."""
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError:
        raise BadInput("evaluation: this probe needs scikit-learn; write: pip install 'shoestring[points]'") from None
