"""Up to where values stay in their compact encodings, and what else they keep to, as settings of the same names say."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from kora.errors import TooLong

# Of a list or a sorted set; the kernel counts in 32 bits (PACK_BYTES_MAX).
ELEMENT_BYTES_MAX: Final = 1 << 30


@dataclass(slots=True)
class Limits:
    """Shared by all values of an engine; changed in place by CONFIG SET."""

    hash_max_listpack_entries: int = 512
    hash_max_listpack_value: int = 64
    list_max_listpack_size: int = -2  # entries of a node, or -1 to -5 for 4 to 64 KB
    set_max_intset_entries: int = 512
    set_max_listpack_entries: int = 128
    set_max_listpack_value: int = 64
    zset_max_listpack_entries: int = 128
    zset_max_listpack_value: int = 64
    stream_node_max_bytes: int = 4096
    stream_node_max_entries: int = 100
    hll_sparse_max_bytes: int = 3000
    vector_exact_max: int = 1_000_000
    vector_hnsw_m: int = 32
    vector_hnsw_ef_construction: int = 200
    vector_hnsw_ef_search: int = 256


def check_lengths(elements: Collection[bytes]) -> None:
    """Before any of them is put in, for it is all of them or none.  Raises TooLong."""
    if max(map(len, elements), default=0) > ELEMENT_BYTES_MAX:
        raise TooLong
