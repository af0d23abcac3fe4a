import json
import subprocess
import sys
from pathlib import Path

import pytest

import shoestring as package
from shoestring.cli.explain import require_cpu
from shoestring.core.errors import BadInput
from shoestring.core.explanation import VERDICTS

LAYERS = ["stem.0", "blocks.0.depthwise.0", "blocks.0.project.0", "blocks.1.project.0", "classifier"]


def test_every_layer_is_explained(shoestring, quick, tiny: str, tmp_path: Path) -> None:
    told = shoestring(
        "explain", tiny, "--input", "3x32x32", "--json", tmp_path / "x.json", "--html", tmp_path / "x.html"
    )
    assert (told.code, told.err) == (0, "")
    data = json.loads((tmp_path / "x.json").read_text())
    assert data["model"] == "tiny"
    assert list(data["totals"]) == ["original", "int8", "structured:n=2", "structured:c=0.5"]
    assert [data["totals"][name] for name in ("original", "int8")] == pytest.approx([4.0, 3.0], rel=1e-3)
    explained = {item["layer"]["name"]: item for item in data["layers"]}
    page, lines = (tmp_path / "x.html").read_text(), told.out.splitlines()
    for name in LAYERS:
        # The middle of a name is left out where 100 columns are too few.
        assert any(line.startswith(name) or (line.startswith(name[:6]) and "…" in line) for line in lines)
        assert name in page
        eight, four, *zeros = explained[name]["effects"]
        assert {effect["method"] for effect in zeros} <= {"magnitude", "channels", "structured"}
        assert any(effect["method"] == "magnitude" for effect in zeros) == name.endswith("project.0")
        assert (eight["method"], four["method"], four["setting"]) == ("int8", "lsq+", "w4a4")
        assert eight["verdict"] in VERDICTS and four["verdict"] in VERDICTS
        assert eight["ms"] >= 0
    assert explained["stem.0"]["layer"]["macs"] == 16 * 16 * 16 * 27
    assert sum(item["original_ms"] for item in explained.values()) <= 4.0 * 1.01
    assert page.lower().startswith("<!doctype html>")


def test_the_same_from_python(quick, tiny: str) -> None:
    told = package.explain(tiny, input="3x32x32", runtime="onnxruntime")
    assert set(LAYERS) <= {item.layer.name for item in told.layers}
    assert told.device["runtime"] == "onnxruntime"


def test_another_runtime(shoestring, quick, tiny: str) -> None:
    told = shoestring("explain", tiny, "--input", "3x32x32", "--runtime", "tvm")
    assert told.code == 2
    assert "unknown 'tvm'" in told.said


def test_only_the_processor_is_offered() -> None:
    require_cpu("cpu")
    with pytest.raises(BadInput, match="'cuda' is not offered here; write cpu"):
        require_cpu("cuda")


def test_a_place_that_cannot_be_written_is_refused_first(shoestring, tiny: str, tmp_path: Path) -> None:
    told = shoestring("explain", tiny, "--input", "3x32x32", "--html", tmp_path / "nowhere" / "x.html")
    assert told.code == 2
    assert "there is no folder" in told.said


def test_a_reader_who_stops_reading_loses_no_file(tiny: str, tmp_path: Path) -> None:
    """`explain ... --json x.json | head -1`: the pipe is closed before anything is printed."""
    command = [sys.executable, "-m", "shoestring.cli.main", "explain", tiny, "--input", "3x32x32"]
    command += ["--json", str(tmp_path / "x.json"), "--html", str(tmp_path / "x.html")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        error = running.stderr.read()
    assert error == b""
    assert json.loads((tmp_path / "x.json").read_text())["model"] == "tiny"
    assert (tmp_path / "x.html").exists()
