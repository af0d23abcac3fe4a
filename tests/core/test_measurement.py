from shoestring.core.measurement import Measurement


def test_a_measurement_is_told_with_its_unit_and_interval() -> None:
    measured = Measurement(1.23456, "ms", 400, 1.2, 1.3, "wall time", "openvino")
    assert str(measured) == "1.235 ms [1.2, 1.3]"
