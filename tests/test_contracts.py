"""The import contracts of pyproject.toml: the real tree keeps all of them, and a planted fault breaks exactly one."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
NAMES = {contract["name"].split(":")[0] for contract in CONTRACTS}

# In a room that may import torch, so that what reaches torch through it breaks no other contract.
TORCH = {"models/planted_torch.py": "import torch\n"}
# What is planted (file under src/shoestring: text), by the contract it breaks: the first word of the contract's name.
FAULTS = {
    "rooms, one stage imports another": {"report/planted.py": "import shoestring.measure\n"},
    "rooms, an import points up": {"graph/planted.py": "import shoestring.video\n"},
    "rooms, nobody declared this one": {"attic/__init__.py": ""},
    "methods": {"compress/planted/__init__.py": "import shoestring.compress.int8\n"},
    "cycles": {
        "core/planted_a.py": "import shoestring.core.planted_b\n",
        "core/planted_b.py": "def f():\n    import shoestring.core.planted_a\n",
    },
    "native": {"measure/planted.py": "import ctypes\n"},
    "light": {"deploy/planted.py": "def f():\n    import shoestring.models.planted_torch\n", **TORCH},
    "export": {"deploy/planted.py": "import shoestring.deploy.export\n"},
    "runtimes": {"measure/planted.py": "import onnxruntime\n"},
    "torch": {"cli/planted.py": "import torch\n"},
    "root": {"__init__.py": "import shoestring.models.planted_torch\n", **TORCH},
}
HARMLESS = {"core/planted.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"}
# An editable install has an import hook of its own, which would lead away from the copy on PYTHONPATH.
LINT = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, PathFinder]
from importlinter.cli import lint_imports_command
lint_imports_command()
"""


def broken(source: Path) -> set[str]:
    """The first words of the contracts that the package under `source` breaks."""
    done = subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--no-logo", "--config", str(ROOT / "pyproject.toml")],
        env={**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200"},
        cwd=source,
        capture_output=True,
        text=True,
    )
    verdicts = re.findall(r"^(\w+): .* (KEPT|BROKEN)(?: \(.*\))?$", done.stdout, re.MULTILINE)
    assert {name for name, _ in verdicts} == NAMES, f"not every contract was checked:\n{done.stdout}{done.stderr}"
    assert done.returncode == any(verdict == "BROKEN" for _, verdict in verdicts), done.stdout
    return {name for name, verdict in verdicts if verdict == "BROKEN"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of src/ that has the rooms still to come, empty."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.txt"))
    for room in re.findall(r"\w+", " ".join(CONTRACTS[0]["layers"])):
        path = tmp_path / "src/shoestring" / room / "__init__.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path / "src"


def plant(source: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = source / "shoestring" / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(text)


def test_the_package_keeps_every_contract() -> None:
    assert broken(ROOT / "src") == set()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_breaks_exactly_its_contract(fault: str, copy: Path) -> None:
    plant(copy, FAULTS[fault])
    assert broken(copy) == {fault.split(",")[0]}


def test_an_import_for_type_checkers_breaks_none(copy: Path) -> None:
    plant(copy, HARMLESS)
    assert broken(copy) == set()


def test_every_contract_has_a_fault() -> None:
    assert {fault.split(",")[0] for fault in FAULTS} == NAMES
