"""Elements: what goes in as text comes out as the same text from a parser that knows nothing of us."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoestring.report.markup import Markup, element, join
from shoestring.report.wording import clean


# The fixture is a class; nothing is kept between two inputs.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text())
def test_text_and_attributes_survive_a_parser(read_page, text: str, attribute: str) -> None:
    page = read_page(element("p", text, title=attribute))
    assert page.text("p").replace(" ", "") == clean(text).replace(" ", "")
    assert page.find("p") == [{"title": clean(attribute)}]


def test_markup_is_not_escaped_twice_and_none_is_left_out() -> None:
    assert element("p", element("b", "<"), None, class_=None, data_x=1) == '<p data-x="1"><b>&lt;</b></p>'
    assert join(Markup("<b></b>"), None, Markup("<i></i>")) == "<b></b>\n<i></i>"
