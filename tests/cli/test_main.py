"""Exit codes, one line an error, and a help that costs nothing."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from shoestring.cli import devices, main
from shoestring.core.errors import BadInput, NotMet, ShoestringError

VERBS = ("fit", "explain", "receipt", "profile", "run", "devices")
# What a verb's help must not need: `sitecustomize` runs as Python starts.
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnxruntime", "openvino", "scipy", "onnx", "PIL"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
"""
HELP = """
import sys, time
from shoestring.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    print(time.process_time(), file=sys.stderr)
    sys.exit(left.code)
"""


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_loads_nothing_heavy_and_is_there_at_once(verb: str, tmp_path: Path) -> None:
    """Processor time, which a loaded machine does not change: of the interpreter, the imports and the printing."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", HELP, *([verb] if verb else []), "--help"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: shoestring" in done.stdout
    assert float(done.stderr) < 1.0


def test_every_verb_is_listed(shoestring) -> None:
    for arguments in ((), ("--help",)):
        told = shoestring(*arguments)
        assert (told.code, told.err) == (0, "")
        assert all(f"\n  {verb} " in told.out for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fit",), "Missing argument 'model' (see shoestring fit --help)"),
        (("fit", "x", "--nothing"), "No such option: --nothing"),
        (("fit", "x", "--epochs", "-1"), "Invalid value for '--epochs'"),
        (("receipt", "x.shoe", "--seconds", "0"), "Invalid value for '--seconds'"),
        (("devices", "--threads", "many"), "Invalid value for '--threads'"),
        (("squeeze",), "No such command 'squeeze' (see shoestring --help)"),
        (("run", "nowhere.shoe", "x.png"), "nowhere.shoe: cannot be read (No such file or directory)"),
        (("explain", "resnet19"), "zoo: no network is called 'resnet19'; known are"),
        (("fit", "x", "--device", "cuda"), "--device: 'cuda' is not offered here; write cpu"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: tuple[str, ...], said: str, shoestring) -> None:
    told = shoestring(*arguments)
    assert told.code == 2
    assert told.out == ""
    assert told.said.startswith(f"shoestring: {said}")


@pytest.mark.parametrize(
    ("raised", "code", "last"),
    [
        (BadInput("what [red]was[/red] wrong"), 2, "shoestring: what [red]was[/red] wrong"),
        (NotMet("what does not hold"), 3, "shoestring: what does not hold"),
        (ShoestringError("what went wrong"), 1, "shoestring: what went wrong"),
        (KeyboardInterrupt(), 130, "stopped; nothing was left half written"),
        (
            ZeroDivisionError("ours"),
            1,
            "shoestring: this is a bug in Shoestring; please report it with the lines above",
        ),
        (EOFError("ours"), 1, "shoestring: this is a bug in Shoestring; please report it with the lines above"),
    ],
)
def test_what_is_raised_becomes_a_code(raised: BaseException, code: int, last: str, shoestring, monkeypatch) -> None:
    def fails(threads: int) -> None:
        raise raised

    monkeypatch.setattr(devices, "devices", fails)
    told = shoestring("devices")
    assert told.code == code
    assert told.err.splitlines()[-1] == last
    if code == 1 and not isinstance(raised, ShoestringError):
        assert "Traceback" in told.err
    else:
        assert told.said


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line_too(shoestring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "devices", lambda threads: warnings.warn("mind [the] gap", stacklevel=1) or ())
    show = warnings.showwarning
    told = shoestring("devices")
    assert (told.code, told.said) == (0, "warning: mind [the] gap")
    assert warnings.showwarning is show


def test_main_leaves_with_the_code(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["shoestring", "squeeze"])
    with pytest.raises(SystemExit) as left:
        main.main()
    assert left.value.code == 2
    with pytest.raises(SystemExit) as left:
        main.main(["--help"])
    assert left.value.code == 0


@pytest.mark.skipif(os.name == "nt", reason="pipes close otherwise there")
def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`shoestring devices --sources | head -1`"""
    command = [sys.executable, "-m", "shoestring.cli.main", "devices", "--sources"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.close()
    assert child.wait() == 0
    assert child.stderr is not None
    assert child.stderr.read() == b""
    child.stderr.close()
