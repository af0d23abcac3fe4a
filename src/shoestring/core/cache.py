"""The user's cache folder: things that can be measured or checked again. Losing it costs time, never a result."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


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
