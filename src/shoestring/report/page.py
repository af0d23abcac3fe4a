"""The page around a report: head, style, tables. One file, no script, nothing loaded from elsewhere."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from shoestring.report.markup import Markup, element, join

_STYLE = Path(__file__).with_name("page.css")
# Even if a hostile name found a way past the escaping, a browser would run and load nothing; pictures are in the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, *parts: Markup | None) -> str:
    """A whole HTML document, UTF-8."""
    head = join(
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        element("title", title),
        element("style", Markup(_STYLE.read_text(encoding="utf-8"))),
    )
    body = element("body", element("main", join(*parts)))
    return f"<!doctype html>\n{element('html', element('head', head), body, lang='en')}\n"


def header(kind: str, title: str, under: str) -> Markup:
    return element(
        "header",
        element("p", f"Shoestring {kind}", class_="kind"),
        element("h1", title),
        element("p", under, class_="under") if under else None,
    )


def section(title: str, *parts: Markup | None) -> Markup:
    return element("section", element("h2", title), *parts)


def columns(*parts: Markup | None) -> Markup:
    return element("div", *parts, class_="columns")


def paragraph(text: str, kind: str | None = None) -> Markup:
    return element("p", text, class_=kind)


def facts(items: Iterable[tuple[str, str, str]]) -> Markup:
    """Large numbers: (name, value, what to know about it)."""
    cells = [
        element("div", element("dt", name), element("dd", value), element("dd", remark, class_="remark"))
        for name, value, remark in items
    ]
    return element("dl", *cells, class_="facts")


def table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str | Markup]]) -> Markup:
    """A table that scrolls sideways where it does not fit. A heading that starts with `>` is a column of numbers; the
    first cell of a row names it."""
    kinds = ["number" if heading.startswith(">") else None for heading in headings]
    head = [
        element("th", heading.removeprefix(">"), scope="col", class_=kind)
        for heading, kind in zip(headings, kinds, strict=True)
    ]
    body = []
    for row in rows:
        cells = [element("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)]
        body.append(element("tr", element("th", row[0], scope="row"), *cells))
    inside = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    return element("div", inside, class_="scroll", tabindex=0, role="region", aria_label=caption)


def pairs(items: Iterable[tuple[str, str]]) -> Markup:
    """Names and texts, one a line."""
    return element(
        "dl", *(part for name, text in items for part in (element("dt", name), element("dd", text))), class_="pairs"
    )


def bullets(items: Iterable[str]) -> Markup:
    return element("ul", *(element("li", item) for item in items), class_="notes")
