"""Lines and tables: nothing is interpreted, nothing is wider than the console, every console can write it."""

from rich.cells import cell_len
from rich.console import Console

from shoestring.report.terminal import print_fact, print_line, print_table

NAMES = ["[bold]x[/bold]", "tab\tbell\x07esc\x1b[31m", "汉字" * 30, "a" * 200]


def show(names: list[str], console: Console) -> None:
    for name in names:
        print_line(console, name, "bold")
        print_fact(console, "name", name)
    print_table(console, ["name", ">number"], [(name, ("1.25×", "red")) for name in names])


def test_markup_is_text(printed) -> None:
    assert printed(show, NAMES).count("[bold]x[/bold]") == 3


def test_no_control_character_comes_through(printed) -> None:
    assert not any(ord(char) < 32 and char != "\n" for char in printed(show, NAMES))


def test_no_line_is_wider_than_the_console(printed) -> None:
    for width in (40, 80):
        assert max(cell_len(line) for line in printed(show, NAMES, width).splitlines()) <= width


def test_plain_letters_where_the_output_has_no_others(printed) -> None:
    text = printed(show, ["1.25× ≤ −3 … 16×112² → 8"], encoding="ascii")
    assert "1.25x <= -3 ~ 16x112^2 -> 8" in text
    assert "?" not in text
