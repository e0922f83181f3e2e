"""How large a value of a kind may be in its compact form.

One object for all values of an engine, changed in place by CONFIG SET, so that a value has its limits at hand without
asking anybody.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Limits:
    """Redis' settings of the same names, and their defaults."""

    hash_max_listpack_entries: int = 128
    hash_max_listpack_value: int = 64
    list_max_listpack_size: int = -2
    set_max_intset_entries: int = 512
    set_max_listpack_entries: int = 128
    set_max_listpack_value: int = 64
    zset_max_listpack_entries: int = 128
    zset_max_listpack_value: int = 64
    stream_node_max_bytes: int = 4096
    stream_node_max_entries: int = 100
    hll_sparse_max_bytes: int = 3000
