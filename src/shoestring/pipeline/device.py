"""This machine as a Device."""

from shoestring.core.contract import capabilities
from shoestring.core.device import Device
from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes
from shoestring.measure import machine


def here(runtime: str, threads: int = 1) -> Device:
    """The processor here with one runtime. Raises BadInput when the runtime is absent or the threads do not exist."""
    cores = machine.cores()
    if not 1 <= threads <= cores:
        raise BadInput(f"--threads: {threads} threads, but {cores} cores can be used here; write 1 to {cores}")
    isa = machine.isa()
    version = runtimes.get(runtime).version()
    return Device(machine.processor(), isa, cores, threads, runtime, version, capabilities(runtime, isa))
