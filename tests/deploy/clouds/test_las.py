"""Lidar files, written and read by laspy; broken ones are refused."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoestring.core.errors import BadInput
from shoestring.deploy.clouds.las import classified, las
from shoestring.deploy.clouds.read import read_classified, read_cloud

laspy = pytest.importorskip("laspy", reason="needs shoestring[points]")
CLASSES = [n % 7 for n in range(100)]
DATA = Path(__file__).parents[4] / "shared" / "data" / "lidar_lidR"


@pytest.fixture(scope="module")
def written() -> dict[str, bytes]:
    """100 points of a map, in centimetres, of seven classes."""
    files = {}
    for suffix in ("las", "laz"):
        data = laspy.create(point_format=3, file_version="1.2")
        data.header.scales, data.header.offsets = [0.01] * 3, [684_000, 5_017_000, 0]
        data.xyz = points()
        data.classification = CLASSES
        stream = io.BytesIO()
        data.write(stream, do_compress=suffix == "laz")
        files[suffix] = stream.getvalue()
    return files


def points() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100_000, (100, 3)) / 100 + (684_000, 5_017_000, 0)


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_coordinates_keep_their_centimetres(suffix: str, written: dict[str, bytes]) -> None:
    found = las(written[suffix])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, points(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("suffix", ["las", "laz"])
@given(cut=st.floats(0, 1), changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4))
@settings(max_examples=60)
def test_broken_files_never_crash(
    suffix: str,
    cut: float,
    changes: list[tuple[float, int]],
    written: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = bytearray(written[suffix])
    for place, value in changes:
        data[int(place * len(data))] = value
    path = tmp_path_factory.getbasetemp() / f"{os.getpid()}.{suffix}"
    path.write_bytes(data[: round(cut * len(data))])
    try:
        found = read_cloud(path)
    except BadInput as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert np.isfinite(found).all()


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_absurd_counts_are_refused(suffix: str, written: dict[str, bytes], tmp_path: Path) -> None:
    data = bytearray(written[suffix])
    data[107:111] = b"\xff" * 4  # the legacy number of points
    (tmp_path / f"a.{suffix}").write_bytes(data)
    with pytest.raises(BadInput, match="4294967295 points, 16777216 at most"):
        read_cloud(tmp_path / f"a.{suffix}")


def test_real_lidar() -> None:
    if not DATA.is_dir():
        pytest.skip("no shared data here")
    found = read_cloud(DATA / "Megaplot.laz")
    assert found.shape == (81_590, 3)
    assert found[:, 2].min() >= 0
    assert np.ptp(found[:, 0]) < 300


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_classes_come_with_their_points(suffix: str, written: dict[str, bytes], tmp_path: Path) -> None:
    found = classified(written[suffix])
    np.testing.assert_allclose(found[:, :3], points(), atol=1e-6, rtol=0)
    assert found[:, 3].tolist() == CLASSES
    (tmp_path / f"a.{suffix}").write_bytes(written[suffix])
    xyz, classes = read_classified(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(xyz, found[:, :3])
    assert (classes.tolist(), classes.dtype) == (CLASSES, np.int64)
    (tmp_path / f"b.{suffix}").write_bytes(written[suffix][:300])
    with pytest.raises(BadInput, match=f"not a readable {suffix} file"):
        read_classified(tmp_path / f"b.{suffix}")
