"""`shoestring VERB ...`: the verbs, and the one place where errors become a line and an exit code."""

import sys
import traceback
import warnings

import click
import typer
from rich.console import Console

from shoestring.cli.devices import devices_command
from shoestring.cli.explain import explain_command
from shoestring.cli.fit import fit_command
from shoestring.cli.receipt import receipt_command
from shoestring.cli.run import run_command
from shoestring.core.errors import ShoestringError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Puts perception models on a budget and hands you the receipt.",
)
app.command("fit")(fit_command)
app.command("explain")(explain_command)
app.command("receipt")(receipt_command)
app.command("run")(run_command)
app.command("devices")(devices_command)


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 1 our bug, 2 bad input, 3 a budget or a claim that does not hold."""
    sys.exit(_code(arguments))


def _code(arguments: list[str] | None) -> int:
    error = Console(stderr=True, highlight=False, soft_wrap=True)
    warnings.showwarning = lambda message, *_: error.print(f"warning: {message}", markup=False)
    try:
        result = app(arguments, prog_name="shoestring", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as wrong:
        wrong.show()
        return 2
    except click.exceptions.Exit as left:
        return left.exit_code
    except (click.Abort, KeyboardInterrupt):
        error.print("stopped; nothing was left half written")
        return 130
    except ShoestringError as known:
        error.print(f"shoestring: {known}", markup=False)
        return known.exit_code
    except BrokenPipeError:
        return 0
    except Exception:  # our bug: show where, and say so
        traceback.print_exc()
        error.print("shoestring: this is a bug in Shoestring; please report it with the lines above")
        return 1


if __name__ == "__main__":
    main()
