"""The wheel: with a compiler it brings the library, without one it is the same package without the engine."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("scikit_build_core", reason="scikit-build-core is missing: make setup")
ROOT = Path(__file__).parents[2]
BUILD = "import sys; from scikit_build_core.build import build_{0}; print(build_{0}(sys.argv[1]))"


def build(source: Path, kind: str = "wheel", **environment: str) -> Path:
    """The wheel built of a copy of the sources, with this environment's cmake and ninja, or the system's."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "CMakeCache.txt", "CMakeFiles", "build.ninja")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, **environment}
    command = [sys.executable, "-c", BUILD.format(kind), "dist"]
    done = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return source / "dist" / done.stdout.split()[-1]


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_no_compiler_no_engine(kind: str, tmp_path: Path) -> None:
    if not shutil.which("cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])):
        pytest.skip("cmake is missing: make setup")
    wheel = build(tmp_path, kind, CXX="/nowhere/c++")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "libshoestring" in name]


@pytest.mark.slow
def test_wheel_brings_the_library(tmp_path: Path) -> None:
    if not shutil.which("c++"):
        pytest.skip("c++ is missing; Debian, Ubuntu: apt install g++")
    wheel = build(tmp_path)
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    members = {member.filename: member.file_size for member in zipfile.ZipFile(wheel).infolist()}
    (library,) = (name for name in members if "libshoestring_engine" in name)
    assert library.startswith("shoestring/engine/libshoestring_engine.")
    assert members[library] < 1_000_000
    assert not [name for name in members if "/native/" in name]


@pytest.mark.slow
def test_editable_install_leaves_the_library_beside_native_py(tmp_path: Path) -> None:
    if not shutil.which("c++"):
        pytest.skip("c++ is missing; Debian, Ubuntu: apt install g++")
    wheel = build(tmp_path, "editable")
    assert "shoestring/engine/native.py" not in zipfile.ZipFile(wheel).namelist()
    assert list((tmp_path / "src/shoestring/engine").glob("libshoestring_engine.*"))
