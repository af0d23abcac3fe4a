"""What the machine says of itself, from recorded texts; pinning on the real one."""

import os
import platform
import threading

import pytest

from shoestring.core.errors import BadInput
from shoestring.measure import machine

EPYC = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9B45
flags\t\t: fpu sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c avx2 avx512f avx512dq avx512_bf16 avx_vnni avx512_vnni
"""
ZEN3 = "model name\t: AMD EPYC\nflags\t\t: fpu sse4_1 sse4_2 avx f16c fma avx2 vaes\n"
SAPPHIRE_RAPIDS = """model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: sse4_2 avx2 avx_vnni avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8
"""
GRAVITON3 = """processor\t: 0
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp asimdrdm asimddp sha512 sve i8mm bf16 rng
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
RASPBERRY_PI_4_32BIT = (
    "Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva crc32\n\nHardware\t: BCM2711\n"
)
APPLE_M2 = """machdep.cpu.brand_string: Apple M2
machdep.cpu.core_count: 8
hw.optional.AdvSIMD: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_BF16: 1
hw.optional.avx2_0: 0
"""
INTEL_MAC = """machdep.cpu.brand_string: Intel(R) Core(TM) i7-8850H CPU @ 2.60GHz
machdep.cpu.features: FPU SSE SSE2 SSSE3 FMA SSE4.1 SSE4.2 AVX1.0
machdep.cpu.leaf7_features: RDWRFSGS BMI1 AVX2 BMI2
"""


@pytest.mark.parametrize(
    ("text", "name", "sets"),
    [
        (EPYC, "AMD EPYC 9B45", "sse4.2 avx2 avx_vnni avx512f avx512_vnni avx512_bf16"),
        (ZEN3, "AMD EPYC", "sse4.2 avx2"),
        (
            SAPPHIRE_RAPIDS,
            "Intel(R) Xeon(R) Platinum 8481C",
            "sse4.2 avx2 avx_vnni avx512f avx512_vnni avx512_bf16 amx_int8 amx_bf16",
        ),
        (GRAVITON3, "", "neon asimddp i8mm bf16 sve"),
        (RASPBERRY_PI_4_32BIT, "BCM2711", "neon"),
        (APPLE_M2, "Apple M2", "neon asimddp i8mm bf16"),
        (INTEL_MAC, "Intel(R) Core(TM) i7-8850H CPU @ 2.60GHz", "sse4.2 avx2"),
        ("", "", ""),
    ],
)
def test_recorded_texts(text: str, name: str, sets: str) -> None:
    assert machine.processor_of(text) == name
    assert machine.isa_of(text) == tuple(sets.split())


def test_this_machine() -> None:
    assert machine.processor()
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    assert not machine.load() < 0
    assert machine.fingerprint() == machine.fingerprint()
    if platform.machine() == "x86_64" and platform.system() == "Linux":
        assert "sse4.2" in machine.isa()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system offers no pinning")
def test_pinned_holds_for_threads_started_inside_and_is_undone() -> None:
    before = os.sched_getaffinity(0)
    seen: list[set[int]] = []
    with pytest.raises(RuntimeError, match="out"), machine.pinned(1) as chosen:
        thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
        raise RuntimeError("out")
    assert seen == [set(chosen)]
    assert len(chosen) == 1
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("threads", [0, 10_000])
def test_more_threads_than_cores_are_refused(threads: int) -> None:
    with pytest.raises(BadInput, match="--threads"), machine.pinned(threads):
        pass
