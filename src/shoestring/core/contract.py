"""The capability contract: what each runtime really executes. One entry a fact, each with where it comes from.

`shoestring devices` prints the entries that apply here; `explain` quotes them before any training.
"""

from collections.abc import Iterable

from shoestring.core.device import NO_EFFECT, RUNS, SLOWER, STORED_ONLY, WRONG, Capability

_VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")
_X86 = ("avx2", "avx512f")

CONTRACT: tuple[Capability, ...] = (
    Capability(
        "onnxruntime",
        "conv int8",
        RUNS,
        "u8 activations x s8 per-channel weights: fused integer convolution (QLinearConv)",
        "measured: benchmarks/int8_bars.py",
    ),
    Capability(
        "openvino",
        "conv int8",
        RUNS,
        "u8 activations x s8 per-channel weights: fused integer convolution",
        "measured: benchmarks/int8_bars.py",
    ),
    Capability(
        "onnxruntime",
        "u8 x s8 full range",
        WRONG,
        "without VNNI the products of two neighbours saturate at 16 bits; `int8` keeps neighbours within range (safe16)",
        "measured: the parity gate (tests/deploy/test_parity.py); ONNX Runtime documentation, 'Quantize ONNX models'",
        needs=_X86,
        lacks=_VNNI,
    ),
    Capability(
        "openvino",
        "u8 x s8 full range",
        WRONG,
        "without VNNI the products of two neighbours saturate at 16 bits; `int8` keeps neighbours within range (safe16)",
        "measured: the parity gate (tests/deploy/test_parity.py)",
        needs=_X86,
        lacks=_VNNI,
    ),
    Capability(
        "onnxruntime",
        "signed activations",
        SLOWER,
        "s8 activations ran 0.77x of fp32 on MobileNetV2 (x86-64, VNNI); activations are u8 here",
        "measured 2026-11 on x86-64 with AVX-512 VNNI",
        needs=_X86,
    ),
    Capability(
        "openvino",
        "bf16",
        RUNS,
        "float graphs run in bfloat16 by default on this processor",
        "OPTIMIZATION_CAPABILITIES of the CPU plugin",
        needs=("avx512_bf16", "amx_bf16"),
    ),
    *(
        Capability(
            runtime,
            "unstructured zeros",
            NO_EFFECT,
            "masked weights run at dense speed (0.96-1.03x at 80 %)",
            "measured 2026-11 on x86-64, MobileNetV2 and EfficientNet-Lite0",
        )
        for runtime in ("onnxruntime", "openvino")
    ),
    *(
        Capability(
            runtime,
            "conv below 8 bits",
            STORED_ONLY,
            "convolutions compute at 8 bits; fewer bits make the file smaller, not faster",
            "measured 2026-11: INT4 initialisers ran 4-5x slower in ONNX Runtime",
        )
        for runtime in ("onnxruntime", "openvino")
    ),
    Capability(
        "onnxruntime",
        "linear 4 bits",
        RUNS,
        "MatMulNBits with accuracy_level=4; pays where weight traffic binds",
        "measured 2026-11: 6.0x over fp32 at 4096x4096, batch 1",
    ),
)


def capabilities(runtime: str, isa: Iterable[str]) -> tuple[Capability, ...]:
    """The entries that apply to `runtime` on a processor with these instruction sets."""
    present = tuple(isa)
    return tuple(entry for entry in CONTRACT if entry.runtime == runtime and entry.applies(present))
