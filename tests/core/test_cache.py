"""The cache: what is stored is loaded whole or not at all, and nothing about it is ever an error."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shoestring.core import cache

DATA = {"layers": {"stem": {"fp32": 0.25}}, "name": "é", "none": None, "list": [1, 2.5, True]}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOESTRING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_stored_is_loaded(root: Path) -> None:
    assert cache.load("tables", "a") is None
    cache.store("tables", "a", DATA)
    assert cache.load("tables", "a") == DATA
    assert (cache.load("tables", "b"), cache.load("graphs", "a")) == (None, None)
    assert cache.folder("tables") == root / "tables"
    assert [path.name for path in (root / "tables").iterdir()] == ["a.json"]


def test_a_new_entry_takes_the_place_of_the_old(root: Path) -> None:
    for data in (DATA, [], None, 3):
        cache.store("tables", "a", data)
        assert cache.load("tables", "a") == data


@pytest.mark.parametrize("damage", [b"", b'{"a": [1, 2', b"\xff\xfe\x00", b"[" * 100_000, b'{"a": 1} x', b"9" * 5000])
def test_a_damaged_entry_is_not_there(root: Path, damage: bytes) -> None:
    cache.store("tables", "a", DATA)
    (root / "tables" / "a.json").write_bytes(damage)
    assert cache.load("tables", "a") is None
    cache.store("tables", "a", DATA)
    assert cache.load("tables", "a") == DATA


def test_a_folder_in_the_place_of_an_entry_is_no_error(root: Path) -> None:
    (root / "tables" / "a.json" / "inside").mkdir(parents=True)
    cache.store("tables", "a", DATA)
    assert cache.load("tables", "a") is None
    assert [path.name for path in (root / "tables").iterdir()] == ["a.json"]


def test_a_place_that_cannot_be_written_is_no_error(root: Path) -> None:
    root.write_text("not a folder")
    cache.store("tables", "a", DATA)
    assert cache.load("tables", "a") is None
    assert root.read_text() == "not a folder"


def test_a_failed_write_leaves_the_old_entry_and_nothing_else(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store("tables", "a", DATA)

    def full(path: Path, text: str, **_: object) -> None:
        path.write_bytes(text.encode()[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    cache.store("tables", "a", {"new": 1})
    assert cache.load("tables", "a") == DATA
    assert [path.name for path in (root / "tables").iterdir()] == ["a.json"]


def test_it_is_in_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOESTRING_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    cache.store("tables", "a", DATA)
    assert (tmp_path / ".cache" / "shoestring" / "tables" / "a.json").is_file()
    assert cache.load("tables", "a") == DATA


def test_no_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SHOESTRING_CACHE")
    monkeypatch.setattr(Path, "home", homeless)
    cache.store("tables", "a", DATA)
    assert cache.load("tables", "a") is None


WRITER = """
from shoestring.core import cache
while True:
    for size in (1, 200_000):
        cache.store("tables", "a", [size] * size)
"""


def test_a_reader_never_sees_half_an_entry(root: Path) -> None:
    """Two processes write the same entry again and again, and are killed in the middle of it."""
    cache.store("tables", "a", [1])
    writers = [subprocess.Popen([sys.executable, "-c", WRITER]) for _ in range(2)]
    try:
        seen, end = set(), time.monotonic() + 20
        while len(seen) < 2 and time.monotonic() < end:
            data = cache.load("tables", "a")
            assert data in ([1], [200_000] * 200_000)
            seen.add(len(data))
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert len(seen) == 2
    assert cache.load("tables", "a") in ([1], [200_000] * 200_000)


HOLDER = """
import sys, time
from shoestring.core import cache
with cache.lock("measuring"):
    print("inside", flush=True)
    sys.stdin.read()
    cache.store("tables", "a", "from the other process")
"""


@contextmanager
def another_process() -> Iterator[subprocess.Popen[str]]:
    """It holds the lock until its input is closed, or it is killed."""
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "inside\n"
        try:
            yield holder
        finally:
            holder.kill()


def waiting(entered: threading.Event) -> threading.Thread:
    """A thread of ours that wants the lock."""

    def enter() -> None:
        with cache.lock("measuring"):
            entered.set()

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    return thread


def test_a_lock_is_waited_for_until_the_other_process_is_done() -> None:
    entered = threading.Event()
    with another_process() as holder:
        thread = waiting(entered)
        assert not entered.wait(0.3)
        assert cache.load("tables", "a") is None
        holder.stdin.close()
        assert entered.wait(20)
        assert cache.load("tables", "a") == "from the other process"
        thread.join()


def test_a_killed_process_holds_nothing() -> None:
    entered = threading.Event()
    with another_process() as holder:
        thread = waiting(entered)
        assert not entered.wait(0.1)
        holder.kill()
        assert entered.wait(20)
        thread.join()


def test_another_lock_is_another_lock() -> None:
    with another_process(), cache.lock("downloading"):
        pass


def test_who_is_inside_may_enter_again_and_others_wait_for_the_outermost() -> None:
    entered = threading.Event()
    with cache.lock("measuring"):
        with cache.lock("measuring"), cache.lock("measuring"):
            pass
        thread = waiting(entered)
        assert not entered.wait(0.1)
    thread.join(20)
    assert entered.is_set()


def test_an_error_inside_passes_through_and_opens_the_lock() -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="of the body"), cache.lock("measuring"):
            raise OSError("of the body")
    with another_process():  # which got it
        pass


def test_without_a_place_or_locks_everybody_is_let_in(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with another_process(), monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fcntl", None)  # as on Windows
        with cache.lock("measuring"), cache.lock("measuring"):
            pass
    elsewhere = root.parent / "file"
    elsewhere.write_text("not a folder")
    monkeypatch.setenv("SHOESTRING_CACHE", str(elsewhere))
    with cache.lock("measuring"), cache.lock("measuring"):
        pass
    assert elsewhere.read_text() == "not a folder"
