"""The container: zips are made and forged with the standard library."""

import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.errors import BadInput
from shoestring.deploy import archive
from shoestring.deploy.archive import pack, read_file, unpack, write_file

MEMBERS = {"manifest.json": b"{}", "a.onnx": bytes(range(256)) * 9, "weights/0.npy": b""}
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}(/[A-Za-z0-9_]{1,5})?", fullmatch=True)


def forged(*members: tuple[zipfile.ZipInfo | str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as file:
        for info, data in members:
            file.writestr(info, data)
    return buffer.getvalue()


@given(st.dictionaries(NAMES, st.binary(max_size=200), max_size=5))
def test_round_trip_and_any_tool_reads_it(members: dict[str, bytes]) -> None:
    data = pack(members)
    assert pack(members) == data
    assert list(unpack(data, {}).items()) == list(members.items())
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert {name: file.read(name) for name in file.namelist()} == members
        assert all(info.date_time == (1980, 1, 1, 0, 0, 0) for info in file.infolist())


def test_other_tools_zips_are_read() -> None:
    assert unpack(forged(("a", b"1"), ("b", b"2" * 99), kind=zipfile.ZIP_STORED), {}) == {"a": b"1", "b": b"2" * 99}


def test_it_deflates() -> None:
    assert len(pack({"a": bytes(100_000)})) < 1000


@pytest.mark.parametrize(
    "name",
    ["../a", "/a", "a/../b", "a/./b", "C:\\a", "a\\b", "a//b", "a/", ".a", "", "a\nb", "a\x00b", "ä", "a" * 201, "-a"],
)
def test_dangerous_names_are_refused(name: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = name
    with pytest.raises(ValueError, match=r"member name|broken zip|not a \.shoe"):
        unpack(forged((info, b"1")), {})
    with pytest.raises(ValueError, match="member name"):
        pack({name: b"1"})


def test_a_name_cut_by_a_null_byte_is_refused() -> None:
    data = forged(("good_evil", b"1")).replace(b"good_evil", b"good\x00evil")
    with pytest.raises(ValueError, match="member name"):
        unpack(data, {})


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        unpack(forged(("a", b"1"), ("a", b"2")), {})


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_links_and_devices_are_refused(kind: int) -> None:
    info = zipfile.ZipInfo("a")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    with pytest.raises(ValueError, match="link or a device"):
        unpack(forged((info, b"/etc/passwd")), {})


def patched(data: bytes, central: int, local: int, value: bytes) -> bytes:
    """`data` with a field of its only member overwritten, by the field's offset in either header."""
    blob = bytearray(data)
    for start, offset in ((data.rindex(b"PK\x01\x02"), central), (0, local)):
        blob[start + offset : start + offset + len(value)] = value
    return bytes(blob)


def test_encryption_and_other_compressions_are_refused() -> None:
    data = pack({"a": b"1"})
    with pytest.raises(ValueError, match="encrypted"):
        unpack(patched(data, 8, 6, struct.pack("<H", 1)), {})
    with pytest.raises(ValueError, match="unknown way"):
        unpack(forged(("a", b"1"), kind=zipfile.ZIP_BZIP2), {})
    with pytest.raises(ValueError, match="unknown way"):
        unpack(forged(("a", b"1"), kind=zipfile.ZIP_LZMA), {})


def test_bombs_are_refused_by_what_they_declare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 10_000)
    with pytest.raises(ValueError, match="declares 10001 bytes"):
        unpack(pack({"a": bytes(10_001)}), {})
    with pytest.raises(ValueError, match="together"):
        unpack(pack({"a": bytes(6000), "b": bytes(6000)}), {})
    with pytest.raises(ValueError, match="declares 101 bytes"):
        unpack(pack({"a": bytes(101)}), {"a": 100})


@pytest.mark.parametrize("declared", [0, 1, 99_999, 100_001, 2**32 - 2])
def test_bombs_that_lie_are_refused_while_reading(declared: int) -> None:
    with pytest.raises(ValueError, match=r"broken zip|as long as|declares"):
        unpack(patched(pack({"a": bytes(100_000)}), 24, 22, struct.pack("<L", declared)), {})


def test_too_many_members_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 4096 members"):
        unpack(pack({f"m{i}": b"" for i in range(4097)}), {})


def test_junk_around_the_zip_is_refused() -> None:
    data = pack(MEMBERS)
    for junk in (b"#!/bin/sh\n" + data, data + b"x", data[:-2] + b"\x05\x00hello", data + data):
        with pytest.raises(ValueError, match=r"not a \.shoe|does not fit"):
            unpack(junk, {})


def test_zip64_is_refused() -> None:
    data = pack(MEMBERS)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    end = archive._END.unpack(data[-22:])
    grown = archive._END.pack(*end[:5], end[5] + len(locator), *end[6:])
    with pytest.raises(ValueError, match=r"not a \.shoe"):
        unpack(data[:-22] + locator + grown, {})


@given(st.binary(max_size=300))
def test_any_bytes_are_value_errors(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        unpack(data, {})
    with pytest.raises(ValueError, match=r"\w"):
        unpack(data + archive._END.pack(b"PK\x05\x06", 0, 0, 1, 1, len(data), 0, 0), {})


def test_files_are_written_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.shoe"
    write_file(target, b"old")

    def power_cut(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", power_cut)
    with pytest.raises(BadInput, match=r"x\.shoe: cannot be written \(No space left"):
        write_file(target, b"new")
    assert read_file(target) == b"old"
    assert list(tmp_path.iterdir()) == [target]
    monkeypatch.undo()
    write_file(target, b"new")
    assert read_file(target) == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    write_file(tmp_path / "x", b"1")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    for path in (tmp_path / "absent" / "x", tmp_path / "file" / "x", tmp_path, "a\x00b"):
        with pytest.raises(BadInput, match="cannot be written"):
            write_file(path, b"1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(bytes(20))
    for path, why in (("absent", "No such file"), ("", "not a file"), ("pipe", "not a file"), ("a\x00b", "null byte")):
        with pytest.raises(BadInput, match=why):
            read_file(tmp_path / path)
    monkeypatch.setattr(archive, "MAX_BYTES", 19)
    with pytest.raises(BadInput, match="20 bytes"):
        read_file(tmp_path / "big")
