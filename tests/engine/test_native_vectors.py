"""Every vector type computes what vec_portable.h does: vec_test.cpp, on this processor or an emulated one."""

import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from shoestring.engine import native

Tool, Compiled = Callable[[str, str], str], Callable[..., Path]
EMULATOR = ("qemu-aarch64-static", "qemu-user-static")


def check(program: Path, *emulator: str) -> None:
    done = subprocess.run([*emulator, program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(", 0 failures\n")


def test_avx2(tool: Tool, compiled: Compiled) -> None:
    if not native.available() or "avx2" not in native.isas():
        pytest.skip("this processor has no AVX2, or the engine is absent")
    check(compiled(tool("g++", "g++"), "vec_test.cpp", "-mavx2", "-mfma", '-DVEC="vec_avx2.h"'))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "flags"), [("vec_avx512.h", ()), ("vec_avx2.h", ()), ("vec_avx2.h", ("-DSHOESTRING_AVX_VNNI",))]
)
def test_emulated(header: str, flags: tuple[str, ...], tool: Tool, compiled: Compiled) -> None:
    if not Path("/usr/include/simde/x86/avx512.h").exists():
        pytest.skip("SIMDe is missing; Debian, Ubuntu: apt install libsimde-dev")
    folder = Path(__file__).with_name("native") / "simde"
    check(compiled(tool("g++", "g++"), "vec_test.cpp", "-w", f"-I{folder}", f'-DVEC="{header}"', *flags))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("-march=armv8.2-a+dotprod", "-DSHOESTRING_DOTPROD")])
def test_neon(flags: tuple[str, ...], tool: Tool, compiled: Compiled) -> None:
    here = platform.machine() in ("aarch64", "arm64")
    compiler = tool("g++", "g++") if here else tool("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
    program = compiled(compiler, "vec_test.cpp", "-static", '-DVEC="vec_neon.h"', *flags)
    check(program, *(() if here else (tool(*EMULATOR),)))
