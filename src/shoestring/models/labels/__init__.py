"""Class names in index order, one a line in a text file beside this one."""

from functools import cache
from importlib.resources import files

from shoestring.core.errors import BadInput

_KNOWN = ("imagenet", "cifar10")


@cache
def class_names(name: str) -> tuple[str, ...]:
    """The class names of `imagenet` (1000, by WordNet id) or `cifar10` (10). Raises BadInput for another name."""
    if name not in _KNOWN:
        raise BadInput(f"labels: unknown list {name!r}; known are {', '.join(_KNOWN)}")
    return tuple(files(__package__).joinpath(f"{name}.txt").read_text("utf-8").splitlines())
