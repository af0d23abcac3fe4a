"""Windows that slide over pictures: their padding, and how many there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shoestring.engine.lowering.graph import Node, Unsupported

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Heights come before widths. `pads`: top, left, bottom, right; `size`: of the output; `ceiled`: ceil_mode has
    padded the end further."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    pads: tuple[int, int, int, int]
    size: Pair
    ceiled: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that all ops with windows have."""
        return {"kernel": self.kernel, "stride": self.stride, "pads": self.pads}


def window_of(node: Node, size: Sequence[int], kernel: Sequence[int]) -> Window:
    """The window of a Conv or pool over a picture of `size`; a node of one dimension is about the width."""
    given = node.attributes
    stride, dilation = (_both(given.get(key, (1, 1))) for key in ("strides", "dilations"))
    reach = [(kernel[axis] - 1) * dilation[axis] + 1 for axis in (0, 1)]
    pads = _pads(given, size, reach, stride)
    ceiled = False
    for axis in (0, 1) if given.get("ceil_mode") else ():
        more = -(size[axis] + pads[axis] + pads[axis + 2] - reach[axis]) % stride[axis]
        # The last window must begin inside of the picture or of the padding before it.
        if more and pads[axis + 2] + more < reach[axis]:
            pads[axis + 2] += more
            ceiled = True
    room = [size[axis] + pads[axis] + pads[axis + 2] - reach[axis] for axis in (0, 1)]
    if min(room) < 0:
        raise Unsupported(f"its kernel of {list(kernel)} is larger than what it reads, {list(size)}")
    made = room[0] // stride[0] + 1, room[1] // stride[1] + 1
    return Window((kernel[0], kernel[1]), stride, dilation, (pads[0], pads[1], pads[2], pads[3]), made, ceiled)


def _both(given: Sequence[int]) -> Pair:
    return (1, given[0]) if len(given) == 1 else (given[0], given[1])


def _pads(given: Mapping[str, Any], size: Sequence[int], reach: Sequence[int], stride: Pair) -> list[int]:
    auto = given.get("auto_pad", b"NOTSET").decode()
    if auto == "NOTSET":
        pads = list(given.get("pads", (0, 0, 0, 0)))
        if min(pads) < 0:
            raise Unsupported("negative padding is not executed; slice before it")
        return [0, pads[0], 0, pads[1]] if len(pads) == 2 else pads
    if auto == "VALID":
        return [0, 0, 0, 0]
    before, after = [], []
    for axis in (0, 1):
        total = max((-(-size[axis] // stride[axis]) - 1) * stride[axis] + reach[axis] - size[axis], 0)
        less, more = total // 2, total - total // 2
        before.append(less if auto == "SAME_UPPER" else more)
        after.append(more if auto == "SAME_UPPER" else less)
    return before + after
