"""Our own runtime: quantised networks on CPUs, whose zeros in blocks it does not multiply by.

`load` takes a graph in the QDQ normal form (DESIGN 9.1). `lower.py` makes a program of it (`program.py`), the native
library executes that (`native.py`, `native/`), and `reference.py` says in NumPy what it must compute, bit for bit.
"""

from onnx import ModelProto

from shoestring.engine import lower
from shoestring.engine.native import VERSION, Network, Step, available, isas, peak, why_absent

__all__ = ["VERSION", "Network", "Step", "available", "isas", "load", "peak", "why_absent"]


def load(model: ModelProto, threads: int = 1, isa: str | None = None) -> Network:
    """The network of a graph, ready to run on `threads` threads with the best instruction set here, or `isa`. Raises
    BadInput where the engine is absent, or naming the first node that it cannot execute."""
    return Network(lower.lower(model), threads, isa)
