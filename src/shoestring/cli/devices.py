"""`shoestring devices`: what is here, what each runtime can really do, and what layers of each width cost on it."""

from functools import partial
from typing import Annotated

import typer

from shoestring.cli.options import (
    Html,
    Json,
    Report,
    Threads,
    console,
    progress,
    require_places,
    write_json,
    write_text,
)
from shoestring.core.device import Device
from shoestring.core.errors import BadInput
from shoestring.core.staircase import Staircase


def devices(threads: int = 1) -> tuple[Device, ...]:
    """This machine with each runtime installed here, the capability contract that applies included."""
    from shoestring.deploy.runtimes import installed  # runtimes take a second to load: not for --help
    from shoestring.pipeline.device import here

    return tuple(here(runtime, threads) for runtime in installed())


def staircases(threads: int = 1, report: Report | None = None) -> dict[str, Staircase]:
    """Runtime to what layers of widths from 32 to 96 cost on it, for each runtime installed here: measured in seconds,
    or from the cache where it was measured before."""
    from shoestring.pipeline.staircase import staircase

    tell = report or (lambda stage, share: None)
    return {
        device.runtime: staircase(device, partial(tell, f"staircase of {device.runtime}"))
        for device in devices(threads)
    }


def devices_command(
    threads: Threads = 1,
    table: Annotated[
        bool, typer.Option("--table", help="Measure what layers of each width cost on each runtime, and draw it.")
    ] = False,
    json: Json = None,
    html: Html = None,
    sources: Annotated[
        bool, typer.Option("--sources", help="Say where each entry of the contract comes from.")
    ] = False,
) -> None:
    """Shows the processor, the runtimes and what they really execute, and how to get those that are absent."""
    from shoestring.deploy.runtimes import absent
    from shoestring.report.devices import print_devices
    from shoestring.report.staircase import print_staircases, staircases_html

    if html is not None and not table:
        raise BadInput("--html: the page draws what layers of each width cost, which is not measured; add --table")
    require_places(json, html)
    found = devices(threads)
    measured: dict[str, Staircase] = {}
    if table:
        with progress() as report:
            measured = staircases(threads, report)
    told = {runtime: {"staircase": staircase.to_json()} for runtime, staircase in measured.items()}
    write_json(json, [device.to_json() | told.get(device.runtime, {}) for device in found])
    if html is not None:
        write_text(html, staircases_html(found, measured))
    print_devices(found, absent(), sources, console())
    if table:
        print_staircases(found, measured, console())
