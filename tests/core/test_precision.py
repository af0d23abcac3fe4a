from shoestring.core.precision import FLOAT, INT8, INT8_SAFE16, Precision


def test_float_is_the_default_and_fewer_bits_are_quantised() -> None:
    assert Precision() == FLOAT
    assert not FLOAT.quantised
    assert all(precision.quantised for precision in (INT8, INT8_SAFE16, Precision(4, 8), Precision(31, 32)))


def test_the_two_precisions_of_8_bits_differ_in_range_only() -> None:
    assert (INT8.weights, INT8.activations) == (INT8_SAFE16.weights, INT8_SAFE16.activations) == (8, 8)
    assert (INT8.safe16, INT8_SAFE16.safe16) == (False, True)
