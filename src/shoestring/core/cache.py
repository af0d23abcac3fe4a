"""The user's cache folder: things that can be measured or checked again. Losing it costs time, never a result."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEASURING = "measuring"  # the lock of whoever measures times: two at once would disturb each other
_ENTERED = threading.RLock()
_HELD: set[str] = set()


def folder(kind: str) -> Path:
    """`$SHOESTRING_CACHE/KIND`, or `~/.cache/shoestring/KIND`. It may not exist yet."""
    root = os.environ.get("SHOESTRING_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "shoestring") / kind


def load(kind: str, name: str) -> Any:
    """What `store` wrote, or None: absent, unreadable and damaged entries are all just not there."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # RuntimeError: there is no home folder
        return json.loads((folder(kind) / f"{name}.json").read_text(encoding="utf-8"))
    return None


def store(kind: str, name: str, data: Any) -> None:
    """Writes `data` as JSON in one step, so that parallel processes see all of it or none. No place is no error."""
    with contextlib.suppress(OSError, RuntimeError):
        place = folder(kind)
        place.mkdir(parents=True, exist_ok=True)
        part = place / f".{name}.{os.getpid()}"
        try:
            part.write_text(json.dumps(data), encoding="utf-8")
            part.replace(place / f"{name}.json")
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Lets one process in at a time, and one of its threads; the others wait, however long. A thread that is inside may
    enter again. Where there is no place for a lock, or no locks, every process is let in."""
    with _ENTERED:
        if name in _HELD:  # by this thread; a second lock would wait for the first, in one process too
            yield
            return
        with contextlib.ExitStack() as undone:
            _take(name, undone)
            _HELD.add(name)
            undone.callback(_HELD.discard, name)
            yield


def _take(name: str, undone: contextlib.ExitStack) -> None:
    """The system gives back what a killed process had."""
    with contextlib.suppress(ImportError, OSError, RuntimeError):
        import fcntl  # not on Windows

        place = folder("locks")
        place.mkdir(parents=True, exist_ok=True)
        file = undone.enter_context((place / f"{name}.lock").open("a"))
        fcntl.flock(file, fcntl.LOCK_EX)
        # Not left to the file's end: what was forked meanwhile has it open too.
        undone.callback(fcntl.flock, file, fcntl.LOCK_UN)
