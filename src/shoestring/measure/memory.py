"""Peak memory, measured where nothing else is: in a fresh process."""

import multiprocessing
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from shoestring.core.errors import BadInput, ShoestringError


def peak_mb(target: Callable[..., object], *args: Any) -> float:
    """Peak resident memory, in MB (1e6 bytes), of a new process that imports `target` and runs `target(*args)`.

    The interpreter and every module that `target` imports are in it, as they are for a user; the caller's script is
    not, so `target` must be importable from a module, and arguments must pickle. Raises BadInput for a target that
    cannot be imported or a system that does not tell, and what the target raised: our errors as they are, others (and
    a crash) as ShoestringError.
    """
    name = f"{target.__module__}.{target.__qualname__}"
    if target.__module__ in ("__main__", "__mp_main__") or "<" in target.__qualname__:
        raise BadInput(f"memory: {name} cannot be imported by another process; give a function at the top of a module")
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(sender, target, args))
    try:
        with _without_main():
            child.start()
        sender.close()  # so that the child's end is the only one, and its death is seen
        result = receiver.recv()
        child.join()
    except EOFError:
        child.join()
        raise ShoestringError(f"memory: the process running {name} died with exit code {child.exitcode}") from None
    finally:
        receiver.close()
        if child.is_alive():
            child.terminate()
    if isinstance(result, ShoestringError):
        raise result
    if isinstance(result, str):
        raise ShoestringError(f"memory: {name} failed in its own process: {result}")
    return float(result)


def _report(sender: Connection, target: Callable[..., object], args: tuple[Any, ...]) -> None:
    """Runs in the child; sends megabytes, or what went wrong."""
    result: float | str | ShoestringError
    try:
        target(*args)
        result = _own_peak() / 1e6
    except ShoestringError as error:
        result = error
    except BaseException as error:  # a SystemExit in the target must reach the parent as words too
        result = f"{type(error).__name__}: {error}"
    sender.send(result)


def _own_peak() -> int:
    """Peak resident bytes of this process. On Linux VmHWM, because `ru_maxrss` there survives exec and so may be the
    parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource  # not on Windows
    except ImportError:
        raise BadInput("memory: this system does not tell peak memory; leave the memory limit out") from None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def _without_main() -> Iterator[None]:
    """Hides the caller's script: a spawned process would import it again, and count its imports as the target's."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
