"""The container of a `.shoe`: a plain zip of a few named members, read with distrust and written atomically."""

import contextlib
import io
import os
import re
import secrets
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from shoestring.core.errors import BadInput

MAX_BYTES = 2**30  # of the file, and of all members together once inflated
MAX_MEMBERS = 4096
_MAX_DIRECTORY = 2**20  # bytes of the central directory: bounds the entries before they are parsed
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_END = struct.Struct("<4s4H2LH")  # the zip's end record: signature, disks, entries, directory size, offset, comment
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(members: Mapping[str, bytes]) -> bytes:
    """A zip of `members` in their order. Equal members give equal bytes (with one version of zlib).
    Raises ValueError on a name that `unpack` would refuse."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            _check_name(name)
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, whatever system writes it
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def unpack(data: bytes, largest: Mapping[str, int]) -> dict[str, bytes]:
    """The members of a zip made by `pack`, in their order. `largest`: bounds in bytes for single members.

    Raises ValueError with the reason on everything else: paths, links, duplicates, encryption, zip64, junk around the
    zip, members that inflate to more than they declare or than MAX_BYTES in all.
    """
    try:
        entries = _end_record(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) != entries:
                raise ValueError("the zip's end record does not fit the file")
            _check_infos(infos, largest)
            return {info.filename: _inflate(archive, info) for info in infos}
    except ValueError:
        raise
    except Exception as error:  # zipfile and zlib raise many types on broken files
        raise ValueError(f"broken zip: {error or type(error).__name__}") from None


def read_file(path: str | Path) -> bytes:
    """All bytes of a regular file of at most MAX_BYTES. Raises BadInput otherwise."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path}: not a file")
        if status.st_size > MAX_BYTES:
            raise BadInput(f"{path}: {status.st_size} bytes; at most {MAX_BYTES} are read")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def write_file(path: str | Path, data: bytes) -> None:
    """Replaces `path` in one step: whatever happens, it holds its old bytes or the new ones. Raises BadInput when the
    place cannot be written."""
    part = Path(path).parent / f".{Path(path).name[:100]}.{secrets.token_hex(8)}"
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from None
    finally:
        with contextlib.suppress(OSError, ValueError):  # gone when all went well
            part.unlink()


def _end_record(data: bytes) -> int:
    """The number of entries. The record closes the file and describes all of it, so that `zipfile` finds no other."""
    if len(data) < _END.size:
        raise ValueError("not a .shoe file, or cut off")
    signature, disk, start_disk, here, entries, size, offset, comment = _END.unpack(data[-_END.size :])
    if signature != b"PK\x05\x06" or comment or data[-_END.size - 20 :].startswith(b"PK\x06\x07"):
        raise ValueError("not a .shoe file, or cut off")
    if disk or start_disk or here != entries or offset + size + _END.size != len(data):
        raise ValueError("the zip's end record does not fit the file")
    if entries > MAX_MEMBERS or size > _MAX_DIRECTORY:
        raise ValueError(f"more than {MAX_MEMBERS} members")
    return int(entries)


def _check_infos(infos: list[zipfile.ZipInfo], largest: Mapping[str, int]) -> None:
    names = [info.filename for info in infos]
    if len(set(names)) != len(names):
        raise ValueError("a member is there twice")
    for info in infos:
        name = _check_name(info.orig_filename)
        if info.flag_bits & 0x1:
            raise ValueError(f"member {name} is encrypted")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise ValueError(f"member {name} is a link or a device")
        if info.compress_type not in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            raise ValueError(f"member {name} is compressed in an unknown way")
        if info.file_size > largest.get(name, MAX_BYTES):
            raise ValueError(f"member {name} declares {info.file_size} bytes")
    if sum(info.file_size for info in infos) > MAX_BYTES:
        raise ValueError(f"its members declare more than {MAX_BYTES} bytes together")


def _check_name(name: str) -> str:
    if len(name) > 200 or not _NAME.fullmatch(name):
        raise ValueError(f"the member name {name[:60]!r} is not allowed")
    return name


def _inflate(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as member:
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise ValueError(f"member {info.filename} is not as long as it declares")
    return data
