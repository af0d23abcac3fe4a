"""Any file to a point cloud: what it holds, or one line that says why not, in bounded memory."""

import io
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoestring.core.errors import BadInput
from shoestring.deploy.clouds.read import FARTHEST, IN_FOLDERS, SUFFIXES, finite, read_classified, read_cloud

CLOUDS = ("text.ply", "text.pcd", "binary.pcd", "packed.pcd", "a.xyz", "a.csv", "a.pts", "a.npy", "a.npz")
CLOUDS += ("a.bin", "six.bin")
MESHES = ("mesh.ply", "little.ply", "big.ply", "a.off", "a.obj", "binary.stl", "text.stl")
EXAMPLES = settings().max_examples // 3  # of each format


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples."""
    return tmp_path_factory.mktemp("fuzz")


def read(folder: Path, name: str, data: bytes) -> np.ndarray:
    path = folder / name
    path.write_bytes(data)
    return read_cloud(path)


def refusal(folder: Path, name: str, data: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        read(folder, name, data)
    (line,) = str(caught.value).splitlines()
    assert name in line
    return line


@pytest.mark.parametrize("name", CLOUDS)
def test_points_come_as_they_were_written(
    name: str, made: dict[str, bytes], points: np.ndarray, tmp_path: Path
) -> None:
    found = read(tmp_path, name, made[name])
    assert found.dtype in (np.float32, np.float64)
    np.testing.assert_array_equal(found, points)


@pytest.mark.parametrize("name", MESHES)
def test_of_a_mesh_points_on_its_surface(name: str, made: dict[str, bytes], points: np.ndarray, tmp_path: Path) -> None:
    """Every point is a mix of three corners: of its four coordinates in the tetrahedron one is 0, none below."""
    found = read(tmp_path, name, made[name])
    assert found.shape == (8192, 3)
    homogeneous = np.vstack([points.T, np.ones(4)])
    parts = np.linalg.solve(homogeneous, np.vstack([found.T, np.ones(len(found))]))
    np.testing.assert_allclose(parts.min(axis=0), 0, atol=1e-5)
    again = read_cloud(tmp_path / name, samples=100, seed=1)
    assert again.shape == (100, 3)
    assert not np.isin(again, found).all()


@pytest.mark.parametrize("name", [*CLOUDS, *MESHES])
def test_an_empty_file(name: str, tmp_path: Path) -> None:
    refusal(tmp_path, name, b"")


@pytest.mark.parametrize("name", [*CLOUDS, *MESHES])
@settings(max_examples=EXAMPLES)
@given(cut=st.floats(0, 1), changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8))
def test_broken_files_never_crash(
    name: str,
    cut: float,
    changes: list[tuple[float, int]],
    made: dict[str, bytes],
    folder: Path,
) -> None:
    """Cut and changed anywhere: points that are numbers, or one line."""
    data = bytearray(made[name])
    for place, value in changes:
        data[int(place * len(data))] = value
    path = folder / name
    path.write_bytes(data[: round(cut * len(data))])
    try:
        found = read_cloud(path)
    except BadInput as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert found.ndim == 2
        assert found.shape[1] == 3
        assert np.isfinite(found).all()


@pytest.mark.parametrize("name", [*CLOUDS, *MESHES])
@settings(max_examples=EXAMPLES)
@given(data=st.binary(max_size=400))
def test_any_bytes(name: str, data: bytes, made: dict[str, bytes], folder: Path) -> None:
    """After a good header, or none."""
    path = folder / name
    for before in (b"", made[name][: len(made[name]) // 2]):
        path.write_bytes(before + data)
        try:
            found = read_cloud(path)
        except BadInput:
            continue
        assert np.isfinite(found).all()


HUGE = b"999999999999"


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("text.ply", b"vertex 4"),
        ("little.ply", b"vertex 4"),
        ("little.ply", b"face 4"),
        ("mesh.ply", b"face 4"),
        ("text.pcd", b"POINTS 4"),
        ("binary.pcd", b"POINTS 4"),
        ("packed.pcd", b"POINTS 4"),
        ("a.off", b"4 4"),
    ],
)
@pytest.mark.parametrize("number", [HUGE, b"16777216", b"-1", b"4e9"])
def test_absurd_headers_take_no_memory(
    name: str, old: bytes, number: bytes, made: dict[str, bytes], tmp_path: Path
) -> None:
    assert old in made[name]
    data = made[name].replace(old, old.rpartition(b" ")[0] + b" " + number, 1)
    begun = time.process_time()
    tracemalloc.start()
    try:
        refusal(tmp_path, name, data)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert time.process_time() - begun < 2


def test_a_huge_array_in_a_small_zip(tmp_path: Path) -> None:
    """Zeros of 4 GiB compress to megabytes; the header alone is enough to refuse them."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (2**27, 4)})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("points.npy", head.getvalue() + bytes(2**20))
    assert "at most" in refusal(tmp_path, "a.npz", archive.getvalue())
    assert "at most" in refusal(tmp_path, "a.npy", head.getvalue())


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    rows = np.array([[0, 1, 2], [np.nan, 0, 0], [0, np.inf, 0], [0, 0, 2 * FARTHEST], [3, 4, 5.0]])
    np.save(tmp_path / "a.npy", rows)
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.npy"), rows[[0, 4]])
    np.save(tmp_path / "b.npy", rows[1:4])
    with pytest.raises(BadInput, match="holds no point"):
        read_cloud(tmp_path / "b.npy")
    assert finite(rows[[0]]) is not rows
    fine = rows[[0, 4]]
    assert finite(fine) is fine


def test_one_point(tmp_path: Path) -> None:
    assert read(tmp_path, "a.xyz", b"1 2 3").tolist() == [[1, 2, 3]]


@pytest.mark.slow
def test_ten_million_points(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.random((10_000_000, 4), np.float32)
    points.tofile(tmp_path / "a.bin")
    begun = time.process_time()
    found = read_cloud(tmp_path / "a.bin")
    assert found.shape == (10_000_000, 3)
    assert time.process_time() - begun < 10
    np.testing.assert_array_equal(found[-1], points[-1, :3])


def test_what_is_no_cloud(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"not a point cloud by its name; give one of .*\.ply"):
        read_cloud(tmp_path / "a.jpg")
    with pytest.raises(BadInput, match="cannot be read"):
        read_cloud(tmp_path / "absent.ply")
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(BadInput, match="cannot be read"):
        read_cloud(tmp_path / "folder.ply")
    assert {".csv", ".txt"} == SUFFIXES - IN_FOLDERS


def test_a_file_larger_than_the_limit(tmp_path: Path) -> None:
    with (tmp_path / "a.bin").open("wb") as stream:
        stream.truncate(2**30 + 16)  # takes no room on the disk
    with pytest.raises(BadInput, match="larger than 1073741824 bytes"):
        read_cloud(tmp_path / "a.bin")


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "laspy", None)
    (tmp_path / "a.laz").write_bytes(b"LASF")
    with pytest.raises(BadInput, match=r'needs laspy.*; pip install "shoestring\[points\]"'):
        read_cloud(tmp_path / "a.laz")
    with pytest.raises(BadInput, match=r"needs laspy"):
        read_classified(tmp_path / "a.laz")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.xyz", b"1 " * 10**7),
        ("a.xyz", b"1 2 3\n" + b"1 " * 10**7),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf " + b"1 " * 10**7),
        ("a.off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n10000000 " + b"1 " * 10**7),
        ("text.stl", b"solid\n" + b"\n" * 10**6),
    ],
)
def test_endless_lines_take_little_memory_and_time(name: str, data: bytes, tmp_path: Path) -> None:
    """A list of ten million words would take a gigabyte; a pattern that looks past a line's end, hours."""
    begun = time.process_time()
    tracemalloc.start()
    try:
        refusal(tmp_path, name, data)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(data) + 2**22
    finally:
        tracemalloc.stop()
    assert time.process_time() - begun < 10
