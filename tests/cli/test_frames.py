"""Frames of photographs, arrays, folders and videos."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoestring.cli.frames import frames, inputs_of, is_video, opened
from shoestring.core.errors import BadInput

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Three frames of one colour each, as PyAV writes them."""
    av = pytest.importorskip("av")
    path = tmp_path / "three.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for colour in COLOURS:
            pixels = np.broadcast_to(np.array(colour, np.uint8), (48, 64, 3))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_video_is_its_frames_in_order(video: Path) -> None:
    found = list(frames([video], None))
    assert [name for name, _ in found] == [f"{video}#{index}" for index in range(3)]
    for (_, pixels), colour in zip(found, COLOURS, strict=True):
        assert (pixels.shape, pixels.dtype) == ((48, 64, 3), np.uint8)
        assert np.abs(pixels.reshape(-1, 3).mean(0) - colour).max() < 12  # what a lossy code makes of a flat colour


def test_videos_and_photographs_are_walked_again_and_again(video: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    names = [name for name, _ in frames([video, tmp_path / "a.png"], 6)]
    assert names == [*(f"{video}#{index}" for index in range(3)), str(tmp_path / "a.png"), f"{video}#0", f"{video}#1"]
    assert is_video(video)
    assert not is_video(tmp_path / "a.png")


def test_what_cannot_be_read_takes_the_place_of_the_frame(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    np.save(tmp_path / "b.npy", np.zeros(3, np.float32))
    (_, broken), (_, array) = frames([tmp_path / "a.png", tmp_path / "b.npy"], None)
    assert isinstance(broken, BadInput)
    assert np.array_equal(array, np.zeros(3))
    assert opened(tmp_path / "a.png") == tmp_path / "a.png"


@pytest.mark.parametrize("content", [b"no video", b""])
def test_a_broken_video_is_one_line(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("av")
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.mp4: not a readable video after 0 frames") as refused:
        list(frames([tmp_path / "x.mp4"], None))
    assert "\n" not in str(refused.value)


def test_without_pyav_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(BadInput, match=r'a video needs PyAV; pip install "shoestring\[video\]"'):
        list(frames([tmp_path / "x.mp4"], None))


def test_a_folder_stands_for_what_is_in_it(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert inputs_of(tmp_path) == [tmp_path / "a.jpg", tmp_path / "b.png"]
    assert inputs_of(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(BadInput, match="there is no such file or folder"):
        inputs_of(tmp_path / "absent")


def test_point_clouds(tmp_path: Path) -> None:
    """Of a folder those files that are certainly clouds; read, and a broken one told."""
    for name in ("b.xyz", "a.ply", "notes.txt", "c.png"):
        (tmp_path / name).write_text("1 2 3\n")
    assert inputs_of(tmp_path, "points") == [tmp_path / "a.ply", tmp_path / "b.xyz"]
    np.save(tmp_path / "d.npy", np.zeros((2, 3)))
    (_, broken), (_, points), (_, array) = frames(
        [tmp_path / name for name in ("a.ply", "b.xyz", "d.npy")], None, "points"
    )
    assert isinstance(broken, BadInput)
    assert points.tolist() == [[1, 2, 3]]
    assert array.shape == (2, 3)
    assert opened(tmp_path / "d.npy", "points") == tmp_path / "d.npy"
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"holds no point cloud \(\.asc, "):
        inputs_of(tmp_path / "empty", "points")
