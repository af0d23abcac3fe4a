"""Channel removal: whole channels go, with everything that makes or reads them, by dependency groups."""

from shoestring.compress.channels.method import CARD, apply, counts, lower, options
from shoestring.compress.channels.settings import Channels, assign, parse, snapped

__all__ = ["CARD", "Channels", "apply", "assign", "counts", "lower", "options", "parse", "snapped"]
