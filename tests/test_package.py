"""The package as a whole: a quick import, tests that mirror the source, methods that are complete, tidy files."""

import ast
import importlib
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "shoestring"
SOURCES = sorted(PACKAGE.rglob("*.py"))
METHODS = sorted(path.parent for path in (PACKAGE / "compress").glob("*/__init__.py"))
NO_METHOD = {"reconstruct", "slim", "exits"}  # of no layer: they work on the network as a whole
HEADINGS = ["Use", "Settings", "How it works", "Measured", "Source"]

# Files with code that have no test file of their own, and why.
TESTED_ELSEWHERE: dict[str, str] = {
    "engine/__init__.py": "one function, in test_native.py and test_lower.py",
    **dict.fromkeys(
        (f"engine/lowering/{name}.py" for name in ("builder", "fuse", "graph", "soft", "values", "views", "windows")),
        "what the rules share: by the graphs that test_lower.py and the rules' own tests lower and execute",
    ),
}
# Tests of compiled sources: `engine/native/conv.cpp` has `engine/test_conv.py`.
NATIVE = {f"engine/test_{path.stem}" for path in (PACKAGE / "engine" / "native").glob("*.cpp")}

IMPORT_LIMIT_S = 0.15
IMPORT = """
import sys, time
start = time.process_time()
import shoestring
took = time.process_time() - start
print(took, *({"torch", "onnxruntime", "openvino"} & set(sys.modules)))
"""


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def has_code(path: Path) -> bool:
    """Whether a function or method in the file does anything; `...` and a docstring do not."""

    def works(node: ast.AST) -> bool:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return False
        return any(not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)) for line in node.body)

    return any(map(works, ast.walk(ast.parse(path.read_text()))))


def mirror(path: Path) -> str:
    """`core/budget.py` and `core/budget/__init__.py` to `core/test_budget.py`, the package's own page to this file."""
    module = path.parent if path.stem == "__init__" else path
    if module == PACKAGE:
        return Path(__file__).name
    return (module.parent.relative_to(PACKAGE) / f"test_{module.stem.strip('_')}.py").as_posix()


def tracked() -> list[Path]:
    """What is in the repository, and what is about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def test_import_is_quick_and_lean() -> None:
    """Five fresh processes; each times the import itself, so the interpreter's own start is not in it, nor what other
    tests take of the processor."""
    runs = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True) for _ in range(5)
    ]
    times, loaded = zip(*((float(out[0]), out[1:]) for out in (run.stdout.split() for run in runs)), strict=True)
    assert not any(loaded), f"import shoestring loads {loaded[0]}"
    assert statistics.median(times) < IMPORT_LIMIT_S, f"import shoestring took {times} s"


def test_the_public_page() -> None:
    """Everything it promises is there, and the verbs are the functions of the command line."""
    package = importlib.import_module("shoestring")
    for name in package.__all__:
        assert getattr(package, name) is not None
    for verb in ("fit", "explain", "receipt", "profile", "run", "devices"):
        assert getattr(package, verb) is getattr(importlib.import_module(f"shoestring.cli.{verb}"), verb)
    assert package.load is importlib.import_module("shoestring.deploy.session").load
    assert list(package.__all__) == sorted(package.__all__)
    with pytest.raises(AttributeError, match="module 'shoestring' has no attribute 'prune'"):
        _ = package.prune


def test_tests_mirror_the_package() -> None:
    missing = {relative(path) for path in SOURCES if has_code(path) and not (ROOT / "tests" / mirror(path)).exists()}
    assert missing == set(TESTED_ELSEWHERE), f"no test file for {sorted(missing - set(TESTED_ELSEWHERE))}"


def test_every_test_file_has_its_source() -> None:
    """A long one may be split: `test_shoe.py` and `test_shoe_hostile.py`."""
    mirrored = {mirror(path).removesuffix(".py") for path in SOURCES} | NATIVE
    inside = (path.relative_to(ROOT / "tests").with_suffix("") for path in (ROOT / "tests").glob("*/**/test_*.py"))
    names = ((name.as_posix(), name.as_posix().rpartition("_")[0]) for name in inside)
    assert [name for name, without_aspect in names if not {name, without_aspect} & mirrored] == []


def test_the_list_of_methods_is_of_all_folders() -> None:
    """A folder is a method, or holds several that share their parts."""
    methods = importlib.import_module("shoestring.compress").METHODS
    folders = {module.__name__.removeprefix("shoestring.compress.").split(".")[0] for module in methods.values()}
    assert folders == {folder.name for folder in METHODS} - NO_METHOD
    assert METHODS


@pytest.mark.parametrize("folder", METHODS, ids=lambda folder: folder.name)
def test_a_method_has_the_five_headings(folder: Path) -> None:
    readme = (folder / "README.md").read_text()
    assert re.findall(r"^## (.+)$", readme, re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_no_path_of_a_machine() -> None:
    """Neither a home folder nor a folder of the machine this was written on."""
    machine = re.compile(rb"(?<![\w.])/(?:home|root|Users|work|opt)/\w+|\b[A-Z]:\\Users")
    found = {
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in tracked()
        for match in machine.finditer(text(path))
    }
    assert not found


def text(path: Path) -> bytes:
    """The file's bytes; nothing of a binary one."""
    data = path.read_bytes()
    return b"" if b"\0" in data else data
