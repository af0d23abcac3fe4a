"""The examples run on tiny data, and stay short enough to be read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shoestring.deploy.shoe import read

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def run(folder: Path, name: str, *arguments: object) -> str:
    """Standard output of an example that is started in `folder`."""
    (script,) = (path for path in EXAMPLES if path.stem == name)
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "SHOESTRING_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here() -> None:
    assert [path.stem for path in EXAMPLES] == ["fit_from_python", "run_artifact"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 40


def test_fit_from_python(photographs: Path, tmp_path: Path) -> None:
    told = run(tmp_path, "fit_from_python", photographs)
    assert "x against fp32 (95 %: " in told
    assert told.splitlines()[-1] == "wrote network.shoe"
    artifact = read(tmp_path / "network.shoe")
    assert artifact.receipt is not None
    assert len(artifact.provenance["methods"]) == 3


def test_run_artifact(fitted, photographs: Path, tmp_path: Path) -> None:
    paths = [photographs / name / "0.png" for name in ("ant", "bee")]
    lines = run(tmp_path, "run_artifact", fitted.path, *paths).splitlines()
    assert lines[0].startswith(f"{fitted.path} on {fitted.receipt.subject.runtime}")
    assert [line.partition(": ")[0] for line in lines[1:]] == list(map(str, paths))
    assert all(line.endswith(" %)") for line in lines[1:])
