"""What was asked for with `--method`, as a method and a setting for each layer."""

from types import ModuleType

from shoestring.compress import METHODS
from shoestring.compress.method import Setting
from shoestring.core.errors import BadInput
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import INT8
from shoestring.train.recipe import Recipe


def asked(
    original: Original, methods: tuple[str, ...], recipe: Recipe | None = None
) -> tuple[ModuleType, dict[str, Setting]]:
    """The method (without one, what the planner may choose beside fp32), and the setting of each layer it applies to.
    Raises BadInput, also where there is a `recipe` and nothing that could be trained by it."""
    if len(methods) > 1:
        raise BadInput(f"--method: {', '.join(methods)} cannot be combined yet; give one")
    name, _, text = (methods or (INT8,))[0].partition(":")
    if name not in METHODS:
        raise BadInput(f"--method: unknown method {name!r}; known are {', '.join(METHODS)}")
    method = METHODS[name]
    if recipe is not None and not method.CARD.trains:
        trained = ", ".join(known for known, module in METHODS.items() if module.CARD.trains)
        raise BadInput(f"--epochs: {name} works after training; write --epochs 0, or --method one of {trained}")
    setting: Setting = method.parse(text)
    layers = original.of_kinds(method.CARD.kinds)
    if not layers:
        raise BadInput(f"{original.name}: has no layer that {name} applies to ({', '.join(method.CARD.kinds)})")
    return method, method.assign(layers, setting)
