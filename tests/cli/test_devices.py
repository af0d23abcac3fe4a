import json
import os
from pathlib import Path

import shoestring as package
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
    data = json.loads((tmp_path / "devices.json").read_text())
    assert data == json.loads(json.dumps([device.to_json() for device in found]))
    assert {entry["fingerprint"] for entry in data} == {device.fingerprint for device in found}


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
