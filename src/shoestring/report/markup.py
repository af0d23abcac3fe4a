"""HTML and SVG as nested calls. What is not `Markup` is text and gets escaped, so that nobody can forget to."""

from html import escape

from shoestring.report.wording import clean


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, *children: object, **attributes: object) -> Markup:
    """An element. Children that are None are left out, as are attributes that are None; `class_` is `class`,
    `stroke_width` is `stroke-width`.

    >>> element("p", "1 < 2", element("b", "yes"), class_="note")
    '<p class="note">1 &lt; 2<b>yes</b></p>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(clean(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(
        child if isinstance(child, Markup) else escape(clean(child)) for child in children if child is not None
    )
    return Markup(f"<{name}{given}>{inside}</{name}>")


def join(*parts: Markup | None) -> Markup:
    return Markup("\n".join(part for part in parts if part is not None))
