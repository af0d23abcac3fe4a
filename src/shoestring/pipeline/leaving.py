"""Who leaves early: temperatures and thresholds of a network's exits, and what they do to inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shoestring.compress.exits.thresholds import choose, confidences, temperature
from shoestring.core.quality import top1
from shoestring.core.receipt import Quality
from shoestring.deploy.prediction import confident
from shoestring.pipeline.chain import Chain
from shoestring.pipeline.judge import quality
from shoestring.pipeline.samples import Samples


@dataclass(frozen=True)
class Rules:
    """`confidence`: of each exit, as a point of the file has it; empty where it is never left there. `n`: the inputs
    that they were chosen on, and whether these were `labelled` and `held`: used for nothing else. `shares`, `ms`,
    `lost`: what is to be expected from them (`compress.exits.thresholds`)."""

    confidence: tuple[dict[str, float], ...]
    shares: tuple[float, ...]
    ms: float
    lost: float
    n: int
    labelled: bool
    held: bool


@dataclass(frozen=True)
class Left:
    """What the rules do to inputs that judge. `shares`: that leave at each exit and, last, go all the way; `ms`: mean
    time; `answers` [n, classes] that are given, and their `quality` against those of the whole network."""

    shares: tuple[float, ...]
    ms: float
    answers: np.ndarray
    quality: Quality


def rules(chain: Chain, samples: Samples, most: float) -> Rules:
    """Chosen so that inputs lose at most `most` points against the whole network (`compress.exits.thresholds`): of the
    metric, where those held for it are labelled, or else of agreement with it."""
    held = samples.held
    inputs = samples.calibration if held is None else held.judgement
    *exits, final = chain.answers(inputs)
    targets, scores = (None, None) if held is None else (held.targets, held.scores)
    labelled = targets is not None and scores is not None
    answers = targets if targets is not None and labelled else top1(final).clip(0)
    temperatures = [temperature(outputs, answers) for outputs in exits]
    if targets is not None and scores is not None:
        lost = np.stack([scores(final, targets) - scores(outputs, targets) for outputs in exits])
    else:
        lost = np.stack([(top1(outputs) != answers).astype(float) for outputs in exits])
    sure = np.stack([confidences(outputs, t) for outputs, t in zip(exits, temperatures, strict=True)])
    found = choose(sure, lost, chain.ms, most)
    confidence = tuple(
        {} if value is None else {"temperature": t, "threshold": value}
        for t, value in zip(temperatures, found.values, strict=True)
    )
    return Rules(confidence, found.shares, found.ms, found.lost, len(inputs), labelled, held is not None)


def left(chain: Chain, answers: np.ndarray, rules: Rules, samples: Samples) -> Left:
    """What becomes of inputs whose `answers` [stages, n, classes] are known, each by the rule that is deployed."""
    last = len(answers) - 1
    at = np.array([_leaves(answers[:, index], rules.confidence) for index in range(answers.shape[1])])
    shares = tuple(float(np.mean(at == stage)) for stage in range(last + 1))
    given = answers[at, np.arange(len(at))]
    spent = sum(share * ms for share, ms in zip(shares, chain.ms, strict=True))
    return Left(shares, spent, given, quality(given, answers[last], samples))


def _leaves(answers: np.ndarray, confidence: Sequence[dict[str, float]]) -> int:
    """The stage whose answer is final, of [stages, classes]."""
    exits = enumerate(confidence)
    return next((index for index, rule in exits if confident(answers[index], rule)), len(answers) - 1)


def told(rules: Rules, left: Left | None, places: Sequence[str], bare_ms: float) -> tuple[str, ...]:
    """What a reader must know of it, in sentences. `bare_ms`: of the network without exits."""
    whose = f"{rules.n} {'held' if rules.held else 'calibration'} inputs{' with labels' * rules.labelled}"
    chosen = f"Thresholds were chosen on {whose}, on which {rules.lost:.2f} points are lost by leaving early."
    if not rules.held:
        chosen += " They were fitted to these inputs, and are surer of them than of others."
    if not any(rules.confidence):
        return chosen, "No threshold saves time within the points allowed: nothing leaves early but for a deadline."
    if left is None:
        return (chosen,)
    own = left.quality
    shares = ", ".join(f"{100 * share:.0f} % leave at {name}" for share, name in zip(left.shares, places, strict=False))
    spent = f"{left.ms:.3g} ms on average, {left.ms / bare_ms:.2f}x of the {bare_ms:.3g} ms without exits"
    kept = f"{own.metric} {own.subject:.1f} against {own.original:.1f} of the whole network in 8 bits"
    span = f"{own.difference:+.2f} [{own.low:+.2f}, {own.high:+.2f}]"
    return chosen, f"Of {own.n} judging inputs {shares}: {spent}; {kept} ({span})."
