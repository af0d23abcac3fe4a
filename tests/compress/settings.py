"""One row a method: what sends it through the contract tests. A new method adds a row and nothing else."""

from dataclasses import dataclass, field

from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer

# Layers to count: of each kind one whose numbers are quickly worked out by hand.
LAYERS = {
    CONV: Layer("conv", CONV, "Conv", (2, 4, 4), (3, 4, 4), (3, 2, 3, 3), bias=True, macs=16 * 3 * 18),
    DEPTHWISE: Layer("dw", DEPTHWISE, "Conv", (4, 4, 4), (4, 4, 4), (4, 1, 3, 3), groups=4, macs=16 * 4 * 9),
    LINEAR: Layer("fc", LINEAR, "Linear", (8,), (5,), (5, 8), bias=True, macs=40),
}


@dataclass(frozen=True)
class Row:
    """`settings`: as the method spells them after `NAME:`, the default first; `wrong`: what is refused. `bits`: for a
    setting and each kind of LAYERS the bits that are stored. `multiplies`: width of the products; `left`: the share of
    them that is left, where it is not all. `error`: how far the outputs of `tests/tiny.py` may move in the file, as a
    share of their range."""

    settings: tuple[str, ...]
    wrong: tuple[str, ...]
    bits: dict[str, dict[str, int]] = field(default_factory=dict)
    multiplies: dict[str, int] = field(default_factory=dict)
    left: dict[str, float] = field(default_factory=dict)
    error: float = 0.1


# 8 bits a weight; 32 bits for the scale of each output channel and for each bias
_INT8 = {CONV: 54 * 8 + 3 * 32 + 3 * 32, DEPTHWISE: 36 * 8 + 4 * 32, LINEAR: 40 * 8 + 5 * 32 + 5 * 32}
_INT2 = {CONV: 54 * 2 + 3 * 32 + 3 * 32, DEPTHWISE: 36 * 2 + 4 * 32, LINEAR: 40 * 2 + 5 * 32 + 5 * 32}
# half of the weights in floats, and the biases; the masks are no bits of weights
_HALF = {CONV: 27 * 32 + 3 * 32, DEPTHWISE: 18 * 32, LINEAR: 20 * 32 + 5 * 32}

ROWS: dict[str, Row] = {
    "int8": Row(
        settings=("", "full", "mse", "entropy", "full:percentile", "w4", "w3:full:mse"),
        wrong=("w9", "w4:w5", "full:full", "mse:entropy", "FULL", ":", " "),
        bits={"": _INT8, "full": _INT8},
        multiplies={"": 8, "full": 8},
    ),
    "lsq": Row(
        settings=("w8a8:config1:mean", "w4a4:config2:min-max:tensor", "w2a3:config1:mse:stem.*=w8a8"),
        wrong=("w9a9", "w4", "config3", "W4A4", "w4a4:w2a2", " "),
        bits={"": _INT8, "w2a4": _INT2},
        multiplies={"": 8, "w2a4": 4},
        error=0.25,  # the mean's rule clips what is large, which only training makes good
    ),
    "lsq+": Row(
        settings=("w8a8:config4:mse", "w4a4:config3:min-max", "w2a2:config4:mean:tensor:blocks.?.*=w4a8"),
        wrong=("w9a9", "w4", "config1", "W4A4", "w4a4:w2a2", " "),
        bits={"": _INT8, "w2a4": _INT2},
        multiplies={"": 8, "w2a4": 4},
    ),
    "magnitude": Row(
        settings=(
            "4x1@50%:global",
            "1x1@87.5%:uniform",
            "2:4:uniform:regrow",
            "dense:uniform:blocks.?.project.0=4x4@80%:stem.0=1x1@10%",
        ),
        wrong=(
            *("4x1", "80%", "4x1@0%", "4x1@100%", "4x1@-5%", "4X1@50%", "4x1@50", "4x1@50%:8x1@50%", "DENSE", " "),
            *("2:2", "4:2", "regrow:regrow", "taylor:norm", "4x1@96%"),
        ),
        bits={"1x1@50%": _HALF, "2:4": _HALF},
        multiplies={"1x1@50%": 32, "2:4": 32},
        left={"1x1@50%": 0.5, "2:4": 0.5},
        error=0.5,  # half of what two layers knew is gone
    ),
    # Counts differ by kind (outputs and inputs both go, in depthwise layers one of them), and the small layers here are
    # narrower than a multiple: channels/test_counts.py has them.
    "channels": Row(
        settings=("30%:uniform", "50%:global:by8", "40%:uniform:by1:class*=dense:classifier=dense"),
        wrong=(
            *("30", "0%", "100%", "-5%", "30%:50%", "uniform:global", "by3", "by8:by8", "stem.0=50%", "=dense"),
            *("80%:global", "DENSE", ":", " "),
        ),
        error=0.5,  # a third of what two layers knew is gone
    ),
    # Counts differ by kind: structured_conv/test_method.py has them.
    "structured": Row(
        settings=("n=2", "n=2:c=0.5", "n=2:lambda0:all", "n=2:stem.0=n2:blocks.?.project.0=c0.5:blocks.1.*=dense"),
        wrong=(
            *("2", "n2", "c=2", "c=0", "n=0", "n=2:n=3", "c=0.5:c=0.5", "lambda", "lambda-1", "all:all", "N=2", " "),
            *("stem.0=50%", "stem.0=", "stem.0=n0", "stem.0=c2", "stem.0=DENSE", ":"),
        ),
        error=1.0,  # kernels that nothing has drawn to structure lose three quarters of their norm
    ),
    "ltp": Row(
        settings=("1x1@80%:t0.05", "1x1@50%:t0.1", "dense:t0.05:blocks.?.project.0=1x1@70%"),
        wrong=("80%", "4x1@50%", "2:4", "1x1@96%", "1x1@50%:t0.1:t0.2", "t0", "lambda", "global", " "),
        bits={"1x1@50%": _HALF},
        multiplies={"1x1@50%": 32},
        left={"1x1@50%": 0.5},
        error=1.0,  # four fifths
    ),
    "block_ltp": Row(
        settings=("4x1@80%:t0.05", "4x4@50%:t0.1", "dense:t0.05:blocks.?.project.0=8x1@70%"),
        wrong=("80%", "1x1@50%", "2:4", "4x1@96%", "4x1@50%:t0.1:t0.2", "t0", "lambda", "global", " "),
        error=1.0,  # four fifths
    ),
}
