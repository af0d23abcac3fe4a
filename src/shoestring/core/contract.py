"""The capability contract: what each runtime really executes. One entry a fact, each with where it comes from.

`shoestring devices` prints the entries that apply here; `explain` quotes them before any training.
"""

from collections.abc import Iterable

from shoestring.core.device import NO_EFFECT, REFUSED, RUNS, SLOWER, STORED_ONLY, WRONG, Capability

_VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")
_X86 = ("avx2", "avx512f")
_MEASURED = "measured: benchmarks/contract.py"
_OWN = "measured: benchmarks/engine.py"
_HERE = "x86-64, AVX2 without VNNI, 2026-11-23"
_VNNI_HERE = "x86-64, AVX-512 VNNI, 2026-11-27"
_SATURATES = (
    "without VNNI the products of two neighbours saturate at 16 bits; `int8` keeps neighbours within range (safe16)"
)

CONTRACT: tuple[Capability, ...] = (
    Capability(
        "onnxruntime",
        "conv int8",
        RUNS,
        f"u8 activations x s8 per-channel weights: fused integer convolution ({_HERE}: MobileNetV2 1.4x of fp32)",
        _MEASURED,
    ),
    Capability(
        "openvino",
        "conv int8",
        RUNS,
        f"u8 activations x s8 per-channel weights: fused integer convolution ({_HERE}: MobileNetV2 1.4x of fp32)",
        _MEASURED,
    ),
    Capability(
        "onnxruntime",
        "u8 x s8 full range",
        WRONG,
        _SATURATES,
        f"{_MEASURED}; ONNX Runtime documentation, 'Quantize ONNX models'",
        needs=_X86,
        lacks=_VNNI,
    ),
    Capability("openvino", "u8 x s8 full range", WRONG, _SATURATES, _MEASURED, needs=_X86, lacks=_VNNI),
    Capability(
        "onnxruntime",
        "depthwise int8",
        SLOWER,
        f"8 bits slow a depthwise convolution down ({_HERE}: 0.59x of fp32)",
        _MEASURED,
        needs=_X86,
        lacks=_VNNI,
    ),
    Capability(
        "openvino",
        "depthwise int8",
        NO_EFFECT,
        f"8 bits do not speed a depthwise convolution up ({_HERE}: 0.96-1.03x of fp32)",
        _MEASURED,
        needs=_X86,
        lacks=_VNNI,
    ),
    Capability(
        "onnxruntime",
        "depthwise left float",
        SLOWER,
        f"left in fp32 they slow an 8-bit network down ({_HERE}: MobileNetV2 0.66x of all int8)",
        _MEASURED,
        needs=_X86,
        lacks=_VNNI,
    ),
    Capability(
        "openvino",
        "depthwise left float",
        NO_EFFECT,
        f"left in fp32 they gain an 8-bit network nothing ({_HERE}: MobileNetV2 0.99x of all int8)",
        _MEASURED,
        needs=_X86,
        lacks=_VNNI,
    ),
    Capability(
        "onnxruntime",
        "float layer between 8-bit ones",
        WRONG,
        "its weights are quantised per tensor, unasked, between a dequantise and a quantise; `int8` puts a sum of one "
        "term in front, which prevents it",
        _MEASURED,
    ),
    Capability(
        "onnxruntime",
        "signed activations",
        SLOWER,
        f"s8 activations are slower than u8 ({_HERE}: MobileNetV2 0.70x); activations are u8 here",
        _MEASURED,
        needs=_X86,
        lacks=_VNNI,
    ),
    Capability(
        "openvino",
        "bf16",
        RUNS,
        "float graphs run in bfloat16 by default on this processor",
        "OpenVINO documentation, 'CPU Device'; its property OPTIMIZATION_CAPABILITIES",
        needs=("avx512_bf16", "amx_bf16"),
    ),
    *(
        Capability(
            runtime,
            feature,
            NO_EFFECT,
            f"masked weights run at dense speed ({_HERE}: MobileNetV2 at 80 %{how}, {ratios})",
            _MEASURED,
        )
        for runtime, feature, how, ratios in (
            ("onnxruntime", "unstructured zeros", "", "1.00-1.02x"),
            ("openvino", "unstructured zeros", "", "0.99-1.00x"),
            ("onnxruntime", "block zeros", " in blocks of 4x1", "0.99-1.02x"),
            ("openvino", "block zeros", " in blocks of 4x1", "0.98-1.00x"),
        )
    ),
    *(
        Capability(
            runtime,
            "N:M zeros",
            NO_EFFECT,
            f"two of four weights at zero run at dense speed ({_VNNI_HERE}: MobileNetV2, {ratios})",
            _MEASURED,
        )
        for runtime, ratios in (("onnxruntime", "0.99-1.01x"), ("openvino", "0.99x"))
    ),
    *(
        Capability(
            runtime,
            "conv below 8 bits",
            STORED_ONLY,
            "convolutions compute at 8 bits; fewer bits make the file smaller, not faster "
            f"({_HERE}: INT4 initialisers ran {ratio} of int8)",
            _MEASURED,
        )
        for runtime, ratio in (("onnxruntime", "0.28x"), ("openvino", "0.63x"))
    ),
    Capability(
        "onnxruntime",
        "linear 4 bits",
        RUNS,
        "MatMulNBits with accuracy_level=4; pays where weight traffic binds "
        f"({_HERE}, batch 1: 2.0x of fp32 at 1280x1000, 4.5x at 4096x4096)",
        _MEASURED,
    ),
    *(
        Capability("engine", *entry)
        for entry in (
            (
                "conv int8",
                RUNS,
                f"u8 activations x s8 per-channel weights: fused integer convolution ({_HERE}: 1.0-1.2x of stock)",
                _OWN,
            ),
            (
                "u8 x s8 full range",
                RUNS,
                "sums are exact on every processor: nothing saturates at 16 bits",
                "tests/deploy/test_parity.py",
            ),
            (
                "block zeros",
                RUNS,
                "convolutions do not multiply by blocks of 4x1 or 4x4 (outputs x inputs) that are zero "
                f"({_HERE}: MobileNetV2 at 80 % in 4x1, random masks, 2.1x of OpenVINO's dense int8)",
                _OWN,
            ),
            (
                "unstructured zeros",
                RUNS,
                "single zeros are multiplied by; left out are those that four neighbouring outputs share, which are "
                f"two fifths of the weights where 80 % are zero at random, and 6 % where half are ({_VNNI_HERE}: "
                "MobileNetV2 at 80 % of each layer, random weights, 1.4-1.5x of dense; in blocks of 4x1 2.0x)",
                _MEASURED,
            ),
            (
                "N:M zeros",
                RUNS,
                "left out are those that four neighbouring outputs share, one in sixteen of 2:4 at random "
                f"({_VNNI_HERE}: MobileNetV2, 2:4, random weights, 1.15-1.17x of dense)",
                _MEASURED,
            ),
            (
                "conv below 8 bits",
                STORED_ONLY,
                "convolutions compute at 8 bits; fewer bits make the file smaller, not faster",
                _OWN,
            ),
            (
                "linear 4 bits",
                RUNS,
                "MatMulNBits in integers, exactly; weights stay packed in memory",
                _OWN,
            ),
            (
                "float layers",
                REFUSED,
                "it computes in integers only; what little is float at a graph's ends is left to onnxruntime",
                "tests/deploy/runtimes/test_engine.py",
            ),
        )
    ),
)


def capabilities(runtime: str, isa: Iterable[str]) -> tuple[Capability, ...]:
    """The entries that apply to `runtime` on a processor with these instruction sets."""
    present = tuple(isa)
    return tuple(entry for entry in CONTRACT if entry.runtime == runtime and entry.applies(present))
