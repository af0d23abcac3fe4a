"""What is said of an encoder that learned: its numbers, nothing of a probe there was not, names that do no harm."""

from html.parser import HTMLParser
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from shoestring.core.evaluation import Evaluation, Row
from shoestring.report.learning import learning_html, print_learning
from shoestring.report.markup import element


def about(probes: bool = True, **changes: Any) -> dict[str, Any]:
    log = [
        {"epoch": epoch, "loss": 1 / epoch, **({"probe": 50.0 + epoch} if probes and epoch % 2 == 0 else {})}
        for epoch in range(1, 7)
    ]
    known = {"model": "point_vit", "objective": "point_jepa", "symmetry": "none", "points": 1024, "seconds": 90.0}
    return {**known, "data": {"clouds": 679}, "log": log, **changes}


def printed(told: dict[str, Any]) -> str:
    console = Console(file=StringIO(), width=120)
    print_learning(told, "one.safetensors", console)
    return console.file.getvalue()


def test_the_text_says_what_happened() -> None:
    text = printed(about())
    assert "point_vit learned from 679 clouds without labels (Point-JEPA, 6 epochs)" in text
    assert "loss 1 to 0.1667 in 90 s" in text
    assert "linear probe: 52.0 % at first, 56.0 % at the end" in text
    assert "written: one.safetensors" in text
    assert "in 25 min" in printed(about(seconds=1500))
    assert "in canonical frames" in printed(about(symmetry="frames"))


@pytest.mark.parametrize("probes", [True, False])
def test_the_page_has_a_curve_for_what_was_measured(probes: bool) -> None:
    class Counted(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.seen = list[str]()

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.seen.append(tag)

    html = learning_html(about(probes), "<b>one")
    counted = Counted()
    counted.feed(html)
    assert counted.seen.count("figure") == (2 if probes else 1)
    assert counted.seen.count("circle") == (3 if probes else 0)
    assert counted.seen.count("b") == 0
    assert ("epoch 4: 54.0 %" in html) == probes
    assert "&lt;b&gt;one" in html


def test_the_page_ends_with_what_it_is_worth_and_what_it_sees() -> None:
    row = Row("point_vit", "all labels", 80.0, 75.0, 85.0, 15, 3)
    worth = Evaluation("Worth", "accuracy", "9 clouds", (row,), notes=("C is chosen inside.",))
    seen = {"Cloud 1": element("img", src="data:,", alt="a cloud")}
    html = learning_html(about(), "one", worth, seen)
    assert "All labels" in html and "75.00 to 85.00" in html and "C is chosen inside." in html
    assert "a cloud" in html and "a cloud" in learning_html(about(), "one", None, seen)
    assert "What the features see" not in learning_html(about(), "one")


def test_one_epoch_is_enough() -> None:
    one = about(log=[{"epoch": 1, "loss": 0.5}])
    html = learning_html(one, "one")
    assert "Epoch by epoch" not in html and "1 epoch<" in html and "0.5" in html
    assert "loss 0.5 to 0.5" in printed(one) and "1 epoch)" in printed(one)
