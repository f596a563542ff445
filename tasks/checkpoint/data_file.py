"""What can be told about an LMDB file without opening it through LMDB.

LMDB reads through a memory map: a file shorter than its own meta pages say is not an error there
but SIGBUS.  So the size is held against the meta pages first, with plain reads.

Layout that matters here: pages 0 and 1 hold a meta record each, the one with the higher
transaction id counts.  The page header has 16 bytes in the engine's 0.9 series and 24 in 1.0;
behind it the record is the same: magic u32, version u32, address u64, map size u64, the free and
the main tree (48 bytes each, the first 4 of them the page size), last page u64, transaction u64.
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import Struct

_MAGIC = 0xBEEFC0DE
_HEADER_SIZES = (16, 24)
_META = Struct("=IIQQI44s48sQQ")


class DamagedFileError(Exception):
    """The file cannot be read safely; the message says why."""


def check_size(path: Path) -> None:
    """Raise ``DamagedFileError`` unless the file holds every page that its meta pages count.

    Works on a file that is being written: what is committed is on the disk before the meta page
    says so, and the size is asked for after the meta pages.
    """
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
        last_page, page_size = _newest_meta(head, stream.fileno())
        size = os.fstat(stream.fileno()).st_size
    needed = (last_page + 1) * page_size
    if size < needed:
        raise DamagedFileError(f"it has {size:,} bytes and counts pages up to {needed:,}")


def _newest_meta(head: bytes, descriptor: int) -> tuple[int, int]:
    if not head:
        raise DamagedFileError("it is empty")
    offset = next((size for size in _HEADER_SIZES if _magic_at(head, size)), None)
    if offset is None or len(head) < offset + _META.size:
        raise DamagedFileError("it is no LMDB file")
    first = _META.unpack_from(head, offset)
    page_size = int(first[4])
    if page_size < 512 or page_size & (page_size - 1) or page_size > 1 << 16:
        raise DamagedFileError(f"its first page claims a page size of {page_size}")
    second_page = os.pread(descriptor, offset + _META.size, page_size)
    if len(second_page) < offset + _META.size:
        raise DamagedFileError("it ends within its second page")
    if not _magic_at(second_page, offset):
        raise DamagedFileError("its second page is no meta page")
    second = _META.unpack_from(second_page, offset)
    counts = first if first[8] >= second[8] else second
    return int(counts[7]), page_size


def _magic_at(page: bytes, offset: int) -> bool:
    return page[offset : offset + 4] == _MAGIC.to_bytes(4, "little")
