# Streams: kora.types.stream, which says what each method does.  Part of _kernel.pyx, behind lists.pxi.

from kora.types.stream import Block as _ReferenceBlock
from kora.types.stream import ConsumerGroups as _ConsumerGroups
from kora.types.stream import Stream as _ReferenceStream
from kora.types.stream import count_radix_nodes as _count_radix_nodes

cdef extern from "kernel.h":
    struct stream_id:
        uint64_t ms
        uint64_t number

    struct pack:
        uint32_t count

    struct block:
        stream_id first
        stream_id last
        pack pack
        uint64_t node_bytes
        uint32_t names
        uint32_t deleted

    struct stream:
        value value
        uint32_t count
        uint64_t length
        stream_id last_id
        stream_id max_deleted_id
        uint64_t entries_added

    struct stream_entry:
        stream_id id
        size_t words

    struct stream_walk:
        uint32_t block
        size_t at

    block *stream_block(const stream *stream, uint32_t place)
    text pack_get(const pack *pack, size_t at)
    text read_string(const char *data)
    int stream_id_order(stream_id one, stream_id other)
    void stream_add(stream *stream, stream_id id, const argument *words, size_t count)
    bint stream_delete(stream *stream, stream_id id)
    uint64_t stream_keep(stream *stream, uint64_t length, bint approximate, uint64_t limit)
    uint64_t stream_keep_since(stream *stream, stream_id id, bint approximate, uint64_t limit)
    uint64_t stream_shed(stream *stream, uint64_t count)
    void stream_copy(const stream *stream, stream *copy)
    void stream_free(stream *stream)
    const char *stream_audit(const stream *stream, int64_t bytes_beside)
    stream_walk stream_walk_from(const stream *stream, stream_id id)
    stream_walk stream_walk_back_from(const stream *stream, stream_id id)
    bint stream_here(const stream_walk *walk, stream_entry *entry)
    void stream_next(stream_walk *walk)
    void stream_previous(stream_walk *walk)
    text stream_word(stream_entry *entry)


cdef stream_id _stream_id(entry_id) except *:
    cdef stream_id id
    id.ms = entry_id >> 64
    id.number = entry_id & 0xFFFFFFFFFFFFFFFF
    return id


cdef object _entry_id(stream_id id):
    return (<object>id.ms << 64) | id.number


cdef tuple _entry(stream_entry *entry):
    cdef Py_ssize_t place
    cdef Py_ssize_t count = entry.words
    cdef tuple words = PyTuple_New(count)
    for place in range(count):
        word = _bytes(stream_word(entry))
        Py_INCREF(word)
        PyTuple_SET_ITEM(words, place, word)
    return words


cdef list _names(const block *block):
    cdef const char *data = pack_get(&block.pack, 0).data
    cdef text name
    names = []
    for _ in range(block.names):
        name = read_string(data)
        names.append(_bytes(name))
        data = name.data + name.bytes
    return names


@cython.no_gc  # what it holds forms no cycles
cdef class _Entries:
    """The entries of a stream; the class with its groups is below."""

    cdef stream c  # first: C finds it by that
    cdef readonly dict groups
    cdef tuple _radix  # what radix_nodes() was asked about, and the answer

    keeps_when_empty = True

    def __cinit__(self):
        self.groups = {}

    def __init__(self):
        raise TypeError("made by Keyspace.make() only")

    def __dealloc__(self):
        stream_free(&self.c)
        if self.c.value.limits is not NULL:
            limits_release(self.c.value.limits)

    def __len__(self):
        return self.c.length

    @property
    def size_bytes(self):
        return (<PyTypeObject *>_Entries).tp_basicsize + self.c.value.bytes

    def _count(self, int64_t size_bytes):
        self.c.value.bytes += size_bytes

    @property
    def counted_bytes(self):
        return self.c.value.counted

    @counted_bytes.setter
    def counted_bytes(self, int64_t count):
        self.c.value.counted = count

    @property
    def effort(self):
        return self.c.count + self._groups_effort()

    def shed(self, Py_ssize_t count):
        cdef Py_ssize_t dropped = stream_shed(&self.c, max(0, count))
        return dropped + self._shed_groups(count - dropped)

    def copy(self):
        kind = type(self)
        cdef _Entries copy = kind.__new__(kind)
        copy.c.value.limits = limits_share(self.c.value.limits)
        stream_copy(&self.c, &copy.c)
        copy.c.value.bytes += self._groups_bytes()
        self._copy_groups(copy)
        return copy

    # As XINFO tells them

    @property
    def last_id(self):
        return _entry_id(self.c.last_id)

    @last_id.setter
    def last_id(self, entry_id):
        self.c.last_id = _stream_id(entry_id)

    @property
    def max_deleted_id(self):
        return _entry_id(self.c.max_deleted_id)

    @max_deleted_id.setter
    def max_deleted_id(self, entry_id):
        self.c.max_deleted_id = _stream_id(entry_id)

    @property
    def entries_added(self):
        return self.c.entries_added

    @entries_added.setter
    def entries_added(self, uint64_t count):
        self.c.entries_added = count

    # Entries

    @property
    def first_id(self):
        cdef stream_entry entry
        cdef stream_walk walk = stream_walk_from(&self.c, _stream_id(0))
        return _entry_id(entry.id) if stream_here(&walk, &entry) else 0

    @property
    def top_id(self):
        cdef stream_entry entry
        cdef stream_walk walk = stream_walk_back_from(&self.c, self.c.last_id)
        return _entry_id(entry.id) if stream_here(&walk, &entry) else 0

    def next_id(self, uint64_t now_ms):
        return <object>now_ms << 64 if now_ms > self.c.last_id.ms else _entry_id(self.c.last_id) + 1

    def add(self, entry_id, list words not None):
        cdef stream_id id = _stream_id(entry_id)
        cdef Py_ssize_t count = len(words)
        cdef Py_ssize_t place
        cdef argument *arguments
        if stream_id_order(id, self.c.last_id) <= 0:
            raise ValueError("the id is not greater than the last")
        if count < 2 or count % 2:
            raise ValueError("an entry is names and values")
        if any(type(word) is not bytes for word in words) or sum(map(len, words)) > PACK_BYTES_MAX:
            raise ValueError("an entry is words of 1 GB together at most")
        arguments = <argument *>allocate(count * sizeof(argument))
        for place in range(count):
            arguments[place].data = PyBytes_AS_STRING(words[place])
            arguments[place].bytes = PyBytes_GET_SIZE(words[place])
        stream_add(&self.c, id, arguments, count)
        free(arguments)

    def get(self, entry_id):
        cdef stream_id id = _stream_id(entry_id)
        cdef stream_entry entry
        cdef stream_walk walk = stream_walk_from(&self.c, id)
        if stream_here(&walk, &entry) and stream_id_order(entry.id, id) == 0:
            return _entry(&entry)
        return None

    def range(self, start, stop, uint64_t count=0, bint reverse=False):
        cdef stream_id first = _stream_id(start)
        cdef stream_id last = _stream_id(stop)
        cdef stream_entry entry
        cdef stream_walk walk
        found = []
        if stream_id_order(first, last) > 0:
            return found
        walk = stream_walk_back_from(&self.c, last) if reverse else stream_walk_from(&self.c, first)
        while stream_here(&walk, &entry):
            if stream_id_order(entry.id, first) < 0 if reverse else stream_id_order(entry.id, last) > 0:
                break
            found.append((_entry_id(entry.id), _entry(&entry)))
            count -= 1  # from 0 it never comes back to that
            if count == 0:
                break
            if reverse:
                stream_previous(&walk)
            else:
                stream_next(&walk)
        return found

    def delete(self, entry_id):
        return stream_delete(&self.c, _stream_id(entry_id))

    def keep(self, uint64_t length, bint approximate, uint64_t limit):
        return stream_keep(&self.c, length, approximate, limit)

    def keep_since(self, start, bint approximate, uint64_t limit):
        return stream_keep_since(&self.c, _stream_id(start), approximate, limit)

    # Blocks

    def blocks(self):
        """As the reference has them; what they take is not told."""
        cdef uint32_t place
        cdef const block *block
        cdef stream_walk walk
        cdef stream_entry entry
        found = []
        for place in range(self.c.count):
            block = stream_block(&self.c, place)
            made = _ReferenceBlock(_entry_id(block.first), _names(block))
            made.last_id = _entry_id(block.last)
            made.deleted = block.deleted
            made.node_bytes = block.node_bytes
            if block.pack.count > 1:
                walk = stream_walk_from(&self.c, block.first)
                while stream_here(&walk, &entry) and walk.block == place:
                    made.ids.append(_entry_id(entry.id))
                    made.entries.append(_entry(&entry))
                    stream_next(&walk)
            found.append(made)
        return iter(found)

    @property
    def radix_keys(self):
        return self.c.count

    def radix_nodes(self):
        cdef uint32_t place
        if not self.c.count:
            return 1
        state = (
            self.c.count,
            _entry_id(stream_block(&self.c, 0).first),
            _entry_id(stream_block(&self.c, self.c.count - 1).first),
        )
        if self._radix is None or self._radix[0] != state:
            ids = [_entry_id(stream_block(&self.c, place).first) for place in range(self.c.count)]
            self._radix = state, _count_radix_nodes(ids)
        return self._radix[1]

    def audit(self):
        """Count everything again, for tests; raises AssertionError with what is wrong."""
        cdef const char *wrong = stream_audit(&self.c, self._groups_bytes())
        if wrong is not NULL:
            raise AssertionError(wrong.decode())


class Stream(_Entries, _ConsumerGroups):
    """A stream; kora.types.stream says what each method does.  Made by Keyspace.make()."""

    kind = "stream"
    encoding = "stream"

    __slots__ = ()


assert Stream.__basicsize__ == _Entries.__basicsize__
_register(STREAM_OBJECT, _ReferenceStream, Stream)
