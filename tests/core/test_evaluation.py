"""The table as data: the score of NetScore+ and what JSON keeps."""

import json
import math

import pytest

from shoestring.core.evaluation import Cost, Evaluation, Row, netscore_plus

COST = Cost(params=140_000, macs=310_000_000, ms_p50=17.8, ms_p90=20.0, peak_mb=21.0)


def test_netscore_plus_is_the_formula() -> None:
    by_hand = 40 * math.log10(93.64) - 10 * math.log10(0.14 * 0.31) - 5 * math.log10(17.8 * 21)
    assert netscore_plus(93.64, 140_000, 310_000_000, 17.8, 21.0) == pytest.approx(by_hand)


def test_a_row_has_a_score_when_nothing_is_missing() -> None:
    row = Row("net", "linear SVM", 80.0, 75.0, 85.0, 15, 3, COST)
    assert row.netscore == pytest.approx(netscore_plus(80.0, 140_000, 310_000_000, 17.8, 21.0))
    for other in (
        Row("forest", "random forest", 80.0, 75.0, 85.0, 15, 3),
        Row("net", "error", 0.1, 0.0, 0.2, 15, 3, COST, higher_is_better=False, unit=""),
        Row("net", "linear SVM", 80.0, 75.0, 85.0, 15, 3, Cost(params=5)),
        Row("net", "linear SVM", 0.0, 0.0, 0.0, 15, 3, COST),
    ):
        assert other.netscore is None


def test_json_holds_rows_with_their_scores() -> None:
    rows = Row("a", "kNN", 70.0, 65.0, 75.0, 15, 3, COST), Row("b", "SVM", 71.0, 66.0, 76.0, 15, 3)
    table = Evaluation("probes", "accuracy", "toy", rows)
    found = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert found["schema"] == 1
    assert [row["netscore"] is None for row in found["rows"]] == [False, True]
    assert found["rows"][0]["cost"]["params"] == 140_000
    assert table.protocols == ("kNN", "SVM")
