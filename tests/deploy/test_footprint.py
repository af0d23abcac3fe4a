"""What the memory measurement runs in a process of its own."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from shoestring.core.errors import BadInput
from shoestring.deploy import footprint, runtimes
from shoestring.deploy.footprint import load_and_run


@pytest.mark.parametrize("runtime", runtimes.installed(runtimes.STOCK))
def test_a_graph_is_opened_and_run(classifier: ModelProto, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[int, list[np.ndarray]]] = []

    def get(name: str) -> Any:
        def run(onnx: bytes, threads: int) -> Any:
            session = runtimes.get(name).open(onnx, threads=threads)

            def call(*inputs: np.ndarray) -> list[np.ndarray]:
                ran.append((threads, session(*inputs)))
                return ran[-1][1]

            call.inputs = session.inputs  # type: ignore[attr-defined]  # what a session has
            return call

        return SimpleNamespace(open=run)

    monkeypatch.setattr(footprint, "runtimes", SimpleNamespace(get=get))
    load_and_run(classifier.SerializeToString(), runtime, threads=1, runs=2)
    assert len(ran) == 2
    for threads, (output,) in ran:
        assert threads == 1
        assert np.allclose(output, np.arange(5))  # of zeros: the head's offset


def test_a_bad_graph_is_refused() -> None:
    with pytest.raises(BadInput):
        load_and_run(b"no graph", "onnxruntime", threads=1)
