"""The profile in a terminal and as a page."""

import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from shoestring.core.profile import Profile
from shoestring.report.profile import print_profile, profile_html

HOSTILE = "</code><script>alert(1)</script>[red]\x1b[31m" * 3


@pytest.fixture
def hostile(profile: Profile) -> Profile:
    operators = tuple(replace(item, node=HOSTILE, label=HOSTILE) for item in profile.operators)
    return replace(profile, file=HOSTILE, device={HOSTILE: HOSTILE}, operators=operators, notes=(HOSTILE,))


@pytest.fixture
def empty(profile: Profile) -> Profile:
    return replace(profile, device={}, operators=(), ms=0.0)


def test_fits_80_columns_without_colours(profile: Profile, hostile: Profile, empty: Profile, printed) -> None:
    for report in (profile, hostile, empty):
        for encoding in ("utf-8", "ascii"):
            text = printed(print_profile, report, encoding=encoding)
            assert max(cell_len(line) for line in text.splitlines()) <= 80
            assert "\x1b" not in text


def test_the_slowest_come_first_and_the_others_are_counted(profile: Profile, printed) -> None:
    lines = printed(print_profile, profile, width=140).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("operator"))
    listed = [line.split()[0] for line in lines[start + 2 : start + 22]]
    assert listed == [item.node for item in profile.operators[:20]]
    rest = 100 * sum(map(profile.share, profile.operators[20:]))
    assert lines[start + 22] == f"and {len(profile.operators) - 20} more, together {rest:.1f} % of the time"


def test_a_row_where_there_is_room(profile: Profile, printed) -> None:
    text = printed(print_profile, profile, width=140)
    row = next(line for line in text.splitlines() if line.startswith("features.0.0"))
    cells = ["features.0.0", "conv 3x3 4x1", "0.800", "29.3", "████████", "2.17", "20.0", "2.71", "3.39", "0.691"]
    assert re.split(r"\s{2,}", row.strip()) == [*cells, "overhead"]


def test_bars_can_be_written_in_ascii(profile: Profile, printed) -> None:
    assert "########" in printed(print_profile, profile, width=140, encoding="ascii")


def test_dense_operators_need_no_column_that_says_so(profile: Profile, printed) -> None:
    assert "% dense" in printed(print_profile, profile, width=140)
    dense = tuple(replace(item, executed=item.dense) for item in profile.operators)
    assert "% dense" not in printed(print_profile, replace(profile, operators=dense), width=140)


def test_kernels_in_sum(profile: Profile, printed) -> None:
    lines = printed(print_profile, profile, width=140).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("kernel"))
    labels = [label.label for label, _ in profile.by_label()]
    assert [re.split(r"\s{2,}", line)[0] for line in lines[start + 2 : start + 2 + len(labels)]] == labels
    assert lines[start + 2].split()[-1] == str(profile.by_label()[0][1])


def test_the_page_is_well_formed_and_runs_nothing(
    profile: Profile, hostile: Profile, empty: Profile, read_page
) -> None:
    for report in (profile, hostile, empty):
        document = profile_html(report)
        page = read_page(document)
        assert not re.search(r"<script|@import|url\(|https?://", document)
        assert not {name for _, found in page.tags for name in found} & {"src", "href", "style", "onerror"}
        assert "prefers-color-scheme: dark" in document


def test_the_page_shows_every_operator(profile: Profile, read_page, shows) -> None:
    text = read_page(profile_html(profile)).text()
    for item in profile.operators:
        assert item.node in text
        assert shows(text, item.ms)
        assert shows(text, item.gmacs) or not item.executed
    for value in (profile.ms, profile.profiled_ms, profile.roof.gmacs, profile.roof.gigabytes):
        assert shows(text, value)
    assert all(note in text for note in profile.notes)


def test_an_operator_has_the_class_of_its_bound(profile: Profile, read_page) -> None:
    page = read_page(profile_html(profile))
    bounds = [profile.bound(item) for item in profile.operators]
    for bound, look in (("compute", "yes"), ("memory", "maybe"), ("overhead", "no")):
        assert len(page.find("span", class_=look)) == bounds.count(bound) > 0


def test_without_anything_to_draw_there_is_no_picture(empty: Profile, read_page) -> None:
    assert read_page(profile_html(empty)).find("line", class_="roof") == []
