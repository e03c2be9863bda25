"""Reads the files of an exFAT image: no program on a common machine does without the kernel's driver.

Source followed: Microsoft's "exFAT file system specification", version 1.00. Only what is needed to read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_ENTRY_BYTES: Final = 32
_END_OF_FOLDER: Final = 0x00
_FILE, _STREAM, _NAME = 0x85, 0xC0, 0xC1
_IS_FOLDER: Final = 0x10
_HAS_NO_CHAIN: Final = 0x02


@dataclass(frozen=True)
class _Entry:
    name: str
    is_folder: bool
    cluster: int
    size: int
    valid_size: int
    is_contiguous: bool


class ExfatFiles:
    """The files in the bytes of a partition; raises ValueError for what is no exFAT."""

    def __init__(self, data: bytes) -> None:
        if data[3:11] != b"EXFAT   ":
            raise ValueError("this is no exFAT")
        fat_sector, _, heap_sector, self._clusters, self._root = struct.unpack_from("<IIIII", data, 80)
        sector_bytes = 1 << data[108]
        self._data = data
        self._fat = fat_sector * sector_bytes
        self._heap = heap_sector * sector_bytes
        self._cluster_bytes = sector_bytes << data[109]

    def read(self) -> dict[str, bytes]:
        """Return every file by its path."""
        return dict(self._walk("", self._content(self._root, None, is_contiguous=False)))

    def _walk(self, path: str, folder: bytes) -> Iterator[tuple[str, bytes]]:
        for entry in _entries(folder):
            content = self._content(entry.cluster, entry.size, is_contiguous=entry.is_contiguous) if entry.size else b""
            if entry.is_folder:
                yield from self._walk(f"{path}{entry.name}/", content)
            else:
                yield f"{path}{entry.name}", content[: entry.valid_size].ljust(entry.size, b"\0")

    def _content(self, cluster: int, size: int | None, *, is_contiguous: bool) -> bytes:
        parts = []
        taken = 0
        for _ in range(self._clusters):
            if not 2 <= cluster < self._clusters + 2:
                break
            start = self._heap + (cluster - 2) * self._cluster_bytes
            parts.append(self._data[start : start + self._cluster_bytes])
            taken += self._cluster_bytes
            if size is not None and taken >= size:
                break
            cluster = cluster + 1 if is_contiguous else self._following(cluster)
        return b"".join(parts)[:size]

    def _following(self, cluster: int) -> int:
        (following,) = struct.unpack_from("<I", self._data, self._fat + 4 * cluster)
        return int(following)


def _entries(folder: bytes) -> Iterator[_Entry]:
    offset = 0
    while offset < len(folder) and folder[offset] != _END_OF_FOLDER:
        if folder[offset] != _FILE:
            offset += _ENTRY_BYTES
            continue
        count = folder[offset + 1]
        (attributes,) = struct.unpack_from("<H", folder, offset + 4)
        secondary = [folder[at : at + _ENTRY_BYTES] for at in range(offset + 32, offset + 32 * (count + 1), 32)]
        offset += _ENTRY_BYTES * (count + 1)
        stream = next(one for one in secondary if one[0] == _STREAM)
        name = b"".join(one[2:] for one in secondary if one[0] == _NAME)[: 2 * stream[3]].decode("utf-16-le")
        valid_size, cluster, size = struct.unpack_from("<Q4xIQ", stream, 8)
        yield _Entry(name, bool(attributes & _IS_FOLDER), cluster, size, valid_size, bool(stream[1] & _HAS_NO_CHAIN))
