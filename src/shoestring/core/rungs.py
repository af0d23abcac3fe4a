"""Which operating points a ladder keeps: those nothing else beats, and of these the ones that serve most deadlines."""

import math
from collections.abc import Sequence


def pareto(ms: Sequence[float], quality: Sequence[float]) -> list[int]:
    """Indices of what nothing no slower is as good as, fastest first."""
    found: list[int] = []
    for index in sorted(range(len(ms)), key=lambda i: (ms[i], -quality[i])):
        if not found or quality[index] > quality[found[-1]]:
            found.append(index)
    return found


def rungs(ms: Sequence[float], quality: Sequence[float], count: int) -> list[int]:
    """At most `count` (1 or more) of the Pareto front, fastest first: the fastest, the best, and between them those
    with the highest mean quality of the richest point within a deadline, where deadlines are spread evenly in their
    logarithm. Exact, by dynamic programming over the front. One alone is the best."""
    front = pareto(ms, quality)
    if count >= len(front):
        return front
    if count == 1:
        return front[-1:]
    # best[i]: (mean quality up to front[i], the chain that ends there), with as many points as rounds went by.
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, (0,))}
    for _ in range(count - 1):
        longer: dict[int, tuple[float, tuple[int, ...]]] = {}
        for last, (value, chain) in best.items():
            for then in range(last + 1, len(front)):
                gain = quality[front[last]] * math.log(ms[front[then]] / ms[front[last]])
                if then not in longer or value + gain > longer[then][0]:
                    longer[then] = value + gain, (*chain, then)
        best = longer
    return [front[place] for place in best[len(front) - 1][1]]
