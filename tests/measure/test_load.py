"""A load that is played: on time, and gone afterwards, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shoestring.core.errors import BadInput
from shoestring.measure.load import Script, playing, read, script


def test_how_many_are_busy_when() -> None:
    load = Script(((0, 0), (2, 3), (4, 1)), 6)
    assert load.processes == 3
    assert [load.busy(at) for at in (-1, 0, 1.9, 2, 3.9, 4, 5.9, 6, 8, 60.5)] == [0, 0, 0, 3, 3, 1, 1, 0, 3, 0]


def test_the_built_in_script_comes_and_goes() -> None:
    load = script(2)
    assert load.busy(0) == 0
    assert {load.busy(second) for second in range(20)} == {0, 2, 4}


def test_scripts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"steps": [[0, 0], [1.5, 2]], "seconds": 3}))
    assert read(path) == Script(((0.0, 0), (1.5, 2)), 3.0)
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        '{"steps": [], "seconds": 3}',
        '{"steps": [[1, 0]], "seconds": 3}',
        '{"steps": [[0, 0], [5, 1]], "seconds": 3}',
        '{"steps": [[0, 0], [2, 1], [1, 0]], "seconds": 3}',
        '{"steps": [[0, 65]], "seconds": 3}',
        '{"steps": [[0, -1]], "seconds": 3}',
        '{"steps": [[0, 0, 0]], "seconds": 3}',
        '{"steps": [[0, 0]], "seconds": Infinity}',
        '{"steps": [[0, 1e999]], "seconds": 3}',
        '{"steps": [[0, 0]], "seconds": 3, "more": 1}',
    ],
)
def test_what_is_no_script_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadInput, match=r"x\.json: no load script: .*write one like") as refused:
        read(tmp_path / "x.json")
    assert "\n" not in str(refused.value)


def children() -> list[int]:
    """Processes of this one, by the files of /proc; empty elsewhere."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(number) for number in path.read_text().split()] if path.exists() else []


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@linux
def test_it_takes_the_cores_and_is_gone_afterwards() -> None:
    before = set(children())
    with pytest.raises(KeyboardInterrupt), playing(Script(((0.0, 1), (60.0, 2)), 90.0)):
        first, second = sorted(set(children()) - before)
        deadline = time.monotonic() + 20
        while cpu_seconds(first) < cpu_seconds(second) + 0.2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert cpu_seconds(first) >= cpu_seconds(second) + 0.2  # the other waits for its step
        raise KeyboardInterrupt
    assert set(children()) == before


@linux
def test_it_ends_when_whoever_started_it_was_killed() -> None:
    code = (
        "import pathlib, os, time\n"
        "from shoestring.measure.load import Script, playing\n"
        "with playing(Script(((0.0, 1),), 60.0)):\n"
        "    print(pathlib.Path(f'/proc/self/task/{os.getpid()}/children').read_text(), flush=True)\n"
        "    time.sleep(1.0)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (child,) = map(int, done.stdout.split())
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    status = Path(f"/proc/{child}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"
