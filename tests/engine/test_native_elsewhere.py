"""The engine's own tests, with programs executed by other builds of the library: for AArch64, under sanitizers, with
instructions that this processor lacks. And bytes made up by a fuzzer."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from shoestring.engine import native

Tool, Built = Callable[[str, str], str], Callable[..., Path]
HERE = Path(__file__).parent
TESTS = [
    HERE / f"test_{name}.py" for name in ("conv", "copy", "depthwise", "linear", "neighbours", "pointwise", "pooling")
]
SECONDS = 60  # that the fuzzer has


def passes(driver: str, **environment: str) -> None:
    env: Mapping[str, str] = {
        **os.environ,
        "PYTHONPATH": str(HERE / "native"),
        "SHOESTRING_TEST_DRIVER": driver,
        **environment,
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "elsewhere", *map(str, TESTS)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def sanitized(built: Built, compiler: str, sanitizers: str, name: str, target: str, **settings: str) -> Path:
    flags = f"-fsanitize={sanitizers} -fno-sanitize-recover=all"
    return built(
        name, target, CMAKE_BUILD_TYPE="RelWithDebInfo", CMAKE_CXX_COMPILER=compiler, CMAKE_CXX_FLAGS=flags, **settings
    )


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_under_sanitizers(sanitizers: str, tool: Tool, built: Built) -> None:
    passes(str(sanitized(built, tool("clang++", "clang"), sanitizers, sanitizers.split(",")[0], "driver")))


@pytest.mark.slow
def test_aarch64(tool: Tool, built: Built) -> None:
    if platform.machine() in ("aarch64", "arm64"):
        pytest.skip("this is such a processor")
    compiler = tool("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    emulator = tool("qemu-aarch64-static", "qemu-user-static")
    driver = built(
        "aarch64",
        "driver",
        CMAKE_BUILD_TYPE="Release",
        CMAKE_CXX_COMPILER=compiler,
        CMAKE_SYSTEM_NAME="Linux",
        CMAKE_SYSTEM_PROCESSOR="aarch64",
    )
    passes(f"{emulator} -L /usr/aarch64-linux-gnu {driver}")


@pytest.mark.slow
def test_avx512_and_avx_vnni(tool: Tool, built: Built) -> None:
    if not native.available() or "avx2" not in native.isas():
        pytest.skip("this processor has no AVX2, or the engine is absent")
    if not Path("/usr/include/simde/x86/avx512.h").exists():
        pytest.skip("SIMDe is missing; Debian, Ubuntu: apt install libsimde-dev")
    compiler = tool("g++", "g++")
    passes(str(built("emulated", "driver", CMAKE_BUILD_TYPE="Release", CMAKE_CXX_COMPILER=compiler, EMULATED="ON")))


@pytest.mark.slow
def test_fuzzed_programs(tool: Tool, built: Built, tmp_path: Path) -> None:
    """Starts from the programs of the tests."""
    folders = [tmp_path / name for name in ("found", "programs")]
    for folder in folders:
        folder.mkdir()
    clang = tool("clang++", "clang")
    fuzz = sanitized(built, clang, "fuzzer-no-link,address,undefined", "fuzz", "fuzz", FUZZ="ON")
    driver = built("plain", "driver", CMAKE_BUILD_TYPE="Release", CMAKE_CXX_COMPILER=clang)
    passes(str(driver), SHOESTRING_TEST_PROGRAMS=str(folders[1]))
    limits = [f"-max_total_time={SECONDS}", "-timeout=60", "-rss_limit_mb=4096", "-max_len=32768"]
    done = subprocess.run([fuzz, *limits, *folders], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-6000:]
