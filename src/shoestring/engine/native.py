"""The native library: programs on the processor, through ctypes (`native/abi.h` is what is called here).

The library is one file beside this one, loaded on first use; SHOESTRING_ENGINE_LIBRARY names another. The processor's
best instruction set is used; SHOESTRING_ISA names another.
"""

import ctypes
import math
import os
import re
import struct
import sys
import weakref
from collections.abc import Callable, Sequence
from ctypes import POINTER, Array, Structure, c_char, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from shoestring.core.errors import BadInput, GivenUp
from shoestring.engine.program import DTYPES, NONE, Conv, Linear, Program

VERSION = 4
_GIVEN_UP = 2
_FILES = {"darwin": "libshoestring_engine.dylib", "win32": "shoestring_engine.dll"}


def available() -> bool:
    """Whether programs can be executed here."""
    return not why_absent()


def why_absent() -> str:
    """Why they cannot, in one line, and what to do; empty when they can."""
    found = _library()
    return found if isinstance(found, str) else ""


def isas() -> tuple[str, ...]:
    """The instruction sets that can be used here, the best first."""
    library, found = _loaded(), list[str]()
    while name := library.shoestring_isa(len(found)):
        found.append(name.decode())
    return tuple(found)


def peak(isa: str | None = None) -> float:
    """Multiply-adds a second, in 1e9, of the convolution kernel on one core when nothing leaves the first-level cache.
    Takes about 30 ms."""
    return float(_loaded().shoestring_peak(isa.encode() if isa else None))


@dataclass(frozen=True)
class Step:
    """How one op of a program is executed. `name`: the node it came from; `label`: the kernel; `multiplies`: the
    multiply-adds it does for an image, skipped zeros not counted; `weight_bytes`: its packed weights."""

    name: str
    label: str
    multiplies: int
    weight_bytes: int


class Network:
    """A program made ready for this processor. Calling it takes the inputs and returns the outputs, [N, ...] each for N
    images; it may be called from several threads, which then wait for one another. `threads`: what it runs on itself,
    the caller among them. `isa`: one of `isas()`, else the best. Raises BadInput, and a call GivenUp when `give_up`
    ended it or its time was up.

    `base`: a network made without one that this is another width or depth of. They run in turns, on the threads, the
    instruction set and the memory of `base`, and what the packed weights of layers of one name have in common is kept
    once. That stays, whichever of them is closed first."""

    def __init__(
        self, program: Program, threads: int = 1, isa: str | None = None, base: "Network | None" = None
    ) -> None:
        self._names = tuple(op.name for op in program.ops)
        self._library = _loaded()
        self._layers = _layers(program)
        data, message = program.to_bytes(), _message()
        if base is None:
            load = self._library.shoestring_load
            pointer = load(data, len(data), threads, isa.encode() if isa else None, message, len(message))
        else:
            like = np.full(len(self._names), NONE, np.int32)
            for layer in self._layers.keys() & base._layers.keys():
                like[self._layers[layer]] = base._layers[layer]
            there = base._live()
            load = self._library.shoestring_load_like
            pointer = load(data, len(data), there.pointer, like.ctypes.data, like.size, message, len(message))
        if not pointer:
            raise BadInput(f"engine: {_naming_the_node(message.value.decode(), self._names)}")
        self._handle: _Handle | None = _Handle(self._library, pointer)
        self.inputs = tuple(program.tensors[index] for index in program.inputs)
        self.outputs = tuple(program.tensors[index] for index in program.outputs)
        self._stop = c_int32()

    def __call__(self, *inputs: np.ndarray, within: float = math.inf, gap: float = 0.0) -> list[np.ndarray]:
        """`within`: seconds from now on, after which it is no use to go on: the thread that runs looks at the clock
        before each phase of a step and gives up by itself. Who has lost its core looks at no clock, so that the longest
        time between two looks so far, `gap` seconds at least, is reckoned with once more, and left unused."""
        stop = self._stop  # alive meanwhile
        nanoseconds = 0 if within == math.inf else _nanoseconds(within)
        limit = _Limit(ctypes.addressof(stop), nanoseconds, _nanoseconds(gap))
        return self._run(self._library.shoestring_run, inputs, ctypes.addressof(limit))

    def give_up(self) -> None:
        """Ends the calls that are under way, by whichever threads, or wait for others to end: before the next phase of
        a step. Affects none that are made later, and nothing when there are none."""
        stop, self._stop = self._stop, c_int32()  # one word for all calls between two of these
        stop.value = 1

    def profile(self, *inputs: np.ndarray, runs: int = 20) -> np.ndarray:
        """How long each of `self.steps` took in each of `runs` runs, in nanoseconds: int64 [runs, steps]."""
        times = np.zeros((runs, len(self._names)), np.int64)
        self._run(self._library.shoestring_profile, inputs, runs, times.ctypes.data, times.size)
        return times

    @property
    def steps(self) -> tuple[Step, ...]:
        """One for each op of the program, in order."""
        steps = (_Step * len(self._names))()
        self._library.shoestring_steps(self._live().pointer, steps, len(steps))
        return tuple(
            Step(name, step.label.decode(), step.multiplies, step.weight_bytes)
            for name, step in zip(self._names, steps, strict=True)
        )

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return str(self._library.shoestring_network_isa(self._live().pointer).decode())

    @property
    def arena_bytes(self) -> int:
        """The memory for what flows between the steps, for as many images as the last run had (1 before the first).
        With a `base` it is the base's, and 0 here."""
        return int(self._library.shoestring_arena_bytes(self._live().pointer))

    @property
    def weight_bytes(self) -> int:
        """The memory for the packed weights; with a `base`, for those that it does not have."""
        return int(self._library.shoestring_weight_bytes(self._live().pointer))

    def close(self) -> None:
        """Gives memory and threads back, as soon as no run is under way and none shares them; the network is of no use
        afterwards."""
        self._handle = None

    def _live(self) -> "_Handle":
        if self._handle is None:
            raise BadInput("engine: the network has been closed; load it again")
        if self._handle.process != os.getpid():
            raise BadInput("engine: the network was loaded before this process was forked; load it here")
        return self._handle

    def _run(self, function: Callable[..., int], inputs: Sequence[np.ndarray], *more: int) -> list[np.ndarray]:
        # The handle stays alive meanwhile, even if another thread closes the network.
        handle, message = self._live(), _message()
        given, images = self._checked(inputs)
        made = [np.empty((images, *tensor.shape), DTYPES[tensor.dtype]) for tensor in self.outputs]
        arrays = _arrays(given), len(given), _arrays(made), len(made)
        status = function(handle.pointer, *arrays, images, *more, message, len(message))
        if status == _GIVEN_UP:
            raise GivenUp("engine: the run was given up")
        if status:
            raise BadInput(f"engine: {message.value.decode()}")
        return made

    def _checked(self, inputs: Sequence[np.ndarray]) -> tuple[list[np.ndarray], int]:
        """The inputs as the library takes them, and how many images there are."""
        if len(inputs) != len(self.inputs):
            raise BadInput(f"engine: {len(inputs)} inputs given; the network takes {len(self.inputs)}")
        given = [np.require(x, requirements=["C", "A"]) for x in inputs]
        images = len(given[0]) if given[0].ndim else 0
        for x, tensor in zip(given, self.inputs, strict=True):
            if x.dtype != DTYPES[tensor.dtype]:
                raise BadInput(f"engine: input {tensor.name} is {x.dtype}; give {np.dtype(DTYPES[tensor.dtype])}")
            if x.shape != (images, *tensor.shape) or not images:
                expected = ", ".join(map(str, ("N", *tensor.shape)))
                raise BadInput(f"engine: input {tensor.name} has shape {x.shape}; give ({expected}), N alike for all")
        return given, images


def _layers(program: Program) -> dict[tuple[str, type, int], int]:
    """The ops that have weights, by name, kind and which of these it is: a node may become more than one op."""
    found: dict[tuple[str, type, int], int] = {}
    for index, op in enumerate(program.ops):
        if isinstance(op, Conv | Linear):
            number = sum(key[:2] == (op.name, type(op)) for key in found)
            found[op.name, type(op), number] = index
    return found


class _Step(Structure):
    _fields_ = (("label", c_char_p), ("multiplies", c_int64), ("weight_bytes", c_int64))


class _Limit(Structure):
    _fields_ = (("stop", c_void_p), ("nanoseconds", c_int64), ("gap", c_int64))


def _nanoseconds(seconds: float) -> int:
    """1 at least, since 0 stands for no limit, and no more than 30 years."""
    if math.isnan(seconds):
        raise BadInput("engine: nan is no time; give seconds, or leave it out")
    return int(min(max(seconds, 1e-9), 1e9) * 1e9)


class _Handle:
    """Owns a network of the library."""

    def __init__(self, library: ctypes.CDLL, pointer: int) -> None:
        self.pointer, self.process = pointer, os.getpid()
        weakref.finalize(self, _free, library, pointer, self.process)


def _free(library: ctypes.CDLL, pointer: int, process: int) -> None:
    if process == os.getpid():  # a forked child has none of the threads that are to be ended
        library.shoestring_free(pointer)


def _message() -> Array[c_char]:
    """Room for one line."""
    return ctypes.create_string_buffer(400)


def _arrays(arrays: Sequence[np.ndarray]) -> bytes:
    """`ShoestringArray`s: addresses and sizes in bytes. Keeps none of the arrays alive."""
    return struct.pack("PN" * len(arrays), *(word for array in arrays for word in (array.ctypes.data, array.nbytes)))


def _naming_the_node(line: str, names: Sequence[str]) -> str:
    """The library knows ops by their numbers only."""
    found = re.match(r"op (\d+) ", line)
    return f"{names[int(found[1])]}: {line}" if found else line


def _loaded() -> ctypes.CDLL:
    found = _library()
    if isinstance(found, str):
        raise BadInput(f"engine: {found}")
    return found


@cache
def _library() -> ctypes.CDLL | str:
    """The library, or why it is absent."""
    beside = Path(__file__).with_name(_FILES.get(sys.platform, "libshoestring_engine.so"))
    path = Path(os.environ.get("SHOESTRING_ENGINE_LIBRARY") or beside)
    if not path.exists():
        return f"the engine was not built ({path.name} is absent); install shoestring where a C++ compiler is"
    try:
        library = ctypes.CDLL(str(path))
        _declare(library)
    except (OSError, AttributeError) as error:
        return f"the engine does not load: {error}"
    version = library.shoestring_version()
    if version != VERSION:
        return f"{path.name} speaks version {version}, this shoestring {VERSION}; install shoestring again"
    return library


def _declare(library: ctypes.CDLL) -> None:
    """The types of abi.h."""
    text = [c_char_p, c_size_t]
    run = [c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_int32]
    cloud = [c_void_p, c_int64, c_int64]
    for name, result, arguments in (
        ("version", c_int32, []),
        ("isa", c_char_p, [c_size_t]),
        ("peak", c_double, [c_char_p]),
        ("load", c_void_p, [c_char_p, c_size_t, c_int32, c_char_p, *text]),
        ("load_like", c_void_p, [c_char_p, c_size_t, c_void_p, c_void_p, c_size_t, *text]),
        ("free", None, [c_void_p]),
        ("network_isa", c_char_p, [c_void_p]),
        ("arena_bytes", c_size_t, [c_void_p]),
        ("weight_bytes", c_size_t, [c_void_p]),
        ("steps", c_size_t, [c_void_p, POINTER(_Step), c_size_t]),
        ("run", c_int32, [*run, c_void_p, *text]),
        ("profile", c_int32, [*run, c_int32, c_void_p, c_size_t, *text]),
        ("farthest", c_int32, [*cloud, c_int64, c_void_p, c_char_p, *text]),
        ("nearest", c_int32, [*cloud[:2], *cloud, c_float, c_int64, c_void_p, c_char_p, *text]),
        ("take", c_int32, [*cloud, c_size_t, *cloud[:2], c_void_p, *text]),
        ("interpolate", c_int32, [*cloud[:2], *cloud[:2], *cloud, c_void_p, c_char_p, *text]),
    ):
        function = getattr(library, f"shoestring_{name}")
        function.restype, function.argtypes = result, arguments
