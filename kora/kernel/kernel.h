/* The kernel: Kora's compiled hot path.  This page is the one to read first.
 *
 * WHAT IT IS.  The Python under kora/engine, kora/store and kora/commands is the reference: complete, and always
 * tested.  The kernel answers a request only where it does exactly what the reference does, and hands everything else
 * to it.  It is written in C where a nanosecond counts (the *.c files, which know nothing of Python and are tested and
 * fuzzed without it), and in Cython where it meets Python (_kernel.pyx).
 *
 *   kernel.c    includes the others: one unit for the compiler
 *   text.c      numbers and words as they come over the wire
 *   pack.c      byte strings in one block, for small values
 *   hash.c      the keyed hash of tables and sketches, and the hash slot of a key
 *   parser.c    bytes to requests
 *   table.c     entries, tables, databases
 *   members.c   the hash table of a large value's members
 *   type_hash.c, type_set.c, type_list.c, type_sorted_set.c, type_stream.c
 *               the types of values that are no strings, one a file, and their commands
 *   bits.c      commands on strings as rows of bits
 *   stats.c     clocks, histograms, hot keys
 *   spans.c     requests that are traced
 *   rdb.c       the checksum of Redis' dumps, and the compression of strings in them
 *   tally.c     what was tracked, until it is written into streams
 *   journal.c   what changes, on its way to the journal
 *   audit.c     who has asked for what, on its way to the audit log
 *   load.c      records of a snapshot, straight into a database
 *   profile.c   samples of what the processor is busy with
 *   backing.c   databases of which a part is in memory
 *   save.c      snapshots: keys and values as Redis' RDB files have them
 *   execute.c   the batch executor and the commands that it knows
 *
 * THE WAY OF A READ.  Receiver.receive() of _kernel.pyx is what the event loop calls; Kernel.execute() gives the bytes to
 * the client's parser, batch_prepare() and batch_run() do what is said below, and a request that is not for them runs in
 * Python: by its handler, or by call() of the reference if it needs a closer look.  One write per read.
 *
 * WHAT IT OWNS.  Every key and every string; of other types it holds a reference to the Python object.  One struct
 * kernel belongs to one engine; nothing is shared between engines, and nothing is global but which of them is sampled,
 * since a process has one handler for a signal (profile.c).  Each block of memory has one
 * owner, named beside the pointer's declaration below.  All of it runs on the loop's thread, under the interpreter
 * lock: there are no locks here.
 *
 * A DATABASE is a directory of 16384 tables, one for each hash slot of Redis Cluster.  A TABLE is an array of 64-bit
 * buckets, a power of two of them, with linear probing and at most 7/8 in use:
 *
 *      63            48 47                                  1  0
 *     +----------------+-------------------------------------+---+
 *     | tag: 16 bits   | address of the entry                | V |      0: an empty bucket
 *     | of the hash    |                                     |   |      V: the key has a deadline
 *     +----------------+-------------------------------------+---+
 *
 * A key's place is the low bits of its tag, so that growing, shrinking and deleting (which shifts back what follows;
 * there are no tombstones) look at buckets only and never at entries.  The other bits of the tag keep nearly all
 * look-ups of absent keys from touching an entry.  V lets the expire cycle walk past keys that do not end.
 *
 * Hash tags can put millions of keys into one slot.  A table that outgrows 1024 buckets becomes a SPLIT: a directory
 * of tables by further bits of the hash, each of which splits in two when it is full (extendible hashing).  So growth
 * never moves more than 896 keys at once, and a step of SCAN, of the expire cycle or of lazy freeing is a table.
 *
 * AN ENTRY is one allocation: a header of 16 bytes, the deadline if there is one, then what the kind of value needs,
 * then the key, and for strings the value behind it.
 *
 *     header | deadline_ms? | STRING:  -                              | key | value
 *                           | INTEGER: int64_t                        | key
 *                           | LARGE:   pointer, length, capacity      | key        strings from LARGE_BYTES_MIN on
 *                           | OBJECT:  PyObject *                     | key        a value of any other type
 *
 * HASHES AND SETS are structs inside Python objects (hashes.pxi), so that commands which run in Python have them as
 * objects, and operations as structs, without a call or a copy between the two.
 *
 *   - Small ones are a PACK: one block with all strings, a length on both sides of each (pack.c).  Two bytes beside each
 *     string, and one wait for memory.  What is in it is found by walking; the limits of Redis' listpacks hold for it,
 *     and keep the walk short.  Sets of integers are a sorted array instead, of 2, 4 or 8 bytes each, as Redis' intset.
 *   - Large ones are MEMBERS: a hash table whose nodes are also an array without gaps (members.c).  So a random member is
 *     one index away, which SPOP wants; SCAN walks the array backwards and misses nothing, since removing a member only
 *     moves others forward; and with linear hashing there is never a pause for a larger table, nor a second table beside
 *     the first while one grows.  A member is one block; the value of a hash's field stands behind its name in it, which
 *     is what makes a field take half of what it takes in Redis, with its three blocks.
 *
 * What is rare is left to Python: deadlines of fields are in the object, and operations step aside for a hash with any.
 *
 * A SNAPSHOT is the data at one moment, written while commands go on, without a copy of anything.  An entry carries the
 * number of a snapshot, its EPOCH: of the last that has it.  A snapshot begins with a new
 * number, which makes all entries unsaved at once; new ones are born with it, so that they are not in it.  A walk over
 * all tables writes what is unsaved, and who is about to change, move or remove an unsaved entry has it written before
 * (preserve()).  Where contents are, they tell which database they were then: SWAPDB takes that along, and what FLUSHDB
 * takes away is walked before it is freed.
 *
 * The hash is keyed (SipHash) with a secret of the process, since whoever can choose keys must not be able to choose
 * collisions.  Memory is counted exactly, as what the allocator has set aside for each block.
 *
 * WHY A BATCH IS PREFETCHED.  A look-up in a table that is larger than the processor's caches waits for memory three
 * times: for the directory's place, the bucket, the entry.  40 % of a straightforward executor's time were such waits.
 * So what was read is first parsed into a batch of requests, whose slots and hashes are worked out and whose directory
 * places, then buckets, then entries are requested from memory, one round after another, and only then is the batch
 * executed: the waits of its requests overlap.  Nothing is remembered of a round but hash and slot: a command of the
 * batch may change any table before the next one runs.
 *
 * WHAT IT MUST NEVER DO.
 *   - Answer with an error.  A command that meets anything unusual (a wrong type, a bad number, an unknown option) has
 *     changed and counted nothing yet, returns BAIL, and the reference runs it: all error texts are in kora/errors.py.
 *   - Do less than the reference: what a feature needs and the kernel does not know, it steps aside for (ASIDE).
 *   - Trust a length from the wire before it was checked, or allocate for one that was merely announced.
 *   - Keep a pointer into a table, or into a client's input, across a command that runs in Python.
 */
#ifndef KORA_KERNEL_H
#define KORA_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#define SLOTS 16384
#define RUN_BITS 6 /* shards begin and end between runs of 64 slots (kora/store/shard.py) */

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define PREFETCH(address) __builtin_prefetch(address)

/* Bytes that somebody else owns. */
struct text {
    const char *data;
    size_t bytes;
};

/* memcmp() == 0, without the call: keys and members are short. */
static inline bool is_same(const char *first, const char *second, size_t bytes)
{
    uint64_t one, other;
    if (LIKELY(bytes >= 8)) {
        for (size_t at = 0; at + 8 < bytes; at += 8) {
            memcpy(&one, first + at, 8);
            memcpy(&other, second + at, 8);
            if (one != other)
                return false;
        }
        /* The last eight, some of them a second time. */
        memcpy(&one, first + bytes - 8, 8);
        memcpy(&other, second + bytes - 8, 8);
        return one == other;
    }
    for (size_t at = 0; at < bytes; at++)
        if (first[at] != second[at])
            return false;
    return true;
}

/* --- Memory (table.c) ---
 *
 * Like malloc and its relatives, but they end the process where there is no memory, as CPython's and Redis' do on their
 * own data: a half-changed table would be worse. */
void *allocate(size_t bytes);
void *allocate_zeroed(size_t bytes);
void *reallocate(void *block, size_t bytes);
/* What the allocator has set aside for a block, its own header included; 0 for NULL. */
size_t block_bytes(const void *block);
/* Have the process' allocator keep up to 64 MB of what was freed, where it would give blocks of 128 KB and more back to
 * the system at once: a megabyte that is asked for anew takes 256 page faults, as long as sending it.  And have small
 * blocks joined with their neighbours as they are freed: put off, it was done for a million of them at once, in 40 ms. */
void keep_freed_memory(void);

/* --- Packs (pack.c) --- */

/* A string with its length in front: seven bits to a byte, the least significant first, and every byte but the last has
 * its high bit set.  One byte for strings below 128. */
static inline size_t length_bytes(size_t length)
{
    size_t bytes = 1;
    for (; UNLIKELY(length >= 0x80); length >>= 7)
        bytes++;
    return bytes;
}

/* The string at an address. */
static inline struct text read_string(const char *data)
{
    const unsigned char *at = (const unsigned char *)data;
    size_t length = *at & 0x7F;
    for (unsigned shift = 7; UNLIKELY(*at & 0x80); shift += 7)
        length |= (size_t)(*++at & 0x7F) << shift;
    return (struct text){(const char *)at + 1, length};
}

/* Returns where it ends.  Writes length_bytes(text.bytes) + text.bytes. */
static inline char *write_string(char *target, struct text text)
{
    size_t length = text.bytes;
    for (; UNLIKELY(length >= 0x80); length >>= 7)
        *target++ = (char)(length | 0x80);
    *target++ = (char)length;
    memcpy(target, text.data, text.bytes);
    return target + text.bytes;
}

/* Byte strings, one after the other in one block: what small values are made of.  A place is an offset in bytes, good
 * until the pack changes.  An empty pack, which is all zero bytes, has no block; pack_delete() makes one if nothing is
 * left.  The owner sees to it that a pack stays far below 2 GB, counts block_bytes(pack->data) as its memory, and hands
 * in no text that is in the same pack. */
struct pack {
    char *data; /* owned */
    uint32_t bytes;
    uint32_t capacity;
    uint32_t count;
    uint32_t note; /* the owner's; 0 again once the pack is empty */
};

#define PACK_END SIZE_MAX

size_t pack_first(const struct pack *pack);
size_t pack_last(const struct pack *pack);
size_t pack_next(const struct pack *pack, size_t at);
size_t pack_previous(const struct pack *pack, size_t at); /* of PACK_END: the last */
size_t pack_seek(const struct pack *pack, size_t index);
/* Good until the pack changes. */
struct text pack_get(const struct pack *pack, size_t at);
/* The first place from `at` on (which may be PACK_END) where that string is, looking at each step-th only. */
size_t pack_find(const struct pack *pack, size_t at, struct text text, unsigned step);
/* In front of a place, or at the end. */
void pack_insert(struct pack *pack, size_t at, struct text text);
/* That many from a place on, as far as there are so many; returns the place of what follows. */
size_t pack_delete(struct pack *pack, size_t at, size_t count);
void pack_replace(struct pack *pack, size_t at, struct text text);
void pack_free(struct pack *pack);
struct pack pack_copy(const struct pack *pack);
/* What is wrong with it, or NULL: for tests. */
const char *pack_audit(const struct pack *pack);

/* --- Numbers and words (text.c) --- */

#define INTEGER_BYTES_MAX 20 /* -9223372036854775808, 18446744073709551615 */

/* A 64-bit integer as strictly as Redis' string2ll reads it: no +, no leading zeros, no spaces. */
bool parse_integer(const char *data, size_t bytes, int64_t *value);
/* Writes at most INTEGER_BYTES_MAX bytes, no NUL; returns how many. */
size_t format_integer(char *target, int64_t value);
size_t format_unsigned(char *target, uint64_t value);
size_t integer_bytes(int64_t value); /* what format_integer() would write */
/* Whether some bytes are this word of capital letters, in whatever case. */
bool is_word(struct text given, const char *word);

/* --- Hashes (hash.c) --- */

/* SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast short-input PRF"; rounds as in CPython's hash of bytes). */
uint64_t keyed_hash(const uint64_t secret[2], const char *data, size_t bytes);
/* CRC-16/XMODEM of the key or of its {tag}, & 16383: Redis Cluster specification, "Hash tags". */
unsigned slot_of(const char *key, size_t bytes);
/* CRC-32 as zlib has it. */
uint32_t crc32_of(const char *data, size_t bytes);

/* --- Values that are no strings ---
 *
 * They are Python objects.  Those of the kernel's own classes hold a struct right behind the object's head, so that
 * operations work on it without a call; it begins with a struct value. */

enum object_kind {
    NO_OBJECT, /* a string */
    OTHER_OBJECT,
    HASH_OBJECT,
    SET_OBJECT,
    LIST_OBJECT,
    SORTED_SET_OBJECT,
    STREAM_OBJECT,
    OBJECT_KINDS
};

/* Up to where values stay in their compact form (kora/types/limits.py), and what else all values of a kernel share. */
struct limits {
    size_t references; /* the kernel's own, and one for each value: a value may outlive the kernel */
    uint64_t secret[2];
    uint64_t random; /* state of the generator: see next_random() */
    uint32_t hash_entries;
    uint32_t hash_value;
    uint32_t set_intset_entries;
    uint32_t set_entries;
    uint32_t set_value;
    uint32_t zset_entries;
    uint32_t zset_value;
    int32_t list_size;
    int64_t stream_node_bytes;   /* 0: no limit */
    int64_t stream_node_entries; /* 0: no limit */
};

struct limits *limits_share(struct limits *limits);
void limits_release(struct limits *limits);
uint64_t next_random(uint64_t *state); /* SplitMix64: nothing that has to be secret */

struct value {
    struct limits *limits; /* shared */
    int64_t bytes;         /* of the blocks that it owns beside the object itself */
    int64_t counted;       /* what the keyspace has counted for it, the object included */
};

/* Where the struct stands in the object: behind its reference count and its type. */
#define VALUE_OFFSET (2 * sizeof(void *))

/* A pack's offsets have 32 bits; Redis, too, makes none that is larger (LISTPACK_MAX_SAFETY_LIMIT, listpack.c). */
#define PACK_BYTES_MAX (1u << 30)

/* --- Members of large values (members.c) --- */

/* A member is a block of memory: what its owner wants in front (`ahead` bytes, the same for all), its name with the
 * length in front of it, and whatever the owner has behind that. */
struct node {
    char *block;   /* owned */
    uint32_t hash; /* the low half */
    uint32_t next; /* in its chain: the index of a node and 1, or 0 at the end */
};

/* An array that is never moved as a whole: parts of equal size, of which the first grows to that by and by. */
struct segments {
    void **parts; /* owned, as is each part */
    uint32_t parts_count;
    uint32_t room; /* items there is room for */
};

struct members {
    struct segments nodes; /* struct node; those below count are in use */
    struct segments heads; /* uint32_t: the first node of each chain and 1, or 0; those below `chains` are in use */
    uint32_t count;
    uint32_t chains;
    uint32_t ahead;
};

#define NO_MEMBER UINT32_MAX
#define NODES_BITS 9 /* parts of 8 KB, of both arrays: what is added, and cleared, at a time */
#define HEADS_BITS 11

/* `bytes` is the owner's count of its blocks, here and below. */
struct members *members_make(uint32_t ahead, int64_t *bytes);
void members_free(struct members *members);
struct members *members_copy(const struct members *members, int64_t *bytes);
/* The node of a name, or NO_MEMBER; `hash` is keyed_hash() of it. */
uint32_t members_find(const struct members *members, uint64_t hash, struct text name);
/* Add one that is not there yet, as the last; takes over the block. */
void members_add(struct members *members, uint64_t hash, char *block, int64_t *bytes);
/* The last takes the place of the one that goes. */
void members_remove(struct members *members, uint32_t index, int64_t *bytes);

static inline struct node *members_node(const struct members *members, uint32_t index)
{
    return (struct node *)members->nodes.parts[index >> NODES_BITS] + (index & ((1u << NODES_BITS) - 1));
}

static inline struct text members_name(const struct members *members, uint32_t index)
{
    return read_string(members_node(members, index)->block + members->ahead);
}

static inline uint64_t member_hash(const struct value *value, struct text name)
{
    return keyed_hash(value->limits->secret, name.data, name.bytes);
}

/* How many nodes a scan has left, the first ones: all of them where it starts, with a cursor of 0. */
static inline uint32_t members_left(const struct members *members, uint64_t cursor)
{
    return cursor == 0 || cursor > members->count ? members->count : (uint32_t)cursor;
}

/* The last of those, or NO_MEMBER. */
static inline uint32_t members_scan(const struct members *members, uint64_t cursor)
{
    return members_left(members, cursor) - 1;
}

const char *members_audit(const struct members *members, const uint64_t secret[2], int64_t *bytes);

struct argument;

/* --- Hashes (type_hash.c) --- */

struct hash_value {
    struct value value;
    union {
        struct pack pack;      /* field, value, field, value, …; owned */
        struct members *table; /* owned; a field's value stands behind its name, with its length in front */
    };
    bool is_table;
    bool is_timed;        /* has had a field with a deadline */
    uint32_t timed_count; /* fields that have one now: what only Python knows to deal with, which keeps them */
};

uint32_t hash_count(const struct hash_value *hash);
/* Texts are good until the hash changes. */
bool hash_get(const struct hash_value *hash, struct text field, struct text *value);
bool hash_set(struct hash_value *hash, struct text field, struct text value); /* whether the field is new */
bool hash_delete(struct hash_value *hash, struct text field);
/* Walk over all fields: *place is 0 at first; false at the end. */
bool hash_next(const struct hash_value *hash, size_t *place, struct text *field, struct text *value);
void hash_random(struct hash_value *hash, struct text *field, struct text *value); /* it has fields */
uint32_t hash_shed(struct hash_value *hash, uint32_t count);
void hash_copy(const struct hash_value *hash, struct hash_value *copy); /* which is new, and has its limits */
void hash_free(struct hash_value *hash);                                /* what it owns */
const char *hash_audit(const struct hash_value *hash, int64_t bytes_beside);

/* --- Sets (type_set.c) --- */

enum set_form { SET_INTEGERS, SET_PACK, SET_TABLE }; /* 0 is what a new one has */

/* Integers in ascending order, all of them in as many bytes as the largest needs: 2, 4 or 8. */
struct integers {
    char *data; /* owned */
    uint32_t count;
    uint32_t capacity;
    uint32_t width;
    uint32_t form; /* SET_INTEGERS */
};

struct set_value {
    struct value value;
    union {
        struct integers integers;
        struct pack pack;
        struct {
            struct members *table; /* owned */
            uint32_t unused[3];
            /* The enum set_form, in all three at the same place: with a byte behind the union, each set's object would be
             * 16 bytes larger.  Emptied, a pack is no pack any more but no integers, as is a new set. */
            uint32_t form;
        };
    };
};

uint32_t set_count(const struct set_value *set);
bool set_has(const struct set_value *set, struct text member);
bool set_add(struct set_value *set, struct text member); /* whether it is new */
bool set_remove(struct set_value *set, struct text member);
/* Walk over all members: *place is 0 at first; false at the end.  `digits` has room for one that is an integer. */
bool set_next(const struct set_value *set, size_t *place, char digits[INTEGER_BYTES_MAX], struct text *member);
/* A place for set_at() and set_remove_at(); the set has members. */
size_t set_random(struct set_value *set);
struct text set_at(const struct set_value *set, size_t place, char digits[INTEGER_BYTES_MAX]);
void set_remove_at(struct set_value *set, size_t place);
uint32_t set_shed(struct set_value *set, uint32_t count);
void set_copy(const struct set_value *set, struct set_value *copy); /* which is new, and has its limits */
void set_free(struct set_value *set);                               /* what it owns */
const char *set_audit(const struct set_value *set);

/* --- Lists (type_list.c) ---
 *
 * A small list is one pack.  A big one is a deque of packs, its NODES, each of as many items as list-max-listpack-size
 * allows, 8 KB of them by default: so an item costs two bytes beside its own, and pushing or popping moves 8 KB at most.
 * An item that is larger than that has a node of its own.  Nodes stand in CHUNKS of up to 128, and those in an array.
 *
 *     chain     | chunk, items | chunk, items | …              free places at both ends
 *     chunk     | pack | pack | …                              free places at both ends
 *
 * What is at an index is found by adding up counts, of chunks and then of the nodes in one, and by walking one pack from
 * its nearer end.  A million items of 10 bytes are in 12 chunks, a million of 10 KB in 8000: some thousand additions at
 * worst, of numbers that stand side by side.  Not a tree: pushing and popping at the ends is what a list is for, and
 * here they never look at anything but the last chunk's last node.
 *
 * OBJECT ENCODING tells whether a list would be one listpack in Redis, and that goes by the bytes a listpack has.  So
 * each pack's note is what its items would take in one. */

struct chain;

#define LIST_IS_BIG UINT32_MAX

struct list {
    struct value value;
    union {
        struct pack pack; /* owned; its note is what its items would take in a listpack */
        struct {
            struct chain *chain; /* owned */
            uint32_t unused[3];
            uint32_t form; /* LIST_IS_BIG; else a pack's note, which is never so much */
        };
    };
};

void list_free(struct list *list);
void list_copy(struct list *copy, const struct list *list); /* into a new one, which has its limits */
size_t list_count(const struct list *list);
bool list_is_small(const struct list *list);
size_t list_effort(const struct list *list);
void list_push(struct list *list, bool at_end, struct text item);
/* The first or last item of a list that is not empty; good until the list changes. */
struct text list_end(const struct list *list, bool at_end);
void list_pop(struct list *list, bool at_end);
struct text list_get(const struct list *list, size_t index);
void list_set(struct list *list, size_t index, struct text item);
void list_insert(struct list *list, size_t index, struct text item);
void list_delete(struct list *list, size_t index, size_t count);
/* Remove what equals an item, at most so many; returns how many. */
size_t list_remove(struct list *list, struct text item, bool from_end, size_t count_max);
size_t list_shed(struct list *list, size_t count); /* at the end, whole nodes; returns how many */
const char *list_audit(const struct list *list);

/* Where a walk is.  `node` is NULL once it is over. */
struct list_walk {
    const struct list *list;
    const struct pack *node;
    uint32_t span, place; /* of the node: its chunk, and its place there */
    size_t at;            /* in the node */
};

struct list_walk list_walk(const struct list *list, size_t index);
struct text list_here(const struct list_walk *walk);
void list_next(struct list_walk *walk);
void list_previous(struct list_walk *walk);

/* --- Sorted sets (type_sorted_set.c) ---
 *
 * A small one is a pack of members and scores by turns, in order of (score, member).  A score stands in it as an integer
 * of 1, 2 or 4 bytes if it is one, or else as the double.
 *
 * A big one has every member, with its score, in a block of its own, and two ways to it:
 *
 *   - a hash table by member, for ZSCORE and for finding out whether ZADD adds;
 *   - a B+tree in order of (score, member), in which a branch knows for each child how many members are below it and
 *     what the first of them is.  So the path to a rank, and the rank of a member, are sums along one path.
 *
 *     branch    | count, score, member of the first, child | …      up to 32
 *     leaf      | score | score | …  | member | member | …          up to 64, linked to the leaves beside it
 *
 * Scores stand in the leaves a second time, since comparing by a pointer is a wait for memory, of which a skip list has
 * twenty on the way to one of a million members.  With leaves two thirds full that is 24 bytes a member; those that are
 * filled in order are left full. */

struct ordered;
struct leaf;

#define SORTED_SET_IS_BIG 1

struct sorted_set {
    struct value value;
    union {
        struct pack pack; /* owned */
        struct {
            struct ordered *ordered; /* owned */
            uint32_t unused[3];
            uint32_t form; /* SORTED_SET_IS_BIG, or a pack's note: 0 */
        };
    };
};

/* A member on a walk by rank; its bytes are good until the sorted set changes. */
struct ranked {
    struct text member;
    double score;
};

struct sorted_set_walk {
    const struct sorted_set *set;
    size_t at;               /* in the pack, or PACK_END */
    const struct leaf *leaf; /* or NULL */
    unsigned place;          /* in it */
};

void sorted_set_free(struct sorted_set *set);
void sorted_set_copy(struct sorted_set *copy, const struct sorted_set *set); /* into a new one, which has its limits */
size_t sorted_set_count(const struct sorted_set *set);
bool sorted_set_is_small(const struct sorted_set *set);
bool sorted_set_score(const struct sorted_set *set, struct text member, double *score);
/* Give a member its score, which is no NaN; tells whether that was its score before. */
enum added { IS_SAME, IS_NEW, IS_MOVED };
enum added sorted_set_add(struct sorted_set *set, struct text member, double score);
bool sorted_set_remove(struct sorted_set *set, struct text member);
/* Returns SIZE_MAX for one that is not in it. */
size_t sorted_set_rank(const struct sorted_set *set, struct text member);
/* How many come before a score or a member; with `inclusive` those that are equal count too. */
size_t sorted_set_scores_below(const struct sorted_set *set, double score, bool inclusive);
size_t sorted_set_members_below(const struct sorted_set *set, struct text member, bool inclusive);
void sorted_set_remove_slice(struct sorted_set *set, size_t start, size_t stop);
/* A walk from a rank; false where it is over. */
struct sorted_set_walk sorted_set_walk(const struct sorted_set *set, size_t rank);
bool sorted_set_here(const struct sorted_set_walk *walk, struct ranked *ranked);
void sorted_set_next(struct sorted_set_walk *walk);
void sorted_set_previous(struct sorted_set_walk *walk);
size_t sorted_set_random(struct sorted_set *set); /* a rank; it has members */
/* Of a big one, for SCAN: as members_left(), and the member at a place. */
uint32_t sorted_set_left(const struct sorted_set *set, uint64_t cursor);
struct ranked sorted_set_scanned(const struct sorted_set *set, uint32_t place);
size_t sorted_set_effort(const struct sorted_set *set);
const char *sorted_set_audit(const struct sorted_set *set);

/* --- Streams (type_stream.c) ---
 *
 * Entries stand in BLOCKS, in the order of their ids, and the blocks in an array with free places in front, where trimming
 * takes them away.  So adding looks at the last block only, and an entry is found by bisection and a walk of one block,
 * which has a hundred entries by default.  A block ends where a node of Redis' would, for that decides what approximate
 * trimming removes; so it counts the bytes that its listpack would have.
 *
 *     block     | pack: names of the first entry | entry | entry | …
 *     entry     | ms since the block's first | number | how many names | name | value | …
 *
 * Where the names are those of the first entry, as they nearly always are, there are 0 of them and values only.  The
 * number is counted from the first's within the same ms, and from 0 after it.
 *
 * Consumer groups are in the Python object (kora/types/stream.py); what they take is counted in value.bytes. */

struct stream_id {
    uint64_t ms, number;
};

struct block {
    struct stream_id first, last; /* as they were added, even if they are deleted by now */
    struct pack pack;             /* owned */
    uint64_t node_bytes;          /* of the listpack that it would be */
    uint32_t names;               /* of its first entry */
    uint32_t deleted;             /* entries: Redis only marks them */
};

struct stream {
    struct value value;
    struct block **blocks; /* owned, as is each block: those from `start` on are in use */
    uint32_t start, count, capacity;
    uint64_t length;
    struct stream_id last_id, max_deleted_id;
    uint64_t entries_added;
};

#define STREAM_NODE_BYTES_MAX (1 << 30) /* STREAM_LISTPACK_MAX_SIZE; no entry has more bytes, either */

/* An entry, good until the stream changes; its words are read one after the other. */
struct stream_entry {
    struct stream_id id;
    size_t words;      /* left: a name, a value, … */
    bool shares_names; /* the next name is read here, or else with the values */
    const char *names, *values;
};

static inline int stream_id_order(struct stream_id one, struct stream_id other)
{
    if (one.ms != other.ms)
        return one.ms < other.ms ? -1 : 1;
    return (one.number > other.number) - (one.number < other.number);
}

/* Append an entry of names and values by turns; the id is greater than the last. */
void stream_add(struct stream *stream, struct stream_id id, const struct argument *words, size_t count);
bool stream_delete(struct stream *stream, struct stream_id id); /* false: there is none */
/* Trim to a length, or to ids from one on; returns how many entries went.  An approximate trim removes whole blocks, and
 * no more entries than the limit, if it is not 0. */
uint64_t stream_keep(struct stream *stream, uint64_t length, bool approximate, uint64_t limit);
uint64_t stream_keep_since(struct stream *stream, struct stream_id id, bool approximate, uint64_t limit);
uint64_t stream_shed(struct stream *stream, uint64_t count);        /* whole blocks, the last first */
void stream_copy(const struct stream *stream, struct stream *copy); /* into a new one, which has its limits */
void stream_free(struct stream *stream);
const char *stream_audit(const struct stream *stream, int64_t bytes_beside);

/* A walk is at an entry, or over. */
struct stream_walk {
    const struct stream *stream;
    uint32_t block; /* its place; `count` once the walk is over */
    size_t at;      /* in the pack */
};

/* At the first entry from an id on, or at the last up to an id. */
struct stream_walk stream_walk_from(const struct stream *stream, struct stream_id id);
struct stream_walk stream_walk_back_from(const struct stream *stream, struct stream_id id);
bool stream_here(const struct stream_walk *walk, struct stream_entry *entry); /* false: it is over */
void stream_next(struct stream_walk *walk);
void stream_previous(struct stream_walk *walk);
struct text stream_word(struct stream_entry *entry); /* the next; there are some left */

static inline struct block *stream_block(const struct stream *stream, uint32_t place)
{
    return stream->blocks[stream->start + place];
}

/* --- Tallies of tracked values (tally.c) --- */

typedef __int128 integer128;

struct tracked;
struct tallies_place;

#define TALLIES_TABLES 64 /* a power of two */

/* Those of one interval, by key. */
struct tallies {
    struct tracked **tallies; /* owned, as is each; in the order in which they came */
    size_t count;
    size_t capacity;
    uint64_t values; /* that were ever added */
    uint64_t secret[2];
    struct tallies_table {
        struct tallies_place *places; /* owned: `capacity` of them, a power of two, or NULL */
        size_t count;
        size_t capacity;
    } tables[TALLIES_TABLES]; /* by the highest bits of the hash */
};

struct tally_numbers {
    uint64_t count;
    int64_t last_ms;
    integer128 sum, min, max, last;
};

void tallies_init(struct tallies *tallies, const uint64_t secret[2]);
void tallies_free(struct tallies *tallies);
struct tracked *tallies_find(struct tallies *tallies, struct text key); /* or NULL */
void tallies_add(struct tallies *tallies, struct text key, integer128 units, int64_t at_ms);
/* Add a tally that somebody else has counted; false: the histogram is none. */
bool tallies_merge(struct tallies *tallies, struct text key, const struct tally_numbers *numbers,
                   struct text histogram);
void tallies_pop(struct tallies *tallies); /* the last; there is one */
struct text tally_key(const struct tracked *tally);
struct tally_numbers tally_numbers(const struct tracked *tally);
struct buffer;
void tally_encode(const struct tracked *tally,
                  struct buffer *buffer); /* its histogram; nothing, if it has one bucket */
bool tally_bucket(const struct tracked *tally, uint32_t place, int64_t *bucket, uint64_t *count); /* false: no more */
/* Cython knows no such integers. */
int64_t high_half(integer128 units);
uint64_t low_half(integer128 units);
integer128 of_halves(int64_t high, uint64_t low);

/* --- Requests (parser.c) --- */

/* Strings of at least so many bytes have a block of their own: the parser collects one that comes in pieces in the
 * block that the entry will hold, so that it is copied once.  PROTO_MBULK_BIG_ARG (server.h) is of the same size. */
#define LARGE_BYTES_MIN 32768

#define LINE_BYTES_MAX (64 * 1024) /* PROTO_INLINE_MAX_SIZE: inline requests, and the length lines of multibulk */
#define MULTIBULK_MAX (1024 * 1024)
#define ATTRIBUTES_MAX 16 /* pairs before one request */
#define ATTRIBUTES_BYTES_MAX 4096
#define UNAUTHENTICATED_MULTIBULK_MAX 10
#define UNAUTHENTICATED_BULK_BYTES_MAX 16384

/* One word of a request.  Its bytes are in the parser's input, good until the next feed, or in a block of their own,
 * which belongs to the argument until somebody takes it and sets `block` to NULL. */
struct argument {
    const char *data;
    size_t bytes;
    char *block;           /* NULL, or where data points to */
    size_t block_capacity; /* BLOCK_TAKEN once the block belongs to an entry: data is only good as long as that is */
};

#define BLOCK_TAKEN SIZE_MAX

/* Where the first word of what is no request points to, but what stood before one (RESP3's attributes): behind it names
 * and values by turns.  The word is empty, so that no command has its name. */
extern const char attributes_mark[1];

struct command;

/* A complete request: argv is batch.arguments + first. */
struct request {
    size_t first;
    size_t argc;
    const struct command *command; /* NULL: unknown, or for the reference to find out */
    uint64_t hash;                 /* of the first key, if the command has one and the kernel knows it */
    unsigned slot;
};

#define BATCH_REQUESTS 64 /* the arguments of so many small requests stay in the first-level cache */

/* What is executed at a time.  batch_reset() frees the blocks of arguments that nobody took. */
struct batch {
    struct request requests[BATCH_REQUESTS];
    size_t count;
    struct argument *arguments; /* owned */
    size_t arguments_count;
    size_t arguments_capacity;
    bool has_blocks; /* some argument came with a block, so that batch_reset() must look */
};

void batch_init(struct batch *batch);
void batch_reset(struct batch *batch); /* for the next use; keeps the room of an ordinary batch */
void batch_free(struct batch *batch);
/* Room for one more request of so many words, which are for the caller to fill in. */
struct argument *batch_take(struct batch *batch, size_t argc);

#define FAULT_BYTES 64

/* One connection's parser.  See parser.c for how it goes about its work. */
struct parser {
    /* The owner's, set whenever they change. */
    bool authenticated; /* until then Redis' tighter limits hold */
    uint64_t bulk_max;  /* proto-max-bulk-len */

    /* The fault that ends the conversation, as Redis words it, without "Protocol error: "; see parser_next(). */
    bool faulty;
    char fault[FAULT_BYTES]; /* NUL-terminated */

    /* Input that is not used up: borrowed from the caller of parser_feed(), or in `buffer`. */
    const char *input;
    size_t input_bytes;
    size_t at;        /* what of it is used up */
    bool is_borrowed; /* parser_keep() has to copy what is left */
    char *buffer;     /* owned; NULL for a client with nothing pending, of whom there may be thousands */
    size_t buffer_capacity;

    /* The unfinished request. */
    bool in_request;
    size_t missing;             /* arguments still to come */
    size_t request_start;       /* its first byte in `input` */
    struct argument *arguments; /* owned: those that are complete; data is an offset from request_start, or a block */
    size_t arguments_count;
    size_t arguments_capacity;
    bool in_bulk;       /* the next argument's length is known, and checked */
    size_t bulk_wanted; /* that length, and the two bytes behind the argument */
    char *block;        /* owned: the argument that is being collected, if it is a large one, or NULL */
    size_t block_bytes; /* collected so far, of bulk_wanted */
    size_t block_capacity;
    size_t blocks_total_bytes; /* of complete large arguments in `arguments`, with the two bytes behind each */
};

void parser_init(struct parser *parser, uint64_t bulk_max);
void parser_free(struct parser *parser);

/* Add input.  The bytes are borrowed until parser_keep(); they must not change or go away before that.  What earlier
 * calls left comes first.  After a fault input is dropped. */
void parser_feed(struct parser *parser, const char *data, size_t bytes);

/* Parse complete requests into the batch, which is empty, at most `requests_max` (1 to BATCH_REQUESTS) of them, and
 * set their first, argc; returns whether there may be more in the input: false once it is used up but for an
 * unfinished request.  Requests that Redis ignores (*0, empty lines) are left out.  Sets parser->faulty at a protocol
 * error; requests in front of the fault are in the batch. */
bool parser_next(struct parser *parser, struct batch *batch, size_t requests_max);

/* The caller's bytes go away: copy what is not used up.  The batch's arguments are invalid after it. */
void parser_keep(struct parser *parser);

/* Bytes fed and not yet part of a request that was given out: Redis' query buffer. */
size_t parser_pending_bytes(const struct parser *parser);

/* --- What is counted (stats.c) --- */

/* Geometry of HdrHistogram, 1 ns to 60 s, 2 significant digits: see kora/observe/histogram.py. */
#define HISTOGRAM_HIGHEST_NS 60000000000ULL
#define HISTOGRAM_SUB_BITS 8
#define HISTOGRAM_HALF 128

struct command_stats {
    uint64_t calls; /* that ran, well or not */
    uint64_t elapsed_ns;
    uint64_t failed;   /* ran and answered with an error */
    uint64_t rejected; /* never ran */
    uint64_t *counts;  /* a histogram of elapsed_ns, as long as its largest value needs; owned unless it is shared, and
                          then NULL before the first */
    uint32_t counts_size;
    bool is_shared; /* counts is a place in the shard's map, and stays there */
};

/* A place in a map that another process reads: as long as the longest histogram, in whole pages. */
#define SHARED_COUNTS_BYTES 32768

#define SKETCH_BITS 14
#define SKETCH_WIDTH (1 << SKETCH_BITS)
#define SKETCH_DEPTH 4
#define HOT_KEYS 1024
#define HOT_NAME_BYTES 96 /* kept of a key; see NAME_BYTES_MAX in hotkeys.py */
/* An access that takes so long, or has so long a reply, is recorded always, and then stands only for itself. */
#define HEAVY_NS_BITS 14
#define HEAVY_BYTES_BITS 16

/* One access to a key, which stands for `weight` of them; the key is the caller's. */
struct hot_access {
    struct key_name {
        const char *data;
        size_t bytes;
        uint64_t hash;
        unsigned slot;
    } key;
    uint32_t database;
    bool is_write;
    uint64_t client;
    uint64_t weight;
    uint64_t cpu_ns;
    uint64_t net_bytes;
};

/* What is known of a listed key, but for what is needed to find it. */
struct hot_key {
    uint64_t error; /* what may have been recorded of it before it came into the list, at most */
    uint64_t reads, writes, cpu_ns, net_bytes;
    uint64_t client, client_lead; /* of whom more than half of the accesses come, if there is one (Boyer and Moore) */
    uint64_t key_bytes;
    uint32_t database;
    uint16_t slot;
    uint16_t name_bytes;
    char name[HOT_NAME_BYTES];
};

/* As kora/observe/hotkeys.py, which says what it promises: a sketch of all keys, and a list of the top ones.  Most of
 * what is recorded is of keys that are seen once, and replaces the one with the least cost: so what that takes stands
 * together, where the processor's cache has it. */
struct hot_keys {
    uint32_t (*rows)[SKETCH_WIDTH]; /* owned: SKETCH_DEPTH rows */
    struct hot_key *keys;           /* owned: HOT_KEYS places */
    size_t count;
    uint64_t recorded; /* weight, since the list was last cleared */
    struct hot_cost {
        uint64_t cost;              /* at least `error`, and what was recorded since */
        uint32_t key;               /* its place */
    } heap[HOT_KEYS];               /* four children each, no less than their parent */
    uint64_t identities[HOT_KEYS];  /* by place: the key's hash and its database */
    uint16_t heap_places[HOT_KEYS]; /* by place */
    uint16_t next[HOT_KEYS];        /* in its bucket: a place, or HOT_KEYS for none */
    uint16_t buckets[2 * HOT_KEYS]; /* by identity: the first place, or HOT_KEYS */
};

struct shard_stats {
    int64_t keys;
    int64_t memory_bytes;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t hits;
    uint64_t misses;
    uint64_t expired;
    uint64_t evicted;
    struct command_stats *commands; /* owned: by slot in the registry */
    size_t commands_count;
    char *map; /* owned: of a file that another process reads, the histograms by slot; NULL where nobody does */
};

void shard_stats_init(struct shard_stats *stats, size_t commands);
void shard_stats_free(struct shard_stats *stats);
void shard_stats_reset(struct shard_stats *stats); /* CONFIG RESETSTAT: all but the gauges */
/* Keep the histograms in a file from now on, from an offset on; false, with errno, if it cannot be mapped. */
bool shard_stats_share(struct shard_stats *stats, int fd, off_t offset);
void command_stats_record(struct command_stats *stats, uint64_t elapsed_ns);

void hot_keys_init(struct hot_keys *hot);
void hot_keys_free(struct hot_keys *hot);
void hot_keys_record(struct hot_keys *hot, const struct hot_access *access); /* both that follow */
void hot_keys_weigh(struct hot_keys *hot, uint64_t hash, uint64_t accesses); /* in the sketch */
void hot_keys_list(struct hot_keys *hot, const struct hot_access *access);
uint64_t hot_keys_estimate(const struct hot_keys *hot, uint64_t hash);
void hot_keys_halve_row(struct hot_keys *hot, unsigned row);
void hot_keys_clear(struct hot_keys *hot); /* the list; the sketch goes on */
void hot_keys_reset(struct hot_keys *hot); /* both */

/* Where times come from.  Tests hand in a clock that they move; then `is_real` is false and every reading is a call. */
struct clock {
    bool is_real;
    int64_t (*monotonic_ns)(void *owner);
    int64_t (*wall_ms)(void *owner);
    void *owner; /* borrowed */
    /* Commands are timed with the processor's own counter where it ticks evenly, since the system's clock costs as much
     * as a look-up does: ns = ticks * scale >> 32.  The scale is measured against the system's clock all the time. */
    uint64_t scale; /* 0: not known yet, or no such counter */
    uint64_t started_ticks;
    int64_t started_ns;
    int64_t calibrate_ns;     /* when the scale is next measured */
    uint64_t calibrate_ticks; /* the same, about, in ticks */
};

void clock_init(struct clock *clock);
/* A point in time for measuring a command, in units that only clock_elapsed_ns() knows. */
uint64_t clock_now(struct clock *clock);
uint64_t clock_elapsed_ns(const struct clock *clock, uint64_t start, uint64_t stop);
int64_t clock_monotonic_ns(struct clock *clock); /* now; also measures the scale from time to time */
/* Both at once, for the beginning of a turn, and cheaper: between two measurements the ticks tell the time as well, but
 * for what the system's clock is slewed by meanwhile. */
int64_t clock_begin(struct clock *clock, uint64_t *now);
int64_t clock_wall_ms(struct clock *clock);

/* --- Service time (service.c): kora/observe/service.py says how and why --- */

#define NOTABLE_NS 100000
#define INTERVALS 512
#define RUN_MAX 16
#define RUNS 256 /* of a read that are kept until it ends; where there are more, those are recorded before */
#define CULPRIT_KEY_BYTES 32
#define ADDRESS_BYTES 64

struct culprit {
    int64_t client_id;
    int slot;  /* the command's in the registry, or -1 */
    int label; /* the number of a name of something else, where the slot is -1 */
    uint32_t key_bytes;
    char key[CULPRIT_KEY_BYTES];
    char address[ADDRESS_BYTES]; /* zero-padded */
};

struct waited {
    uint64_t victims;
    int64_t ns, ns_min, ns_max;
};

struct interval {
    int64_t start_ns, stop_ns;
    struct waited waited; /* charged since the last service_take() */
    struct culprit culprit;
};

/* Some of one command that ran one after the other. */
struct run {
    unsigned slot;
    unsigned count;
    int64_t waited_ns; /* in the middle of it */
};

/* One read, or one turn over what is left of an earlier one. */
struct reading {
    struct reading *outer; /* borrowed: in the middle of which this one is */
    bool is_timed;
    int64_t begun_ns;
    uint64_t begun;          /* the same, as clock_now() */
    int64_t low_ns, high_ns; /* between when it came */
    int64_t arrived_ns;
    int64_t piece_ns; /* from where on nothing is noted yet */
    /* The run that goes on: when the first and the last of it began, as clock_now(). */
    unsigned slot;
    unsigned count;
    uint64_t first, last;
    uint64_t parsed;      /* when its first requests were parsed, as clock_now(); 0 where nobody asks */
    uint64_t spans_first; /* of the spans of its requests, and how many there are */
    size_t spans_count;
    size_t runs_count;
    struct run runs[RUNS];
};

struct service {
    struct reading *reading; /* borrowed: the one in progress; `nobody` where there is none */
    struct reading nobody;
    /* By slot; owned by whoever shows them. */
    struct command_stats *waits, *services;
    int64_t *noted_ns; /* owned: by slot, what commands took where they took long */
    size_t commands_count;
    /* What reads have suffered. */
    uint64_t reads;
    int64_t suffered_ns, suffered_ns_min, suffered_ns_max;
    /* The loop. */
    bool has_turns;
    int64_t prepared_ns, polled_ns, window_ns, busy_ns;
    bool is_lagging;
    struct culprit lagging;
    struct culprit event_loop;
    int64_t ask_ns, jiffy_ns;
    /* A ring, in order of time. */
    struct interval *intervals; /* owned */
    size_t first, count;
    struct waited rest;
};

struct kernel;
struct turn;
struct command;

void service_init(struct service *service, size_t commands, int64_t jiffy_ns);
void service_free(struct service *service);
void service_reset(struct service *service);
/* The loop is about to ask for events; has dealt with all that sockets had for it. */
void service_prepared(struct kernel *kernel);
void service_checked(struct kernel *kernel);
/* As those, for libuv: a pointer to the kernel stands LOOP_HANDLE_OFFSET bytes before the handle. */
#define LOOP_HANDLE_OFFSET 16
void service_loop_prepared(void *handle);
void service_loop_checked(void *handle);
/* Requests were read: see between when they have come; whether these are far enough apart to ask the system. */
bool service_bounds(struct service *service, struct reading *reading, int64_t client_id, int64_t last_ns);
void service_narrow(struct service *service, struct reading *reading, int64_t age_ns);
/* Settle on a time, and charge the wait; keeps the client's mean pause. */
void service_arrive(struct service *service, struct reading *reading, bool is_told, int64_t last_ns, int64_t *pause_ns);
void service_end_run(struct kernel *kernel);
void service_next_run(struct kernel *kernel, unsigned slot, uint64_t started);
/* As many of a command as Python has run, which began at that time on average. */
void service_ran(struct kernel *kernel, unsigned slot, int64_t started_ns, unsigned count);
void service_note(struct service *service, const struct culprit *culprit, int64_t start_ns, int64_t stop_ns);
/* The replies are handed over: record all that ran; returns when. */
int64_t service_end(struct kernel *kernel, struct reading *reading, const char *address, int64_t client_id);
void service_note_job(struct service *service, int label, int64_t start_ns, int64_t stop_ns);
void service_lag(struct service *service, int64_t client_id);
void service_forget(struct service *service, int64_t client_id);
void command_stats_record_many(struct command_stats *stats, uint64_t elapsed_ns, uint64_t count);

/* --- Requests that are traced (spans.c): kora/engine/tracing.py says which and why --- */

/* What kora/observe/traces.py unpacks; times are CLOCK_MONOTONIC. */
struct traced {
    uint64_t trace_id[2], span_id;
    int64_t arrived_ns, begun_ns, parsed_ns; /* of the read that it came with; parsed_ns may be 0 */
    int64_t started_ns, stopped_ns;
    int64_t flushed_ns; /* 0: its reply is not handed over yet */
    int64_t client_id;
    uint32_t slot; /* the command's in the registry */
    uint32_t database;
    char address[ADDRESS_BYTES];
};

#define SPANS_NEVER INT64_MAX

/* The last spans, a ring. */
struct spans {
    bool is_on;
    bool asks;    /* a request that is chosen is for Python to record */
    bool is_late; /* what is read now has waited for so long: Python was told */
    int64_t slow_ns;
    double log_rest;     /* of the part of requests that is not chosen, its logarithm; 0 where all are or none is */
    int64_t left;        /* requests until one is chosen, as of when kernel.samples_left was set */
    struct traced *ring; /* owned; NULL while tracing is off */
    uint64_t capacity;
    uint64_t count; /* that there ever were */
    uint64_t first; /* what is in front of this number is forgotten */
};

/* Choose such a part of all requests, 0 to 1. */
void spans_choose(struct kernel *kernel, double ratio);
/* With room for so many; 0 frees it. */
void spans_resize(struct spans *spans, uint64_t capacity);
int64_t spans_step(struct kernel *kernel); /* how many requests come until one is chosen */
void spans_record(struct kernel *kernel, const struct turn *turn, unsigned slot, uint64_t started, uint64_t stopped);
void spans_flushed(struct spans *spans, const struct reading *reading, int64_t client_id, int64_t now_ns);
/* The rest until the nearest of what is sampled has to be counted anew: before one of the two is changed, and after. */
void samples_settle(struct kernel *kernel);
void samples_begin(struct kernel *kernel);

/* --- Entries, tables, databases (table.c) --- */

enum kind { STRING, INTEGER, LARGE, OBJECT };

#define FLAG_DEADLINE 1 /* deadline_ms stands in front of everything */
#define FLAG_RAW 2      /* edited in place: its encoding is `raw`, however short it is */
#define EPOCHS 64

struct entry {
    uint32_t key_bytes;
    uint32_t value_bytes; /* of a STRING */
    uint32_t touched_s;   /* Unix time when the key was last used */
    uint8_t kind : 2;
    uint8_t epoch : 6; /* the snapshot that has this entry, or was under way when it was made */
    uint8_t flags : 2;
    uint8_t length_bin : 6; /* where keyspace->lengths counts it */
    uint8_t key_at;         /* where the key begins, in bytes from `body` */
    uint8_t object_kind;    /* enum object_kind */
    char body[];
};

#define KEY_BYTES_MAX 0xFFFFFFFFu

/* The value of LARGE. */
struct large {
    char *block; /* owned */
    size_t bytes;
    size_t capacity;
};

typedef uint64_t bucket;

#define BUCKET_VOLATILE 1ULL
#define TABLE_BITS_MAX 10
#define TABLE_SPLIT 0xFF /* table.bits of a slot whose `buckets` is a struct split */

struct table {
    union {
        bucket *buckets;     /* owned; NULL while there are no keys */
        struct split *split; /* owned */
    };
    uint32_t count;
    uint32_t volatile_count; /* keys with a deadline */
    uint8_t bits;            /* log2 of how many buckets there are, or TABLE_SPLIT */
    uint8_t depth;           /* in a split: how many bits of the hash all its keys have in common */
};

struct split {
    unsigned bits;
    struct table **parts; /* owned: 1 << bits places; a part of depth d stands in every place with its low d bits */
};

struct kernel;

#define ATTENDED_BITS 12
/* Lengths of values by their binary digits: 0, 1, 2 to 3, 4 to 7, … */
#define LENGTH_BINS 64

struct keyspace {
    struct kernel *kernel; /* borrowed */
    uint32_t index;        /* the database's number */
    void *owner;           /* borrowed: what touched() and ended() are called with */
    /* How many keys are attended to, by the low bits of their hashes; NULL while there are none.  Owned. */
    uint32_t *attended;
    size_t attended_count;
    bool attends_all;
    bool tells_ends;         /* whether ended() wants to be called */
    struct backing *backing; /* owned; NULL where all keys are held: see below */
    struct table *slots;     /* owned: SLOTS of them, or NULL before the first key */
    uint64_t count;
    uint64_t volatile_count;
    uint32_t counts_by_run[SLOTS >> RUN_BITS]; /* keys in each run of slots: random keys, and skipping what is empty */
    /* Keys by the kind of their value (enum object_kind) and its length: bytes of strings, items of others, as they were
     * when the keyspace was told last. */
    uint64_t lengths[OBJECT_KINDS][LENGTH_BINS];
    uint64_t changes; /* keys changed since start */
    uint32_t now_s;   /* Unix time, set a few times per second: coarse is enough for idle times */
    struct shard_stats *by_run[SLOTS >> RUN_BITS]; /* borrowed: who counts what concerns a slot */
    struct shard_stats *stats; /* of the shard that owns the key last looked at: who counts the command that runs */
    /* Of the contents, for the snapshot under way. */
    struct saved_part {
        uint32_t database; /* that they were when it began */
        unsigned slot;     /* where its walk goes on */
        uint64_t place;
    } saved;
};

void keyspace_init(struct keyspace *keyspace, struct kernel *kernel);
void keyspace_free(struct keyspace *keyspace);

/* A key with its place: made once for each key of a request. */
struct key {
    const char *data;
    size_t bytes;
    uint64_t hash;
    unsigned slot;
};

struct key key_of(const struct kernel *kernel, const char *data, size_t bytes);

/* The entry of a key, or NULL; one whose time is over is deleted.  Sets keyspace->stats.  Entries are good until the
 * next call that changes the keyspace. */
struct entry *keyspace_find(struct keyspace *keyspace, const struct key *key);

/* Store a string, taking the block of `value` if it has one; a deadline goes.  Counts one change. */
void keyspace_set(struct keyspace *keyspace, const struct key *key, struct argument *value);
/* As that, for an entry just found (or NULL for a key that is not there), keeping its deadline; counts no change. */
struct entry *keyspace_store(struct keyspace *keyspace, const struct key *key, struct entry *entry,
                             struct argument *value);
/* As that, for a key that is not there, and a string that was edited before. */
struct entry *keyspace_store_edited(struct keyspace *keyspace, const struct key *key, struct argument *value);
struct entry *keyspace_store_integer(struct keyspace *keyspace, const struct key *key, struct entry *entry,
                                     int64_t value);
/* Takes over a reference to the object. */
struct entry *keyspace_store_object(struct keyspace *keyspace, const struct key *key, struct entry *entry, void *object,
                                    enum object_kind object_kind);
/* As that, for a new, empty object of the kernel's own; NULL where there is no memory.  It must not stay empty. */
struct entry *keyspace_make_object(struct keyspace *keyspace, const struct key *key, enum object_kind object_kind);
/* Overwrite a string from an offset on, filling a gap with zero bytes; entry may be NULL.  It becomes FLAG_RAW. */
struct entry *keyspace_edit(struct keyspace *keyspace, const struct key *key, struct entry *entry, size_t offset,
                            struct text part);
/* Take note of a change of a key: whoever attends to it is told. */
void keyspace_changed(struct keyspace *keyspace, const struct key *key);
/* Take note that the value of an entry, one of the kernel's own objects, was changed in place; an empty one goes, and
 * the entry with it: then the answer is false. */
bool keyspace_updated(struct keyspace *keyspace, const struct key *key, struct entry *entry, bool is_empty);
/* As that, of an object that is not the kernel's own, but for all that it is counted with: its length only. */
void keyspace_count_anew(struct keyspace *keyspace, struct entry *entry);
/* Have changes of a key told, or once less so. */
void keyspace_attend(struct keyspace *keyspace, const struct key *key);
void keyspace_disregard(struct keyspace *keyspace, const struct key *key);
/* The entry of a key, or NULL, even if its time is over: for who has found it before. */
struct entry *keyspace_peek(struct keyspace *keyspace, const struct key *key);

/* An existing key goes. */
void keyspace_delete(struct keyspace *keyspace, const struct key *key);
/* An existing key gets another name, possibly in another database, and takes its deadline along; whatever has that name
 * goes.  Not for a key and itself. */
void keyspace_move(struct keyspace *keyspace, const struct key *key, struct keyspace *target_keyspace,
                   const struct key *target);
struct entry *keyspace_set_deadline(struct keyspace *keyspace, const struct key *key, struct entry *entry,
                                    int64_t deadline_ms);
struct entry *keyspace_drop_deadline(struct keyspace *keyspace, const struct key *key, struct entry *entry);

bool entry_has_deadline(const struct entry *entry);
int64_t entry_deadline_ms(const struct entry *entry);
int64_t entry_bytes(const struct kernel *kernel, const struct entry *entry); /* with all that its value holds */
struct text entry_key(const struct entry *entry);
/* The bytes of a value that is no OBJECT; `digits` has room for an INTEGER, written only if it is one. */
struct text entry_string(const struct entry *entry, char digits[INTEGER_BYTES_MAX]);
int64_t entry_integer(const struct entry *entry);
void *entry_object(const struct entry *entry);
struct value *entry_value(const struct entry *entry); /* of an OBJECT of the kernel's own */

/* Walks.  A place in a slot is 0 at its start, and 0 again once it is done; see SCAN in kora/store/table.py. */
typedef void (*visit)(void *context, struct entry *entry);
uint64_t keyspace_walk(struct keyspace *keyspace, unsigned slot, uint64_t place, visit visit, void *context);
struct expired {
    uint64_t looked; /* deadlines */
    uint64_t deleted;
    uint64_t place;
    int64_t deadline_ms; /* of one key that was looked at and is left, or -1: over many slots that is a fair sample */
};
struct expired keyspace_expire_due(struct keyspace *keyspace, unsigned slot, uint64_t place, int64_t now_ms,
                                   uint64_t deleted_max);
/* An entry, each equally likely, or NULL. */
struct entry *keyspace_random(struct keyspace *keyspace);
/* One of those with a deadline, or NULL; which are next to each other in the tables are about equally likely. */
struct entry *keyspace_random_volatile(struct keyspace *keyspace);

/* Keys that were taken out of a database and are freed bit by bit. */
struct discarded {
    struct table *slots; /* owned: the tables of some slots that follow each other */
    unsigned slots_count;
    unsigned slot;  /* the first that is not freed yet */
    uint64_t place; /* the first place of its split, if it has one, that is not freed yet */
    size_t bucket;  /* and the first bucket of that */
    uint64_t keys;  /* that are left */
};
/* The keys of the slots from `start` to `stop`, whole runs; the database has none there afterwards. */
struct discarded keyspace_discard(struct keyspace *keyspace, unsigned start, unsigned stop);
/* Exchange the contents of two databases. */
void keyspace_swap(struct keyspace *keyspace, struct keyspace *other);
/* Free at most so many entries, and the arrays they were in, and lower the shard's memory by what they took; returns how
 * many.  It is done when `slot` is slots_count. */
uint64_t discarded_free_some(struct kernel *kernel, struct discarded *discarded, struct shard_stats *stats,
                             uint64_t entries_max);
void discarded_free(struct kernel *kernel, struct discarded *discarded); /* all, counted nowhere */

/* --- Databases of which a part is in memory (backing.c): kora/store/backing.py --- */

/* What is known of a key that is held, in place of its epoch, or of a ghost. */
#define STATE_DIRTY 1    /* the store has to be told; there is a mark for it */
#define STATE_FLIGHT 2   /* it was given out to be written, and is not known to be; there is a mark, too */
#define STATE_STORED 4   /* the store has the key, or will have it with what was given out */
#define STATE_VOLATILE 8 /* and with a deadline */
#define STATE_AWAITED 16 /* of a ghost: the key is not known at all, but a record of it was asked for */
#define STATE_UNSURE 32  /* of what is dirty: the store was not asked whether it has the key */

/* What the store has of a key before a change: kora/store/backing.py */
enum { WAS_ABSENT, WAS_LASTING, WAS_VOLATILE, WAS_UNKNOWN };

#define RECORD_EDITED 0x80 /* in the type of a string that is FLAG_RAW */
#define POSITION_BITS 32   /* a position is the slot of a key, above so many bits of a checksum */

struct mark {
    uint64_t hash;
    unsigned slot;
};

struct marks {
    struct mark *items; /* owned */
    size_t first, count, capacity;
};

/* A key that is not there, whatever the store says, or is awaited. */
struct ghost {
    uint64_t hash;
    uint64_t reading; /* the number of the one that it is awaited from */
    uint32_t slot;
    uint32_t key_bytes;
    uint8_t state;
    char key[];
};

struct ghosts {
    struct ghost **places; /* owned, and what they point to */
    unsigned bits;
    size_t count;
    int64_t bytes;
};

struct backing {
    bool is_loading; /* what is inserted comes from the store */
    uint64_t count;  /* keys in all; what is unsure is counted twice if the store has it */
    uint64_t volatile_count;
    int64_t counts_by_run[SLOTS >> RUN_BITS]; /* what was there at first is all in the first run of its shard */
    uint64_t unsure_dirty, unsure_flight;     /* keys that are unsure, and that were when they were given out last */
    struct marks dirty, flight;
    struct ghosts ghosts;
    uint64_t dirty_keys;
    int64_t dirty_bytes; /* about */
    uint64_t hits;       /* keys of requests that were known */
    /* A request is about to change a key that was clean until then; and how often keys had changed before it. */
    bool has_marked;
    uint64_t changes_before;
    /* Where keyspace_drop_clean() goes on. */
    unsigned hand_slot;
    uint64_t hand_place;
};

void keyspace_back(struct keyspace *keyspace);
void backing_free(struct keyspace *keyspace);
void backing_flushed(struct keyspace *keyspace); /* there are no keys any more */
/* For table.c: an entry is about to change, was inserted, is about to be freed since its key goes. */
void backing_changes(struct keyspace *keyspace, struct entry *entry);
void backing_born(struct keyspace *keyspace, const struct key *key, struct entry *entry, struct shard_stats *stats);
void backing_gone(struct keyspace *keyspace, unsigned slot, uint64_t hash, const struct entry *entry);
/* Whether a request puts values in place of whatever is there, and does not tell of that: it may be unknown. */
bool is_blind(const struct command *command, const struct argument *argv, size_t argc);
/* Whether a look at a key needs no store, and at all those that the words of a request name by their places. */
bool keyspace_knows(struct keyspace *keyspace, const struct key *key);
bool keys_are_known(struct keyspace *keyspace, const struct command *command, const struct argument *argv, size_t argc);
/* As that, before an operation; and if it writes they are about to change.  Afterwards, if there is has_marked:
 * backing_reconsider(), for what it has not changed after all. */
bool keys_are_ready(struct keyspace *keyspace, const struct request *request, const struct argument *argv);
void backing_reconsider(struct keyspace *keyspace, const struct request *request, const struct argument *argv);
/* The number of the reading that a key is awaited from, if it is not KNOWN; 0 where nobody has asked for it. */
#define KNOWN UINT64_MAX
uint64_t keyspace_asked_by(struct keyspace *keyspace, const struct key *key);
/* A record of such a key is asked for. */
void keyspace_await(struct keyspace *keyspace, const struct key *key, uint64_t reading);
/* A reading has ended: whether a key was still awaited from it. */
bool keyspace_end_awaiting(struct keyspace *keyspace, const struct key *key, uint64_t reading);
/* The store does not have the key. */
void keyspace_absent(struct keyspace *keyspace, const struct key *key);
/* Give out changes of so many bytes, about; returns how many could not be told, and stay. */
typedef void (*visit_change)(void *context, unsigned slot, struct text key, struct text record, int is_gone,
                             unsigned was);
size_t keyspace_take_dirty(struct keyspace *keyspace, size_t bytes_max, visit_change visit, void *context);
/* What was given out is in the store. */
void keyspace_written(struct keyspace *keyspace);
/* So many keys of a run of slots, and so many with a deadline, were in the store already when they came. */
void keyspace_overwritten(struct keyspace *keyspace, unsigned run, uint64_t keys, uint64_t volatile_keys);
/* Visit the keys that are unsure and not given out; and say of one what the store has of it. */
typedef void (*visit_key)(void *context, struct text key);
void keyspace_walk_unsure(struct keyspace *keyspace, visit_key visit, void *context);
void keyspace_make_sure(struct keyspace *keyspace, const struct key *key, unsigned was);
/* Visit all entries of which the store may not have what they are, in a range of positions; some of them twice. */
void keyspace_walk_unsettled(struct keyspace *keyspace, uint64_t start, uint64_t stop, visit visit, void *context);
uint64_t position_of(const char *key, size_t bytes);
/* Write what a key's place in the store begins with, which is so many bytes; the key follows. */
#define PLACE_BYTES 10
void place_begin(char *place, uint32_t id, unsigned slot, const char *key, size_t bytes);
/* Free entries that are clean, and were not used for longest, as far as a short look tells; all, if it is to be
 * INT64_MAX bytes. */
struct dropped {
    int64_t bytes;
    uint64_t keys, looked;
};
struct dropped keyspace_drop_clean(struct keyspace *keyspace, int64_t bytes_max, uint64_t keys_max, uint64_t looks_max);
/* Forget ghosts that nobody needs if there are more than so many ghosts; returns how many are left. */
size_t keyspace_drop_ghosts(struct keyspace *keyspace, size_t count_max);

/* Count everything a database holds again, from scratch, for tests: each table's counts, each key's place.  Adds the
 * memory of each run of slots to memory_bytes[]; returns what is wrong, or NULL. */
const char *keyspace_audit(const struct keyspace *keyspace, int64_t memory_bytes[SLOTS >> RUN_BITS]);

/* --- Snapshots (save.c) --- */

struct buffer {
    char *data; /* owned */
    size_t bytes, capacity;
};

enum stamps { NO_STAMPS, IDLE_STAMPS, FREQUENCY_STAMPS };

/* The snapshot under way. */
struct saving {
    bool is_on;         /* there are unsaved entries */
    bool is_muted;      /* nobody wants it any more: the walk only marks entries, so that numbers can be used again */
    bool failed;        /* there was a value that could not be told */
    bool compresses;    /* strings, by LZF */
    uint8_t epoch;      /* its number; while there is none, that of the last */
    uint8_t unfinished; /* snapshots begun since the last that has all entries */
    uint8_t version;    /* of RDB */
    enum stamps stamps; /* of use, which keys have */
    int64_t database;   /* that what comes next in `out` belongs to; -1: none yet */
    uint64_t records;   /* written */
    struct buffer out;
    struct buffer scratch;
};

static inline bool is_saved(const struct saving *saving, const struct entry *entry)
{
    return entry->epoch == saving->epoch;
}

/* Make all entries unsaved.  False: there is no free number, and a muted walk over everything must come before. */
bool saving_begin(struct saving *saving);
/* All entries are saved, or marked. */
void saving_end(struct saving *saving);
/* Write an entry, and mark it. */
void save_entry(struct kernel *kernel, struct entry *entry, uint32_t database);
/* Append a value as a record of kora/store/backing.py; false where it cannot be told. */
bool save_value(struct kernel *kernel, const struct entry *entry);
/* Save what is unsaved, from a place on, until a point in time or so many records; false: there is more. */
bool saving_walk(struct kernel *kernel, struct table *slots, unsigned slots_count, struct saved_part *part,
                 int64_t stop_ns, uint64_t records_max);
void buffer_append(struct buffer *buffer, const char *data, size_t bytes);
void buffer_free(struct buffer *buffer);

/* --- The executor (execute.c) --- */

/* Replies, encoded.  They stand in a small block that is used again and again, until they outgrow it: then `grow`
 * gives room that can be handed to the socket as it is, so that a large value is copied once. */
struct output {
    char *data;
    size_t bytes;
    size_t capacity;
    /* Makes at least that capacity and keeps the content; 0 where there is no memory.  (Cython has no bool.) */
    int (*grow)(struct output *output, size_t capacity);
    void *owner; /* borrowed: what `grow` needs */
    /* There was no memory for a reply, which clients can make as long as they like; nothing more is appended until the
     * owner has dropped what there is of it and has cleared this. */
    bool failed;
};

void output_append(struct output *output, const char *data, size_t bytes);
void output_bulk(struct output *output, const char *data, size_t bytes);
void output_integer(struct output *output, int64_t value);
void output_null(struct output *output, int protocol);
void output_header(struct output *output, char kind, size_t count); /* *3\r\n */

#define COMMAND_NAME_MAX 32
#define COMMANDS_BITS 10

struct kernel;
struct turn;
struct output;

/* Answers a request, or returns false, having changed and counted nothing: the reference is to run it. */
typedef bool (*operation)(struct kernel *kernel, struct turn *turn, const struct request *request,
                          struct argument *argv, struct output *output);

/* A row of the registry, as far as the executor needs it. */
struct command {
    char name[COMMAND_NAME_MAX]; /* in small letters, zero-padded */
    size_t name_bytes;           /* 0: this place of the table is empty */
    bool is_letters;
    operation operation; /* NULL: runs in Python */
    unsigned stats_slot; /* in the registry; of no meaning for a container */
    size_t argc_min;
    size_t argc_max;
    bool writes;
    bool has_keys;      /* at places that first_key may tell, or not */
    bool declares_keys; /* as that, scripts included */
    unsigned first_key; /* places in argv, as in COMMAND INFO; 0 for none */
    int last_key;       /* negative: counted from the end */
    unsigned key_step;
    bool denyoom;
    uint8_t audited;    /* the category of its records in the audit log; 0: none are kept */
    bool lengthy;       /* can take long: the activity board names it while it runs */
    bool is_container;  /* has subcommands */
    bool is_subcommand; /* its name is that of both: `config|get` */
    char board_name[32];
    void *row; /* borrowed: the Command */
};

/* --- What the journal is told (journal.c) --- */

#define JOURNAL_KEPT_MAX (4u << 20) /* bytes of room that stay when it is emptied */

struct journal {
    bool on;
    bool told;  /* the operation that runs has told its effect: its request is not for the journal */
    char *data; /* owned */
    size_t bytes;
    size_t capacity;
    int64_t database; /* of the effect told last, or -1 if the next is to name its own */
    unsigned depth;   /* of the group of effects that is open */
    size_t group_at;  /* where it begins */
    size_t group_effects;
};

#define WORD(letters) ((struct text){letters, sizeof letters - 1})

/* Append an effect: a request that changes the same when it is replayed. */
void journal_append(struct journal *journal, uint32_t database, const struct text *words, size_t count);
void journal_request(struct journal *journal, uint32_t database, const struct argument *argv, size_t argc);
/* One effect that another has. */
void journal_copy(struct journal *journal, uint32_t database, const struct journal *other);
/* What is appended from one to the other is a transaction, if it is more than one effect. */
void journal_begin(struct journal *journal);
void journal_end(struct journal *journal);
void journal_clear(struct journal *journal);
void journal_free(struct journal *journal);

/* Whether the requests of a batch, which are so many bytes of the parser's input, stand there as journals have them. */
bool journal_is_plain(const struct parser *parser, const struct batch *batch, size_t bytes);

struct turn;

/* For operations, where the journal is on: an effect in place of the request's words, which would do something else at
 * another time. */
void journal_instead(struct kernel *kernel, const struct turn *turn, const struct text *words, size_t count);
void journal_deadline(struct kernel *kernel, const struct turn *turn, const struct argument *key, int64_t deadline_ms);
/* A string; its deadline stays where there is none given. */
void journal_value(struct kernel *kernel, const struct turn *turn, const struct argument *key, struct text value,
                   const int64_t *deadline_ms);
void journal_removal(struct kernel *kernel, const struct turn *turn, const struct argument *key);

/* --- What the audit log is told (audit.c) --- */

#define AUDIT_RECORD_MAX 8192 /* kora/audit/ring.py: RECORD_BYTES_MAX */

struct trail {
    uint64_t *words; /* borrowed: the head of the ring; NULL: nothing is recorded */
    char *data;      /* borrowed: the ring's bytes */
    uint64_t capacity;
    bool blocks;                      /* what cannot be recorded does not run */
    bool wants_words;                 /* besides keys */
    struct text *included, *excluded; /* owned, and their texts: what keys begin with */
    size_t included_count, excluded_count;
    size_t bytes; /* of the record of the operation that runs; 0: there is none */
    char record[AUDIT_RECORD_MAX];
};

struct turn;
struct command;
struct kernel;

/* Before an operation of a command that is audited: false where the reference has to run it. */
bool audit_begin(struct kernel *kernel, const struct turn *turn, const struct command *command,
                 const struct argument *argv, size_t argc);
/* It has run, and this is its reply. */
void audit_end(struct kernel *kernel, const char *reply, size_t reply_bytes);
/* Whether clients have to wait, since there is no room for records. */
bool audit_blocks(const struct kernel *kernel);
void audit_forget(struct trail *audit);
void audit_add_prefix(struct text **prefixes, size_t *count, const char *data, size_t bytes);

struct kernel {
    uint64_t secret[2];
    struct clock clock;
    int64_t now_ms;    /* wall clock, read at most once per batch; 0: not read yet */
    bool is_replaying; /* nothing ends by itself: the journal says what ended, and when */
    struct journal journal;
    struct trail audit;
    /* Gives back a reference to an OBJECT; must not come back into the kernel. */
    void (*release)(struct kernel *kernel, void *object);
    int64_t (*object_bytes)(void *object); /* what is counted for one that is not the kernel's own */
    size_t (*object_length)(void *object); /* and how many items it has */
    void *(*make_object)(struct kernel *kernel, int object_kind); /* a new one, empty; NULL where there is no memory */
    size_t object_head_bytes[OBJECT_KINDS]; /* what an object of the kernel's own takes by itself */
    struct limits *limits;                  /* shared */
    /* A key that is attended to was changed or has ended; a key's time was over.  Must not come back into the kernel. */
    void (*touched)(void *owner, const char *key, size_t bytes);
    void (*ended)(void *owner, const char *key, size_t bytes);
    bool interrupted; /* set by touched(): the batch stops behind the command that runs, for others have to be served */
    bool hands_over;  /* no operation runs, since what they do would have to be told; handlers do */
    void *owner;      /* borrowed: what release needs */
    struct command commands[1 << COMMANDS_BITS]; /* by hash of the name; name_bytes 0: empty */
    struct shard_stats **shards;                 /* owned list of borrowed blocks */
    size_t shards_count;
    char *board; /* borrowed: the page of the activity board (kora/observe/board.py) */
    /* For samples of CPU time, while there are any: the command that runs or was the last to, and whether that is an
     * operation. */
    volatile bool is_sampled;
    volatile bool in_operation;
    const struct command *volatile running;
    bool observing;
    struct hot_keys hot_keys;
    /* Requests until one is recorded for hot keys or traced, whichever comes first, and how many they were in the
     * beginning: one count for both, since each would cost every command as much. */
    int64_t samples_left, samples_step;
    int64_t hot_left;       /* as spans.left, for hot keys */
    int64_t sampling_ratio; /* of hot keys; 0: none is */
    struct spans spans;
    bool is_traced; /* the request that was settled last was chosen, for Python to record */
    /* A request that was chosen, and of which only the reference can tell the keys; a weight of 0 for none. */
    struct hot_access unnamed;
    struct service service;
    bool notes_unnamed;      /* the newest interval is of a command of which only the reference can tell the keys */
    uint64_t maxmemory;      /* bytes; 0: no limit */
    struct tallies *tallies; /* borrowed: where TRACK counts from start to stop; or NULL */
    int64_t tallies_start_ms, tallies_stop_ms;
    /* From where on note() is called about a command that an operation has run (kora/engine/slowness.py). */
    uint64_t slow_ns;
    uint64_t large_reply_bytes;
    void (*note)(struct turn *turn, const struct command *command, const struct argument *argv, size_t argc,
                 size_t reply_bytes);
    struct saving saving;
    int (*is_held)(void *object); /* by anybody else than its entry */
    /* Append the type of RDB and the value of an object that only Python can tell, or of a stream what follows its
     * blocks; 0 where it cannot. */
    int (*tell_object)(struct kernel *kernel, void *object, struct buffer *buffer);
};

/* Before an entry is changed, moved or removed. */
static inline void preserve(struct keyspace *keyspace, struct entry *entry)
{
    struct kernel *kernel = keyspace->kernel;
    if (UNLIKELY(kernel->saving.is_on) && !is_saved(&kernel->saving, entry)) {
        if (keyspace->backing != NULL)
            backing_changes(keyspace, entry);
        else
            save_entry(kernel, entry, keyspace->saved.database);
    }
}

void kernel_init(struct kernel *kernel, const uint64_t secret[2]);
void kernel_free(struct kernel *kernel);
int64_t kernel_now_ms(struct kernel *kernel);
uint64_t kernel_random(struct kernel *kernel);
int64_t kernel_memory_bytes(const struct kernel *kernel);

/* Make a command known, with its operation if the kernel has one of that name; the rest is the caller's to fill in.
 * Returns NULL if there is no room or the name is long: then the reference runs it. */
struct command *kernel_add_command(struct kernel *kernel, const char *name, size_t bytes);
const struct command *kernel_find_command(const struct kernel *kernel, const char *name, size_t bytes);

/* What a turn is about: one client's requests. */
struct turn {
    struct keyspace *keyspace; /* borrowed: the client's database */
    int protocol;              /* 2 or 3 */
    uint64_t bulk_max;
    int64_t begun_ns;      /* CLOCK_MONOTONIC when the turn began */
    uint64_t begun;        /* the same, as clock_now() */
    uint64_t started;      /* clock_now() when the running command began, which is when the one before it ended */
    uint64_t elapsed_ns;   /* of the command that was settled last, where that was worth a note */
    const char *address;   /* 64 bytes for the activity board; borrowed */
    const char *identity;  /* who the client is, in the audit log; borrowed */
    size_t identity_bytes; /* 0: it is in no record */
    uint64_t client_id;
    uint32_t database; /* the number of that keyspace */
    void *owner;       /* borrowed: what note() needs */
    void *client;      /* as that */
};

/* Look up the commands of a batch, hash the keys of those that the kernel knows, and have memory fetched. */
void batch_prepare(struct kernel *kernel, struct keyspace *keyspace, struct batch *batch);

/* Run requests from the given one on for as long as the kernel can, appending their replies and counting them, until
 * the output has bytes_max bytes; returns the place of the first that was not run.  Where output->failed is set that one
 * was run, and only its reply and its count are missing. */
size_t batch_run(struct kernel *kernel, struct turn *turn, struct batch *batch, size_t place, struct output *output,
                 size_t bytes_max);

/* What a request takes as clients send it, if they do not send it inline. */
uint64_t request_bytes(const struct argument *argv, size_t argc);

/* Settle a request that ran: its time, and its keys if it is their turn to be sampled.  Whether it is worth a note: then
 * turn->elapsed_ns is set, and once it is taken, turn->started should be the time after that. */
bool settle(struct kernel *kernel, struct turn *turn, const struct command *command, const struct argument *argv,
            size_t argc, size_t reply_bytes);

/* Show on the activity board what runs, and that it has ended. */
void board_begin(struct kernel *kernel, const struct turn *turn, const struct command *command,
                 const struct argument *argv, size_t argc);
void board_end(struct kernel *kernel);

/* --- Samples of CPU time (profile.c) --- */

#define CPU_SAMPLES 1024u /* that wait to be taken: a power of two */

struct cpu_sample {
    uintptr_t address;             /* that the processor ran; 0 where it cannot be told */
    const struct command *command; /* of the client whose turn it was; NULL for nobody's */
    uint32_t count;                /* periods that it stands for */
    bool is_of_loop;               /* no Python ran, below that which runs the loop */
    bool is_operation;
};

struct sampler {
    struct kernel *kernel; /* borrowed */
    void *owner;           /* borrowed: what the two below get; they are called in a signal handler */
    bool (*is_in_loop)(void *owner);
    void (*ask)(void *owner);      /* have Python's stack looked at */
    void *timer;                   /* a timer_t */
    volatile uint32_t first, last; /* of the ring, going round */
    struct cpu_sample ring[CPU_SAMPLES];
};

/* Whether there are such timers; else errno says why not. */
bool sampler_is_possible(void);
/* Sample the calling thread each time it has run for so long; false where that cannot be done (errno). */
bool sampler_start(struct sampler *sampler, int64_t period_ns);
void sampler_stop(struct sampler *sampler);
/* The oldest sample, which is taken out; false where there is none.  Not in a signal handler. */
bool sampler_take(struct sampler *sampler, struct cpu_sample *sample);

/* --- rdb.c --- */

/* Fill the tables that crc64() needs; once, before the first. */
void crc64_prepare(void);
uint64_t crc64(uint64_t crc, const unsigned char *data, size_t bytes);

/* How many bytes a length takes behind the element of a listpack; the limits are Redis' (lpEncodeBacklen, listpack.c),
 * which gives away one value of two bytes and more. */
static inline unsigned back_bytes(size_t length)
{
    return length < 128 ? 1 : length < 16383 ? 2 : length < 2097151 ? 3 : length < 268435455 ? 4 : 5;
}

/* Returns how many bytes it takes; 0 if there is no room for that. */
size_t lzf_compress(const unsigned char *data, size_t bytes, unsigned char *out, size_t room);

/* Returns whether the data is in order, and gives exactly so many bytes. */
bool lzf_decompress(const unsigned char *data, size_t bytes, unsigned char *out, size_t out_bytes);

/* --- load.c --- */

struct load_terms {
    int64_t now_ms; /* keys whose time was over by then are left out; INT64_MIN: none are */
    size_t string_bytes_max;
    bool is_lfu; /* eviction goes by how often keys are used, not by when they were last */
};

struct loaded {
    size_t at; /* of the first record that was not loaded */
    uint64_t keys, expired;
    bool is_cut; /* that one goes on beyond the bytes that there are, if it is in order */
};

/* Load records of `data`, which has so many bytes, from a place on until one that begins at `stop` or behind it, or that
 * is for the reference to read.  Keys that are loaded were not there before. */
struct loaded load_records(struct keyspace *keyspace, const unsigned char *data, size_t at, size_t stop, size_t bytes,
                           const struct load_terms *terms);

/* Store the value of a record whose deadline is known, for a key that is not held.  False where it is for the reference to
 * read, or is damaged. */
bool load_value(struct keyspace *keyspace, const struct key *key, int64_t deadline_ms, struct text value,
                size_t string_bytes_max);

#endif
