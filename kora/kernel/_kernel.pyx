# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The kernel's Python face: what kora/store, kora/observe and kora/resp have in Python, under the same names.

kernel.h says what the kernel is and what it owns.  Here its structures become objects, and the requests that it cannot
answer find their way into Python: Kernel.execute() is to the kernel what kora/engine/call.py is to the reference.
"""

from array import array

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc cimport errno
from libc.stdint cimport INT64_MAX, INT64_MIN, UINT64_MAX, int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import os
import signal
from contextlib import suppress

from kora.clock import JIFFY_NS, Clock
from kora.errors import ProtocolError, StorageFault, TooLong, WrongType
from kora.observe.hotkeys import Row
from kora.observe.recent import OTHERS, PREFIXES_MAX, prefix_of
from kora.observe.service import EVENT_LOOP, Charge
from kora.resp.parser import Attributes
from kora.resp.reply import Simple
from kora.resp.reply import encode2 as _encode2
from kora.resp.reply import encode3 as _encode3
from kora.store import backing as _backing
from kora.store.backing import Taken as _Taken
from kora.store.backing import read_value as _read_value
from kora.store.backing import what_is as _what_is
from kora.store.keyspace import nobody as _nobody
from kora.store.lazyfree import EFFORT_MIN, DiscardedValue, discard_value
from kora.types.limits import Limits
from kora.types.rdb.payload import Tools
from kora.types.rdb.streams import write_behind_blocks as _write_behind_blocks
from kora.types.rdb.values import NEWEST as _NEWEST
from kora.types.rdb.values import type_of as _type_of
from kora.types.rdb.values import write as _write
from kora.types.rdb.writer import Writer

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    void PyErr_Clear()
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1
    PyObject *PyBytes_FromStringAndSize_ "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size)

cdef extern from "<sys/socket.h>":
    """
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0  /* macOS; Python ignores the signal anyway */
    #endif
    """
    ssize_t send(int fd, const void *data, size_t bytes, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL

cdef extern from *:
    """
    #include <stdbool.h>

    /* What Python runs, as a pointer that is only ever compared: looked at in a signal handler, by the thread itself. */
    struct interpreter {
        PyThreadState *state;
        const void *base; /* the frame that runs the event loop, where that calls without another in between */
    };

    static const void *running_frame(const PyThreadState *state)
    {
    #if PY_VERSION_HEX >= 0x030D0000
        return state->current_frame;
    #elif PY_VERSION_HEX >= 0x030B0000
        return state->cframe->current_frame;
    #else
        return state->frame;
    #endif
    }

    static bool interpreter_is_in_loop(void *owner)
    {
        const struct interpreter *interpreter = owner;
        return interpreter->base != NULL && running_frame(interpreter->state) == interpreter->base;
    }

    #include <signal.h>

    static void interpreter_ask(void *owner)
    {
        (void)owner;
        PyErr_SetInterruptEx(SIGPROF);
    }
    """
    struct interpreter:
        void *state
        const void *base
    void *PyThreadState_Get()
    const void *running_frame(const void *state)
    bint interpreter_is_in_loop(void *owner) noexcept
    void interpreter_ask(void *owner) noexcept


cdef extern from "kernel.h":
    struct tracked:
        pass

    struct tallies:
        tracked **tallies
        size_t count
        uint64_t values

    int WAS_LASTING, WAS_VOLATILE, WAS_UNKNOWN
    int SLOTS, RUN_BITS, LENGTH_BINS, BATCH_REQUESTS, HISTOGRAM_HALF, SHARED_COUNTS_BYTES, SKETCH_DEPTH, SKETCH_WIDTH, HOT_KEYS
    uint64_t KEY_BYTES_MAX
    int NO_OBJECT, OTHER_OBJECT, HASH_OBJECT, SET_OBJECT, LIST_OBJECT, SORTED_SET_OBJECT, STREAM_OBJECT
    int OBJECT_KINDS, VALUE_OFFSET
    int OBJECT, FLAG_RAW, FLAG_DEADLINE, INTEGER_BYTES_MAX, LARGE_BYTES_MIN, COMMAND_NAME_MAX

    struct text:
        const char *data
        size_t bytes

    void *allocate(size_t bytes)
    void *reallocate(void *block, size_t bytes)
    void keep_freed_memory_ "keep_freed_memory"()
    uint64_t keyed_hash(const uint64_t *secret, const char *data, size_t bytes)

    struct argument:
        const char *data
        size_t bytes
        char *block
        size_t block_capacity
    size_t BLOCK_TAKEN
    const char *attributes_mark

    struct request:
        size_t first
        size_t argc
        const command *command

    struct batch:
        request *requests
        size_t count
        argument *arguments

    void batch_init(batch *batch)
    argument *batch_take(batch *batch, size_t argc)
    void batch_reset(batch *batch)
    void batch_free(batch *batch)

    struct parser:
        bint authenticated
        uint64_t bulk_max
        bint faulty
        char *fault

    void parser_init(parser *parser, uint64_t bulk_max)
    void parser_free(parser *parser)
    void parser_feed(parser *parser, const char *data, size_t bytes)
    bint parser_next(parser *parser, batch *batch, size_t requests_max)
    void parser_keep(parser *parser)
    size_t parser_pending_bytes(const parser *parser)

    struct command_stats:
        uint64_t calls
        uint64_t elapsed_ns
        uint64_t failed
        uint64_t rejected
        uint64_t *counts
        uint32_t counts_size

    struct key_name:
        const char *data
        size_t bytes
        uint64_t hash
        unsigned slot

    struct hot_access:
        key_name key
        uint32_t database
        bint is_write
        uint64_t client
        uint64_t weight
        uint64_t cpu_ns
        uint64_t net_bytes

    struct hot_key:
        uint64_t error
        uint64_t reads
        uint64_t writes
        uint64_t cpu_ns
        uint64_t net_bytes
        uint64_t client
        uint64_t client_lead
        uint64_t key_bytes
        uint32_t database
        uint16_t slot
        uint16_t name_bytes
        char *name

    struct hot_cost:
        uint64_t cost

    struct hot_keys:
        hot_key *keys
        size_t count
        uint64_t recorded
        hot_cost *heap
        uint64_t *identities
        uint16_t *heap_places

    struct shard_stats:
        int64_t keys
        int64_t memory_bytes
        uint64_t bytes_in
        uint64_t bytes_out
        uint64_t hits
        uint64_t misses
        uint64_t expired
        uint64_t evicted
        command_stats *commands
        size_t commands_count

    void shard_stats_init(shard_stats *stats, size_t commands)
    void shard_stats_free(shard_stats *stats)
    void shard_stats_reset(shard_stats *stats)
    bint shard_stats_share(shard_stats *stats, int fd, int64_t offset)
    void command_stats_record_many(command_stats *stats, uint64_t elapsed_ns, uint64_t count)
    void command_stats_record(command_stats *stats, uint64_t elapsed_ns)
    void hot_keys_weigh(hot_keys *hot, uint64_t hash, uint64_t accesses)
    void hot_keys_list(hot_keys *hot, const hot_access *access)
    uint64_t hot_keys_estimate(const hot_keys *hot, uint64_t hash)
    void hot_keys_halve_row(hot_keys *hot, unsigned row)
    void hot_keys_clear(hot_keys *hot)
    void hot_keys_reset(hot_keys *hot)

    struct clock:
        bint is_real
        int64_t (*monotonic_ns)(void *owner) noexcept
        int64_t (*wall_ms)(void *owner) noexcept
        void *owner

    uint64_t clock_now(clock *clock)
    uint64_t clock_elapsed_ns(const clock *clock, uint64_t start, uint64_t stop)
    int64_t clock_monotonic_ns(clock *clock)
    int64_t clock_begin(clock *clock, uint64_t *now)

    struct entry:
        uint32_t touched_s
        unsigned char kind
        unsigned char flags
        unsigned char object_kind

    struct limits:
        uint32_t hash_entries
        uint32_t hash_value
        uint32_t set_intset_entries
        uint32_t set_entries
        uint32_t set_value
        uint32_t zset_entries
        uint32_t zset_value
        int32_t list_size
        int64_t stream_node_bytes
        int64_t stream_node_entries

    limits *limits_share(limits *limits)
    void limits_release(limits *limits)
    uint64_t next_random(uint64_t *state)

    struct value:
        limits *limits
        int64_t bytes
        int64_t counted

    struct table:
        uint32_t count
        uint32_t volatile_count

    struct ghosts:
        size_t count
        int64_t bytes

    struct backing:
        bint is_loading
        uint64_t count
        uint64_t volatile_count
        int64_t *counts_by_run
        uint64_t unsure_dirty, unsure_flight
        uint64_t dirty_keys
        int64_t dirty_bytes
        uint64_t hits
        ghosts ghosts

    struct saved_part:
        uint32_t database
        unsigned slot
        uint64_t place

    struct keyspace:
        uint32_t index
        void *owner
        bint attends_all
        bint tells_ends
        backing *backing
        table *slots
        uint64_t count
        uint64_t volatile_count
        uint32_t *counts_by_run
        uint64_t (*lengths)[64]  # LENGTH_BINS
        uint64_t changes
        uint32_t now_s
        shard_stats **by_run
        shard_stats *stats
        saved_part saved

    struct key:
        const char *data
        size_t bytes
        uint64_t hash
        unsigned slot

    struct expired:
        uint64_t looked
        uint64_t deleted
        uint64_t place
        int64_t deadline_ms

    struct discarded:
        table *slots
        unsigned slots_count
        unsigned slot
        uint64_t keys

    void keyspace_init(keyspace *keyspace, kernel *kernel)
    void keyspace_free(keyspace *keyspace)
    key key_of(const kernel *kernel, const char *data, size_t bytes)
    entry *keyspace_find(keyspace *keyspace, const key *key)
    void keyspace_set(keyspace *keyspace, const key *key, argument *value)
    entry *keyspace_store(keyspace *keyspace, const key *key, entry *entry, argument *value)
    entry *keyspace_store_object(keyspace *keyspace, const key *key, entry *entry, void *object, int object_kind)
    entry *keyspace_peek(keyspace *keyspace, const key *key)
    void keyspace_changed(keyspace *keyspace, const key *key)
    bint keyspace_updated(keyspace *keyspace, const key *key, entry *entry, bint is_empty)
    void keyspace_count_anew(keyspace *keyspace, entry *entry)
    void keyspace_attend(keyspace *keyspace, const key *key)
    void keyspace_disregard(keyspace *keyspace, const key *key)
    value *entry_value(const entry *entry)
    entry *keyspace_edit(keyspace *keyspace, const key *key, entry *entry, size_t offset, text part)
    void keyspace_delete(keyspace *keyspace, const key *key)
    void keyspace_move(keyspace *keyspace, const key *key, keyspace *target_keyspace, const key *target)
    entry *keyspace_set_deadline(keyspace *keyspace, const key *key, entry *entry, int64_t deadline_ms)
    entry *keyspace_drop_deadline(keyspace *keyspace, const key *key, entry *entry)
    void keyspace_swap(keyspace *keyspace, keyspace *other)
    bint entry_has_deadline(const entry *entry)
    int64_t entry_deadline_ms(const entry *entry)
    int64_t entry_bytes(const kernel *kernel, const entry *entry)
    text entry_key(const entry *entry)
    text entry_string(const entry *entry, char *digits)
    void *entry_object(const entry *entry)
    uint64_t keyspace_walk(keyspace *keyspace, unsigned slot, uint64_t place,
                           void (*visit)(void *context, entry *entry) noexcept, void *context)
    expired keyspace_expire_due(keyspace *keyspace, unsigned slot, uint64_t place, int64_t now_ms,
                                uint64_t deleted_max)
    entry *keyspace_random(keyspace *keyspace)
    entry *keyspace_random_volatile(keyspace *keyspace)
    discarded keyspace_discard(keyspace *keyspace, unsigned start, unsigned stop)
    uint64_t discarded_free_some(kernel *kernel, discarded *discarded, shard_stats *stats, uint64_t entries_max)
    void discarded_free(kernel *kernel, discarded *discarded)
    void keyspace_back(keyspace *keyspace)
    void backing_flushed(keyspace *keyspace)
    bint keyspace_knows(keyspace *keyspace, const key *key)
    bint is_blind(const command *command, const argument *argv, size_t argc)
    bint keys_are_known(keyspace *keyspace, const command *command, const argument *argv, size_t argc)
    uint64_t KNOWN
    uint64_t keyspace_asked_by(keyspace *keyspace, const key *key)
    void keyspace_await(keyspace *keyspace, const key *key, uint64_t reading)
    bint keyspace_end_awaiting(keyspace *keyspace, const key *key, uint64_t reading)
    uint64_t keyed_hash(const uint64_t *secret, const char *data, size_t bytes)
    size_t PLACE_BYTES
    unsigned slot_of_key "slot_of"(const char *key, size_t bytes)
    void place_begin(char *place, uint32_t id, unsigned slot, const char *key, size_t bytes)
    void keyspace_absent(keyspace *keyspace, const key *key)
    size_t keyspace_take_dirty(keyspace *keyspace, size_t bytes_max,
                               void (*visit)(void *context, unsigned slot, text key, text record, bint is_gone,
                                             unsigned was) noexcept,
                               void *context)
    void keyspace_written(keyspace *keyspace)
    void keyspace_overwritten(keyspace *keyspace, unsigned run, uint64_t keys, uint64_t volatile_keys)
    void keyspace_walk_unsure(keyspace *keyspace, void (*visit)(void *context, text key) noexcept, void *context)
    void keyspace_make_sure(keyspace *keyspace, const key *key, unsigned was)
    void keyspace_walk_unsettled(keyspace *keyspace, uint64_t start, uint64_t stop,
                                 void (*visit)(void *context, entry *entry) noexcept, void *context)

    struct dropped:
        int64_t bytes
        uint64_t keys, looked

    dropped keyspace_drop_clean(keyspace *keyspace, int64_t bytes_max, uint64_t keys_max, uint64_t looks_max)
    size_t keyspace_drop_ghosts(keyspace *keyspace, size_t count_max)
    bint load_value(keyspace *keyspace, const key *key, int64_t deadline_ms, text value, size_t string_bytes_max)
    const char *keyspace_audit(const keyspace *keyspace, int64_t *memory_bytes)

    int NO_STAMPS, IDLE_STAMPS, FREQUENCY_STAMPS

    struct buffer:
        char *data
        size_t bytes

    struct saving:
        bint is_on
        bint is_muted
        bint failed
        bint compresses
        unsigned char version
        int stamps
        uint64_t records
        unsigned char unfinished
        buffer out

    bint saving_begin(saving *saving)
    void saving_end(saving *saving)
    bint saving_walk(kernel *kernel, table *slots, unsigned slots_count, saved_part *part, int64_t stop_ns,
                     uint64_t records_max)
    void buffer_append(buffer *buffer, const char *data, size_t bytes)
    void preserve(keyspace *keyspace, entry *entry)

    struct output:
        char *data
        size_t bytes
        size_t capacity
        bint (*grow)(output *output, size_t capacity) noexcept
        void *owner
        bint failed

    void output_append(output *output, const char *data, size_t bytes)
    void output_bulk(output *output, const char *data, size_t bytes)
    void output_integer(output *output, int64_t value)
    void output_null(output *output, int protocol)
    void output_header(output *output, char kind, size_t count)

    struct command:
        void *operation
        unsigned stats_slot
        size_t argc_min
        size_t argc_max
        bint writes
        bint has_keys
        bint declares_keys
        unsigned first_key
        int last_key
        unsigned key_step
        bint denyoom
        unsigned char audited
        bint lengthy
        bint is_container
        bint is_subcommand
        char *board_name
        void *row

    int INTERVALS, NOTABLE_NS, CULPRIT_KEY_BYTES, ADDRESS_BYTES

    struct culprit:
        int64_t client_id
        int slot
        int label
        uint32_t key_bytes
        char *key
        char *address

    struct waited:
        uint64_t victims
        int64_t ns, ns_min, ns_max

    struct interval:
        int64_t start_ns, stop_ns
        waited waited
        culprit culprit

    struct reading:
        reading *outer
        bint is_timed
        int64_t begun_ns
        uint64_t begun
        int64_t arrived_ns
        int64_t piece_ns
        unsigned slot
        unsigned count
        uint64_t parsed
        size_t spans_count
        size_t runs_count

    struct traced:
        pass
    struct spans:
        bint is_on
        bint asks
        bint is_late
        int64_t slow_ns
        traced *ring
        uint64_t capacity
        uint64_t count
        uint64_t first

    void spans_choose(kernel *kernel, double ratio)
    void spans_resize(spans *spans, uint64_t capacity)
    void samples_settle(kernel *kernel)
    void samples_begin(kernel *kernel)

    struct service:
        reading *reading
        reading nobody
        command_stats *waits
        command_stats *services
        int64_t *noted_ns
        size_t commands_count
        uint64_t reads
        int64_t suffered_ns, suffered_ns_min, suffered_ns_max
        interval *intervals
        size_t first, count
        waited rest

    void service_init(service *service, size_t commands, int64_t jiffy_ns)
    void service_reset(service *service)
    void service_prepared(kernel *kernel)
    void service_checked(kernel *kernel)
    int LOOP_HANDLE_OFFSET
    void service_loop_prepared(void *handle)
    void service_loop_checked(void *handle)
    bint service_bounds(service *service, reading *reading, int64_t client_id, int64_t last_ns)
    void service_narrow(service *service, reading *reading, int64_t age_ns)
    void service_arrive(service *service, reading *reading, bint is_told, int64_t last_ns, int64_t *pause_ns)
    void service_ran(kernel *kernel, unsigned slot, int64_t started_ns, unsigned count)
    void service_note(service *service, const culprit *culprit, int64_t start_ns, int64_t stop_ns)
    int64_t service_end(kernel *kernel, reading *reading, const char *address, int64_t client_id)
    void service_note_job(service *service, int label, int64_t start_ns, int64_t stop_ns)
    void service_lag(service *service, int64_t client_id)
    void service_forget(service *service, int64_t client_id)

    struct journal:
        bint on
        bint told
        char *data
        size_t bytes
        int64_t database
        unsigned depth
        size_t group_effects

    void journal_append(journal *journal, uint32_t database, const text *words, size_t count)
    void journal_begin(journal *journal)
    void journal_end(journal *journal)
    void journal_clear(journal *journal)
    bint journal_is_plain(const parser *parser, const batch *batch, size_t bytes)

    size_t COMMANDS_BITS

    struct trail:
        uint64_t *words
        char *data
        uint64_t capacity
        bint blocks
        bint wants_words
        text *included
        text *excluded
        size_t included_count
        size_t excluded_count

    bint audit_blocks(const kernel *kernel)
    void audit_forget(trail *audit)
    void audit_add_prefix(text **prefixes, size_t *count, const char *data, size_t bytes)

    struct kernel:
        uint64_t *secret
        clock clock
        int64_t now_ms
        bint is_replaying
        journal journal
        trail audit
        command *commands
        void (*release)(kernel *kernel, void *object) noexcept
        int64_t (*object_bytes)(void *object) noexcept
        size_t (*object_length)(void *object) noexcept
        void *(*make_object)(kernel *kernel, int object_kind) noexcept
        bint (*is_held)(void *object) noexcept
        size_t *object_head_bytes
        limits *limits
        void (*touched)(void *owner, const char *key, size_t bytes) noexcept
        void (*ended)(void *owner, const char *key, size_t bytes) noexcept
        bint interrupted
        bint hands_over
        void *owner
        shard_stats **shards
        size_t shards_count
        char *board
        const command *running
        bint in_operation
        bint observing
        hot_keys hot_keys
        int64_t hot_left
        int64_t sampling_ratio
        spans spans
        bint is_traced
        hot_access unnamed
        service service
        bint notes_unnamed
        uint64_t maxmemory
        tallies *tallies
        int64_t tallies_start_ms
        int64_t tallies_stop_ms
        uint64_t slow_ns
        uint64_t large_reply_bytes
        void (*note)(turn *turn, const command *command, const argument *argv, size_t argc, size_t reply_bytes) noexcept
        saving saving
        bint (*tell_object)(kernel *kernel, void *object, buffer *buffer) noexcept

    void kernel_init(kernel *kernel, const uint64_t *secret)
    void kernel_free(kernel *kernel)
    int64_t kernel_now_ms(kernel *kernel)
    uint64_t kernel_random(kernel *kernel)
    int64_t kernel_memory_bytes(const kernel *kernel)
    command *kernel_add_command(kernel *kernel, const char *name, size_t bytes)

    struct turn:
        keyspace *keyspace
        int protocol
        uint64_t bulk_max
        int64_t begun_ns
        uint64_t begun
        uint64_t started
        uint64_t elapsed_ns
        const char *address
        const char *identity
        size_t identity_bytes
        uint64_t client_id
        uint32_t database
        void *owner
        void *client

    void batch_prepare(kernel *kernel, keyspace *keyspace, batch *batch)
    size_t batch_run(kernel *kernel, turn *turn, batch *batch, size_t place, output *output, size_t bytes_max)
    bint settle(kernel *kernel, turn *turn, const command *command, const argument *argv, size_t argc, size_t reply_bytes)
    void board_begin(kernel *kernel, const turn *turn, const command *command, const argument *argv, size_t argc)
    void board_end(kernel *kernel)

    struct cpu_sample:
        size_t address
        const command *command
        uint32_t count
        bint is_of_loop
        bint is_operation

    struct sampler:
        kernel *kernel
        void *owner
        bint (*is_in_loop)(void *owner) noexcept
        void (*ask)(void *owner) noexcept

    bint sampler_is_possible()
    bint sampler_start(sampler *sampler, int64_t period_ns)
    void sampler_stop(sampler *sampler)
    bint sampler_take(sampler *sampler, cpu_sample *sample)

    void crc64_prepare()
    uint64_t crc64_ "crc64"(uint64_t crc, const unsigned char *data, size_t bytes) nogil
    size_t lzf_compress_ "lzf_compress"(const unsigned char *data, size_t bytes, unsigned char *out, size_t room)
    bint lzf_decompress_ "lzf_decompress"(const unsigned char *data, size_t bytes, unsigned char *out, size_t out_bytes)

    struct load_terms:
        int64_t now_ms
        size_t string_bytes_max
        bint is_lfu

    struct loaded:
        size_t at
        uint64_t keys
        uint64_t expired
        bint is_cut

    loaded load_records(keyspace *keyspace, const unsigned char *data, size_t at, size_t stop, size_t bytes,
                        const load_terms *terms)


cdef object encode2 = _encode2  # within C's reach
cdef object encode3 = _encode3

# As kora/engine/call.py and kora/resp/parser.py have them: where a turn ends although there is more to do.
cdef enum:
    TURN_BYTES_MAX = 1 << 20
    COMMANDS_PER_TURN = 1024
    FULL_TURN = 256  # as in kora/engine/call.py
    # As kora/observe/commandlog.py has them.
    WORDS_MAX = 32
    WORD_BYTES_MAX = 128
    OUTPUT_BYTES = 1 << 14
    BOARD_CLIENT = 2  # the word of the activity board that says whose turn it is
    BOARD_ADDRESS_BYTES = 64
    OUTLINE_BYTES = 64  # of a string, for those who want to know its encoding: what is longer is raw


# --- What C calls back ---

cdef int64_t _monotonic_ns(void *owner) noexcept:
    return (<object>owner).monotonic_ns()


cdef int64_t _wall_ms(void *owner) noexcept:
    return (<object>owner).wall_ms()


cdef void _release(kernel *kernel, void *value) noexcept:
    # NULL is left by who moves a value elsewhere.
    if value is not NULL and _effort(<object>value) > _EFFORT_MIN:
        (<Kernel>kernel.owner)._leave(<object>value)
    Py_XDECREF(<PyObject *>value)


cdef int64_t _object_bytes(void *value) noexcept:
    return (<object>value).counted_bytes


cdef size_t _object_length(void *value) noexcept:
    return len(<object>value)


cdef bint _is_held(void *value) noexcept:
    return (<PyObject *>value).ob_refcnt > 1


cdef void _touched(void *owner, const char *key, size_t key_bytes) noexcept:
    cdef Keyspace keyspace = <Keyspace>owner
    name = PyBytes_FromStringAndSize(key, key_bytes)
    # The kernel tells of some keys more, those whose hashes are alike.
    if keyspace.c.attends_all or name in keyspace._attended:
        keyspace._kernel.c.interrupted = True
        keyspace.touched(keyspace, name)


cdef void _ended(void *owner, const char *key, size_t key_bytes) noexcept:
    (<Keyspace>owner)._notify(b"expired", PyBytes_FromStringAndSize(key, key_bytes))


cdef void *_make_object(kernel *kernel, int object_kind) noexcept:
    try:
        value = _make(kernel.limits, _CLASSES[object_kind])
    except MemoryError:
        return NULL
    Py_INCREF(value)
    return <void *>value


cdef bint _tell_object(kernel *kernel, void *object, buffer *buffer) noexcept:
    cdef bytes data
    try:
        value = <object>object
        writer = Writer(compress if kernel.saving.compresses else None)
        if type(value) is Stream:
            _write_behind_blocks(writer, value, 3 if kernel.saving.version > 10 else 2)
        else:
            type_ = _type_of(value, kernel.saving.version)
            writer.data.append(type_)
            _write(writer, type_, value)
        data = bytes(writer.data)
    except Exception as error:
        (<Kernel>kernel.owner).walk.error = error
        return False
    buffer_append(buffer, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return True


# --- Redis' serialization ---

crc64_prepare()


def crc64(const unsigned char[::1] data not None, uint64_t crc=0):
    """kora.types.crc64.crc64(); others run meanwhile."""
    cdef size_t data_bytes = data.shape[0]
    if data_bytes == 0:
        return crc
    cdef const unsigned char *start = &data[0]
    with nogil:
        crc = crc64_(crc, start, data_bytes)
    return crc


def compress(bytes data not None):
    """kora.types.lzf.compress()."""
    cdef Py_ssize_t room = PyBytes_GET_SIZE(data) - 1
    if room < 1:
        return None
    cdef bytes out = PyBytes_FromStringAndSize(NULL, room)
    cdef size_t size_bytes = lzf_compress_(
        <const unsigned char *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data),
        <unsigned char *>PyBytes_AS_STRING(out), room)
    return out[:size_bytes] if size_bytes else None


def decompress(bytes data not None, size_t size_bytes):
    """kora.types.lzf.decompress()."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size_bytes)
    return out if lzf_decompress_(
        <const unsigned char *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data),
        <unsigned char *>PyBytes_AS_STRING(out), size_bytes) else None


# --- Values that are no strings ---

# The kernel's own classes: by number, and by the class of the reference that each stands for.
_CLASSES = [None] * OBJECT_KINDS
_COMPILED = {}
_KINDS = {}
# What TYPE answers, by number.  Of those that are no class of the kernel's own there is one.
_KIND_NAMES = {NO_OBJECT: "string", OTHER_OBJECT: "vectorset"}


cdef object _make(limits *limits, compiled):
    value = compiled.__new__(compiled)
    _struct(value).limits = limits_share(limits)
    return value


cdef inline value *_struct(object made):
    return <value *>(<char *><PyObject *>made + VALUE_OFFSET)


def _register(int object_kind, reference, compiled):
    """Let a class of the kernel's own stand for one of the reference."""
    _CLASSES[object_kind] = compiled
    _COMPILED[reference] = compiled
    _KINDS[compiled] = object_kind
    _KIND_NAMES[object_kind] = reference.kind


# --- What is counted ---

cdef class _Block:
    """Owns the numbers of one shard, for all who show them."""

    cdef shard_stats c

    def __cinit__(self, size_t commands):
        shard_stats_init(&self.c, commands)

    def __dealloc__(self):
        shard_stats_free(&self.c)

    cdef int64_t share(self, int fd, int64_t offset) except -1:
        """Keep the histograms in a file from now on; returns where the next block's begin."""
        if not shard_stats_share(&self.c, fd, offset):
            raise OSError(errno.errno, "cannot map the histograms")
        return offset + <int64_t>self.c.commands_count * SHARED_COUNTS_BYTES

    cdef bytes packed(self):
        cdef command_stats *row
        cdef size_t slot
        cdef bytes packed = PyBytes_FromStringAndSize(NULL, self.c.commands_count * 5 * sizeof(uint64_t))
        cdef uint64_t *word = <uint64_t *>PyBytes_AS_STRING(packed)
        for slot in range(self.c.commands_count):
            row = &self.c.commands[slot]
            word[0], word[1], word[2] = row.calls, row.elapsed_ns, row.failed
            word[3], word[4] = row.rejected, row.counts_size
            word += 5
        return packed


cdef class CommandStats:
    """One command in one shard: kora.observe.shard_stats.CommandStats."""

    cdef _Block _block  # where _stats is
    cdef command_stats *_stats

    @property
    def calls(self):
        return self._stats.calls

    @property
    def elapsed_ns(self):
        return self._stats.elapsed_ns

    @property
    def failed(self):
        return self._stats.failed

    @failed.setter
    def failed(self, uint64_t count):
        self._stats.failed = count

    @property
    def rejected(self):
        return self._stats.rejected

    @rejected.setter
    def rejected(self, uint64_t count):
        self._stats.rejected = count

    @property
    def counts(self):
        """A copy of the histogram."""
        if self._stats.counts_size == 0:
            return array("Q")
        return array("Q", PyBytes_FromStringAndSize(<char *>self._stats.counts, self._stats.counts_size * 8))

    @property
    def is_used(self):
        return self._stats.calls != 0 or self._stats.rejected != 0 or self._stats.failed != 0

    def record(self, uint64_t elapsed_ns):
        command_stats_record(self._stats, elapsed_ns)

    def record_many(self, uint64_t elapsed_ns, uint64_t count):
        command_stats_record_many(self._stats, elapsed_ns, count)


cdef list _rows_of(_Block block):
    cdef CommandStats row
    cdef size_t slot
    rows = []
    for slot in range(block.c.commands_count):
        row = CommandStats.__new__(CommandStats)
        row._block = block
        row._stats = &block.c.commands[slot]
        rows.append(row)
    return rows


cdef class Service:
    """kora.observe.service.Service.  Made by Kernel.make_service(), whose turns are its readings."""

    cdef Kernel _kernel
    cdef service *c  # in the kernel
    cdef _Block _waits
    cdef _Block _services
    cdef readonly list waits
    cdef readonly list services
    cdef list _labels  # names of what is no command
    cdef list _entries  # of the slow log, with what they belong to: to be told how long it took
    cdef _ReadingOfPython _python  # a reading that Python has begun

    def __cinit__(self, Kernel kernel not None, size_t commands):
        self._kernel = kernel
        self.c = &kernel.c.service
        self._waits, self._services = _Block(commands), _Block(commands)
        self.waits, self.services = _rows_of(self._waits), _rows_of(self._services)
        service_init(self.c, commands, JIFFY_NS)
        self.c.waits, self.c.services = self._waits.c.commands, self._services.c.commands
        self._labels = [EVENT_LOOP]
        self._entries = []

    @property
    def reads(self):
        return self.c.reads

    @property
    def suffered_ns(self):
        return self.c.suffered_ns

    @property
    def suffered_ns_min(self):
        return self.c.suffered_ns_min

    @property
    def suffered_ns_max(self):
        return self.c.suffered_ns_max

    def prepared(self, int64_t now_ns):
        service_prepared(self._kernel.c)

    def checked(self, int64_t now_ns):
        service_checked(self._kernel.c)

    @property
    def loop_hooks(self):
        """Addresses: of what libuv is to call before it asks for events and after it has dealt with them, and of what
        is to stand how many bytes before its handles."""
        return (
            <size_t>&service_loop_prepared, <size_t>&service_loop_checked, <size_t>self._kernel.c, LOOP_HANDLE_OFFSET
        )

    def begin(self, ClientState client not None, int64_t now_ns):
        self._python = _ReadingOfPython(self._python)
        self._kernel._begin(client, &self._python.c, True)

    def go_on(self, ClientState client not None, int64_t now_ns):
        self._python = _ReadingOfPython(self._python)
        self._kernel._begin(client, &self._python.c, False)

    def end(self, ClientState client not None, int64_t now_ns):
        self._kernel._end(client, &self._python.c)
        self._python = self._python.outer

    def ran(self, unsigned slot, int64_t started_ns, unsigned count):
        service_ran(self._kernel.c, slot, started_ns, count)

    def note(self, client, int slot, bytes key not None, int64_t start_ns, int64_t stop_ns):
        cdef culprit culprit
        _fill(&culprit, client.id, slot, 0, key, client.board_address)
        service_note(self.c, &culprit, start_ns, stop_ns)

    cdef int name(self, bytes key) except -1:
        """The key of the newest interval, of which the kernel could not tell it."""
        cdef culprit *culprit
        if self.c.count:
            culprit = &self.c.intervals[(self.c.first + self.c.count - 1) % INTERVALS].culprit
            culprit.key_bytes = min(PyBytes_GET_SIZE(key), CULPRIT_KEY_BYTES)
            memcpy(culprit.key, PyBytes_AS_STRING(key), culprit.key_bytes)
        return 0

    def write_down(self, entry, int64_t started_ns):
        if self.c.reading.is_timed:
            entry.wait_us = max(0, started_ns - self.c.reading.arrived_ns) // 1000
            self._entries.append((<size_t>self.c.reading, entry))

    def follow(self, span):
        """kora.observe.service.Service.follow()."""
        cdef reading *reading = self.c.reading
        if not reading.is_timed:
            return False
        span.arrived_ns = reading.arrived_ns
        span.begun_ns = reading.begun_ns
        if reading.parsed:
            span.parsed_ns = reading.begun_ns + <int64_t>clock_elapsed_ns(
                &self._kernel.c.clock, reading.begun, reading.parsed)
        self._entries.append((<size_t>reading, span))
        return True

    cdef int tell(self, reading *reading, int64_t now_ns) except -1:
        """Entries of the slow log, and spans, learn when their requests were answered."""
        left = []
        for at, entry in self._entries:
            if at == <size_t>reading:
                entry.answered(reading.arrived_ns, now_ns)
            else:
                left.append((at, entry))
        self._entries = left
        return 0

    def lag(self, ClientState client not None):
        service_lag(self.c, client.id)

    def forget(self, ClientState client not None):
        service_forget(self.c, client.id)

    def note_job(self, str label not None, int64_t start_ns, int64_t stop_ns):
        cdef int number = 0
        if stop_ns - start_ns >= NOTABLE_NS:
            if label not in self._labels:
                self._labels.append(label)
            number = self._labels.index(label)
        service_note_job(self.c, number, start_ns, stop_ns)

    def packed(self):
        """Waits and services, each as ShardStats.packed() has the commands of a shard."""
        return self._waits.packed(), self._services.packed()

    def used_slots(self):
        return [slot for slot in range(self.c.commands_count) if self._waits.c.commands[slot].calls]

    def noted_ns(self, size_t slot):
        return self.c.noted_ns[slot] if slot < self.c.commands_count else 0

    def drain(self):
        cdef size_t at
        cdef interval *interval
        cdef waited *waited
        cdef culprit *culprit
        charges = []
        for at in range(self.c.count):
            interval = &self.c.intervals[(self.c.first + at) % INTERVALS]
            waited = &interval.waited
            culprit = &interval.culprit
            if waited.ns_max == 0:
                continue
            charges.append(Charge(
                culprit.slot,
                "" if culprit.slot >= 0 else self._labels[culprit.label],
                PyBytes_FromStringAndSize(culprit.key, culprit.key_bytes),
                culprit.client_id,
                PyBytes_FromStringAndSize(culprit.address, ADDRESS_BYTES).rstrip(b"\0").decode(errors="replace"),
                waited.victims,
                waited.ns,
                waited.ns_min,
                waited.ns_max,
            ))
            waited.victims = 0
            waited.ns = waited.ns_min = waited.ns_max = 0
        waited = &self.c.rest
        rest = waited.victims, waited.ns, waited.ns_min, waited.ns_max
        waited.victims = 0
        waited.ns = waited.ns_min = waited.ns_max = 0
        return charges, rest

    def reset(self):
        shard_stats_reset(&self._waits.c)
        shard_stats_reset(&self._services.c)
        service_reset(self.c)


cdef class _ReadingOfPython:
    cdef reading c
    cdef readonly _ReadingOfPython outer

    def __cinit__(self, outer):
        self.outer = outer


cdef int _fill(culprit *culprit, int64_t client_id, int slot, int label, bytes key, bytes address) except -1:
    memset(culprit, 0, sizeof(culprit[0]))
    culprit.client_id = client_id
    culprit.slot = slot
    culprit.label = label
    culprit.key_bytes = min(PyBytes_GET_SIZE(key), CULPRIT_KEY_BYTES)
    memcpy(culprit.key, PyBytes_AS_STRING(key), culprit.key_bytes)
    memcpy(culprit.address, PyBytes_AS_STRING(address), min(PyBytes_GET_SIZE(address), ADDRESS_BYTES))
    return 0


_make_row = Row._make


cdef class HotKeys:
    """kora.observe.hotkeys.HotKeys, with the kernel's hash.  Made by Kernel.make_hot_keys()."""

    cdef Kernel _kernel  # where _hot is
    cdef hot_keys *_hot

    def __cinit__(self, Kernel kernel not None):
        self._kernel = kernel
        self._hot = &kernel.c.hot_keys

    @property
    def recorded(self):
        return self._hot.recorded

    @property
    def size_bytes(self):
        return SKETCH_DEPTH * SKETCH_WIDTH * 4 + HOT_KEYS * sizeof(hot_key) + sizeof(hot_keys)

    def record(self, bytes key not None, int slot, int database, bint is_write, uint64_t client, uint64_t weight,
               uint64_t cpu_ns, uint64_t net_bytes, bint weighs=True):
        cdef hot_access access
        access.key.data = PyBytes_AS_STRING(key)
        access.key.bytes = PyBytes_GET_SIZE(key)
        access.key.hash = keyed_hash(self._kernel.c.secret, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        access.key.slot = slot
        access.database = database
        access.is_write = is_write
        access.client = client
        access.weight = weight
        access.cpu_ns = cpu_ns
        access.net_bytes = net_bytes
        if weighs:
            hot_keys_weigh(self._hot, access.key.hash, weight)
        hot_keys_list(self._hot, &access)

    def weigh(self, bytes key not None, uint64_t accesses):
        hot_keys_weigh(
            self._hot, keyed_hash(self._kernel.c.secret, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)), accesses
        )

    def estimate(self, bytes key not None):
        return hot_keys_estimate(
            self._hot, keyed_hash(self._kernel.c.secret, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        )

    def outline(self):
        cdef size_t place
        cdef const hot_key *key
        outline = []
        for place in range(self._hot.count):
            key = &self._hot.keys[place]
            accesses = key.reads + key.writes
            outline.append((accesses, accesses + key.error, self._hot.identities[place], place))
        return outline

    @property
    def floor(self):
        return self._hot.heap[0].cost if self._hot.count == HOT_KEYS else 0

    def row(self, size_t place):
        if place >= self._hot.count:
            raise IndexError(place)
        cdef const hot_key *key = &self._hot.keys[place]
        return _make_row((
            self._hot.identities[place], PyBytes_FromStringAndSize(key.name, key.name_bytes), key.key_bytes,
            key.database, key.slot, self._hot.heap[self._hot.heap_places[place]].cost, key.error, key.reads,
            key.writes, key.cpu_ns, key.net_bytes, key.client, key.client_lead,
        ))

    def rows(self):
        cdef size_t place
        return [self.row(place) for place in range(self._hot.count)]

    def clear(self):
        hot_keys_clear(self._hot)

    def decay(self):
        cdef int row
        for row in range(SKETCH_DEPTH):
            hot_keys_halve_row(self._hot, row)
            yield

    def reset(self):
        hot_keys_reset(self._hot)


cdef class ShardStats:
    """What one shard counts: kora.observe.shard_stats.ShardStats.  Made by Kernel.make_stats()."""

    cdef _Block _block
    cdef shard_stats *c  # in it
    cdef readonly list commands

    def __cinit__(self, Kernel kernel not None, size_t commands):
        self._block = _Block(commands)
        self.c = &self._block.c
        self.commands = _rows_of(self._block)

    def reset(self):
        shard_stats_reset(self.c)

    def packed(self):
        """Of every command, as 64-bit words: calls, elapsed_ns, failed, rejected, and how long its histogram is."""
        return self._block.packed()

    @property
    def keys(self):
        return self.c.keys

    @property
    def memory_bytes(self):
        return self.c.memory_bytes

    @memory_bytes.setter
    def memory_bytes(self, int64_t memory_bytes):
        self.c.memory_bytes = memory_bytes

    @property
    def calls(self):
        cdef uint64_t calls = 0
        cdef size_t slot
        for slot in range(self.c.commands_count):
            calls += self.c.commands[slot].calls
        return calls

    @property
    def bytes_in(self):
        return self.c.bytes_in

    @bytes_in.setter
    def bytes_in(self, uint64_t count):
        self.c.bytes_in = count

    @property
    def bytes_out(self):
        return self.c.bytes_out

    @bytes_out.setter
    def bytes_out(self, uint64_t count):
        self.c.bytes_out = count

    @property
    def hits(self):
        return self.c.hits

    @property
    def misses(self):
        return self.c.misses

    @property
    def expired(self):
        return self.c.expired

    @property
    def evicted(self):
        return self.c.evicted

    @evicted.setter
    def evicted(self, uint64_t count):
        self.c.evicted = count


# --- Databases ---

cdef struct _Found:  # what _collect() adds to
    PyObject *keys  # a list, borrowed
    PyObject *dead  # a list, borrowed: keys whose time is over
    int64_t now_ms


cdef enum:
    RUNS = 256  # SLOTS >> RUN_BITS


_HINT = _backing.HINT
cdef int64_t _HINTS = _backing.HINTS
cdef int _HASH_METADATA = _backing.HASHES_WITH_DEADLINES[0]
cdef int _HASH_LISTPACK_EX = _backing.HASHES_WITH_DEADLINES[1]


cdef int64_t record_deadline_ms(const char *data) noexcept:
    cdef uint64_t deadline_ms = 0
    cdef int place
    for place in range(8):
        deadline_ms = deadline_ms << 8 | <unsigned char>data[place]
    return <int64_t>deadline_ms


cdef int64_t record_due_ms(const char *record) noexcept:
    """kora.store.backing.due_of()"""
    cdef int64_t deadline_ms = record_deadline_ms(record)
    cdef int64_t field_ms
    if <unsigned char>record[8] != _HASH_METADATA and <unsigned char>record[8] != _HASH_LISTPACK_EX:
        return deadline_ms
    memcpy(&field_ms, record + 9, sizeof(field_ms))
    return min(deadline_ms or field_ms, field_ms)


cdef struct _Share:  # kora.store.backing.Share; the lists are borrowed
    PyObject *words
    PyObject *unknown
    PyObject *gone
    int64_t keys
    int64_t volatile_keys
    int64_t first_due_ms


cdef struct _Taking:  # what _take() adds to
    _Share *shares
    const uint16_t *shards_by_run
    uint32_t id
    uint64_t keys
    uint64_t record_bytes
    uint64_t large_bytes
    PyObject *large  # borrowed


cdef void _take(void *context, unsigned slot, text name, text record, bint is_gone, unsigned was) noexcept:
    """kora.store.backing.Taken.add()"""
    cdef _Taking *taking = <_Taking *>context
    cdef _Share *share = &taking.shares[taking.shards_by_run[slot >> RUN_BITS]]
    cdef int64_t due_ms
    cdef key placed
    cdef list words = <list>share.words
    placed.data, placed.bytes, placed.slot = name.data, name.bytes, slot
    place = _place(taking.id, &placed)
    taking.keys += 1
    words.append(place)
    if was == WAS_UNKNOWN:
        (<list>share.unknown).append(place)
    share.keys += (not is_gone) - (was == WAS_LASTING or was == WAS_VOLATILE)
    share.volatile_keys -= was == WAS_VOLATILE
    if is_gone:
        words.append(None)
        (<list>share.gone).append(place)
        return
    words.append(PyBytes_FromStringAndSize(record.data, record.bytes))
    taking.record_bytes += record.bytes
    if record.bytes >= taking.large_bytes:
        (<list>taking.large).append((name.data[:name.bytes], record.bytes))
    share.volatile_keys += record_deadline_ms(record.data) != 0
    due_ms = record_due_ms(record.data)
    if due_ms:
        if not share.first_due_ms or due_ms < share.first_due_ms:
            share.first_due_ms = due_ms
        words.append(_HINT.pack(taking.id | _HINTS, due_ms) + name.data[:name.bytes])
        words.append(b"")


cdef void _collect_key(void *context, text key) noexcept:
    (<list>context).append(PyBytes_FromStringAndSize(key.data, key.bytes))


cdef void _collect(void *context, entry *entry) noexcept:
    cdef _Found *found = <_Found *>context
    cdef text key = entry_key(entry)
    data = PyBytes_FromStringAndSize(key.data, key.bytes)
    if entry_has_deadline(entry) and entry_deadline_ms(entry) < found.now_ms:
        (<list>found.dead).append(data)
    else:
        (<list>found.keys).append(data)


cdef struct _Weighing:  # what _weigh() adds to
    kernel *kernel
    PyObject *found  # a dict, borrowed: [keys, bytes] by kind of value and prefix
    PyObject *prefixes  # a dict, borrowed: prefixes by beginnings of keys


cdef void _weigh(void *context, entry *entry) noexcept:
    cdef _Weighing *weighing = <_Weighing *>context
    cdef text key = entry_key(entry)
    cdef dict found = <dict>weighing.found
    cdef dict prefixes = <dict>weighing.prefixes
    cdef size_t length = 0
    # Up to the first of these a key's prefix is the same; the rest of it need not be looked at each time.
    while length < key.bytes and length < 64 and key.data[length] != c":":
        length += 1
    if length < key.bytes and key.data[length] == c":":
        start = PyBytes_FromStringAndSize(key.data, length + 1)
        prefix = prefixes.get(start)
        if prefix is None:
            prefix = prefix_of(start)
            if len(prefixes) < PREFIXES_MAX:
                prefixes[start] = prefix
    else:
        prefix = prefix_of(PyBytes_FromStringAndSize(key.data, min(key.bytes, <size_t>256)))
    kind = _KIND_NAMES[NO_OBJECT] if entry.kind != OBJECT else _KIND_NAMES[entry.object_kind]
    place = kind, prefix
    weight = found.get(place)
    if weight is None:
        if len(found) >= PREFIXES_MAX:
            place = kind, OTHERS
            weight = found.get(place)
        if weight is None:
            weight = found[place] = [0, 0]
    weight[0] += 1
    weight[1] += entry_bytes(weighing.kernel, entry)


@cython.no_gc_clear  # what it points to is needed until it is freed
cdef class Discarded:
    """Keys of one shard that were taken out of a database: see kora.store.lazyfree."""

    cdef discarded c
    cdef saved_part saved
    cdef Kernel _kernel

    def __dealloc__(self):
        discarded_free(self._kernel.c, &self.c)

    def __len__(self):
        return self.c.keys

    @property
    def is_empty(self):
        return self.c.slot == self.c.slots_count

    def free_some(self, ShardStats stats not None, uint64_t entries_max):
        return discarded_free_some(self._kernel.c, &self.c, stats.c, entries_max)


@cython.no_gc_clear  # what it points to is needed until it is freed
cdef class Keyspace:
    """One database: kora.store.keyspace.Keyspace, which says what each method does.

    Strings come out as copies.  One that was edited is a bytearray to inspect() and to find() of any kind, so that its
    encoding can be told, and becomes one again when a bytearray is stored.
    """

    cdef keyspace c
    cdef Kernel _kernel
    cdef tuple _shards
    cdef list _shards_by_run
    cdef dict _attended
    cdef object _notify
    cdef public object touched
    cdef public bint tells_more
    cdef public object note_fields
    cdef public object effect
    cdef readonly int index
    cdef public object average_ttl_ms
    # Where only a part of the keys is held: see kora/store/backing.py.
    cdef object _backing
    cdef readonly uint32_t store_id
    cdef uint16_t[RUNS] _indexes_by_run  # of shards

    def __cinit__(self, Kernel kernel not None, int index, shards):
        cdef ShardStats stats
        cdef int run
        self._kernel = kernel
        self._shards = tuple(shards)
        self._shards_by_run = [
            shard for shard in shards for _ in range(shard.slot_start, shard.slot_stop, 1 << RUN_BITS)
        ]
        self.index = index
        self.average_ttl_ms = 0
        self.store_id = 0
        self._attended = {}
        self._notify = self.touched = self.note_fields = self.effect = _nobody
        keyspace_init(&self.c, kernel.c)
        self.c.index = index
        self.c.owner = <void *>self
        for shard in self._shards:
            stats = shard.stats
            for run in range(shard.slot_start >> RUN_BITS, shard.slot_stop >> RUN_BITS):
                self.c.by_run[run] = stats.c
                self._indexes_by_run[run] = shard.index
        self.c.stats = self.c.by_run[0]
        self.c.now_s = kernel.clock.wall_ms() // 1000

    def __dealloc__(self):
        keyspace_free(&self.c)

    cdef key _locate(self, bytes name) except *:
        """Where a key is.  Times are read anew: what called may have slept."""
        if <uint64_t>PyBytes_GET_SIZE(name) > KEY_BYTES_MAX:
            raise TooLong
        self._kernel.c.now_ms = 0
        return key_of(self._kernel.c, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))

    cdef entry *_find(self, bytes name, key *place) except? NULL:
        place[0] = self._locate(name)
        cdef entry *entry = keyspace_find(&self.c, place)
        if entry is NULL and self.c.backing is not NULL:
            if not keyspace_knows(&self.c, place):
                self._fetch(place)
            entry = keyspace_find(&self.c, place)
        return entry

    cdef int _know(self, key *key) except -1:
        """Have a key here, or known to be absent, before what takes either for granted."""
        if self.c.backing is not NULL and not keyspace_knows(&self.c, key):
            self._fetch(key)
        return 0

    cdef int _fetch(self, key *key) except -1:
        """Ask the backing for a key that is cold, while all wait."""
        cdef bytes name = PyBytes_FromStringAndSize(key.data, key.bytes)
        record = self._backing.get(self.store_id, name)
        self._install(key, record)
        return 0

    cdef int _install(self, key *key, bytes record) except -1:
        cdef text value
        cdef int64_t deadline_ms = 0
        if record is None:
            keyspace_absent(&self.c, key)
            return 0
        if PyBytes_GET_SIZE(record) > 8:
            deadline_ms = record_deadline_ms(PyBytes_AS_STRING(record))
            value.data = PyBytes_AS_STRING(record) + 8
            value.bytes = PyBytes_GET_SIZE(record) - 8
            if load_value(&self.c, key, deadline_ms, value, PACK_BYTES_MAX):
                return 0
        made = _read_value(record, self.make)  # which raises where there is no whole one
        self.c.backing.is_loading = True
        try:
            entry = self._store(key, NULL, made)
            if deadline_ms:
                keyspace_set_deadline(&self.c, key, entry, deadline_ms)
        finally:
            self.c.backing.is_loading = False
        if type(made) is not bytes and type(made) is not bytearray:
            self._note(key, made)
        return 0

    cdef entry *_peek(self, bytes name, key *place) except? NULL:
        """As _find(), for a key that was found by the command that runs: the time that has passed since is none."""
        place[0] = self._locate(name)
        return keyspace_peek(&self.c, place)

    cdef object _outline(self, entry *entry):
        """As _value(), but of a string no more than it takes to tell its encoding."""
        cdef char digits[32]
        cdef text text
        if entry.kind == OBJECT:
            return <object>entry_object(entry)
        text = entry_string(entry, digits)
        if text.bytes > OUTLINE_BYTES:
            text.bytes = OUTLINE_BYTES
        if entry.flags & FLAG_RAW:
            return bytearray(text.data[:text.bytes])
        return PyBytes_FromStringAndSize(text.data, text.bytes)

    cdef object _value(self, entry *entry, bint tells_raw):
        cdef char digits[32]
        cdef text text
        if entry.kind == OBJECT:
            return <object>entry_object(entry)
        text = entry_string(entry, digits)
        if tells_raw and entry.flags & FLAG_RAW:
            return bytearray(text.data[:text.bytes])
        return PyBytes_FromStringAndSize(text.data, text.bytes)

    cdef object _value_of_kind(self, entry *entry, object kind):
        # Before a string is copied that nobody wants: it may be long.
        if entry.kind != OBJECT and kind is not bytes:
            raise WrongType
        value = self._value(entry, False)
        if type(value) is not kind and type(value) is not _COMPILED.get(kind):
            raise WrongType
        return value

    cdef object _stats_object(self, shard_stats *stats):
        cdef ShardStats candidate
        for shard in self._shards:
            candidate = shard.stats
            if candidate.c is stats:
                return candidate
        raise AssertionError("no shard counts this")

    @property
    def stats(self):
        return self._stats_object(self.c.stats)

    def stats_of(self, bytes name not None):
        cdef key key = self._locate(name)
        return self._stats_object(self.c.by_run[key.slot >> RUN_BITS])

    @property
    def volatile(self):
        return self.c.volatile_count if self.c.backing is NULL else self.c.backing.volatile_count

    def lengths(self):
        cdef int object_kind, count
        found = {}
        for object_kind in range(OBJECT_KINDS):
            count = LENGTH_BINS
            while count > 0 and self.c.lengths[object_kind][count - 1] == 0:
                count -= 1
            if count:
                counts = [self.c.lengths[object_kind][place] for place in range(count)]
                found[_KIND_NAMES[object_kind]] = counts
        return found

    @property
    def changes(self):
        return self.c.changes

    @changes.setter
    def changes(self, uint64_t changes):
        self.c.changes = changes

    @property
    def now_s(self):
        return self.c.now_s

    @now_s.setter
    def now_s(self, uint32_t now_s):
        self.c.now_s = now_s

    # Looking

    cdef int _miss(self, bytes name) except -1:
        self.c.stats.misses += 1
        if self.tells_more:
            self._notify(b"keymiss", name)
        return 0

    def read(self, bytes name not None, kind):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        if entry is NULL:
            self._miss(name)
            return None
        self.c.stats.hits += 1
        entry.touched_s = self.c.now_s
        if self._kernel.c.saving.is_on and self.c.backing is NULL and (
            entry.object_kind == STREAM_OBJECT
            or (entry.object_kind == HASH_OBJECT and (<Hash>entry_object(entry)).c.timed_count)
        ):
            preserve(&self.c, entry)  # see kora.store.keyspace
        return self._value_of_kind(entry, kind)

    def inspect(self, bytes name not None, bint quietly=False):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        if entry is NULL:
            if quietly:
                self.c.stats.misses += 1
            else:
                self._miss(name)
            return None
        self.c.stats.hits += 1
        return self._outline(entry)

    def outline(self, bytes name not None):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        if entry is NULL:
            return None
        entry.touched_s = self.c.now_s
        return self._outline(entry)

    def length(self, bytes name not None):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        cdef char digits[32]
        if entry is NULL:
            return 0
        if entry.kind == OBJECT:
            raise WrongType
        entry.touched_s = self.c.now_s
        return entry_string(entry, digits).bytes

    def touch(self, bytes name not None):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        if entry is NULL:
            self._miss(name)
            return False
        self.c.stats.hits += 1
        entry.touched_s = self.c.now_s
        return True

    def find(self, bytes name not None, kind=None):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        if entry is NULL:
            return None
        entry.touched_s = self.c.now_s
        if entry.kind == OBJECT and self.c.backing is NULL:
            preserve(&self.c, entry)  # who has it may change it
        return self._value(entry, True) if kind is None else self._value_of_kind(entry, kind)

    def held(self, bytes name not None):
        cdef key key = self._locate(name)
        cdef entry *entry = keyspace_peek(&self.c, &key)
        return <object>entry_object(entry) if entry is not NULL and entry.kind == OBJECT else None

    def part(self, bytes name not None, size_t start, size_t count):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        cdef char digits[32]
        cdef text text
        if entry is NULL:
            return b""
        if entry.kind == OBJECT:
            raise WrongType
        entry.touched_s = self.c.now_s
        text = entry_string(entry, digits)
        if start >= text.bytes:
            return b""
        return PyBytes_FromStringAndSize(text.data + start, min(count, text.bytes - start))

    def has(self, bytes name not None):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        if entry is NULL:
            return False
        entry.touched_s = self.c.now_s
        return True

    def has_quietly(self, bytes name not None):
        cdef key key
        return self._find(name, &key) is not NULL

    def usage_bytes(self, bytes name not None):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        # A place in a table, at the mean of how full tables are.
        return None if entry is NULL else entry_bytes(self._kernel.c, entry) + 12

    def idle_s(self, bytes name not None):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        return 0 if entry is NULL else max(0, <int64_t>self.c.now_s - entry.touched_s)

    def set_idle(self, bytes name not None, int64_t idle_s):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        if entry is not NULL:
            entry.touched_s = <uint32_t>max(0, <int64_t>self.c.now_s - idle_s)

    # Changing

    cdef entry *_store(self, key *key, entry *entry, object value) except NULL:
        """Put a value of any kind in place of an entry's, or of none."""
        cdef argument argument
        cdef text text
        if entry is not NULL:
            preserve(&self.c, entry)
        if type(value) is bytes:
            argument.data = PyBytes_AS_STRING(value)
            argument.bytes = PyBytes_GET_SIZE(value)
            argument.block = NULL
            argument.block_capacity = 0
            return keyspace_store(&self.c, key, entry, &argument)
        if type(value) is bytearray:
            # As an edit of the empty string.
            argument.data = b""
            argument.bytes = 0
            argument.block = NULL
            argument.block_capacity = 0
            entry = keyspace_store(&self.c, key, entry, &argument)
            text.data = <const char *><char *>value
            text.bytes = len(value)
            self.c.changes -= 1
            return keyspace_edit(&self.c, key, entry, 0, text)
        cdef int object_kind = _KINDS.get(type(value), OTHER_OBJECT)
        if object_kind == OTHER_OBJECT:
            value.counted_bytes = value.size_bytes
        Py_INCREF(value)
        return keyspace_store_object(&self.c, key, entry, <void *>value, object_kind)

    cdef int _set(self, key *key, object value) except -1:
        if self.tells_more:
            # Who is told of new keys wants to know of each whether it is one; otherwise what is cold stays unknown, and
            # does not end with an event of its own should its time have been over.
            self._know(key)
        cdef entry *entry = keyspace_find(&self.c, key)
        cdef bint is_new = entry is NULL
        if entry is not NULL and entry_has_deadline(entry):
            preserve(&self.c, entry)
            entry = keyspace_drop_deadline(&self.c, key, entry)
        self._store(key, entry, value)
        if is_new:
            self._tell_of_new(key)
        keyspace_changed(&self.c, key)
        if type(value) is not bytes and type(value) is not bytearray:
            self._note(key, value)
        return 0

    cdef int _note(self, key *key, value) except -1:
        if value.kind == "hash" and value.next_deadline_ms:
            self.note_fields(PyBytes_FromStringAndSize(key.data, key.bytes), value.next_deadline_ms)
        return 0

    cdef int _tell_of_new(self, key *key) except -1:
        if self.tells_more:
            self._notify(b"new", PyBytes_FromStringAndSize(key.data, key.bytes))
        return 0

    def set(self, bytes name not None, value):
        cdef key key = self._locate(name)
        self._set(&key, value)

    def set_many(self, list words not None, Py_ssize_t first):
        cdef key key
        cdef Py_ssize_t place
        for place in range(first, len(words), 2):
            key = self._locate(words[place])
            self._set(&key, words[place + 1])
            if self.c.tells_ends:
                self._notify(b"set", words[place])

    def set_until(self, bytes name not None, value, deadline_ms):
        cdef key key = self._locate(name)
        self._set(&key, value)
        if deadline_ms is not None:
            keyspace_set_deadline(&self.c, &key, keyspace_find(&self.c, &key), deadline_ms)

    def replace(self, bytes name not None, value):
        cdef key key
        cdef entry *entry = self._peek(name, &key)
        self._store(&key, entry, value)
        keyspace_changed(&self.c, &key)

    def edit(self, bytes name not None, size_t offset, bytes part not None):
        cdef key key
        cdef entry *entry = self._peek(name, &key)
        cdef text text
        cdef char digits[32]
        cdef bint is_new = entry is NULL
        cdef size_t length
        if entry is not NULL and entry.kind == OBJECT:
            raise WrongType
        if entry is not NULL:
            preserve(&self.c, entry)
        text.data = PyBytes_AS_STRING(part)
        text.bytes = PyBytes_GET_SIZE(part)
        length = entry_string(keyspace_edit(&self.c, &key, entry, offset, text), digits).bytes
        if is_new:
            self._tell_of_new(&key)
        return length

    def make(self, kind):
        compiled = _COMPILED.get(kind)
        return kind(self._kernel.values_limits) if compiled is None else _make(self._kernel.c.limits, compiled)

    def updated(self, bytes name not None, value):
        cdef key key
        cdef entry *entry = self._peek(name, &key)
        cdef bint is_stored = entry is not NULL and entry.kind == OBJECT and entry_object(entry) is <void *>value
        if is_stored and self.c.backing is not NULL:
            preserve(&self.c, entry)
        if not value and not value.keeps_when_empty:
            if is_stored:
                keyspace_delete(&self.c, &key)
            return False
        if not is_stored:
            self._set(&key, value)
        elif entry.object_kind != OTHER_OBJECT:
            keyspace_updated(&self.c, &key, entry, False)
        else:
            size_bytes = value.size_bytes
            self.c.stats.memory_bytes += size_bytes - value.counted_bytes
            value.counted_bytes = size_bytes
            keyspace_count_anew(&self.c, entry)
            keyspace_changed(&self.c, &key)
        if is_stored:
            self._note(&key, value)
        return True

    def resized(self, bytes name not None, value, bint is_changed=True):
        cdef key key
        cdef entry *entry = self._peek(name, &key)
        size_bytes = value.size_bytes
        self.c.stats.memory_bytes += size_bytes - value.counted_bytes
        value.counted_bytes = size_bytes
        if is_changed:
            self.c.changes += 1
            if entry is not NULL and self.c.backing is not NULL:
                preserve(&self.c, entry)

    def delete(self, bytes name not None):
        cdef key key
        if self._find(name, &key) is NULL:
            return False
        keyspace_delete(&self.c, &key)
        return True

    def unlink(self, bytes name not None):
        cdef key key
        cdef entry *entry = self._find(name, &key)
        if entry is NULL:
            return False
        if entry.kind == OBJECT:
            discard_value(self._shards_by_run[key.slot >> RUN_BITS], <object>entry_object(entry))
        self._kernel._leaves = False
        keyspace_delete(&self.c, &key)
        self._kernel._leaves = True
        return True

    def rename(self, bytes source not None, bytes target not None, Keyspace target_keyspace=None):
        cdef key source_key
        cdef key target_key
        cdef Keyspace other = self if target_keyspace is None else target_keyspace
        self._peek(source, &source_key)
        target_key = other._locate(target)
        other._know(&target_key)
        is_new = other.tells_more and keyspace_find(&other.c, &target_key) is NULL
        keyspace_move(&self.c, &source_key, &other.c, &target_key)
        cdef entry *entry = keyspace_peek(&other.c, &target_key)
        if entry.kind == OBJECT:
            other._note(&target_key, <object>entry_object(entry))
        if is_new:
            other._tell_of_new(&target_key)

    # Deadlines

    def deadline(self, bytes name not None):
        cdef key key
        cdef entry *entry = self._peek(name, &key)
        if entry is NULL or not entry_has_deadline(entry):
            return None
        return entry_deadline_ms(entry)

    def expire(self, bytes name not None, int64_t deadline_ms):
        cdef key key
        cdef entry *entry = self._peek(name, &key)
        preserve(&self.c, entry)
        keyspace_set_deadline(&self.c, &key, entry, deadline_ms)
        keyspace_changed(&self.c, &key)

    def persist(self, bytes name not None):
        cdef key key
        cdef entry *entry = self._peek(name, &key)
        if entry is NULL or not entry_has_deadline(entry):
            return False
        preserve(&self.c, entry)
        keyspace_drop_deadline(&self.c, &key, entry)
        keyspace_changed(&self.c, &key)
        return True

    def volatile_slot(self, int start, int stop):
        cdef int slot
        if self.c.volatile_count:
            for slot in range(start, stop):
                if self.c.slots[slot].volatile_count:
                    return slot
        return stop

    def expire_due(self, unsigned slot, uint64_t place, int64_t now_ms, uint64_t keys_max):
        cdef expired found = keyspace_expire_due(&self.c, slot, place, now_ms, keys_max)
        if found.looked:
            # A running average, as in Redis: a new sample weighs 2 %.
            average_ms = max(0, found.deadline_ms - now_ms) if found.deadline_ms >= 0 else 0
            self.average_ttl_ms = (
                self.average_ttl_ms + (average_ms - self.average_ttl_ms) // 50 if self.average_ttl_ms else average_ms
            )
        return found.looked, found.deleted, found.place

    # The whole

    def __len__(self):
        if self.c.backing is NULL:
            return self.c.count
        self.settle()
        return self.c.backing.count

    @property
    def count_about(self):
        return self.c.count if self.c.backing is NULL else self.c.backing.count

    def settle(self):
        cdef list names, places
        cdef key key
        if self.c.backing is NULL:
            return
        try:
            if self.c.backing.unsure_flight:
                self._overwrite(self._backing.overwritten(self.store_id))
            if self.c.backing.unsure_dirty:
                names = []
                keyspace_walk_unsure(&self.c, _collect_key, <void *>names)
                places = [[] for _ in self._shards]
                for name in names:
                    key = self._locate(name)
                    (<list>places[self._indexes_by_run[key.slot >> RUN_BITS]]).append(_place(self.store_id, &key))
                for its_places, records in zip(places, self._backing.get_many(places)):
                    for place, record in zip(its_places, records):
                        if self._is_at(place, &key):
                            keyspace_make_sure(&self.c, &key, _what_is(record))
        except StorageFault:
            pass  # what cannot be read cannot be counted

    cdef int _overwrite(self, overwritten) except -1:
        """What was unsure as it was given out is known now."""
        if self.c.backing.unsure_flight:
            for run, keys, volatile in overwritten:
                keyspace_overwritten(&self.c, run, keys, volatile)
            self.c.backing.unsure_flight = 0
        return 0

    def __bool__(self):
        return True

    cdef uint64_t _walk(self, unsigned slot, uint64_t place, list keys, list dead):
        cdef _Found found
        found.keys = <PyObject *>keys
        found.dead = <PyObject *>dead
        found.now_ms = kernel_now_ms(self._kernel.c)
        return keyspace_walk(&self.c, slot, place, _collect, &found)

    cdef unsigned _occupied_slot(self, unsigned slot):
        """The first slot from this one on that has keys, or SLOTS."""
        while slot < <unsigned>SLOTS:
            if self.c.counts_by_run[slot >> RUN_BITS] == 0:
                slot = ((slot >> RUN_BITS) + 1) << RUN_BITS
            elif self.c.slots[slot].count == 0:
                slot += 1
            else:
                return slot
        return SLOTS

    def __iter__(self):
        cdef unsigned slot = 0
        cdef uint64_t place
        if self.c.backing is not NULL:
            yield from _all_keys(self)
            return
        while (slot := self._occupied_slot(slot)) < <unsigned>SLOTS:
            place = 0
            while True:
                keys = []
                self._kernel.c.now_ms = 0
                place = self._walk(slot, place, keys, [])
                yield from keys
                if not place:
                    break
            slot += 1

    def weights(self):
        """kora.store.keyspace.Keyspace.weights()."""
        cdef _Weighing weighing
        cdef unsigned slot = 0
        cdef uint64_t place
        found = {}
        prefixes = {}
        weighing.kernel = self._kernel.c
        weighing.found = <PyObject *>found
        weighing.prefixes = <PyObject *>prefixes
        while (slot := self._occupied_slot(slot)) < <unsigned>SLOTS:
            place = 0
            while True:
                place = keyspace_walk(&self.c, slot, place, _weigh, &weighing)
                if not place:
                    break
            slot += 1
        return {what: tuple(weight) for what, weight in found.items()}

    def scan(self, uint64_t cursor, Py_ssize_t count):
        cdef unsigned first = cursor & (SLOTS - 1)
        cdef unsigned slot = first
        cdef uint64_t place = cursor >> 14
        cdef list keys = []
        cdef list dead = []
        cdef key key
        if self.c.backing is not NULL:
            return self._scan_all(cursor, count)
        self._kernel.c.now_ms = 0
        following = 0
        while (slot := self._occupied_slot(slot)) < <unsigned>SLOTS:
            if slot != first:
                place = 0
            while len(keys) + len(dead) < count:
                place = self._walk(slot, place, keys, dead)
                if not place:
                    break
            else:
                # The step is full before this slot is done, or even begun.
                following = place << 14 | slot
                break
            slot += 1
        for name in dead:
            self._find(name, &key)
        return following, keys

    def _scan_all(self, uint64_t position, Py_ssize_t count):
        """scan(), of what is held and what is in the backing; the cursor is a position."""
        cdef _Found found
        cdef list keys = []
        cdef list dead = []
        cdef list alive = []
        cdef key key
        cdef entry *entry
        if position >= <uint64_t>_POSITION_END:
            return 0, []
        self._kernel.c.now_ms = 0
        over = []
        stored, following = self._backing.scan(self.store_id, position, count, kernel_now_ms(self._kernel.c), over)
        for name in over:
            with suppress(StorageFault):  # it is passed by
                self._find(name, &key)
        found.keys = <PyObject *>keys
        found.dead = <PyObject *>dead
        found.now_ms = kernel_now_ms(self._kernel.c)
        keyspace_walk_unsettled(&self.c, position, following, _collect, &found)
        seen = set(keys)
        for name in stored:
            if name in seen:
                continue
            key = key_of(self._kernel.c, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
            entry = keyspace_peek(&self.c, &key)
            if entry is not NULL:
                if entry_has_deadline(entry) and entry_deadline_ms(entry) < found.now_ms:
                    dead.append(name)
                    continue
            elif keyspace_knows(&self.c, &key):
                continue  # it is gone, and the store does not know yet
            seen.add(name)
        for name in dead:
            self._find(name, &key)
        return following if following < _POSITION_END else 0, list(seen)

    def random(self):
        cdef entry *entry
        cdef text text
        cdef key key
        if self.c.backing is not NULL and self.c.backing.count > self.c.count:
            return _random_key(self)
        while True:
            entry = keyspace_random(&self.c)
            if entry is NULL:
                return None
            text = entry_key(entry)
            name = PyBytes_FromStringAndSize(text.data, text.bytes)
            if self._find(name, &key) is not NULL:
                return name

    def sample(self, int count, bint volatile):
        cdef entry *entry
        cdef text text
        keys = []
        for _ in range(count):
            entry = keyspace_random_volatile(&self.c) if volatile else keyspace_random(&self.c)
            if entry is NULL:
                break
            text = entry_key(entry)
            keys.append(PyBytes_FromStringAndSize(text.data, text.bytes))
        return keys

    def count_in_slot(self, unsigned slot):
        if self.c.backing is not NULL:
            return len(_keys_of_slot(self, slot, -1))
        return self.c.slots[slot].count if self.c.slots is not NULL else 0

    def keys_in_slot(self, unsigned slot, Py_ssize_t count):
        cdef uint64_t place = 0
        if self.c.backing is not NULL:
            return _keys_of_slot(self, slot, count)
        keys = []
        while self.c.slots is not NULL and len(keys) < count:
            place = self._walk(slot, place, keys, keys)
            if not place:
                break
        return keys[:count]

    # Being attentive

    @property
    def notify(self):
        return self._notify

    @notify.setter
    def notify(self, notify):
        self._notify = notify
        self.c.tells_ends = notify is not _nobody

    @property
    def attends_all(self):
        return self.c.attends_all

    @attends_all.setter
    def attends_all(self, bint attends_all):
        self.c.attends_all = attends_all

    def attend(self, bytes name not None):
        cdef key key = self._locate(name)
        keyspace_attend(&self.c, &key)
        self._attended[name] = self._attended.get(name, 0) + 1

    def disregard(self, bytes name not None):
        cdef key key = self._locate(name)
        count = self._attended[name] - 1
        keyspace_disregard(&self.c, &key)
        if count:
            self._attended[name] = count
        else:
            del self._attended[name]

    cdef int _tell_all_attended(self, Keyspace other) except -1:
        cdef key key
        for name in list(self._attended):
            key = self._locate(name)
            if self.c.backing is not NULL:
                self._know_if_possible(&key)
                other._know_if_possible(&key)
            if keyspace_peek(&self.c, &key) is not NULL or keyspace_peek(&other.c, &key) is not NULL:
                self._kernel.c.interrupted = True
                self.touched(self, name)
        return 0

    cdef int _know_if_possible(self, key *key) except -1:
        try:
            self._know(key)
        except StorageFault:
            pass  # nobody will ever know, since all keys are about to go elsewhere
        return 0

    def flush(self):
        cdef Discarded part
        cdef shard_stats *stats
        cdef int run
        forgotten = self.count_about
        self._tell_all_attended(self)
        for shard in self._shards:
            if self.c.backing is not NULL:
                stats = (<ShardStats?>shard.stats).c
                for run in range(shard.slot_start >> RUN_BITS, shard.slot_stop >> RUN_BITS):
                    # Those that are held are taken off by what discards them.
                    stats.keys -= self.c.backing.counts_by_run[run] - self.c.counts_by_run[run]
            part = Discarded.__new__(Discarded)
            part._kernel = self._kernel
            part.c = keyspace_discard(&self.c, shard.slot_start, shard.slot_stop)
            if not part.c.keys:
                continue
            if (
                self.c.backing is NULL
                and self._kernel.c.saving.is_on
                and not self._kernel.c.saving.is_muted
                and self.c.saved.slot < <unsigned>SLOTS
            ):
                part.saved.database = self.c.saved.database
                self._kernel.walk._held.append((part, shard))
            else:
                shard.lazyfree.append(part)
        self.c.saved.slot = SLOTS
        self.average_ttl_ms = 0
        self.c.changes += forgotten
        if self.c.backing is not NULL:
            backing_flushed(&self.c)
            self.store_id = self._backing.new_id()
        return forgotten

    def swap(self, Keyspace other not None):
        keyspace_swap(&self.c, &other.c)
        self.average_ttl_ms, other.average_ttl_ms = other.average_ttl_ms, self.average_ttl_ms
        self.store_id, other.store_id = other.store_id, self.store_id
        self.c.changes += 1
        self._tell_all_attended(other)
        other._tell_all_attended(self)

    # Above a backing: kora.store.backing.Backed

    def back(self, backing, id):
        cdef int64_t keys
        assert not self.c.count, "keys came before what they are to be kept in"
        keyspace_back(&self.c)
        self._kernel.c.saving.version = _NEWEST
        self._backing = backing
        self.store_id = id
        for shard, (keys, volatile) in zip(self._shards, backing.counts_by_shard(id)):
            self.c.backing.count += keys
            self.c.backing.volatile_count += volatile
            self.c.backing.counts_by_run[shard.slot_start >> RUN_BITS] = keys
            (<ShardStats?>shard.stats).c.keys += keys

    @property
    def dirty_keys(self):
        return 0 if self.c.backing is NULL else self.c.backing.dirty_keys

    @property
    def dirty_bytes(self):
        return 0 if self.c.backing is NULL else self.c.backing.dirty_bytes

    @property
    def resident_keys(self):
        return self.c.count

    @property
    def ghost_bytes(self):
        return 0 if self.c.backing is NULL else self.c.backing.ghosts.bytes

    @property
    def hits(self):
        return 0 if self.c.backing is NULL else self.c.backing.hits

    def take_dirty(self, size_t bytes_max, uint64_t large_bytes):
        cdef _Taking taking
        cdef _Share shares[RUNS]
        cdef int index
        if self.c.backing is NULL or not self.c.backing.dirty_keys:
            return None
        taken = _Taken(self.store_id, len(self._shards))
        memset(shares, 0, sizeof(shares))
        for index, share in enumerate(taken.shares):
            shares[index].words = <PyObject *>share.words
            shares[index].unknown = <PyObject *>share.unknown
            shares[index].gone = <PyObject *>share.gone
        taking.shares = shares
        taking.large = <PyObject *>taken.large
        taking.shards_by_run = self._indexes_by_run
        taking.id = self.store_id
        taking.keys = taking.record_bytes = 0
        taking.large_bytes = large_bytes
        keyspace_take_dirty(&self.c, bytes_max, _take, &taking)
        if not taking.keys:
            return None
        taken.keys = taking.keys
        taken.record_bytes = taking.record_bytes
        for index, share in enumerate(taken.shares):
            share.keys = shares[index].keys
            share.volatile = shares[index].volatile_keys
            share.first_due_ms = shares[index].first_due_ms
        return taken

    def written(self, overwritten):
        self._overwrite(overwritten)
        keyspace_written(&self.c)

    def is_known(self, bytes name not None):
        cdef key key = self._locate(name)
        return self.c.backing is NULL or keyspace_knows(&self.c, &key)

    def asked_by(self, bytes name not None):
        cdef key key = self._locate(name)
        cdef uint64_t number = keyspace_asked_by(&self.c, &key)
        return 0 if number == KNOWN else number

    def await_record(self, bytes name not None, uint64_t reading):
        cdef key key = self._locate(name)
        keyspace_await(&self.c, &key, reading)

    def note_absent(self, bytes name not None):
        cdef key key = self._locate(name)
        keyspace_absent(&self.c, &key)

    def install_awaited(self, uint64_t reading, list places not None, list records not None):
        cdef key key
        cdef bytes record
        cdef Py_ssize_t at
        assert PyList_GET_SIZE(records) == PyList_GET_SIZE(places), "a record for each place"
        self._kernel.c.now_ms = 0
        for at in range(PyList_GET_SIZE(places)):
            if self._is_at(<bytes?>places[at], &key) and keyspace_end_awaiting(&self.c, &key, reading):
                record = records[at]
                try:
                    self._install(&key, record)
                except StorageFault:
                    pass  # whoever looks for the key is told

    def give_up_waiting(self, uint64_t reading, list places not None):
        cdef key key
        for place in places:
            if self._is_at(<bytes?>place, &key):
                keyspace_end_awaiting(&self.c, &key, reading)

    cdef bint _is_at(self, bytes place, key *key) except -1:
        """Whether a place is one of this database's, and of which key."""
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(place)
        assert PyBytes_GET_SIZE(place) >= <Py_ssize_t>PLACE_BYTES, "a place is longer"
        if (<uint64_t>data[0] << 24 | data[1] << 16 | data[2] << 8 | data[3]) != <uint64_t>self.store_id:
            return False
        key.data = <const char *>data + PLACE_BYTES
        key.bytes = PyBytes_GET_SIZE(place) - PLACE_BYTES
        key.slot = data[4] << 8 | data[5]
        key.hash = keyed_hash(self._kernel.c.secret, key.data, key.bytes)
        return True

    def drop_clean(self, bytes_max, uint64_t keys_max):
        """Where bytes_max is None, all."""
        cdef int64_t bytes_limit = INT64_MAX if bytes_max is None else bytes_max
        cdef dropped dropped = keyspace_drop_clean(
            &self.c, bytes_limit, UINT64_MAX if bytes_max is None else keys_max,
            UINT64_MAX if bytes_max is None or keys_max >> 60 else 16 * keys_max)
        return dropped.bytes, dropped.keys

    def drop_ghosts(self, size_t keys_max):
        return keyspace_drop_ghosts(&self.c, keys_max)

    def audit(self):
        """Count everything again, for tests; returns the bytes of each run of slots.

        Raises AssertionError with what is wrong.
        """
        cdef int64_t *memory_bytes = <int64_t *>allocate((SLOTS >> RUN_BITS) * sizeof(int64_t))
        cdef const char *wrong
        for run in range(SLOTS >> RUN_BITS):
            memory_bytes[run] = 0
        wrong = keyspace_audit(&self.c, memory_bytes)
        sums = [memory_bytes[run] for run in range(SLOTS >> RUN_BITS)]
        free(memory_bytes)
        if wrong is not NULL:
            raise AssertionError(wrong.decode())
        return sums


_POSITION_END = _backing.POSITION_END
_all_keys, _keys_of_slot, _random_key = _backing.all_keys, _backing.keys_of_slot, _backing.random_key


cdef class Walk:
    """kora.store.walk.Walk.  Made by Kernel.walk_over()."""

    cdef Kernel _kernel
    cdef object _databases
    cdef readonly list _held  # what was flushed meanwhile, with its shard
    cdef readonly uint64_t records_total
    cdef public object error
    cdef readonly bint is_over

    def __cinit__(self, Kernel kernel not None, databases, layout):
        cdef Keyspace keyspace
        cdef saving *saving = &kernel.c.saving
        self._kernel = kernel
        self._databases = databases
        self._held = []
        if not saving_begin(saving):
            # After 62 in a row that were given up before they were marked: once in a blue moon, and then in one piece.
            saving.is_on = saving.is_muted = True
            for keyspace in databases():
                keyspace.c.saved.slot = 0
                keyspace.c.saved.place = 0
                saving_walk(kernel.c, keyspace.c.slots, SLOTS, &keyspace.c.saved, INT64_MAX, UINT64_MAX)
            saving_end(saving)
            saving_begin(saving)
        saving.version = layout.version
        saving.compresses = layout.compress is not None
        saving.stamps = {"": NO_STAMPS, "idle": IDLE_STAMPS, "frequency": FREQUENCY_STAMPS}[layout.stamps]
        for keyspace in databases():
            keyspace.c.saved.database = keyspace.index
            keyspace.c.saved.slot = 0
            keyspace.c.saved.place = 0
            self.records_total += keyspace.c.count

    @property
    def records(self):
        return self._kernel.c.saving.records

    @property
    def size_bytes(self):
        return self._kernel.c.saving.out.bytes

    def take(self):
        cdef buffer *out = &self._kernel.c.saving.out
        cdef bytes data = PyBytes_FromStringAndSize(out.data, out.bytes)
        out.bytes = 0
        return data

    def step(self, int64_t stop_ns, uint64_t records_max=UINT64_MAX):
        cdef Keyspace keyspace
        cdef Discarded part
        cdef kernel *kernel = self._kernel.c
        if self.is_over:
            return True
        kernel.now_ms = 0
        while self._held:
            part, shard = self._held[0]
            if not saving_walk(kernel, part.c.slots, part.c.slots_count, &part.saved, stop_ns, records_max):
                return False
            del self._held[0]
            shard.lazyfree.append(part)
        for keyspace in self._databases():
            if not saving_walk(kernel, keyspace.c.slots, SLOTS, &keyspace.c.saved, stop_ns, records_max):
                return False
        if kernel.saving.failed and self.error is None:
            self.error = AssertionError("a value was changed before it was saved")
        self.is_over = True
        self._end()
        return True

    cdef int _end(self) except -1:
        # What is in the buffer is still to be taken.
        self._kernel.c.saving.is_on = False
        self._kernel.c.saving.unfinished = 0
        if self._kernel.walk is self:
            self._kernel.walk = None
        return 0

    def give_up(self):
        if self.is_over:
            return
        self._kernel.c.saving.is_muted = True
        self._kernel.c.saving.out.bytes = 0
        self.error = None
        for part, shard in self._held:
            shard.lazyfree.append(part)
        self._held.clear()


# --- Values that are no strings ---

include "hashes.pxi"
include "lists.pxi"
include "streams.pxi"
include "tallies.pxi"

cdef size_t _EFFORT_MIN = EFFORT_MIN


cdef size_t _effort(value) except? 0:
    """About how many blocks of memory have to be freed when it goes; without asking those of the kernel's own."""
    if type(value) is Hash:
        return hash_effort(&(<Hash>value).c)
    if type(value) is Set:
        return set_effort(&(<Set>value).c)
    if type(value) is List:
        return list_effort(&(<List>value).c)
    if type(value) is SortedSet:
        return sorted_set_effort(&(<SortedSet>value).c)
    return value.effort


# --- Requests ---

cdef class Parser:
    """One connection's parser: kora.resp.parser.Parser, on the kernel's own.

    execute() takes batches from it; feed(), take() and read() give the same requests as lists, for what runs in Python
    and for tests.
    """

    cdef parser c
    cdef bint _more

    def __cinit__(self, uint64_t bulk_max=512 * 1024 * 1024, bint authenticated=False):
        parser_init(&self.c, bulk_max)
        self.c.authenticated = authenticated

    def __dealloc__(self):
        parser_free(&self.c)

    @property
    def authenticated(self):
        return self.c.authenticated

    @authenticated.setter
    def authenticated(self, bint authenticated):
        self.c.authenticated = authenticated

    @property
    def bulk_max(self):
        return self.c.bulk_max

    @bulk_max.setter
    def bulk_max(self, uint64_t bulk_max):
        self.c.bulk_max = bulk_max

    @property
    def more(self):
        return self._more

    @property
    def buffered_bytes(self):
        return parser_pending_bytes(&self.c)

    def feed(self, bytes data not None):
        if not self.c.faulty:
            parser_feed(&self.c, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            parser_keep(&self.c)
            self._more = True

    def take(self):
        cdef batch batch
        cdef size_t at
        cdef bint may_be_more = True
        requests = []
        batch_init(&batch)
        while may_be_more and not self.c.faulty and len(requests) < COMMANDS_PER_TURN:
            # AUTH changes what the bytes after it may be, so nothing is parsed before it has been run.
            if requests and not self.c.authenticated:
                break
            may_be_more = parser_next(
                &self.c, &batch, min(BATCH_REQUESTS, COMMANDS_PER_TURN - len(requests)) if self.c.authenticated else 1
            )
            for at in range(batch.count):
                requests.append(_argv(&batch, &batch.requests[at]))
            batch_reset(&batch)
        batch_free(&batch)
        parser_keep(&self.c)
        self._more = may_be_more or (self.c.faulty and requests)
        if self.c.faulty and not requests:
            self._more = False
            raise ProtocolError(_fault(&self.c))
        return requests

    def read(self, data):
        self.feed(data)
        return self.take()


cdef str _fault(parser *parser):
    return (<bytes>parser.fault).decode("utf-8", "surrogateescape")


cdef int _unpack(batch *batch, list requests) except -1:
    """Requests, as _argv() has made them, as a batch; their words have to outlive it."""
    cdef argument *argument
    for words in requests:
        argument = batch_take(batch, len(words))
        for word in <list>words:
            argument.data = PyBytes_AS_STRING(word)
            argument.bytes = PyBytes_GET_SIZE(word)
            argument.block = NULL
            argument.block_capacity = 0
            argument += 1
        if type(words) is Attributes:
            (argument - len(words)).data = attributes_mark
    return 0


cdef bytes _place(uint32_t id, const key *key):
    """kora.store.backing.place_of()."""
    cdef bytes place = PyBytes_FromStringAndSize(NULL, PLACE_BYTES + key.bytes)
    place_begin(PyBytes_AS_STRING(place), id, key.slot, key.data, key.bytes)
    memcpy(PyBytes_AS_STRING(place) + PLACE_BYTES, key.data, key.bytes)
    return place


def place_of(uint32_t id, bytes name not None):
    cdef key key
    key.data, key.bytes = PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)
    key.slot = slot_of_key(key.data, key.bytes)
    return _place(id, &key)


cdef object _argv(batch *batch, const request *request):
    """A request as a handler gets it."""
    cdef size_t place
    cdef const argument *argument = batch.arguments + request.first
    if argument.data == attributes_mark:
        return Attributes(
            [PyBytes_FromStringAndSize(argument[place].data, argument[place].bytes) for place in range(request.argc)])
    cdef list argv = PyList_New(request.argc)
    for place in range(request.argc):
        word = PyBytes_FromStringAndSize(argument[place].data, argument[place].bytes)
        Py_INCREF(word)
        PyList_SET_ITEM(argv, place, word)
    return argv


# --- What the journal is told ---

cdef class Effects:
    """kora.engine.effects.Effects, where operations append as well."""

    cdef Kernel _kernel
    cdef journal *c  # the kernel's

    def __cinit__(self, Kernel kernel not None):
        self._kernel = kernel
        self.c = &kernel.c.journal

    @property
    def on(self):
        return self.c.on

    @on.setter
    def on(self, bint on):
        self.c.on = on

    @property
    def size_bytes(self):
        return self.c.bytes

    @property
    def is_open(self):
        return self.c.depth > 0 and self.c.group_effects > 0

    def append(self, uint32_t database, words):
        cdef Py_ssize_t count = len(words)
        cdef text *texts = <text *>allocate(max(1, count) * sizeof(text))
        cdef bytes word
        cdef Py_ssize_t place = 0
        try:
            for word in words:
                texts[place].data = PyBytes_AS_STRING(word)
                texts[place].bytes = PyBytes_GET_SIZE(word)
                place += 1
            journal_append(self.c, database, texts, count)
        finally:
            free(texts)

    def begin(self):
        journal_begin(self.c)

    def end(self):
        journal_end(self.c)

    def take(self):
        data = PyBytes_FromStringAndSize(self.c.data, self.c.bytes) if self.c.bytes else b""
        journal_clear(self.c)
        return data

    def start_anew(self):
        self.c.database = -1


# --- Execution ---

# Keys that are asked for at a time, beyond which no further requests of a client join: kora/engine/cache.py.
cdef Py_ssize_t AHEAD_MAX = 1000
# What Kernel._hold() answers.
cdef int HELD = 1
cdef int RELEASED = 2


cdef class ClientState:
    """What is asked of a client at every turn: kora.engine.client.Client is made from this where there is a kernel."""

    cdef public object db
    cdef public object encode
    cdef public object parser
    cdef public object command
    cdef public bytes identity
    cdef public list backlog
    cdef public bytes board_address
    cdef public int64_t id
    cdef public int64_t last_ns
    cdef public int64_t arrived_ns
    cdef public int64_t pause_ns
    cdef public bint gated
    cdef public object fetching
    cdef public int64_t fetched
    cdef public bint more
    cdef public bint halted
    cdef public bint parked


cdef class Receiver:
    """kora.engine.receiver.Receiver, without a Python frame between the event loop and the kernel.

    Replies go to a plain socket at once, and only what it does not take goes to the event loop's queue, which costs as
    much as 20 commands do.  While something waits there, everything has to.
    """

    cdef Kernel _kernel
    cdef ClientState _client
    cdef object _write
    cdef object _attend
    cdef object _waiting_bytes
    cdef int _fd  # -1: everything goes to the loop
    cdef public int held
    cdef bint _waits  # something did not go out at once

    def __cinit__(self, Kernel kernel not None):
        self._kernel = kernel
        self._fd = -1

    def bind(self, ClientState client not None, write, attend, waiting_bytes, int fd):
        self._client = client
        self._write = write
        self._attend = attend
        self._waiting_bytes = waiting_bytes
        self._fd = fd

    def detach(self):
        self._fd = -1

    def release(self):
        self._fd = -1
        self._client = self._write = self._attend = self._waiting_bytes = None

    cpdef int send(self, bytes reply) except -1:
        if self._kernel.c.journal.on and self._client is not None and self._kernel._engine.journal.hold(self, reply):
            return 0
        return self._transmit(reply)

    def release_held(self, bytes reply not None):
        self.held -= 1
        if self._client is not None:
            self._transmit(reply)
            if not self.held and self._client.closing:
                self._client.kick()

    def cut(self):
        self.held -= 1
        if self._client is not None:
            self._client.disconnect()

    cdef int _transmit(self, bytes reply) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(reply)
        cdef Py_ssize_t sent
        if self._fd < 0 or (self._waits and self._waiting_bytes()):
            self._write(reply)
            return 0
        self._waits = False
        sent = send(self._fd, PyBytes_AS_STRING(reply), size, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent != size:
            # If that is because the peer has gone, the loop will find it out as well.
            self._waits = True
            if self._client is not None:
                service_lag(&self._kernel.c.service, self._client.id)
            self._write(memoryview(reply)[sent:] if sent > 0 else reply)
        return 0

    def receive(self, bytes data not None):
        cdef ClientState client = self._client
        cdef bytes reply
        cdef size_t pending_bytes
        cdef bint was_more, needs_attention
        if client is None:
            return
        was_more = client.more
        reply = self._kernel._execute(client, data, self, None)
        # Who waits for what is fetched is read from once more, since that is over soon.
        needs_attention = client.more and (was_more or client.fetching is None)
        if PyBytes_GET_SIZE(reply):
            if needs_attention:
                self._attend()
        else:
            pending_bytes = parser_pending_bytes(&(<Parser?>client.parser).c)
            if needs_attention or (
                pending_bytes and pending_bytes > <size_t>self._kernel._engine.config.client_query_buffer_limit
            ):
                self._attend()


cdef class _Room:
    """What a turn needs room for: requests, and their replies.

    Replies are collected in a small block that stays; when they outgrow it, in a bytes object that is then sent as it
    is, so that a large value is copied once.
    """

    cdef batch batch
    cdef output output
    cdef PyObject *large  # owned; NULL while the small block is enough
    cdef char *small  # owned

    def __cinit__(self):
        batch_init(&self.batch)
        self.small = <char *>allocate(OUTPUT_BYTES)
        self.output.grow = _grow
        self.output.owner = <void *>self
        self.clear()

    def __dealloc__(self):
        batch_free(&self.batch)
        free(self.small)
        Py_XDECREF(self.large)

    cdef void clear(self) noexcept:
        Py_XDECREF(self.large)
        self.large = NULL
        self.output.data = self.small
        self.output.capacity = OUTPUT_BYTES
        self.output.bytes = 0
        self.output.failed = False

    cdef bytes take(self):
        """The replies; the room is empty after that."""
        cdef PyObject *large = self.large
        if large is NULL:
            data = PyBytes_FromStringAndSize(self.output.data, self.output.bytes)
            self.output.bytes = 0
            return data
        self.large = NULL
        _PyBytes_Resize(&large, self.output.bytes)
        self.clear()
        data = <bytes>large
        Py_DECREF(data)
        return data


cdef bint _grow(output *output, size_t capacity) noexcept:
    cdef _Room room = <_Room>output.owner
    # For the first time it is most often for one large value: just that, then.
    cdef size_t wanted = 4 * OUTPUT_BYTES if room.large is NULL else 2 * output.capacity
    cdef PyObject *large = PyBytes_FromStringAndSize_(NULL, max(capacity, wanted))
    if large is NULL:
        PyErr_Clear()
        return False
    memcpy(PyBytes_AS_STRING(<object>large), output.data, output.bytes)
    Py_XDECREF(room.large)
    room.large = large
    output.data = PyBytes_AS_STRING(<object>large)
    output.capacity = PyBytes_GET_SIZE(<object>large)
    return True


def keep_freed_memory():
    """For the process as a whole, so for whoever starts it: see kernel.h."""
    keep_freed_memory_()


cdef class CpuSampler:
    """kora.engine.reference.CpuSampler, which sees what runs beside Python as well: see profile.c."""

    cdef Kernel _kernel
    cdef sampler *c  # owned
    cdef interpreter _interpreter
    cdef object _samples
    cdef object _label
    cdef bint _is_on

    def __cinit__(self, Kernel kernel not None, samples, label):
        if not sampler_is_possible():
            raise OSError(errno.errno, "no timer can be had on the CPU clock of a thread")
        self._kernel = kernel
        self._samples = samples
        self._label = label
        self.c = <sampler *>allocate(sizeof(sampler))
        self.c.kernel = kernel.c
        self.c.owner = <void *>&self._interpreter
        self.c.is_in_loop = interpreter_is_in_loop
        self.c.ask = interpreter_ask

    def __dealloc__(self):
        if self.c is not NULL:
            sampler_stop(self.c)
        free(self.c)

    def start(self, int64_t period_ns, bint is_direct):
        self._interpreter.state = PyThreadState_Get()
        self._interpreter.base = running_frame(self._interpreter.state) if is_direct else NULL
        # Python's own handler first, which makes its stack known; in its place goes the kernel's, which calls for that.
        signal.signal(signal.SIGPROF, self._look)
        if not sampler_start(self.c, period_ns):
            signal.signal(signal.SIGPROF, signal.SIG_IGN)
            raise OSError(errno.errno, "no timer can be had on the CPU clock of a thread")
        self._is_on = True

    def stop(self):
        sampler_stop(self.c)
        self.take()
        self._is_on = False

    def take(self):
        self._take(None)

    def _look(self, number, frame):
        if self._is_on:
            self._take(frame)

    cdef int _take(self, frame) except -1:
        cdef cpu_sample sample
        stack = -1
        while sampler_take(self.c, &sample):
            name = (<object>sample.command.row).name.upper() if sample.command is not NULL else ""
            if sample.is_of_loop:
                operation = name if sample.is_operation else ""
                self._samples.add(name or self._label(), 0, operation, sample.address, sample.count)
                continue
            if stack < 0:
                stack = self._samples.stack(frame)
            self._samples.add(name or self._label(), stack, "", sample.address, sample.count)
        return 0


cdef class Kernel:
    """One engine's kernel.  Kernel(clock) makes statistics and databases; after attach() it executes requests."""

    cdef kernel *c
    cdef readonly object clock
    cdef readonly object values_limits  # kora.types.limits.Limits
    cdef readonly Effects effects
    # What is asked of Python: see attach().
    cdef object _engine
    cdef object _call_sampled
    cdef object _note_access
    cdef object _resume
    cdef object _refuse
    cdef object _failed
    cdef list _rows  # keeps alive what the table of commands points to
    cdef list _stats  # and what the list of shards does
    cdef Tallies _tallies  # and what its tallies do
    cdef bint aside  # everything is for the reference, for now
    cdef object _lazyfree  # where values go that are no keyspace's any more: the first shard's
    cdef bint _leaves  # whether they do; False while one goes that is there already
    cdef object _run_errands
    cdef object _first_key
    cdef object _audit_queue
    cdef public object running  # the client whose turn it is
    cdef Service _service
    cdef readonly Walk walk  # of the snapshot under way
    cdef int64_t turn_max_ns  # as LoopStats has it
    cdef uint64_t _large_request_bytes
    # Of the current turn.  A turn inside a turn has its own room.
    cdef _Room _room
    cdef bint _busy
    # Of the journal that is loaded: see replay().
    cdef Parser _replay_parser
    cdef size_t _replay_fed
    cdef size_t _replay_offset
    cdef size_t _replay_index
    cdef bint _replay_open

    def __cinit__(self, clock):
        cdef uint64_t secret[2]
        random = os.urandom(16)
        memcpy(secret, PyBytes_AS_STRING(random), 16)
        self.clock = clock
        self.c = <kernel *>allocate(sizeof(kernel))
        kernel_init(self.c, secret)
        self.c.release = _release
        self.c.owner = <void *>self
        self.c.object_bytes = _object_bytes
        self.c.object_length = _object_length
        self.c.make_object = _make_object
        self.c.is_held = _is_held
        self.c.note = _note
        self.c.tell_object = _tell_object
        self.c.touched = _touched
        self.c.ended = _ended
        for object_kind, compiled in enumerate(_CLASSES):
            self.c.object_head_bytes[object_kind] = 0 if compiled is None else compiled.__basicsize__
        self.set_limits(Limits())
        self.c.clock.is_real = type(clock) is Clock
        self.c.clock.monotonic_ns = _monotonic_ns
        self.c.clock.wall_ms = _wall_ms
        self.c.clock.owner = <void *>clock
        self._rows = []
        self._stats = []
        self._room = _Room()
        self._leaves = True
        self.effects = Effects(self)

    def __dealloc__(self):
        kernel_free(self.c)
        free(self.c)

    def set_limits(self, limits):
        """What new and growing values keep to, from now on."""
        self.values_limits = limits
        self.c.limits.hash_entries = limits.hash_max_listpack_entries
        self.c.limits.hash_value = limits.hash_max_listpack_value
        self.c.limits.set_intset_entries = limits.set_max_intset_entries
        self.c.limits.set_entries = limits.set_max_listpack_entries
        self.c.limits.set_value = limits.set_max_listpack_value
        self.c.limits.zset_entries = limits.zset_max_listpack_entries
        self.c.limits.zset_value = limits.zset_max_listpack_value
        self.c.limits.list_size = limits.list_max_listpack_size
        self.c.limits.stream_node_bytes = limits.stream_node_max_bytes
        self.c.limits.stream_node_entries = limits.stream_node_max_entries

    def make_service(self, size_t commands):
        self._service = Service(self, commands)
        return self._service

    def make_hot_keys(self):
        return HotKeys(self)

    def make_cpu_sampler(self, samples, label):
        """kora.engine.reference.Implementation.make_cpu_sampler()."""
        return CpuSampler(self, samples, label)

    def share_histograms(self, int fd):
        """Keep what commands took in a file, which kora.observe.shared_counts reads in another process."""
        cdef Service service = self._service
        cdef _Block block
        cdef int64_t offset = 0
        blocks = [(<ShardStats>stats)._block for stats in self._stats] + [service._waits, service._services]
        os.ftruncate(fd, sum([(<_Block>one).c.commands_count for one in blocks]) * SHARED_COUNTS_BYTES)
        for block in blocks:
            offset = block.share(fd, offset)
        return True

    def make_stats(self, size_t commands):
        """The block of one shard, which counts toward maxmemory."""
        stats = ShardStats(self, commands)
        self._stats.append(stats)
        self.c.shards = <shard_stats **>reallocate(self.c.shards, len(self._stats) * sizeof(shard_stats *))
        self.c.shards[self.c.shards_count] = (<ShardStats>stats).c
        self.c.shards_count += 1
        return stats

    name = "compiled"
    rdb_tools = Tools(crc64, compress, decompress)
    busy_rate = 200_000

    cdef int _leave(self, value) except -1:
        """Have a value of many parts freed bit by bit."""
        if self._leaves and self._lazyfree is not None:
            self._lazyfree.append(DiscardedValue(value, False))
        return 0

    def make_keyspace(self, int index, shards):
        self._lazyfree = shards[0].lazyfree
        return Keyspace(self, index, shards)

    def walk_over(self, databases, layout):
        """Begin a snapshot; databases() gives those there are.  One that was given up ends by that."""
        self.walk = None
        self.walk = Walk(self, databases, layout)
        return self.walk

    def make_parser(self):
        return Parser()

    def make_receiver(self):
        return Receiver(self)

    def attach(self, engine, call):
        """Get to know the engine, its commands, and kora.engine.call, which is asked for what is done only there."""
        cdef Py_buffer page
        self._engine = engine
        self._call_sampled = call.call_sampled
        self._note_access = call.note_access
        self._resume = call.resume
        self._refuse = call.refuse
        self._failed = call.failed
        self._run_errands = call.run_errands
        self._first_key = call.first_key
        # Its address is good for as long as the engine, which holds the page, and nobody resizes that.
        PyObject_GetBuffer(engine.board.words, &page, PyBUF_SIMPLE)
        self.c.board = <char *>page.buf
        PyBuffer_Release(&page)
        for row in engine.registry.commands.values():
            self._add(row)
            for subcommand in (row.subcommands or {}).values():
                self._add(subcommand).is_subcommand = True

    cdef command *_add(self, row) except NULL:
        cdef bytes name = row.name.encode()
        cdef command *command = kernel_add_command(self.c, name, len(name))
        if command is NULL:
            raise AssertionError(f"no room for {row.name}: see COMMAND_NAME_MAX and COMMANDS_BITS in kernel.h")
        self._rows.append(row)
        command.row = <void *>row
        command.stats_slot = max(0, row.slot)
        command.argc_min = row.argc_min
        command.argc_max = row.argc_max
        command.is_container = row.subcommands is not None
        command.denyoom = "denyoom" in row.flags
        command.lengthy = row.lengthy
        memcpy(command.board_name, PyBytes_AS_STRING(row.board_name), 32)
        command.first_key, command.last_key, command.key_step = row.key_places or (0, 0, 1)
        command.has_keys = row.names_keys
        command.declares_keys = row.has_keys
        command.writes = "write" in row.flags
        return command

    def set_gate(self, bint aside, uint64_t maxmemory):
        """Whether every request is for the reference, and above how many bytes those that need memory are."""
        self.aside = aside
        self.c.maxmemory = maxmemory

    def set_handing_over(self, bint hands_over):
        """Whether every command is run by its handler, which tells of what it does."""
        self.c.hands_over = hands_over

    def set_replaying(self, bint is_replaying):
        """Whether nothing ends by itself, since a journal is loaded, which says what has ended."""
        self.c.is_replaying = is_replaying
        self.c.now_ms = 0

    def make_tallies(self):
        return Tallies(self)

    def count_into(self, Tallies tallies, int64_t start_ms, int64_t stop_ms):
        """Where TRACK counts from start to stop; None: nowhere, for now."""
        self._tallies = tallies
        self.c.tallies = &tallies.c if tallies is not None else NULL
        self.c.tallies_start_ms = start_ms
        self.c.tallies_stop_ms = stop_ms

    def interrupt(self):
        """The command that runs leaves errands: see kora.engine.call.run_errands()."""
        self.c.interrupted = True

    def set_observing(self, bint observing):
        self.c.observing = observing

    def set_audit(self, queue, bytes slots not None, bint blocks, bint wants_words, include_keys, exclude_keys):
        """What is recorded from now on, and where to: see kora.engine.audit; None for nothing."""
        cdef trail *audit = &self.c.audit
        cdef command *command
        cdef size_t place
        cdef Py_buffer page
        audit_forget(audit)
        self._audit_queue = queue
        audit.blocks = blocks
        audit.wants_words = wants_words
        for prefix in include_keys:
            audit_add_prefix(&audit.included, &audit.included_count, PyBytes_AS_STRING(prefix), len(prefix))
        for prefix in exclude_keys:
            audit_add_prefix(&audit.excluded, &audit.excluded_count, PyBytes_AS_STRING(prefix), len(prefix))
        if queue is not None:
            # Their addresses are good for as long as the queue, which is held here, and nobody resizes it.
            PyObject_GetBuffer(queue.words, &page, PyBUF_SIMPLE)
            audit.words = <uint64_t *>page.buf
            PyBuffer_Release(&page)
            PyObject_GetBuffer(queue.data, &page, PyBUF_SIMPLE)
            audit.data = <char *>page.buf
            PyBuffer_Release(&page)
            audit.capacity = queue.capacity
        for place in range(<size_t>1 << COMMANDS_BITS):
            command = &self.c.commands[place]
            if command.row is not NULL:
                slot = (<object>command.row).slot
                command.audited = slots[slot] if queue is not None and slot >= 0 else 0

    def set_slow(self, uint64_t slow_ns, uint64_t reply_bytes, uint64_t request_bytes):
        """From where on engine.slowness wants to know of a command."""
        self.c.slow_ns = slow_ns
        self.c.large_reply_bytes = reply_bytes
        self._large_request_bytes = request_bytes

    def set_sampling_ratio(self, int64_t ratio):
        """One request in so many is recorded for hot keys; 0: none."""
        samples_settle(self.c)
        self.c.sampling_ratio = ratio
        self.c.hot_left = 1 + <int64_t>(kernel_random(self.c) % <uint64_t>(2 * ratio - 1)) if ratio else INT64_MAX
        samples_begin(self.c)

    def set_tracing(self, bint is_on, double ratio, int64_t slow_ns, bint asks, uint64_t spans_max):
        """kora.engine.reference.Implementation.set_tracing()."""
        self.c.spans.is_on = is_on
        self.c.spans.slow_ns = slow_ns
        self.c.spans.asks = asks
        spans_choose(self.c, ratio if is_on else 0)
        spans_resize(&self.c.spans, spans_max if is_on else 0)

    def take_spans(self, uint64_t first):
        """Those from a number on that are still there, as kora.observe.traces unpacks them, and the number of the next."""
        cdef spans *spans = &self.c.spans
        cdef uint64_t count, at, part
        first = min(max(first, spans.first, spans.count - min(spans.count, spans.capacity)), spans.count)
        count = spans.count - first
        cdef bytes data = PyBytes_FromStringAndSize(NULL, count * sizeof(traced))
        cdef char *target = PyBytes_AS_STRING(data)
        while count:
            at = first % spans.capacity
            part = min(count, spans.capacity - at)
            memcpy(target, spans.ring + at, part * sizeof(traced))
            target += part * sizeof(traced)
            first += part
            count -= part
        return data, spans.count

    def forget_spans(self):
        self.c.spans.first = self.c.spans.count

    def load_records(self, Keyspace keyspace not None, bytes window not None, size_t at, size_t stop, now_ms,
                     size_t string_bytes_max, bint is_lfu):
        """kora.engine.reference.Implementation.load_records()."""
        cdef load_terms terms
        cdef size_t window_bytes = PyBytes_GET_SIZE(window)
        terms.now_ms = INT64_MIN if now_ms is None else now_ms
        terms.string_bytes_max = min(string_bytes_max, PACK_BYTES_MAX)  # longer ones are the reference's
        terms.is_lfu = is_lfu
        if at > window_bytes:
            raise IndexError(at)
        cdef loaded loaded = load_records(
            &keyspace.c, <const unsigned char *>PyBytes_AS_STRING(window), at, min(stop, window_bytes), window_bytes,
            &terms)
        return loaded.at, loaded.keys, loaded.expired, loaded.is_cut

    def reset_stats(self):
        self.turn_max_ns = 0

    def execute(self, ClientState client not None, bytes data not None, send=None):
        """kora.engine.call.execute()."""
        return self._execute(client, data, None, send)

    cdef bytes _execute(self, ClientState client, bytes data, Receiver receiver, send):
        """Replies are handed to the receiver or to `send`, if there is one."""
        cdef Parser parser = client.parser
        cdef reading reading
        cdef bytes reply
        if client.more:
            (<Keyspace?>client.db).c.stats.bytes_in += PyBytes_GET_SIZE(data)
            parser.feed(data)
            return self.resume(client, receiver.send if receiver is not None else send)
        parser_feed(&parser.c, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        self._begin(client, &reading, True)
        try:
            reply = self._turn(client, parser, &reading)
            (<Keyspace?>client.db).c.stats.bytes_in += PyBytes_GET_SIZE(data)
            if PyBytes_GET_SIZE(reply):
                if receiver is not None:
                    receiver.send(reply)
                elif send is not None:
                    send(reply)
        finally:
            self._end(client, &reading)
        return reply

    def resume(self, ClientState client not None, send=None):
        """kora.engine.call.resume()."""
        cdef reading reading
        cdef bytes reply
        if client.parked or client.closing:
            return b""
        if client.backlog and self._engine.cache is None:
            return self._resume(client, send)
        self._begin(client, &reading, False)
        try:
            reply = self._turn(client, client.parser, &reading)
            if reply and send is not None:
                send(reply)
        finally:
            self._end(client, &reading)
        return reply

    cdef int _begin(self, ClientState client, reading *reading, bint is_read) except -1:
        """A reading begins: of what was read just now, or of what is left of an earlier one."""
        cdef service *service = &self.c.service
        cdef bint is_told
        reading.outer = service.reading
        reading.count = reading.slot = 0
        reading.runs_count = reading.spans_count = 0
        reading.parsed = 0
        reading.is_timed = self.c.observing
        reading.begun_ns = clock_begin(&self.c.clock, &reading.begun)
        if reading.is_timed:
            reading.piece_ns = reading.begun_ns
            if is_read:
                is_told = service_bounds(service, reading, client.id, client.last_ns)
                if is_told:
                    service_narrow(service, reading, (<object>client).data_age_ns())
                service_arrive(service, reading, is_told, client.last_ns, &client.pause_ns)
                client.arrived_ns = reading.arrived_ns
            else:
                reading.arrived_ns = client.arrived_ns or reading.begun_ns
        service.reading = reading
        if (
            self.c.spans.is_on
            and is_read
            and reading.is_timed
            and reading.begun_ns - reading.arrived_ns >= self.c.spans.slow_ns
        ):
            self.c.spans.is_late = True
            self._engine.tracing.begin_late()
        return 0

    cdef int _end(self, ClientState client, reading *reading) except -1:
        self.c.service.reading = reading.outer
        if self.c.spans.is_late:
            self.c.spans.is_late = False
            self._engine.tracing.end_late()
        if reading.is_timed:
            client.last_ns = service_end(self.c, reading, PyBytes_AS_STRING(client.board_address), client.id)
            if PyList_GET_SIZE(self._service._entries):
                self._service.tell(reading, client.last_ns)
        return 0

    @property
    def replay_place(self):
        return self._replay_offset, self._replay_index

    def replay(self, ClientState client not None, bytes data not None, run, verify):
        """kora.engine.reference.Reference.replay()."""
        cdef Parser parser = client.parser
        cdef _Room room = _Room()
        cdef batch *batch = &room.batch
        cdef kernel *kernel = self.c
        cdef turn turn
        cdef size_t place
        cdef size_t commands = 0
        cdef size_t taken_bytes
        cdef bint may_be_more = True
        cdef bint in_transaction = self._replay_open
        cdef bint observing = kernel.observing
        if parser is not self._replay_parser:
            self._replay_parser = parser
            self._replay_fed = 0
            in_transaction = False
        turn.begun_ns = clock_begin(&kernel.clock, &turn.begun)
        turn.started = turn.begun
        turn.address = PyBytes_AS_STRING(client.board_address)
        turn.client_id = client.id
        turn.owner = <void *>self
        turn.client = <void *>client
        kernel.observing = False
        self._look(client, &turn)
        turn.identity_bytes = 0
        parser_feed(&parser.c, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        self._replay_fed += PyBytes_GET_SIZE(data)
        try:
            while may_be_more and not parser.c.faulty:
                self._replay_offset = self._replay_fed - parser_pending_bytes(&parser.c)
                self._replay_index = 0
                may_be_more = parser_next(&parser.c, batch, BATCH_REQUESTS)
                self._replay_index = batch.count
                taken_bytes = self._replay_fed - parser_pending_bytes(&parser.c) - self._replay_offset
                if not parser.c.faulty and not journal_is_plain(&parser.c, batch, taken_bytes):
                    verify(self._replay_offset, batch.count)
                batch_prepare(kernel, turn.keyspace, batch)
                place = 0
                while place < batch.count:
                    if not in_transaction:
                        place = batch_run(kernel, &turn, batch, place, &room.output, TURN_BYTES_MAX)
                        if room.output.failed:
                            raise MemoryError
                        if kernel.interrupted:
                            self._settle_errands(client, room)
                        if place == batch.count:
                            break
                    if not in_transaction and room.output.bytes > TURN_BYTES_MAX:
                        room.clear()
                        continue
                    self._replay_index = place
                    kernel.now_ms = 0
                    in_transaction = run(_argv(batch, &batch.requests[place]))
                    self._look(client, &turn)
                    turn.identity_bytes = 0
                    place += 1
                self._replay_index = batch.count
                commands += batch.count
                room.clear()
                batch_reset(batch)
            if parser.c.faulty:
                raise ProtocolError(_fault(&parser.c))
        finally:
            kernel.observing = observing
            self._replay_open = in_transaction
            batch_reset(batch)
            parser_keep(&parser.c)
        return commands

    cdef bytes _turn(self, ClientState client, Parser parser, reading *reading):
        cdef _Room room
        cdef turn turn
        if self._busy:
            room = _Room()
            return self._take_turn(client, parser, room, &turn, reading)
        self._busy = True
        try:
            return self._take_turn(client, parser, self._room, &turn, reading)
        finally:
            self._busy = False

    cdef bytes _take_turn(self, ClientState client, Parser parser, _Room room, turn *turn, reading *reading):
        """Run requests for as long as the turn lasts; what is left is in client.backlog and the parser."""
        cdef kernel *kernel = self.c
        cdef batch *batch = &room.batch
        cdef size_t commands = 0
        cdef size_t place = 0
        cdef size_t start
        cdef bint may_be_more = True
        cdef bint plain
        cdef bint halted = False
        cdef bint is_held = False
        cdef bint is_heavy = parser_pending_bytes(&parser.c) >= self._large_request_bytes
        cdef bint weighs = False
        cdef const command *last = NULL
        cdef int64_t elapsed_ns
        cdef int waits
        turn.begun_ns = reading.begun_ns
        turn.started = turn.begun = reading.begun
        turn.address = PyBytes_AS_STRING(client.board_address)
        turn.client_id = client.id
        turn.owner = <void *>self
        turn.client = <void *>client
        (<uint64_t *>kernel.board)[BOARD_CLIENT] = client.id
        if room.output.bytes:
            room.clear()  # of a turn that was broken off
        outer = self.running
        self.running = client
        plain = self._look(client, turn)
        try:
            while not halted:
                if client.backlog:
                    # Where the data is in a store, turns often begin with what was held.
                    backlog, client.backlog = client.backlog[:BATCH_REQUESTS], client.backlog[BATCH_REQUESTS:]
                    _unpack(batch, backlog)
                    may_be_more = True
                    is_heavy |= client.has_heavy_backlog
                else:
                    # AUTH changes what the bytes after it may be, so nothing is parsed before it has been run.
                    may_be_more = parser_next(&parser.c, batch, BATCH_REQUESTS if parser.c.authenticated else 1)
                if kernel.spans.is_on and not reading.parsed:
                    reading.parsed = clock_now(&kernel.clock)
                if batch.count:
                    if is_heavy and not weighs:
                        weighs = True
                        self._engine.slowness.weigh(True)
                    batch_prepare(kernel, turn.keyspace, batch)
                    place = 0
                    while True:
                        if plain:
                            start = place
                            place = batch_run(kernel, turn, batch, place, &room.output, TURN_BYTES_MAX)
                            if place > start:
                                last = batch.requests[place - 1].command
                            if room.output.failed:
                                self._fail(client, room, turn, batch, place, MemoryError())
                                place += 1
                                continue
                            if kernel.interrupted:
                                self._settle_errands(client, room)
                                if place < batch.count and room.output.bytes <= TURN_BYTES_MAX:
                                    continue
                        if room.output.bytes > TURN_BYTES_MAX:
                            halted = True
                            may_be_more = True
                            break
                        if place == batch.count:
                            break
                        if last is not NULL:
                            client.command = <object>last.row
                            last = NULL
                        if turn.keyspace.backing is not NULL:
                            waits = self._hold(client, turn, batch, place)
                            if waits == HELD:
                                halted = is_held = True
                                break
                            if waits == RELEASED and plain:
                                continue
                        place += self._run_in_python(client, room, turn, batch, place, plain)
                        if client.halted:
                            halted = True
                            break
                        plain = self._look(client, turn)
                    commands += batch.count
                    if not halted and client.fetched:
                        client.fetched = max(0, client.fetched - <int64_t>batch.count)
                    if halted and not client.closing and place < batch.count:
                        held_back = [_argv(batch, &batch.requests[at]) for at in range(place, batch.count)]
                        client.backlog = held_back + client.backlog
                        client.has_heavy_backlog = weighs
                    batch_reset(batch)
                if parser.c.faulty or not may_be_more:
                    break
                if commands >= COMMANDS_PER_TURN:
                    break
        finally:
            if weighs:
                self._engine.slowness.weigh(False)
            self.running = outer
            batch_reset(batch)
            parser_keep(&parser.c)
            parser._more = may_be_more or parser.c.faulty
            if client.halted:
                client.halted = False
            if not is_held:
                client.fetched = 0
            # One that is closing stays as it is: there is nothing more to do for it.
            if not (client.more and client.closing):
                client.more = may_be_more or halted
        if last is not NULL and <PyObject *>client.command is not <PyObject *>last.row:
            client.command = <object>last.row
        if not kernel.observing:
            turn.started = clock_now(&kernel.clock)
        elapsed_ns = clock_elapsed_ns(&kernel.clock, turn.begun, turn.started)
        client.last_ns = turn.begun_ns + elapsed_ns
        if elapsed_ns > self.turn_max_ns:
            self.turn_max_ns = elapsed_ns
            self._engine.loop.turn_max_ns = elapsed_ns
        if commands >= FULL_TURN and client.more:
            self._engine.note_full_turn(client, elapsed_ns)
        turn.keyspace.stats.bytes_out += room.output.bytes
        reply = room.take()
        if parser.c.faulty and not halted:
            reply += self._refuse(client, ProtocolError(_fault(&parser.c)))
        return reply

    cdef int _hold(self, ClientState client, turn *turn, batch *batch, size_t place) except -1:
        """Whether a client has to wait before a request runs, for keys that only the store has: HELD.

        RELEASED: it need not, for these keys are known now, so that an operation may run that could not before.
        """
        cdef const request *request = &batch.requests[place]
        cdef const command *command = request.command
        cdef size_t at
        if command is NULL or <int64_t>place < client.fetched or request.argc < command.argc_min:
            return 0
        if not client.gated and (
            not command.declares_keys
            or (
                command.first_key
                and keys_are_known(turn.keyspace, command, batch.arguments + request.first, request.argc)
            )
        ):
            return 0
        if command.first_key and not client.gated:
            if self._hold_for_places(client, turn, batch, place):
                return HELD
        elif self._engine.cache.hold(
            client, [_argv(batch, &batch.requests[at]) for at in range(place, batch.count)]
        ):
            return HELD
        if (
            command.operation is not NULL
            and not client.gated
            and keys_are_known(turn.keyspace, command, batch.arguments + request.first, request.argc)
        ):
            return RELEASED
        return 0

    cdef bint _hold_for_places(self, ClientState client, turn *turn, batch *batch, size_t place) except -1:
        """Cache.hold(), for the keys whose places are known without Python."""
        cdef const request *request
        cdef const command *command
        cdef const argument *argv
        cdef int64_t at, last
        cdef key key
        cdef uint64_t asked_by, number = 0, last_number = 0
        cdef Keyspace keyspace = client.db
        cdef Py_ssize_t asked = 0
        cdef size_t first = place
        cdef size_t following = batch.count
        cdef list places = None
        cache = self._engine.cache
        if not cache.may_hold(client):
            return False
        for place in range(first, batch.count):
            request = &batch.requests[place]
            command = request.command
            if command is NULL or command.first_key == 0 or request.argc < command.argc_min:
                continue
            argv = batch.arguments + request.first
            if is_blind(command, argv, request.argc) and not turn.keyspace.tells_ends:
                continue
            last = <int64_t>request.argc + command.last_key if command.last_key < 0 else command.last_key
            at = command.first_key
            while at <= last and at < <int64_t>request.argc:
                if argv[at].bytes <= KEY_BYTES_MAX:
                    key = key_of(self.c, argv[at].data, argv[at].bytes)
                    asked_by = keyspace_asked_by(turn.keyspace, &key)
                    if asked_by == KNOWN:
                        pass
                    elif asked_by:
                        last_number = max(last_number, asked_by)
                    elif command.writes and cache.is_absent(
                        keyspace.store_id, PyBytes_FromStringAndSize(key.data, key.bytes)
                    ):
                        keyspace_absent(turn.keyspace, &key)
                    else:
                        if places is None:
                            number, places = cache.join(keyspace.store_id)
                        keyspace_await(turn.keyspace, &key, number)
                        (<list?>places[keyspace._indexes_by_run[key.slot >> RUN_BITS]]).append(
                            _place(keyspace.store_id, &key))
                        last_number = number
                        asked += 1
                at += command.key_step
            if asked > AHEAD_MAX:
                following = place + 1
                break
        if not last_number:
            return False
        return cache.park(client, last_number, following - first)

    cdef bint _look(self, ClientState client, turn *turn) except -1:
        """See in what state a client is; returns whether its requests may be answered here."""
        cdef Keyspace db = client.db
        turn.keyspace = &db.c
        turn.database = db.index
        if self.c.audit.words is not NULL:
            if client.identity is None:
                self._engine.audit.identify(client)
            turn.identity = PyBytes_AS_STRING(client.identity)
            turn.identity_bytes = PyBytes_GET_SIZE(client.identity)
        else:
            turn.identity_bytes = 0
        turn.bulk_max = (<Parser?>client.parser).c.bulk_max
        encode = client.encode
        if encode is encode2:
            turn.protocol = 2
        elif encode is encode3:
            turn.protocol = 3
        else:
            return False  # replies are muted
        return not self.aside and not client.gated

    cdef int _run_in_python(self, ClientState client, _Room room, turn *turn, batch *batch, size_t place, bint plain) except -1:
        """Run one request by its handler, or by the reference if it needs a closer look; returns 0 if it was parked."""
        cdef kernel *kernel = self.c
        cdef const request *request = &batch.requests[place]
        cdef const command *command = request.command
        cdef const argument *argv = batch.arguments + request.first
        cdef size_t mark = room.output.bytes
        words = _argv(batch, request)
        cdef int64_t elapsed_ns
        cdef bint is_journaled = kernel.journal.on
        kernel.now_ms = 0
        if command is not NULL:
            kernel.running = command
        if plain and command is not NULL and command.audited and audit_blocks(kernel):
            self._engine.audit.hold()
            plain = False
        if not kernel.observing:
            turn.started = clock_now(&kernel.clock)
        if (
            not plain
            or command is NULL
            or (command.is_container and request.argc > 1)
            or request.argc < command.argc_min
            or request.argc > command.argc_max
            or (command.denyoom and kernel.maxmemory > 0 and kernel_memory_bytes(kernel) > <int64_t>kernel.maxmemory)
        ):
            out = []
            # When the one before it ended, by the clock that call() reads.
            elapsed_ns = clock_elapsed_ns(&kernel.clock, turn.started, clock_now(&kernel.clock))
            self._engine.now_ns = clock_monotonic_ns(&kernel.clock) - elapsed_ns
            # Sampled there, by another count.
            self._call_sampled(client, [words], out)
            kernel.interrupted = False  # it has run the errands
            turn.started = clock_now(&kernel.clock)
            for data in out:
                output_append(&room.output, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            return 1 if out or not client.parked else 0
        row = <object>command.row
        client.command = row
        if command.lengthy:
            board_begin(kernel, turn, command, argv, request.argc)
        journal = self._engine.journal if is_journaled else None
        changes = journal.enter() if is_journaled else 0
        try:
            reply = row.handler(client, words)
            if is_journaled:
                journal, journaling = None, journal
                journaling.settle(client, row, words, changes)
            self._encode(client, reply, &room.output)
            if room.output.failed:
                raise MemoryError
        except Exception as error:
            if journal is not None:
                journal.leave()
            room.output.bytes = mark
            self._fail(client, room, turn, batch, place, error)
        else:
            # The handler may have chosen another database, whose shard is then charged, as in the reference.
            turn.keyspace = &(<Keyspace?>client.db).c
            turn.database = (<Keyspace>client.db).index
            if settle(kernel, turn, command, argv, request.argc, room.output.bytes - mark):
                if kernel.is_traced:
                    self._tell_traced()
                self._engine.slowness.note(client, row, words, turn.elapsed_ns, room.output.bytes - mark)
                turn.started = clock_now(&kernel.clock)
            if kernel.unnamed.weight:
                self._note_unnamed(client, row, words)
            if kernel.notes_unnamed:
                kernel.notes_unnamed = False
                self._service.name(self._first_key(row, words))
        if command.lengthy:
            board_end(kernel)
        if command.audited:
            self._engine.audit.note(client, row, words, room.output.data[mark : min(room.output.bytes, mark + 32)])
        if kernel.interrupted:
            self._settle_errands(client, room)
        return 1

    cdef int _tell_traced(self) except -1:
        """The request that was settled last was chosen to be traced, and is about to be noted."""
        self.c.is_traced = False
        self._engine.tracing.is_due = True
        return 0

    cdef int _settle_errands(self, ClientState client, _Room room) except -1:
        """Run what the command has left to do; what was pushed to its client goes behind its reply."""
        self.c.interrupted = False
        cdef bytes pushed = self._run_errands(client)
        if pushed:
            output_append(&room.output, PyBytes_AS_STRING(pushed), PyBytes_GET_SIZE(pushed))
            if room.output.failed:
                raise MemoryError
        return 0

    cdef int _fail(self, ClientState client, _Room room, turn *turn, batch *batch, size_t place, error) except -1:
        """Answer a request whose running raised an error, or ended in one, and settle it."""
        cdef const request *request = &batch.requests[place]
        client.command = <object>request.command.row
        data = self._failed(client, client.command, error, _argv(batch, request))
        room.output.failed = False
        output_append(&room.output, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        if room.output.failed:
            raise MemoryError
        turn.keyspace = &(<Keyspace?>client.db).c
        turn.database = (<Keyspace>client.db).index
        cdef const argument *argv = batch.arguments + request.first
        if settle(self.c, turn, request.command, argv, request.argc, len(data)):
            _note(turn, request.command, argv, request.argc, len(data))
            turn.started = clock_now(&self.c.clock)
        self.c.unnamed.weight = 0
        return 0

    cdef int _note_unnamed(self, ClientState client, row, list words) except -1:
        """Record a request for hot keys whose keys the kernel cannot tell."""
        cdef hot_access *access = &self.c.unnamed
        weight, access.weight = access.weight, 0
        self._note_access(client, row, words, weight, access.cpu_ns, access.net_bytes)
        return 0

    cdef int _encode(self, ClientState client, reply, output *output) except -1:
        encode = client.encode  # only now: HELLO may have changed it
        if encode is encode2:
            _encode_reply(reply, 2, output)
        elif encode is encode3:
            _encode_reply(reply, 3, output)
        else:
            data = encode(reply)
            output_append(output, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return 0


cdef void _note(turn *turn, const command *command, const argument *argv, size_t argc, size_t reply_bytes) noexcept:
    """kora.engine.slowness.Slowness.note(), for a request whose words are not Python's."""
    cdef Kernel kernel = <Kernel>turn.owner
    cdef size_t place
    # `*3`, and for each word `$5` and itself, with line ends.
    cdef size_t request_bytes = _digits(argc) + 3
    cdef list words = []
    row = <object>command.row
    if kernel.c.is_traced:
        kernel._tell_traced()
    for place in range(argc):
        request_bytes += argv[place].bytes + _digits(argv[place].bytes) + 5
        if place < WORDS_MAX:
            words.append(_cut_word(kernel, turn, argv, place))
    key = b""
    if 0 < command.first_key < argc:
        place = command.first_key
        key = PyBytes_FromStringAndSize(argv[place].data, min(argv[place].bytes, <size_t>WORD_BYTES_MAX))
    kernel._engine.slowness.note_cut(
        <object>turn.client, row, words, argc, key, turn.elapsed_ns, request_bytes, reply_bytes
    )


cdef size_t _digits(size_t number) noexcept:
    cdef size_t digits = 1
    while number > 9:
        number //= 10
        digits += 1
    return digits


cdef bytes _cut_word(Kernel kernel, turn *turn, const argument *argv, size_t place):
    """kora.observe.commandlog.cut_word()."""
    cdef const argument *word = &argv[place]
    cdef size_t shown = min(word.bytes, <size_t>WORD_BYTES_MAX)
    if word.block_capacity == BLOCK_TAKEN and not (
        _is_value_of(kernel, turn, &argv[place - 1], word) or _is_value_of(kernel, turn, &argv[1], word)
    ):
        # It became the value of a key that was overwritten at once: MSET of the same key twice.
        shown = 0
    text = PyBytes_FromStringAndSize(word.data, shown) if shown else b""
    return b"%b... (%d more bytes)" % (text, word.bytes - shown) if shown < word.bytes else text


cdef bint _is_value_of(Kernel kernel, turn *turn, const argument *name, const argument *word) noexcept:
    """Whether a word whose block was taken is the value that a key has now."""
    cdef char digits[32]
    cdef key key
    if name.block_capacity == BLOCK_TAKEN:
        return False
    key = key_of(kernel.c, name.data, name.bytes)
    cdef entry *entry = keyspace_peek(turn.keyspace, &key)
    if entry is NULL or entry.kind == OBJECT:
        return False
    return entry_string(entry, digits).data == word.data


cdef int _encode_reply(object reply, int protocol, output *output) except -1:
    """kora.resp.reply.encode2() and encode3(), for the kinds of replies that are frequent."""
    cdef bytes data
    cdef const char *text
    cdef Py_ssize_t text_bytes
    kind = type(reply)
    if kind is bytes:
        output_bulk(output, PyBytes_AS_STRING(reply), PyBytes_GET_SIZE(reply))
    elif kind is Simple:
        data = reply.encoded
        output_append(output, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    elif kind is int and INT64_MIN <= reply <= INT64_MAX:
        output_integer(output, reply)
    elif reply is None:
        output_null(output, protocol)
    elif kind is list or kind is tuple:
        output_header(output, b'*', len(reply))
        for item in reply:
            _encode_reply(item, protocol, output)
    elif kind is dict:
        output_header(output, b'%' if protocol == 3 else b'*', len(reply) if protocol == 3 else 2 * len(reply))
        for item, value in reply.items():
            _encode_reply(item, protocol, output)
            _encode_reply(value, protocol, output)
    elif kind is str and reply.isascii():
        text = PyUnicode_AsUTF8AndSize(reply, &text_bytes)
        output_bulk(output, text, text_bytes)
    else:
        data = encode3(reply) if protocol == 3 else encode2(reply)
        output_append(output, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return 0
