# Tallies of tracked values: kora.types.tallies, which says what each method does.  Part of _kernel.pyx.

from kora.types.tally import Tally as _Tally

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1

cdef extern from "kernel.h":
    # Of 128 bits, which Cython does not know; nothing is done with them here but what the functions do.
    ctypedef long long integer128

    struct tally_numbers:
        uint64_t count
        int64_t last_ms
        integer128 sum
        integer128 min
        integer128 max
        integer128 last

    void tallies_init(tallies *tallies, const uint64_t secret[2])
    void tallies_free(tallies *tallies)
    tracked *tallies_find(tallies *tallies, text key)
    void tallies_add(tallies *tallies, text key, integer128 units, int64_t at_ms)
    bint tallies_merge(tallies *tallies, text key, const tally_numbers *numbers, text histogram)
    void tallies_pop(tallies *tallies)
    text tally_key(const tracked *tally)
    tally_numbers tally_numbers_ "tally_numbers"(const tracked *tally)
    void tally_encode(const tracked *tally, buffer *buffer)
    bint tally_bucket(const tracked *tally, uint32_t place, int64_t *bucket, uint64_t *count)
    void buffer_free(buffer *buffer)
    int64_t high_half(integer128 units)
    uint64_t low_half(integer128 units)
    integer128 of_halves(int64_t high, uint64_t low)


cdef inline object _integer(integer128 units):
    cdef int64_t high = high_half(units)
    cdef uint64_t low = low_half(units)
    # Nearly all fit into 64 bits.
    if high == <int64_t>low >> 63:
        return <int64_t>low
    return (<object>high << 64) | low


cdef inline integer128 _units(object number) except? -1:
    cdef int overflow = 0
    cdef long long small = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow:
        return of_halves(number >> 64, number & 0xFFFFFFFFFFFFFFFF)
    return of_halves(-1 if small < 0 else 0, <uint64_t>small)


cdef class Tallies:
    cdef tallies c

    def __cinit__(self, Kernel kernel not None):
        tallies_init(&self.c, kernel.c.secret)

    def __dealloc__(self):
        tallies_free(&self.c)

    def __len__(self):
        return self.c.count

    def __contains__(self, bytes key not None):
        return tallies_find(&self.c, _text(key)) is not NULL

    def __iter__(self):
        cdef size_t place
        return iter([_bytes(tally_key(self.c.tallies[place])) for place in range(self.c.count)])

    @property
    def values(self):
        return self.c.values

    @values.setter
    def values(self, uint64_t values):
        self.c.values = values

    def add(self, bytes key not None, units, int64_t at_ms):
        tallies_add(&self.c, _text(key), _units(units), at_ms)

    def merge(self, cell):
        cdef tally_numbers numbers
        cdef bytes key
        cdef bytes histogram
        key, _, count, total, least, greatest, last, last_ms, histogram = cell
        numbers.count, numbers.last_ms = count, last_ms
        numbers.sum, numbers.min = _units(total), _units(least)
        numbers.max, numbers.last = _units(greatest), _units(last)
        if not tallies_merge(&self.c, _text(key), &numbers, _text(histogram)):
            raise ValueError("no histogram")

    def get(self, bytes key not None):
        cdef const tracked *found = tallies_find(&self.c, _text(key))
        cdef tally_numbers numbers
        cdef int64_t bucket
        cdef uint64_t count
        cdef uint32_t place = 0
        if found is NULL:
            return None
        numbers = tally_numbers_(found)
        copy = _Tally()
        copy.count, copy.last_ms = numbers.count, numbers.last_ms
        copy.sum, copy.min = _integer(numbers.sum), _integer(numbers.min)
        copy.max, copy.last = _integer(numbers.max), _integer(numbers.last)
        while tally_bucket(found, place, &bucket, &count):
            copy.buckets[bucket] = count
            place += 1
        return copy

    def take(self, size_t count):
        cdef list cells = []
        cdef tally_numbers numbers
        cdef const tracked *last
        cdef buffer histogram
        memset(&histogram, 0, sizeof(histogram))
        while self.c.count and count:
            last = self.c.tallies[self.c.count - 1]
            numbers = tally_numbers_(last)
            histogram.bytes = 0
            tally_encode(last, &histogram)
            cells.append((
                _bytes(tally_key(last)), 0, numbers.count, _integer(numbers.sum), _integer(numbers.min),
                _integer(numbers.max), _integer(numbers.last), numbers.last_ms,
                PyBytes_FromStringAndSize(histogram.data, histogram.bytes) if histogram.bytes else b"",
            ))
            tallies_pop(&self.c)
            count -= 1
        buffer_free(&histogram)
        return cells
