# Lists and sorted sets: kora.types.list and kora.types.sorted_set, which say what each method does.  Part of _kernel.pyx,
# behind hashes.pxi.

from kora.types.list import List as _ReferenceList
from kora.types.sorted_set import SortedSet as _ReferenceSortedSet

cdef extern from "kernel.h":
    size_t PACK_BYTES_MAX

    struct list_value "list":
        value value

    struct list_walker "list_walk":
        const void *node

    void list_free(list_value *list)
    void list_copy(list_value *copy, const list_value *list)
    size_t list_count(const list_value *list)
    bint list_is_small(const list_value *list)
    size_t list_effort(const list_value *list)
    void list_push(list_value *list, bint at_end, text item)
    text list_end(const list_value *list, bint at_end)
    void list_pop(list_value *list, bint at_end)
    text list_get(const list_value *list, size_t index)
    void list_set(list_value *list, size_t index, text item)
    void list_insert(list_value *list, size_t index, text item)
    void list_delete(list_value *list, size_t index, size_t count)
    size_t list_remove(list_value *list, text item, bint from_end, size_t count_max)
    size_t list_shed(list_value *list, size_t count)
    list_walker list_walk(const list_value *list, size_t index)
    text list_here(const list_walker *walk)
    void list_next(list_walker *walk)
    void list_previous(list_walker *walk)
    bint is_same(const char *first, const char *second, size_t bytes)
    const char *list_audit(const list_value *list)

    struct ordered:
        members *members

    struct sorted_set:
        value value
        ordered *ordered

    struct ranked:
        text member
        double score

    struct sorted_set_walker "sorted_set_walk":
        pass

    void sorted_set_free(sorted_set *set)
    void sorted_set_copy(sorted_set *copy, const sorted_set *set)
    size_t sorted_set_count(const sorted_set *set)
    bint sorted_set_is_small(const sorted_set *set)
    bint sorted_set_score(const sorted_set *set, text member, double *score)
    int IS_NEW
    int sorted_set_add(sorted_set *set, text member, double score)
    bint sorted_set_remove(sorted_set *set, text member)
    size_t sorted_set_rank(const sorted_set *set, text member)
    size_t sorted_set_scores_below(const sorted_set *set, double score, bint inclusive)
    size_t sorted_set_members_below(const sorted_set *set, text member, bint inclusive)
    void sorted_set_remove_slice(sorted_set *set, size_t start, size_t stop)
    sorted_set_walker sorted_set_walk(const sorted_set *set, size_t rank)
    bint sorted_set_here(const sorted_set_walker *walk, ranked *ranked)
    void sorted_set_next(sorted_set_walker *walk)
    size_t sorted_set_random(sorted_set *set)
    uint32_t sorted_set_left(const sorted_set *set, uint64_t cursor)
    ranked sorted_set_scanned(const sorted_set *set, uint32_t index)
    size_t sorted_set_effort(const sorted_set *set)
    const char *sorted_set_audit(const sorted_set *set)


cdef text _checked_text(bytes data) except *:
    """What a value can hold: packs count in 32 bits."""
    if <size_t>PyBytes_GET_SIZE(data) > PACK_BYTES_MAX:
        raise TooLong
    return _text(data)


# Functions, not methods: those of Cython's are in a table whose address would stand where C looks for the struct.

cdef size_t _index(const list_value *list, Py_ssize_t index, bint may_be_end) except? 0:
    cdef size_t count = list_count(list)
    if index < 0 or <size_t>index > count or (<size_t>index == count and not may_be_end):
        raise IndexError(index)
    return index


cdef bytes _pop(list_value *list, bint at_end):
    if list_count(list) == 0:
        raise IndexError("the list is empty")
    value = _bytes(list_end(list, at_end))
    list_pop(list, at_end)
    return value


@cython.final
@cython.no_gc  # it holds no objects
cdef class List:
    """A list; kora.types.list says what each method does.  Made by Keyspace.make()."""

    cdef list_value c  # first: C finds it by that

    kind = "list"
    keeps_when_empty = False

    def __init__(self):
        raise TypeError("made by Keyspace.make() only")

    def __dealloc__(self):
        list_free(&self.c)
        if self.c.value.limits is not NULL:
            limits_release(self.c.value.limits)

    def __len__(self):
        return list_count(&self.c)

    @property
    def encoding(self):
        return "listpack" if list_is_small(&self.c) else "quicklist"

    @property
    def size_bytes(self):
        return (<PyTypeObject *>List).tp_basicsize + self.c.value.bytes

    @property
    def counted_bytes(self):
        return self.c.value.counted

    @counted_bytes.setter
    def counted_bytes(self, int64_t count):
        self.c.value.counted = count

    @property
    def effort(self):
        return list_effort(&self.c)

    def shed(self, count):
        return list_shed(&self.c, max(0, count))

    def copy(self):
        cdef List copy = List.__new__(List)
        copy.c.value.limits = limits_share(self.c.value.limits)
        list_copy(&copy.c, &self.c)
        return copy

    # The ends

    def push_left(self, bytes value not None):
        list_push(&self.c, False, _checked_text(value))

    def push_right(self, bytes value not None):
        list_push(&self.c, True, _checked_text(value))

    def pop_left(self):
        return _pop(&self.c, False)

    def pop_right(self):
        return _pop(&self.c, True)

    # By place

    def get(self, Py_ssize_t index):
        return _bytes(list_get(&self.c, _index(&self.c, index, False)))

    def set(self, Py_ssize_t index, bytes value not None):
        list_set(&self.c, _index(&self.c, index, False), _checked_text(value))

    def insert(self, Py_ssize_t index, bytes value not None):
        list_insert(&self.c, _index(&self.c, index, True), _checked_text(value))

    def delete(self, Py_ssize_t index):
        list_delete(&self.c, _index(&self.c, index, False), 1)

    def slice(self, Py_ssize_t start, Py_ssize_t stop):
        cdef Py_ssize_t count = list_count(&self.c)
        cdef list_walker walk
        cdef list values
        start = max(0, start)
        stop = min(stop, count)
        if start >= stop:
            return []
        values = PyList_New(stop - start)
        walk = list_walk(&self.c, start)
        for place in range(stop - start):
            value = _bytes(list_here(&walk))
            Py_INCREF(value)
            PyList_SET_ITEM(values, place, value)
            list_next(&walk)
        return values

    def keep(self, Py_ssize_t start, Py_ssize_t stop):
        cdef Py_ssize_t count = list_count(&self.c)
        if start >= stop:
            list_delete(&self.c, 0, count)
            return
        # At once, for the form that a list gets depends on what is left of it.
        if stop < count:
            list_delete(&self.c, stop, count - stop)
        if start > 0:
            list_delete(&self.c, 0, start)

    # By content

    def remove(self, bytes value not None, count):
        return list_remove(&self.c, _text(value), count < 0, min(abs(count), _SIZE_MAX) if count else _SIZE_MAX)

    def find(self, bytes value not None, rank, count, max_len):
        cdef size_t items = list_count(&self.c)
        cdef bint forwards = rank > 0
        cdef size_t left = min(max_len, items) if max_len else items
        cdef size_t skipped = min(abs(rank) - 1, items)
        cdef size_t wanted = min(count, items) if count else items
        cdef size_t index = 0 if forwards else items - 1
        cdef text wanted_text = _text(value)
        cdef text item
        cdef list_walker walk
        found = []
        if items == 0:
            return found
        walk = list_walk(&self.c, index)
        while left > 0 and wanted > 0:
            item = list_here(&walk)
            if item.bytes == wanted_text.bytes and is_same(item.data, wanted_text.data, item.bytes):
                if skipped:
                    skipped -= 1
                else:
                    found.append(index)
                    wanted -= 1
            left -= 1
            if forwards:
                index += 1
                if left:
                    list_next(&walk)
            else:
                index -= 1
                if left:
                    list_previous(&walk)
        return found

    def audit(self):
        """Count everything again, for tests; raises AssertionError with what is wrong."""
        cdef const char *wrong = list_audit(&self.c)
        if wrong is not NULL:
            raise AssertionError(wrong.decode())


cdef object _SIZE_MAX = 0xFFFFFFFFFFFFFFFF


cdef tuple _pair(const ranked *ranked):
    return _bytes(ranked.member), ranked.score


cdef tuple _pair_at(const sorted_set *set, size_t rank):
    cdef sorted_set_walker walk = sorted_set_walk(set, rank)
    cdef ranked ranked
    sorted_set_here(&walk, &ranked)
    return _pair(&ranked)


@cython.final
@cython.no_gc  # it holds no objects
cdef class SortedSet:
    """A sorted set; kora.types.sorted_set says what each method does.  Made by Keyspace.make()."""

    cdef sorted_set c  # first: C finds it by that

    kind = "zset"
    keeps_when_empty = False

    def __init__(self):
        raise TypeError("made by Keyspace.make() only")

    def __dealloc__(self):
        sorted_set_free(&self.c)
        if self.c.value.limits is not NULL:
            limits_release(self.c.value.limits)

    def __len__(self):
        return sorted_set_count(&self.c)

    @property
    def encoding(self):
        return "listpack" if sorted_set_is_small(&self.c) else "skiplist"

    @property
    def size_bytes(self):
        return (<PyTypeObject *>SortedSet).tp_basicsize + self.c.value.bytes

    @property
    def counted_bytes(self):
        return self.c.value.counted

    @counted_bytes.setter
    def counted_bytes(self, int64_t count):
        self.c.value.counted = count

    @property
    def effort(self):
        return sorted_set_effort(&self.c)

    def shed(self, Py_ssize_t count):
        cdef Py_ssize_t members = sorted_set_count(&self.c)
        return self.remove_slice(max(0, members - count), members)

    def copy(self):
        cdef SortedSet copy = SortedSet.__new__(SortedSet)
        copy.c.value.limits = limits_share(self.c.value.limits)
        sorted_set_copy(&copy.c, &self.c)
        return copy

    # Members

    def score(self, bytes member not None):
        cdef double score
        return score if sorted_set_score(&self.c, _text(member), &score) else None

    def add(self, bytes member not None, double score):
        if score != score:
            raise ValueError("a score is a number")
        return sorted_set_add(&self.c, _checked_text(member), score) == IS_NEW

    def remove(self, bytes member not None):
        return sorted_set_remove(&self.c, _text(member))

    def random(self):
        if sorted_set_count(&self.c) == 0:
            raise IndexError("the sorted set is empty")
        return _pair_at(&self.c, sorted_set_random(&self.c))

    # Ranks

    def rank(self, bytes member not None):
        cdef size_t rank = sorted_set_rank(&self.c, _text(member))
        return None if rank == <size_t>-1 else rank

    def slice(self, Py_ssize_t start, Py_ssize_t stop):
        cdef sorted_set_walker walk
        cdef ranked ranked
        pairs = []
        start = max(0, start)
        walk = sorted_set_walk(&self.c, start)
        while start < stop and sorted_set_here(&walk, &ranked):
            pairs.append(_pair(&ranked))
            sorted_set_next(&walk)
            start += 1
        return pairs

    def scores_below(self, double score, bint inclusive):
        return sorted_set_scores_below(&self.c, score, inclusive)

    def members_below(self, bytes member not None, bint inclusive):
        return sorted_set_members_below(&self.c, _text(member), inclusive)

    def remove_slice(self, Py_ssize_t start, Py_ssize_t stop):
        start = max(0, start)
        stop = min(stop, <Py_ssize_t>sorted_set_count(&self.c))
        if start >= stop:
            return 0
        sorted_set_remove_slice(&self.c, start, stop)
        return stop - start

    # Walking

    def scan(self, uint64_t cursor, uint64_t count):
        cdef uint32_t place
        cdef uint32_t stop
        cdef ranked ranked
        if sorted_set_is_small(&self.c):
            return 0, self.slice(0, sorted_set_count(&self.c))
        stop = sorted_set_left(&self.c, cursor)
        place = following = stop - min(<uint64_t>stop, count)
        pairs = []
        while place < stop:
            ranked = sorted_set_scanned(&self.c, place)
            pairs.append(_pair(&ranked))
            place += 1
        return following, pairs

    def audit(self):
        """Count everything again, for tests; raises AssertionError with what is wrong."""
        cdef const char *wrong = sorted_set_audit(&self.c)
        if wrong is not NULL:
            raise AssertionError(wrong.decode())


_register(LIST_OBJECT, _ReferenceList, List)
_register(SORTED_SET_OBJECT, _ReferenceSortedSet, SortedSet)
