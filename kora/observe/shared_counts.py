"""Histograms in memory that both processes have: the data process counts in it, and the sidecar reads it.

To copy the histograms of 200 commands takes the data loop milliseconds, and that is what clients would wait at every
scrape.  So the kernel keeps them in a file without a name, a place for each command of each shard, and tells only how
far each histogram goes.  A count is one aligned word: whoever reads it has it before or after the other adds to it.
"""

import mmap
import os
import struct
from typing import Any, Final

PLACE_BYTES: Final = 32768  # the longest histogram, in whole pages; the kernel's SHARED_COUNTS_BYTES

# What ShardStats.packed() gives for each command.
_ROW: Final = struct.Struct("=5Q")


class SharedCounts:
    """The reader's end."""

    def __init__(self, fd: int) -> None:
        self._places = mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ)

    def times(self, packed: bytes, block: int) -> dict[int, list[Any]]:
        """What Snapshot.waits and services have, whose blocks come after those of the shards."""
        return {slot: [row[0], row[1], row[4]] for slot, row in self.rows(packed, block).items()}

    def rows(self, packed: bytes, block: int) -> dict[int, list[Any]]:
        """What Snapshot.shards has of a shard's commands."""
        rows: dict[int, list[Any]] = {}
        first = block * (len(packed) // _ROW.size)
        for slot, (calls, elapsed_ns, failed, rejected, size) in enumerate(_ROW.iter_unpack(packed)):
            if calls or failed or rejected:
                start = (first + slot) * PLACE_BYTES
                rows[slot] = [calls, elapsed_ns, failed, rejected, self._places[start : start + 8 * size]]
        return rows
