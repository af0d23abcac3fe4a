"""What all verbs share: bars for a person, files in one step, and refusing early."""

import json
import os
import sys
from pathlib import Path

import pytest

from shoestring.cli.options import console, progress, require_places, write_json, write_text
from shoestring.core.errors import BadInput


def test_a_pipe_is_given_100_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert not sys.stdout.isatty()
    assert console().width == 100
    console().print("x" * 90)
    assert capsys.readouterr().out == "x" * 90 + "\n"


def test_progress_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as report:
        report("timing", 0.5)
    assert capsys.readouterr() == ("", "")


def test_progress_shows_the_stages_on_a_terminal(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress() as report:
        for stage in ("calibrating", "timing"):
            for share in (0.0, 0.5, 1.0):
                report(stage, share)
    out, err = capsys.readouterr()
    assert out == ""  # results stay alone on standard output
    assert "calibrating" in err
    assert "timing" in err


def test_json_is_written_in_one_step(tmp_path: Path) -> None:
    path, data = tmp_path / "x.json", {"a": [1, 2.5, None], "é": os.fsdecode(b"caf\xe9.png")}
    write_json(path, {"old": True})
    write_json(path, data)
    assert json.loads(path.read_text()) == data
    assert path.read_bytes().endswith(b"}\n")
    write_json(None, data)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == data
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_written_in_one_step(tmp_path: Path) -> None:
    write_text(tmp_path / "page.html", "ü")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "ü"
    with pytest.raises(BadInput, match="cannot be written"):
        write_text(tmp_path / "nowhere" / "page.html", "ü")


def test_places_are_looked_at_first(tmp_path: Path) -> None:
    require_places(None, tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadInput, match="there is no folder"):
        require_places(tmp_path / "x.json", tmp_path / "nowhere" / "x.html")
    with pytest.raises(BadInput, match="is a folder"):
        require_places(tmp_path)
