"""Errors: what the command line returns for each."""

import pytest

from shoestring.core.errors import BadInput, NoEffectWarning, NotMet, ShoestringError


@pytest.mark.parametrize(("kind", "code"), [(ShoestringError, 1), (BadInput, 2), (NotMet, 3)])
def test_exit_codes_are_those_of_the_design(kind: type[ShoestringError], code: int) -> None:
    with pytest.raises(ShoestringError, match=r"^what was given$") as caught:
        raise kind("what was given")
    assert caught.value.exit_code == code


def test_no_effect_is_a_warning_and_no_error() -> None:
    assert issubclass(NoEffectWarning, UserWarning)
    assert not issubclass(NoEffectWarning, ShoestringError)
