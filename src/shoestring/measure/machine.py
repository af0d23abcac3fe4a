"""What machine this is, in plain values, and how to keep a measurement on the same cores. Standard library only."""

import math
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shoestring.core.errors import BadInput

# Our name: the names the systems use (/proc/cpuinfo of x86 and of ARM, sysctl of macOS), lower case.
_ISA = {
    "sse4.2": {"sse4_2", "sse4.2"},
    "avx2": {"avx2"},
    "avx_vnni": {"avx_vnni"},
    "avx512f": {"avx512f"},
    "avx512_vnni": {"avx512_vnni", "avx512vnni"},
    "avx512_bf16": {"avx512_bf16"},
    "amx_int8": {"amx_int8"},
    "amx_bf16": {"amx_bf16"},
    "neon": {"neon", "asimd", "advsimd"},
    "asimddp": {"asimddp", "feat_dotprod"},
    "i8mm": {"i8mm", "feat_i8mm"},
    "bf16": {"bf16", "feat_bf16"},
    "sve": {"sve"},
}
_SYSCTL = ("machdep.cpu", "hw.optional")


def processor() -> str:
    """Name of the processor as the system gives it, or its architecture where it gives none."""
    return processor_of(_described()) or platform.processor() or platform.machine()


def isa() -> tuple[str, ...]:
    """Instruction sets that matter to inference, in a fixed order; empty where the system does not tell."""
    return isa_of(_described())


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float:
    """Average number of runnable processes over the last minute; NaN where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan


def fingerprint() -> dict[str, str]:
    """What a stored latency depends on besides the runtime: machines that agree in it may share a latency table."""
    return {
        "processor": processor(),
        "isa": " ".join(isa()),
        "cores": str(cores()),
        "system": f"{platform.system()} {platform.machine()}",
    }


@contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Keeps this thread, and threads started inside, on `threads` cores, and gives the cores; undone afterwards.

    Open runtimes inside: pools that already run keep their cores. Yields an empty tuple, and changes nothing, where
    the system offers no pinning (macOS). The highest-numbered cores are taken, because interrupts mostly go to the
    first. Raises BadInput when there are fewer cores than threads.
    """
    if not 1 <= threads <= cores():
        raise BadInput(f"threads: {threads} asked, {cores()} cores are usable here; write --threads {cores()} or fewer")
    if not hasattr(os, "sched_setaffinity"):
        yield ()
        return
    before = os.sched_getaffinity(0)
    chosen = sorted(before)[-threads:]
    os.sched_setaffinity(0, chosen)
    try:
        yield tuple(chosen)
    finally:
        os.sched_setaffinity(0, before)


def processor_of(description: str) -> str:
    """The processor's name in the text of /proc/cpuinfo or sysctl; empty when it is not there."""
    match = re.search(
        r"^(?:model name|machdep\.cpu\.brand_string|Hardware)\s*:\s*(\S.*?)\s*$", description, re.MULTILINE
    )
    return match[1] if match else ""


def isa_of(description: str) -> tuple[str, ...]:
    """Instruction sets named in the text of /proc/cpuinfo (lines `flags`, `Features`) or of sysctl (lists of features,
    and `hw.optional...: 1`)."""
    found: set[str] = set()
    for line in description.lower().splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in ("flags", "features") or key.endswith("features"):
            found.update(value.split())
        elif key.startswith("hw.optional.") and value == "1":
            found.add(key.rpartition(".")[2])
    return tuple(name for name, spellings in _ISA.items() if spellings & found)


def _described() -> str:
    """The system's own words about its processor; empty when it has none."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        return cpuinfo.read_text(encoding="utf-8", errors="replace")
    if platform.system() != "Darwin":
        return ""
    try:
        return subprocess.run(
            ["/usr/sbin/sysctl", *_SYSCTL], capture_output=True, text=True, check=False, timeout=5
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
