"""Plain arrays, against NumPy's own writers."""

import io
from pathlib import Path

import numpy as np
import pytest

from shoestring.deploy.clouds.arrays import columns, floats, npy, npz, read_array
from shoestring.deploy.clouds.read import read_cloud

SCENES = Path(__file__).parents[4] / "shared" / "data" / "scenes3d"


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", "<i2", "u1", "<i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(dtype: str, order: str) -> None:
    table = np.asarray(np.arange(20).reshape(4, 5), dtype, order=order)  # type: ignore[call-overload]
    found = npy(saved(table))
    np.testing.assert_array_equal(found, table[:, :3])
    assert found.dtype == (np.float64 if dtype in ("<f8", "<i4") else np.float32)


@pytest.mark.parametrize("array", [np.zeros((3, 2)), np.zeros(3), np.zeros((2, 3), complex), np.zeros((2, 3), "U1")])
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not numbers"):
        npy(saved(array))


def test_nothing_is_unpickled() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match="no plain array"):
        read_array(io.BytesIO(stream.getvalue()))
    with pytest.raises(ValueError, match="ends before"):
        npy(saved(np.zeros((4, 3)))[:-1])
    with pytest.raises(ValueError, match="version"):
        npy(b"\x93NUMPY\x03\x00" + saved(np.zeros((4, 3)))[8:])


def test_npz() -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, other=np.zeros(2), xyz=np.ones((2, 3)))
    assert npz(stream.getvalue()).tolist() == [[1, 1, 1]] * 2
    single = io.BytesIO()
    np.savez(single, anything=np.ones((1, 3)))
    assert npz(single.getvalue()).tolist() == [[1, 1, 1]]
    none = io.BytesIO()
    np.savez(none, a=np.ones((1, 3)), b=np.ones((1, 3)))
    with pytest.raises(ValueError, match="no array is called points, xyz"):
        npz(none.getvalue())


def test_floats_tell_reflectance_from_colour() -> None:
    """48 numbers are twelve points of KITTI or eight of SUN RGB-D: what is not x y z lies in 0..1."""
    rng = np.random.default_rng(0)
    four = np.hstack([rng.normal(0, 9, (12, 3)), rng.random((12, 1))]).astype("<f4")
    six = np.hstack([rng.normal(0, 9, (8, 3)), rng.random((8, 3))]).astype("<f4")
    np.testing.assert_array_equal(floats(four.tobytes()), four[:, :3])
    np.testing.assert_array_equal(floats(six.tobytes()), six[:, :3])
    np.testing.assert_array_equal(floats(six.tobytes(), 4), six.reshape(12, 4)[:, :3])
    loud = np.hstack([four[:, :3], 255 * four[:, 3:]])
    np.testing.assert_array_equal(floats(loud.tobytes()), loud[:, :3])  # neither: KITTI's width
    for data, width in ((b"123", None), (bytes(20), 4), (bytes(16), 2)):
        with pytest.raises(ValueError, match=r"float32|numbers a point"):
            floats(data, width)


def test_too_many_points() -> None:
    with pytest.raises(ValueError, match="16777217 points, 16777216 at most"):
        columns(np.broadcast_to(np.float32(0), (2**24 + 1, 3)))


def test_real_scenes() -> None:
    if not SCENES.is_dir():
        pytest.skip("no shared data here")
    kitti = np.fromfile(SCENES / "kitti_000008.bin", "<f4").reshape(-1, 4)
    room = np.fromfile(SCENES / "sunrgbd_000017.bin", "<f4").reshape(-1, 6)
    np.testing.assert_array_equal(read_cloud(SCENES / "kitti_000008.bin"), kitti[:, :3])
    np.testing.assert_array_equal(read_cloud(SCENES / "sunrgbd_000017.bin"), room[:, :3])
