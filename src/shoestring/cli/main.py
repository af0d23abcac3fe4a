"""`shoestring VERB ...`: the verbs, and the one place where errors become a line and an exit code."""

import sys
import traceback
import warnings

import typer
from rich.console import Console
from typer.exceptions import TyperException

from shoestring.cli.devices import devices_command
from shoestring.cli.explain import explain_command
from shoestring.cli.fit import fit_command
from shoestring.cli.pretrain import pretrain_command
from shoestring.cli.profile import profile_command
from shoestring.cli.receipt import receipt_command
from shoestring.cli.run import run_command
from shoestring.core.errors import ShoestringError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Puts perception models on a budget and hands you the receipt.",
)
_STOPPED = 130  # what typer returns after Ctrl-C, as shells do

app.command("fit")(fit_command)
app.command("explain")(explain_command)
app.command("receipt")(receipt_command)
app.command("pretrain")(pretrain_command)
app.command("profile")(profile_command)
app.command("run")(run_command)
app.command("devices")(devices_command)


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 1 our bug, 2 bad input, 3 a budget or a claim that does not hold."""
    sys.exit(_code(arguments))


def _code(arguments: list[str] | None) -> int:
    error = Console(stderr=True, highlight=False, soft_wrap=True)
    given = sys.argv[1:] if arguments is None else arguments
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: error.print(f"warning: {message}", markup=False)
        return _run(given or ["--help"], error)


def _run(arguments: list[str], error: Console) -> int:
    try:
        result = app(arguments, prog_name="shoestring", standalone_mode=False)
    except TyperException as wrong:  # an option or argument that is missing, unknown or of the wrong kind
        verb = getattr(getattr(wrong, "ctx", None), "command_path", "shoestring")
        error.print(
            f"shoestring: {' '.join(wrong.format_message().split()).rstrip('.')} (see {verb} --help)", markup=False
        )
        return 2
    except ShoestringError as known:
        error.print(f"shoestring: {known}", markup=False)
        return known.exit_code
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("shoestring"):
            return _bug(error)
        error.print(f'shoestring: this verb needs {missing.name}; pip install "shoestring[fit]"', markup=False)
        return 2
    except SystemExit:  # rich and typer leave so when nobody reads their output any more (`| head`)
        return 0
    except Exception:
        return _bug(error)
    if result == _STOPPED:
        error.print("stopped; nothing was left half written")
    return result if isinstance(result, int) else 0


def _bug(error: Console) -> int:
    """Shows where, and says so."""
    traceback.print_exc()
    error.print("shoestring: this is a bug in Shoestring; please report it with the lines above")
    return 1


if __name__ == "__main__":
    main()
