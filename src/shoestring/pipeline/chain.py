"""A network with exits in 8 bits, as the stages that are shipped: cut, checked, run and timed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from shoestring.core.errors import BadInput, NotMet
from shoestring.deploy import parity, runtimes
from shoestring.deploy.chain import alone, cut, run
from shoestring.deploy.normal_form import require
from shoestring.deploy.runtimes import Session
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.stopwatch import chained, takes

_BARE = "without exits"


@dataclass(frozen=True)
class Chain:
    """`whole`: the graph with all answers, its own first; `stages`: what is shipped, `bare`: the network without exits.
    `ms`: from the input to the answer of each stage; `bare_ms`: of `bare`; timed in turns on `runtime`."""

    whole: ModelProto
    stages: tuple[ModelProto, ...]
    bare: ModelProto
    runtime: str
    threads: int
    ms: tuple[float, ...] = ()
    bare_ms: float = 0.0

    def sessions(self, runtime: str | None = None) -> list[Session]:
        engine = runtimes.get(runtime or self.runtime)
        return [engine.open(stage.SerializeToString(), threads=self.threads) for stage in self.stages]

    def answers(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """[stages, n, classes]: of every stage for every one of `inputs`, [1, ...] each."""
        sessions = self.sessions()
        return np.concatenate([np.stack(run(sessions, x)) for x in inputs], axis=1)


def chain(
    whole: ModelProto, heads: Sequence[str], runtime: str | None, threads: int, seconds: float, report: Progress
) -> Chain:
    """`whole` (8 bits) cut at the layers `heads` and timed. `runtime`: None takes the one on which it is fastest to its
    end, of those that take all stages. Raises BadInput where one that is named does not."""
    stages, bare = tuple(cut(whole, heads)), alone(whole)
    chains = {str(index): stages[: index + 1] for index in range(len(stages))} | {_BARE: (bare,)}
    timed, done = dict[str, dict[str, float]](), 0

    def shown(share: float) -> None:
        report("timing exits", (done + share) / len(names))

    names = [runtime] if runtime else [name for name in runtimes.installed() if all(takes(name, s) for s in stages)]
    for done, name in enumerate(names):  # noqa: B007 - `shown` reads it
        timed[name] = chained(chains, name, threads, seconds, shown)
    best = min(names, key=lambda name: timed[name][str(len(stages) - 1)])
    ms = tuple(timed[best][str(index)] for index in range(len(stages)))
    return Chain(whole, stages, bare, best, threads, ms, timed[best][_BARE])


def check(chain: Chain, inputs: Sequence[np.ndarray], report: Progress) -> parity.Parity:
    """The gates: the stages, one after the other, give byte for byte what the whole graph gives in ONNX Runtime, and
    each alone gives what the fake-quantised model does on the runtime that is shipped for. Raises NotMet; of the
    stages' parities the last one is returned."""
    final, *exits = _whole(chain.whole, inputs)
    given: list[list[np.ndarray]] = [[x] for x in inputs]
    for index, (stage, session, expected) in enumerate(
        zip(chain.stages, chain.sessions("onnxruntime"), [*exits, final], strict=True)
    ):
        report("parity gate", index / len(chain.stages))
        require(stage)
        if len(session.inputs) != 1:
            raise BadInput(
                f"chain: stage {index} takes {len(session.inputs)} tensors; cut where one holds all there is"
            )
        outputs = [session(*x) for x in given]
        if not np.array_equal(np.concatenate([found[0] for found in outputs]), expected):
            raise NotMet(f"parity: exit {index} gives other bytes than the whole graph; write exits at other places")
        compared = parity.compare(stage, chain.runtime, [x[0] for x in given], chain.threads)
        parity.gate(compared)
        given = [found[1:] for found in outputs]
    report("parity gate", 1.0)
    return compared


def _whole(whole: ModelProto, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each output of the whole graph, [n, ...], in ONNX Runtime."""
    session = runtimes.get("onnxruntime").open(whole.SerializeToString(), threads=1)
    return [np.concatenate(found) for found in zip(*(session(x) for x in inputs), strict=True)]
