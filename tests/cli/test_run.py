"""An artifact on photographs: what is printed, what is skipped, what is refused."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import shoestring as package
from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point
from shoestring.deploy import shoe
from shoestring.measure.load import Script
from shoestring.measure.load import read as load_script


@pytest.fixture
def pictures(photographs: Path, tmp_path: Path) -> Path:
    """Three photographs in a folder of their own."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, name in enumerate(("ant", "bee", "cat")):
        shutil.copy(photographs / name / "0.png", folder / f"{index}.png")
    return folder


def test_photographs(shoestring, fitted, pictures: Path, tmp_path: Path) -> None:
    """The classes in the order of their probability, as `load` gives them, and the throughput."""
    paths = sorted(pictures.iterdir())
    told = shoestring("run", fitted.path, *paths, "--json", tmp_path / "x.json")
    assert (told.code, told.err) == (0, "")
    model = package.load(fitted.path)
    data = json.loads((tmp_path / "x.json").read_text())
    for path, answer in zip(paths, data, strict=True):
        assert str(path) in told.out.splitlines()
        best = model(path)
        assert [item["label"] for item in answer["predictions"]] == [item.label for item in best]
        for item in best:
            assert f"{100 * item.probability:5.1f} %  {item.label}" in told.out
        assert sum(item["probability"] for item in answer["predictions"]) < 1.0001
        assert answer["prepare_ms"] > 0
        assert answer["run_ms"] > 0
    summary = told.out.splitlines()[-1]
    assert re.fullmatch(r"3 inputs, \d+ a second: \d+\.\d ms to prepare and \d+\.\d ms to run each", summary)


def test_a_folder_stands_for_its_photographs(shoestring, fitted, photographs: Path, pictures: Path) -> None:
    told = shoestring("run", fitted.path, photographs, pictures / "0.png", "--top", 1)
    assert told.code == 0
    assert told.out.splitlines()[-1].startswith("31 inputs, ")
    assert len(told.out.splitlines()) == 2 * 31 + 1


def test_a_broken_file_among_good_ones(shoestring, fitted, pictures: Path, tmp_path: Path) -> None:
    (pictures / "1.png").write_bytes((pictures / "1.png").read_bytes()[:80])
    (pictures / "notes.txt").write_text("no picture")
    told = shoestring("run", fitted.path, pictures, "--json", tmp_path / "x.json")
    assert told.code == 0
    assert f"{pictures / '1.png'}: not a readable image" in told.out
    assert told.out.splitlines()[-1].startswith("2 inputs, ")
    broken = [answer for answer in json.loads((tmp_path / "x.json").read_text()) if answer["error"]]
    assert [answer["input"] for answer in broken] == [str(pictures / "1.png")]
    assert broken[0]["predictions"] == []


def test_nothing_but_broken_files(shoestring, fitted, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    told = shoestring("run", fitted.path, tmp_path / "a.png", "--json", tmp_path / "x.json")
    assert told.code == 2
    assert told.said == "shoestring: none of the 1 inputs could be read"
    assert not (tmp_path / "x.json").exists()


@pytest.fixture
def tensors(fitted, tmp_path: Path) -> Path:
    """The same network taking tensors."""
    artifact = shoe.read(fitted.path)
    spec = {"kind": "tensor", "shape": [3, 32, 32]}
    path = tmp_path / "tensors.shoe"
    shoe.write(path, shoe.Contents(spec, (), (Point("model.onnx"),), {"model.onnx": artifact.onnx()}))
    return path


def test_arrays(tensors: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 32, 32), np.float32)
    files = {"good": x, "wide": x[:, :, :9], "whole": x.astype(int)}
    for name, array in files.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "zip.npz", x=x)
    (tmp_path / "zip.npz").rename(tmp_path / "zip.npy")
    (tmp_path / "empty.npy").touch()
    (tmp_path / "pickle.npy").write_bytes(b"\x80\x04K\x01.")
    huge = (tmp_path / "good.npy").read_bytes().replace(b"(3, 32, 32)", b"(3**9**9,) ")
    (tmp_path / "huge.npy").write_bytes(huge)
    answers = {Path(a.input).stem: a for a in package.run(tensors, sorted(tmp_path.glob("*.npy")), top=3)}
    expected = package.load(tensors)(x, top=3)
    assert answers.pop("good").predictions == tuple(expected)
    assert [item.label for item in expected] == [str(item.index) for item in expected]  # the file has no labels
    assert set(answers) == {"wide", "whole", "zip", "empty", "pickle", "huge"}
    for answer in answers.values():
        assert answer.error
        assert "\n" not in answer.error


def test_photographs_for_a_network_that_takes_tensors(shoestring, tensors: Path, pictures: Path) -> None:
    told = shoestring("run", tensors, pictures)
    assert told.code == 2
    assert "this model takes a float array [3, 32, 32]" in told.out


def test_runtimes_and_threads(shoestring, fitted, pictures: Path) -> None:
    assert shoestring("run", fitted.path, pictures, "--runtime", "onnxruntime").code == 0
    told = shoestring("run", fitted.path, pictures, "--runtime", "tvm")
    assert (told.code, "unknown 'tvm'" in told.said) == (2, True)


def test_what_is_refused(fitted, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    for inputs, reason in (
        ([pictures / "9.png"], "there is no such file or folder"),
        ([tmp_path / "nothing"], "holds no image"),
    ):
        with pytest.raises(BadInput, match=reason):
            package.run(fitted.path, inputs)
    with pytest.raises(BadInput, match=r"not a \.shoe file"):
        package.run(pictures / "0.png", [pictures])


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_that_could_drive_a_terminal(shoestring, fitted, pictures: Path, tmp_path: Path) -> None:
    """Escapes, and bytes that are no UTF-8: shown as something harmless, and kept as they are in the JSON."""
    name = b"\x1b[31m" + b"caf\xe9 [red]" + b"x" * 120 + b".png"
    target = os.path.join(os.fsencode(pictures), name)  # noqa: PTH118  # bytes
    shutil.copy(os.fsencode(pictures / "0.png"), target)
    told = shoestring("run", fitted.path, os.fsdecode(target), "--json", tmp_path / "x.json", "--top", 1)
    assert told.code == 0
    assert "\x1b" not in told.out
    assert "[red]" + "x" * 120 + ".png" in told.out.splitlines()[0]
    (answer,) = json.loads((tmp_path / "x.json").read_text())
    assert os.fsencode(answer["input"]) == target


def test_with_a_deadline(shoestring, fitted, pictures: Path, tmp_path: Path) -> None:
    """One point only: nothing to choose, everything else as with more."""
    told = shoestring(
        *("run", fitted.path, pictures, "--deadline", "10s", "--frames", 20, "--json", tmp_path / "x.json"),
        *("--timeline", tmp_path / "x.svg"),
    )
    assert (told.code, told.err) == (0, "")
    assert re.match(r"20 frames, 0 late \(0\.00 %\).*; the point changed 0 times\n  point 0: 100\.0 %", told.out)
    data = json.loads((tmp_path / "x.json").read_text())
    assert len(data) == 20
    paths = [str(path) for path in sorted(pictures.iterdir())]
    assert [answer["input"] for answer in data[:4]] == [*paths, paths[0]]
    model = package.load(fitted.path)
    for answer, path in zip(data, paths, strict=False):
        assert [item["label"] for item in answer["predictions"]] == [item.label for item in model(path)]
        assert answer["turn"]["deadline_ms"] == 10_000
    assert (tmp_path / "x.svg").read_text().startswith("<svg")


def test_every_frame_late_is_a_result_too(fitted, pictures: Path) -> None:
    answers = list(package.run(fitted.path, [pictures], deadline_ms=1e-6))
    assert [answer.turn.missed for answer in answers] == [True] * 3


def test_under_a_load_that_is_gone_afterwards(shoestring, fitted, pictures: Path, tmp_path: Path) -> None:
    """Also when whoever asked stops in the middle."""
    (tmp_path / "load.json").write_text('{"steps": [[0, 1]], "seconds": 9}')
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text().split() if children.exists() else []
    told = shoestring(
        *("run", fitted.path, pictures, "--deadline", "10s", "--script", tmp_path / "load.json", "--frames", 3),
        *("--json", tmp_path / "x.json"),
    )
    assert told.code == 0
    assert [answer["turn"]["busy"] for answer in json.loads((tmp_path / "x.json").read_text())] == [1, 1, 1]
    answers = package.run(fitted.path, [pictures], deadline_ms=1e4, load=load_script(tmp_path / "load.json"))
    assert next(answers).turn.busy == 1
    answers.close()
    if children.exists():
        assert children.read_text().split() == before


def test_a_broken_photograph_among_frames(shoestring, fitted, pictures: Path) -> None:
    (pictures / "1.png").write_bytes((pictures / "1.png").read_bytes()[:80])
    told = shoestring("run", fitted.path, pictures, "--deadline", "10s")
    assert told.code == 0
    assert f"{pictures / '1.png'}: not a readable image" in told.out
    assert "2 frames, " in told.out


def test_frames_without_a_deadline(shoestring, fitted, pictures: Path) -> None:
    told = shoestring("run", fitted.path, pictures, "--frames", 5, "--top", 1)
    assert told.code == 0
    assert told.out.splitlines()[-1].startswith("5 inputs, ")


def test_what_is_refused_of_deadlines(shoestring, fitted, pictures: Path, tmp_path: Path) -> None:
    for options, reason in (
        (["--deadline", "soon"], "is no time; write 33ms or 0.1s"),
        (["--deadline", "33ms", "--timeline", tmp_path / "x.png"], "one of .html, .svg, .json"),
        (["--miss", "0.01"], "are for frames with a deadline; write --deadline 33ms"),
        (["--load"], "are for frames with a deadline; write --deadline 33ms"),
        (["--timeline", tmp_path / "x.svg"], "are for frames with a deadline"),
        (["--deadline", "33ms", "--miss", "2"], "2 of the frames may be late; give a share"),
        (["--deadline", "33ms", "--script", tmp_path / "absent.json"], "absent.json: cannot be read"),
    ):
        told = shoestring("run", fitted.path, pictures, *options)
        assert (told.code, reason in told.said) == (2, True), told.err
    with pytest.raises(BadInput, match="load: is for frames with a deadline"):
        package.run(fitted.path, [pictures], load=Script(((0, 1),), 9))
    with pytest.raises(BadInput, match="frames: 0 is none"):
        package.run(fitted.path, [pictures], frames=0)
