"""What is compiled for the tests of native code. Builds stay in build/: the next run compiles what changed."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
NATIVE = ROOT / "src/shoestring/engine/native"


def _tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if not path:
        pytest.skip(f"{name} is missing; Debian, Ubuntu: apt install {package}")
    return path


@pytest.fixture
def tool() -> Callable[[str, str], str]:
    """tool(name, Debian package): where it is; skips when it is missing."""
    return _tool


def _run(command: Sequence[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture
def built() -> Callable[..., Path]:
    """built(name, target, **settings): the program that CMakeLists.txt here makes with these CMake settings."""

    def build(name: str, target: str, **settings: str) -> Path:
        folder = ROOT / "build/tests" / name
        path = os.pathsep.join([str(ROOT / ".venv/bin"), os.environ["PATH"]])
        cmake, ninja = (shutil.which(program, path=path) for program in ("cmake", "ninja"))
        if not cmake or not ninja:
            pytest.skip("cmake or ninja is missing; Debian, Ubuntu: apt install cmake ninja-build")
        options = [f"-D{key}={value}" for key, value in settings.items()]
        _run([cmake, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-S", HERE, "-B", folder, *options])
        _run([cmake, "--build", folder, "--target", target])
        return folder / target

    return build


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """compiled(compiler, source, *flags): one file as a program."""

    def build(compiler: str, source: str, *flags: str) -> Path:
        exact = ("-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno")
        _run([compiler, *exact, *flags, "-I", NATIVE, HERE / source, "-o", tmp_path / "program"])
        return tmp_path / "program"

    return build
