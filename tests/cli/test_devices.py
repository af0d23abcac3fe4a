import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import shoestring as package
from shoestring import engine
from shoestring.core.device import Device
from shoestring.core.staircase import WIDTHS, Staircase
from shoestring.deploy import runtimes
from shoestring.pipeline import staircase as staircase_module

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def test_what_is_here(shoestring, tmp_path: Path) -> None:
    told = shoestring("devices", "--json", tmp_path / "devices.json")
    assert (told.code, told.err) == (0, "")
    found = package.devices()
    words = " ".join(told.out.split())
    assert [device.runtime for device in found] == list(runtimes.installed())
    for device in found:
        assert f"{device.runtime} {device.version}" in words
        assert device.processor in words
        for entry in device.capabilities:
            assert f"{entry.feature}: {entry.verdict}" in words
            assert " ".join(entry.note.split()) in words
    assert "source:" not in told.out
    for name, reason in runtimes.absent().items():
        assert f"{name}: absent {reason}" in words
    data = json.loads((tmp_path / "devices.json").read_text())
    assert data == json.loads(json.dumps([device.to_json() for device in found]))
    assert {entry["fingerprint"] for entry in data} == {device.fingerprint for device in found}


def test_our_engine_with_its_instruction_set() -> None:
    found = {device.runtime: device.version for device in package.devices()}
    if engine.why_absent():
        assert "engine" not in found
    else:
        assert engine.isas()[0] in found["engine"]


def test_without_its_library_the_engine_is_absent(tmp_path: Path) -> None:
    """Nothing else changes. In a process of its own: a library is loaded once."""
    env = {**os.environ, "SHOESTRING_ENGINE_LIBRARY": str(tmp_path / "nowhere.so")}
    command = [sys.executable, "-m", "shoestring.cli.main", "devices"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    words = " ".join(ran.stdout.split())
    assert "engine: absent the engine was not built (nowhere.so is absent); install shoestring where" in words
    assert "onnxruntime" in words
    assert ran.stderr == ""


def test_sources(shoestring) -> None:
    words = " ".join(shoestring("devices", "--sources").out.split())
    for device in package.devices():
        assert all(f"source: {' '.join(entry.source.split())}" in words for entry in device.capabilities)


def test_threads_that_do_not_exist(shoestring, tmp_path: Path) -> None:
    told = shoestring("devices", "--threads", CORES + 1, "--json", tmp_path / "devices.json")
    assert told.code == 2
    assert f"{CORES} cores can be used here; write 1 to {CORES}" in told.said
    assert not (tmp_path / "devices.json").exists()
    assert shoestring("devices", "--json", tmp_path / "nowhere" / "x.json").code == 2


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each runtime has a kernel of 8 channels; the runtimes that were measured, one by one."""
    asked: list[str] = []

    def measure(device: Device, progress: Callable[[float], object] | None) -> Staircase:
        asked.append(device.runtime)
        if progress is not None:
            progress(0.5)
        times = tuple(0.1 + 0.08 * -(-width // 8) for width in WIDTHS)
        return Staircase(device.fingerprint, WIDTHS, {"3x3": times})

    monkeypatch.setattr(staircase_module, "_measure", measure)
    return asked


def test_the_staircases(shoestring, measured: list[str], tmp_path: Path) -> None:
    """In the terminal, as JSON and as a page; measured once."""
    here = list(runtimes.installed())
    told = shoestring("devices", "--table", "--json", tmp_path / "devices.json", "--html", tmp_path / "stairs.html")
    assert (told.code, told.err, measured) == (0, "", here)
    lines, page = told.out.splitlines(), (tmp_path / "stairs.html").read_text()
    found = package.staircases()
    data = json.loads((tmp_path / "devices.json").read_text())
    assert list(found) == here == [entry["runtime"] for entry in data]
    for device, entry in zip(package.devices(), data, strict=True):
        own = found[device.runtime]
        assert own.device == device.fingerprint
        assert entry == json.loads(json.dumps({**device.to_json(), "staircase": own.to_json()}))
        assert entry["staircase"]["multiples"] == {"3x3": 8}
        assert f"staircase of {device.runtime} {device.version}: multiples of 8" in lines
        assert f"{device.runtime}: multiples of 8" in page
    assert lines.count("  3x3 convolutions, ms by channels: multiples of 8") == len(here)
    assert max(map(len, lines)) <= 100
    assert measured == here  # the rest came from the cache


def test_who_asks_hears_how_far_it_is(measured: list[str]) -> None:
    told: list[tuple[str, float]] = []
    package.staircases(report=lambda stage, share: told.append((stage, share)))
    assert told == [(f"staircase of {name}", share) for name in runtimes.installed() for share in (0.0, 0.5)]


def test_a_page_of_nothing_is_refused(shoestring, measured: list[str], tmp_path: Path) -> None:
    told = shoestring("devices", "--html", tmp_path / "stairs.html")
    assert told.code == 2
    assert "--html: the page draws what layers of each width cost" in told.said
    assert told.said.endswith("add --table")
    assert not (tmp_path / "stairs.html").exists()
    assert shoestring("devices", "--table", "--html", tmp_path / "nowhere" / "x.html").code == 2
    assert measured == []
