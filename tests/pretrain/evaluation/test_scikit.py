"""Without scikit-learn the probes say what to install."""

import sys

import pytest

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation.scikit import scikit_learn


def test_it_is_the_module() -> None:
    assert scikit_learn("svm").LinearSVC


def test_its_absence_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(BadInput, match=r"pip install 'shoestring\[points\]'"):
        scikit_learn("svm")
