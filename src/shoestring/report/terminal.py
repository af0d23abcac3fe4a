"""Lines and tables for a terminal, a pipe or a file: no markup is read from what is printed, none is needed to read it.

Where the output cannot encode `×` or `−`, plain letters take their place.
"""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shoestring.report.wording import clean

_ASCII = str.maketrans(
    {"×": "x", "−": "-", "–": "-", "…": "~", "→": "->", "²": "^2", "█": "#", "≤": "<=", "≥": ">=", "\ufffd": "?"}
)

GAP = 2  # characters between two columns
Cell = str | tuple[str, str]


def print_line(console: Console, text: str = "", style: str = "") -> None:
    """One paragraph, wrapped to the console's width."""
    console.print(lettered(console, text, style), highlight=False)


def print_fact(console: Console, name: str, text: str) -> None:
    """A name in the margin, its text beside it, however many lines it takes."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", width=9, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(lettered(console, name), lettered(console, text))
    console.print(grid, highlight=False)


def print_table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """`columns`: headings; one that starts with `>` is aligned right and never wrapped. A cell is a text or
    (text, style)."""
    # the box itself puts one character between columns
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="dim")
    for column in columns:
        right = column.startswith(">")
        heading = lettered(console, column.removeprefix(">"))
        table.add_column(heading, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        cells = [(cell, "") if isinstance(cell, str) else cell for cell in row]
        table.add_row(*(lettered(console, text, style) for text, style in cells))
    console.print(table, highlight=False)


def lettered(console: Console, text: str, style: str = "") -> Text:
    """`text` in letters this console can write."""
    text = clean(text)
    if console.options.ascii_only:
        text = text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    return Text(text, style)
