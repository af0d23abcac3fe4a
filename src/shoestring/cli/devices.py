"""`shoestring devices`: what is here, and what each runtime can really do."""

from typing import Annotated

import typer

from shoestring.cli.options import Json, Threads, console, require_places, write_json
from shoestring.core.device import Device


def devices(threads: int = 1) -> tuple[Device, ...]:
    """This machine with each runtime installed here, the capability contract that applies included."""
    from shoestring.deploy.runtimes import installed  # runtimes take a second to load: not for --help
    from shoestring.pipeline.device import here

    return tuple(here(runtime, threads) for runtime in installed())


def devices_command(
    threads: Threads = 1,
    json: Json = None,
    sources: Annotated[
        bool, typer.Option("--sources", help="Say where each entry of the contract comes from.")
    ] = False,
) -> None:
    """Shows the processor, the runtimes and what they really execute, and how to get those that are absent."""
    from shoestring.deploy.runtimes import absent
    from shoestring.report.devices import print_devices

    require_places(json)
    found = devices(threads)
    write_json(json, [device.to_json() for device in found])
    print_devices(found, absent(), sources, console())
