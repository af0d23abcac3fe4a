import os
from importlib.metadata import version

import pytest

from shoestring import engine
from shoestring.core.contract import CONTRACT
from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes
from shoestring.pipeline.device import here

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.mark.parametrize("runtime", runtimes.installed())
def test_this_machine(runtime: str) -> None:
    device = here(runtime)
    assert (device.runtime, device.threads, device.cores) == (runtime, 1, CORES)
    told = f"{engine.VERSION} ({engine.isas()[0]})" if runtime == "engine" else version(runtime)
    assert told.startswith(device.version)
    assert device.processor
    assert device.capabilities
    assert set(device.capabilities) <= set(CONTRACT)
    assert {entry.runtime for entry in device.capabilities} == {runtime}


def test_threads_tell_devices_apart() -> None:
    if CORES < 2:
        pytest.skip("one core")
    assert here("onnxruntime", 1).fingerprint != here("onnxruntime", 2).fingerprint


@pytest.mark.parametrize("threads", [0, -1, CORES + 1])
def test_threads_that_do_not_exist(threads: int) -> None:
    with pytest.raises(BadInput, match=f"--threads: {threads} threads, but {CORES} cores"):
        here("onnxruntime", threads)


def test_an_unknown_runtime() -> None:
    with pytest.raises(BadInput, match="unknown 'tvm'; known are onnxruntime, openvino"):
        here("tvm")
