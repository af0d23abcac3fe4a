"""Columns and counts of an explanation, against sums made here."""

from shoestring.core.explanation import Explanation
from shoestring.report.inventory import Column, described, groups, overview, reasons, settings, summary


def test_totals_are_the_sums_of_the_layers(explanation: Explanation) -> None:
    macs = (20 * 19_267_584 + 10 * 677_376 + 1_280_000) / 1e6
    weights = 20 * (96 * 16 + 96) + 10 * (96 * 9 + 96) + 1000 * 1280 + 1000
    told = dict(overview(explanation))
    assert told["Layers"] == "31"
    assert float(told["Million MACs"]) == round(macs)
    assert told["Weights in fp32"] == f"{4 * weights / 1e6:.2f} MB"
    by_heading = {column.heading: column.cells for column in described(explanation)}
    assert by_heading[">MMACs"][-1] == told["Million MACs"]
    assert by_heading[">ms"][-1] == "5.61"
    assert {len(cells) for cells in by_heading.values()} == {32}


def test_cells_say_verdict_and_time(explanation: Explanation) -> None:
    int8, sparse = settings(explanation)
    assert int8.cells[:2] == ("runs 0.104", "slower 0.081")
    assert sparse.cells[:2] == ("stored only 0.246", "no effect")
    assert (int8.cells[30], sparse.cells[30]) == ("unknown", "–")
    assert (int8.cells[31], sparse.cells[31]) == ("2.51", "5.70")


def test_summary_counts_layers(explanation: Explanation) -> None:
    assert list(summary(explanation)) == [
        ["int8", "20", "–", "–", "10", "–", "1", "2.51"],
        ["magnitude:4x1@80%", "–", "10", "20", "–", "–", "–", "5.70"],
    ]


def test_reasons_are_said_once_with_their_source(explanation: Explanation) -> None:
    told = reasons(explanation)
    assert "int8, slower: depthwise loses in onnxruntime below 128 channels (measured here)" in told
    assert "int8, runs: measured here" in told
    assert len(told) == len(set(told)) == 4


def test_columns_are_grouped_to_fit() -> None:
    known = [Column("kind", ("conv",)), Column(">ms", ("0.1",))]
    effects = [Column(f">setting{index}", ("runs",)) for index in range(5)]
    for room in (20, 40, 100):
        found = list(groups(known, effects, room, 2))
        shown = [column.heading for group in found for column in group if column.heading not in ("kind", ">ms")]
        assert shown == [column.heading for column in effects]
        assert all(group[0] is known[0] or group[0] is known[1] for group in found)
        assert all(sum(column.width + 2 for column in group) <= room for group in found)
    assert len(list(groups(known, effects, 100, 2))) == 1
    assert list(groups(known, [], 1, 2)) == [known]
