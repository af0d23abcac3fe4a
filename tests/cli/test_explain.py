import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shoestring as package
from shoestring.cli.explain import require_cpu
from shoestring.core.errors import BadInput
from shoestring.core.explanation import VERDICTS
from shoestring.core.proposal import Proposal
from shoestring.deploy import runtimes
from shoestring.pipeline.explain import require_effect
from shoestring.pipeline.original import resolve

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


@pytest.fixture
def planning(shoestring, quick, bench, tiny: str, packed: Path, tmp_path: Path) -> Callable[..., Any]:
    """`planning("--latency", "0.6x")`: of six layers of 1 ms, which take half of it in 8 bits."""
    bench()
    shape = ("--input", "3x32x32", "--runtime", "onnxruntime", "--without", "structured")

    def run(*options: object, data: object = packed) -> Any:
        places = ("--json", tmp_path / "x.json", "--html", tmp_path / "x.html")
        return shoestring("explain", tiny, *shape, *(["--data", data] if data else []), *places, *options)

    return run


def test_the_plan_for_a_budget(planning, tmp_path: Path) -> None:
    """As a table, as JSON and as a page; no file is fitted."""
    ran = planning("--latency", "0.7x", "--calibration", 8)
    assert (ran.code, ran.err) == (0, "")
    plan = json.loads((tmp_path / "x.json").read_text())
    assert (plan["model"], plan["budget"], plan["met"], plan["reason"]) == ("tiny", "latency<=0.7x", True, "")
    assert (plan["original"]["latency"], plan["totals"]["latency"]) == (6.0, 4.0)
    assert Counter(layer["pick"] for layer in plan["layers"]) == {"int8": 4, "fp32": 2}
    assert all({"fp32", "int8"} == {option["option"] for option in layer["options"]} for layer in plan["layers"])
    assert list(plan["runtimes"]) == ["onnxruntime"]
    floats = [layer["layer"] for layer in plan["layers"] if layer["pick"] == "fp32"]
    assert plan["methods"] == [":".join(["int8", *(f"{name}=fp32" for name in floats)])]
    page = (tmp_path / "x.html").read_text()
    for told in (plan["methods"][0], *(layer["layer"] for layer in plan["layers"])):
        assert told in page
    assert plan["methods"][0] in ran.out
    assert "latency<=0.7x" in ran.out
    assert not list(tmp_path.glob("*.shoe"))


def test_quality_is_not_promised_by_a_plan(planning, tmp_path: Path) -> None:
    ran = planning("--latency", "0.9x", "--lose", "1pt", "--calibration", 8)
    assert ran.code == 0
    said = "Quality is judged when the network has been made; a plan knows the errors of outputs only."
    assert said in " ".join(ran.out.split())
    assert said in json.loads((tmp_path / "x.json").read_text())["notes"]


def test_a_limit_that_cannot_be_met_is_exit_3_and_says_what_can(planning, tmp_path: Path) -> None:
    ran = planning("--latency", "0.1x", "--calibration", 8)
    assert (ran.code, ran.err) == (3, "")
    plan = json.loads((tmp_path / "x.json").read_text())
    assert not plan["met"]
    assert plan["reason"].endswith("cannot be met; latency<=3.062ms would do")
    assert {layer["pick"] for layer in plan["layers"]} == {"int8"}
    assert plan["reason"] in " ".join(ran.out.split())
    assert "3.062ms would do" in (tmp_path / "x.html").read_text()


def test_the_plan_from_python(quick, bench, tiny: str, packed: Path) -> None:
    bench()
    given = {"input": "3x32x32", "runtime": "onnxruntime", "data": packed, "calibration": 8}
    plan = package.explain(tiny, budget="latency<=0.55x", without="structured", **given)
    assert isinstance(plan, Proposal)
    assert {layer.pick for layer in plan.layers} == {"int8"}
    assert plan.methods == ("int8",)


REFUSED: dict[str, tuple[tuple[object, ...], dict[str, Any], str]] = {
    "no data": (("--latency", "0.5x"), {"data": None}, "give --data DIR, or --demo"),
    "a range": (("--budget", "latency=1ms..2ms"), {}, "latency=1ms..2ms is a range; explain tells of one plan"),
    "micronet": (("--budget", "micronet<=0.3"), {}, "micronet is measured, and cannot be planned for"),
    "without": (("--latency", "0.5x", "--without", "int4"), {}, "--without: unknown method 'int4'"),
    "method": (("--method", "int4"), {}, "unknown method 'int4'"),
    "no effect": (("--method", "magnitude:1x1@50%"), {}, "magnitude:1x1@50%:global has no effect on onnxruntime"),
    "no effect, planned": (("--latency", "1x", "--method", "ltp"), {}, "has no effect on onnxruntime"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_planned_is_one_line_and_exit_2(case: str, planning, tmp_path: Path) -> None:
    options, given, reason = REFUSED[case]
    ran = planning(*options, "--calibration", 8, **given)
    assert ran.code == 2
    assert reason in ran.said
    assert ran.out == ""
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_a_method_that_has_an_effect_is_no_hindrance(quick, tiny: str) -> None:
    """Nor one that has none on the others, where any runtime will do."""
    told = package.explain(tiny, input="3x32x32", runtime="onnxruntime", method=["int8:w4", "channels:25%"])
    assert set(LAYERS) <= {item.layer.name for item in told.layers}
    original = resolve(tiny, None, "3x32x32")
    if "engine" in runtimes.installed():
        require_effect(("magnitude:1x1@50%",), original, None, 1)
    with pytest.raises(BadInput, match=r"on openvino \(unstructured zeros: .*; leave it out"):
        require_effect(("int8", "magnitude:1x1@50%"), original, "openvino", 1)


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
