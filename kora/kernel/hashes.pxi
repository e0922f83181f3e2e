# Hashes and sets: kora.types.hash and kora.types.set, which say what each method does.  Part of _kernel.pyx.

from heapq import heapify, heappop, heappush

from cpython.object cimport PyTypeObject

from kora.types.hash import Hash as _ReferenceHash
from kora.types.set import Set as _ReferenceSet

cdef extern from "kernel.h":
    struct members:
        uint32_t count

    uint32_t members_left(const members *members, uint64_t cursor)

    struct hash_value:
        value value
        members *table
        bint is_table
        bint is_timed
        uint32_t timed_count

    uint32_t hash_count(const hash_value *hash)
    bint hash_get(const hash_value *hash, text field, text *value)
    bint hash_set(hash_value *hash, text field, text value)
    bint hash_delete(hash_value *hash, text field)
    bint hash_next(const hash_value *hash, size_t *place, text *field, text *value)
    void hash_random(hash_value *hash, text *field, text *value)
    uint32_t hash_shed(hash_value *hash, uint32_t count)
    void hash_copy(const hash_value *hash, hash_value *copy)
    void hash_free(hash_value *hash)
    const char *hash_audit(const hash_value *hash, int64_t bytes_beside)

    int SET_INTEGERS, SET_PACK, SET_TABLE

    struct set_value:
        value value
        members *table
        uint32_t form

    uint32_t set_count(const set_value *set)
    bint set_has(const set_value *set, text member)
    bint set_add(set_value *set, text member)
    bint set_remove(set_value *set, text member)
    bint set_next(const set_value *set, size_t *place, char *digits, text *member)
    size_t set_random(set_value *set)
    text set_at(const set_value *set, size_t place, char *digits)
    void set_remove_at(set_value *set, size_t place)
    uint32_t set_shed(set_value *set, uint32_t count)
    void set_copy(const set_value *set, set_value *copy)
    void set_free(set_value *set)
    const char *set_audit(const set_value *set)


cdef inline text _text(bytes data) noexcept:
    cdef text text
    text.data = PyBytes_AS_STRING(data)
    text.bytes = PyBytes_GET_SIZE(data)
    return text


cdef inline bytes _bytes(text text):
    return PyBytes_FromStringAndSize(text.data, text.bytes)


cdef inline size_t hash_effort(const hash_value *hash) noexcept:
    return hash_count(hash) if hash.is_table else 1


cdef inline size_t set_effort(const set_value *set) noexcept:
    return set_count(set) if set.form == SET_TABLE else 1


cdef class _Deadlines:
    """When fields of a hash end.  Rare, and so in Python."""

    cdef dict by_field
    cdef list heap  # of (deadline_ms, field); pairs that by_field does not have are over
    cdef int64_t bytes  # about, of all of it

    def __cinit__(self):
        self.by_field = {}
        self.heap = []

    cdef _Deadlines copied(self):
        copy = _Deadlines()
        copy.by_field = self.by_field.copy()
        copy.heap = self.heap.copy()
        copy.bytes = self.bytes
        return copy

    cdef int64_t cost(self, bytes field):
        # A place in the dict, one in the heap, the pair, an int and a copy of the field.
        return 104 + 8 + 56 + 32 + 40 + PyBytes_GET_SIZE(field)

    cdef int set(self, bytes field, int64_t deadline_ms) except -1:
        if field not in self.by_field:
            self.bytes += self.cost(field)
        self.by_field[field] = deadline_ms
        heappush(self.heap, (deadline_ms, field))
        if len(self.heap) > 2 * len(self.by_field) + 64:
            self.heap = [(deadline_ms, field) for field, deadline_ms in self.by_field.items()]
            heapify(self.heap)
        return 0

    cdef bint drop(self, bytes field) except -1:
        if self.by_field.pop(field, None) is None:
            return False
        self.bytes -= self.cost(field)
        return True

    cdef bytes take_due(self, int64_t now_ms):
        """A field whose time is over, or None."""
        while self.heap and self.heap[0][0] <= now_ms:
            deadline_ms, field = heappop(self.heap)
            if self.by_field.get(field) == deadline_ms:
                self.drop(field)
                return field
        return None


@cython.final
@cython.no_gc  # nothing that it holds leads back to it
cdef class Hash:
    """A hash; kora.types.hash says what each method does.  Made by Keyspace.make()."""

    cdef hash_value c  # first, and no methods of C in front of it: C finds it by its place
    cdef _Deadlines _deadlines  # None while no field has one

    kind = "hash"
    keeps_when_empty = False

    def __init__(self):
        raise TypeError("made by Keyspace.make() only")

    def __dealloc__(self):
        hash_free(&self.c)
        if self.c.value.limits is not NULL:
            limits_release(self.c.value.limits)

    def __len__(self):
        return hash_count(&self.c)

    @property
    def encoding(self):
        if self.c.is_table:
            return "hashtable"
        return "listpackex" if self.c.is_timed else "listpack"

    @property
    def size_bytes(self):
        return (<PyTypeObject *>Hash).tp_basicsize + self.c.value.bytes

    @property
    def counted_bytes(self):
        return self.c.value.counted

    @counted_bytes.setter
    def counted_bytes(self, int64_t count):
        self.c.value.counted = count

    @property
    def effort(self):
        return hash_effort(&self.c)

    def shed(self, count):
        _forget_deadlines(self)
        return hash_shed(&self.c, min(max(count, 0), <uint32_t>0xFFFFFFFF))

    def copy(self):
        cdef Hash copy = Hash.__new__(Hash)
        copy.c.value.limits = limits_share(self.c.value.limits)
        hash_copy(&self.c, &copy.c)
        if self._deadlines is not None:
            copy._deadlines = self._deadlines.copied()
            copy.c.value.bytes += copy._deadlines.bytes
        return copy

    def get(self, bytes field not None):
        cdef text value
        return _bytes(value) if hash_get(&self.c, _text(field), &value) else None

    def set(self, bytes field not None, bytes value not None):
        if self.c.timed_count:
            _drop_deadline(self, field)
        return hash_set(&self.c, _text(field), _text(value))

    def delete(self, bytes field not None):
        if self.c.timed_count:
            _drop_deadline(self, field)
        return hash_delete(&self.c, _text(field))

    def has(self, bytes field not None):
        cdef text value
        return hash_get(&self.c, _text(field), &value)

    def fields(self):
        cdef size_t place = 0
        cdef text field
        cdef text value
        fields = []
        while hash_next(&self.c, &place, &field, &value):
            fields.append(_bytes(field))
        return fields

    def values(self):
        cdef size_t place = 0
        cdef text field
        cdef text value
        values = []
        while hash_next(&self.c, &place, &field, &value):
            values.append(_bytes(value))
        return values

    def flat(self):
        cdef size_t place = 0
        cdef text field
        cdef text value
        flat = []
        while hash_next(&self.c, &place, &field, &value):
            flat.append(_bytes(field))
            flat.append(_bytes(value))
        return flat

    def scan(self, uint64_t cursor, uint64_t count):
        cdef size_t place
        cdef uint32_t stop
        cdef text field
        cdef text value
        if not self.c.is_table:
            return 0, self.flat()
        stop = members_left(self.c.table, cursor)
        place = following = stop - min(<uint64_t>stop, count)
        flat = []
        while place < stop:
            hash_next(&self.c, &place, &field, &value)
            flat.append(_bytes(field))
            flat.append(_bytes(value))
        return following, flat

    def random(self):
        cdef text field
        cdef text value
        if hash_count(&self.c) == 0:
            raise IndexError("the hash is empty")
        hash_random(&self.c, &field, &value)
        return _bytes(field), _bytes(value)

    # Deadlines of fields

    def deadline(self, bytes field not None):
        return None if self._deadlines is None else self._deadlines.by_field.get(field)

    def expire(self, bytes field not None, int64_t deadline_ms):
        cdef text value
        if not hash_get(&self.c, _text(field), &value):
            raise KeyError(field)
        if self._deadlines is None:
            self._deadlines = _Deadlines()
        before = self._deadlines.bytes
        self._deadlines.set(field, deadline_ms)
        _settle_deadlines(self, before)
        self.c.is_timed = True

    def persist(self, bytes field not None):
        return _drop_deadline(self, field)

    @property
    def next_deadline_ms(self):
        if self._deadlines is None or not self._deadlines.heap:
            return 0
        return self._deadlines.heap[0][0]

    def end_due(self, int64_t now_ms, Py_ssize_t fields_max=0):
        cdef list ended = []
        if self._deadlines is None:
            return ended
        before = self._deadlines.bytes
        while not 0 < fields_max == len(ended) and (field := self._deadlines.take_due(now_ms)) is not None:
            hash_delete(&self.c, _text(field))
            ended.append(field)
        _settle_deadlines(self, before)
        return ended

    def audit(self):
        """Count everything again, for tests; raises AssertionError with what is wrong."""
        cdef const char *wrong = hash_audit(&self.c, 0 if self._deadlines is None else self._deadlines.bytes)
        if wrong is not NULL:
            raise AssertionError(wrong.decode())


# Functions, since methods of C would put a table of themselves in front of the struct.

cdef int _settle_deadlines(Hash self, int64_t bytes_before) except -1:
    """Count the deadlines again, after a change; none of them is left when they are no longer needed."""
    cdef Py_ssize_t count = len(self._deadlines.by_field)
    self.c.value.bytes += self._deadlines.bytes - bytes_before
    self.c.timed_count = count
    if count == 0:
        self._deadlines = None
    return 0


cdef int _forget_deadlines(Hash self) except -1:
    if self._deadlines is not None:
        self.c.value.bytes -= self._deadlines.bytes
        self.c.timed_count = 0
        self._deadlines = None
    return 0


cdef bint _drop_deadline(Hash self, bytes field) except -1:
    if self._deadlines is None:
        return False
    before = self._deadlines.bytes
    dropped = self._deadlines.drop(field)
    _settle_deadlines(self, before)
    return dropped


@cython.final
@cython.no_gc  # it holds no objects
cdef class Set:
    """A set; kora.types.set says what each method does.  Made by Keyspace.make()."""

    cdef set_value c  # first, and no methods of C in front of it: C finds it by its place

    kind = "set"
    keeps_when_empty = False

    def __init__(self):
        raise TypeError("made by Keyspace.make() only")

    def __dealloc__(self):
        set_free(&self.c)
        if self.c.value.limits is not NULL:
            limits_release(self.c.value.limits)

    def __len__(self):
        return set_count(&self.c)

    @property
    def encoding(self):
        if self.c.form == SET_TABLE:
            return "hashtable"
        return "listpack" if self.c.form == SET_PACK else "intset"

    @property
    def size_bytes(self):
        return (<PyTypeObject *>Set).tp_basicsize + self.c.value.bytes

    @property
    def counted_bytes(self):
        return self.c.value.counted

    @counted_bytes.setter
    def counted_bytes(self, int64_t count):
        self.c.value.counted = count

    @property
    def effort(self):
        return set_effort(&self.c)

    def shed(self, count):
        return set_shed(&self.c, min(max(count, 0), <uint32_t>0xFFFFFFFF))

    def copy(self):
        cdef Set copy = Set.__new__(Set)
        copy.c.value.limits = limits_share(self.c.value.limits)
        set_copy(&self.c, &copy.c)
        return copy

    def add(self, bytes member not None):
        return set_add(&self.c, _text(member))

    def remove(self, bytes member not None):
        return set_remove(&self.c, _text(member))

    def has(self, bytes member not None):
        return set_has(&self.c, _text(member))

    def members(self):
        cdef size_t place = 0
        cdef char digits[32]
        cdef text member
        members = []
        while set_next(&self.c, &place, digits, &member):
            members.append(_bytes(member))
        return members

    def random(self):
        cdef char digits[32]
        if set_count(&self.c) == 0:
            raise IndexError("the set is empty")
        return _bytes(set_at(&self.c, set_random(&self.c), digits))

    def pop(self):
        cdef char digits[32]
        cdef size_t place
        if set_count(&self.c) == 0:
            raise IndexError("the set is empty")
        place = set_random(&self.c)
        member = _bytes(set_at(&self.c, place, digits))
        set_remove_at(&self.c, place)
        return member

    def scan(self, uint64_t cursor, uint64_t count):
        cdef uint32_t stop
        cdef char digits[32]
        if self.c.form != SET_TABLE:
            return 0, self.members()
        stop = members_left(self.c.table, cursor)
        following = stop - min(<uint64_t>stop, count)
        return following, [_bytes(set_at(&self.c, place, digits)) for place in range(following, stop)]

    def audit(self):
        """Count everything again, for tests; raises AssertionError with what is wrong."""
        cdef const char *wrong = set_audit(&self.c)
        if wrong is not NULL:
            raise AssertionError(wrong.decode())


_register(HASH_OBJECT, _ReferenceHash, Hash)
_register(SET_OBJECT, _ReferenceSet, Set)
