import json
import os
import subprocess
import sys
from pathlib import Path

import shoestring as package
from shoestring import engine
from shoestring.deploy import runtimes

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
