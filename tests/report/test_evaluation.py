"""The evaluation in a terminal and as a page."""

import re
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len

from shoestring.core.evaluation import Cost, Evaluation, Row
from shoestring.report.cloud import embedded, splat
from shoestring.report.evaluation import evaluation_html, print_evaluation

COST = Cost(425_000, 192_000_000, 37.7, 51.8, 255.0)


@pytest.fixture
def evaluation() -> Evaluation:
    rows = (
        Row("PointViT, Point-JEPA", "linear SVM", 82.6, 77.5, 87.7, 15, 3, COST),
        Row("hand-made, random forest", "linear SVM", 69.1, 63.0, 75.2, 15, 3, baseline=True),
        Row("PointViT, Point-JEPA", "5-way 10-shot", 90.2, 85.1, 95.3, 10, 10, COST),
        Row("PointViT, Point-JEPA", "invariance error", 0.0421, 0.0390, 0.0452, 8, 1, COST, False, False, ""),
    )
    device = {"processor": "EPYC", "threads": 1, "versions": {"torch": "2.13.0"}}
    notes = ("C is chosen inside the training split.",)
    return Evaluation("Furniture", "accuracy", "230 objects, 12 classes", rows, device, notes)


@pytest.fixture
def hostile_evaluation(evaluation: Evaluation) -> Evaluation:
    evil = "\"><script>alert(1)</script><img src=x onerror=alert(1)> [red]m[/red] \x1b[31m\u202eevil\x00 &amp; 'q'" * 3
    rows = tuple(replace(row, name=evil, protocol=evil, unit=evil) for row in evaluation.rows)
    return replace(evaluation, title=evil, metric=evil, data=evil, rows=rows, notes=(evil,), device={evil: evil})


def test_fits_80_columns_without_colours(evaluation: Evaluation, hostile_evaluation: Evaluation, printed) -> None:
    for report in (evaluation, hostile_evaluation, replace(evaluation, rows=(), device={}, notes=())):
        for encoding in ("utf-8", "ascii"):
            text = printed(print_evaluation, report, encoding=encoding)
            assert max(cell_len(line) for line in text.splitlines()) <= 80
            assert "\x1b" not in text


def test_a_line_for_each_row_and_one_of_costs_for_each_subject(evaluation: Evaluation, printed) -> None:
    found = [re.split(r"\s{2,}", line.strip()) for line in printed(print_evaluation, evaluation).splitlines()]
    assert ["PointViT, Point-JEPA", "linear SVM", "82.60 %", "77.50 to 87.70", "15", "3"] in found
    assert ["PointViT, Point-JEPA", "invariance error", "0.0421", "0.039 to 0.0452", "8", "1"] in found or [
        "PointViT, Point-JEPA",
        "invariance error",
        "0.042",
        "0.039 to 0.045",
        "8",
        "1",
    ] in found
    costs = [line for line in found if "425 k" in line]
    assert len(costs) == 1
    assert costs[0][1:6] == ["425 k", "192 M", "37.7", "51.8", "255"]
    assert costs[0][6] == f"{evaluation.rows[2].netscore:.2f}"  # of the protocol where it is worth most


def test_a_picture_for_each_protocol_and_a_table_of_all(evaluation: Evaluation, read_page) -> None:
    page = read_page(evaluation_html(evaluation))
    titles = page.text("h2")
    assert re.search(r"Linear SVM.*5-way 10-shot.*Invariance error.*All rows", titles, re.DOTALL)
    assert len(page.find("circle")) == len(evaluation.rows)
    assert len(page.find("circle", class_="hollow")) == 1
    captions = page.text("figcaption")
    assert "Hollow: there to be compared with." in captions
    assert "Lower is better." in captions
    assert "15 scores a row, 3 seeds." in captions


def test_best_is_least_where_lower_is_better(evaluation: Evaluation, read_page) -> None:
    worse = replace(evaluation.rows[3], name="other", mean=0.5)
    page = evaluation_html(replace(evaluation, rows=(worse, evaluation.rows[3])))
    assert "PointViT, Point-JEPA, best of 2" in read_page(page).text("dd")


def test_the_page_is_well_formed_and_runs_nothing(
    evaluation: Evaluation, hostile_evaluation: Evaluation, read_page
) -> None:
    for report in (evaluation, hostile_evaluation, replace(evaluation, rows=())):
        html = evaluation_html(report)
        page = read_page(html)
        assert page.find("script") == [] and page.find("img") == []
        assert "default-src 'none'" in html


def test_pictures_of_clouds_are_in_the_page(evaluation: Evaluation, read_page) -> None:
    cloud = np.random.default_rng(0).normal(size=(50, 3))
    picture = embedded(splat(cloud, np.full((50, 3), 99, np.uint8), (60, 40)), "a cloud")
    page = read_page(evaluation_html(evaluation, {"What it sees": picture}))
    (image,) = page.find("img")
    assert image["src"].startswith("data:image/png;base64,") and image["alt"] == "a cloud"
    assert "What it sees" in page.text("figcaption")
