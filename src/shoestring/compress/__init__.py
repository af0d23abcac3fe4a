"""The compression methods, by name. A new method is a folder here and one line below."""

from types import ModuleType

from shoestring.compress import channels, int8, magnitude, structured_conv
from shoestring.compress.lsq import plain, plus
from shoestring.compress.ltp import blocks, single

METHODS: dict[str, ModuleType] = {
    "int8": int8,
    "lsq": plain,
    "lsq+": plus,
    "channels": channels,
    "structured": structured_conv,
    "magnitude": magnitude,
    "ltp": single,
    "block_ltp": blocks,
}
