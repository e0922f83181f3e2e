/* Entries, tables, databases: see kernel.h for the layout, and for why it is as it is.
 *
 * Everything here keeps four sums right as it goes: keys per table, per run of slots and per shard; keys with a
 * deadline; keys by the length of their value; and the shard's memory, to which each block is added when it comes and
 * from which it is taken when it goes.  keyspace_audit() counts all of it again. */

#include "kernel.h"

#include <stdio.h>
#include <stdlib.h>
#ifdef __APPLE__
#include <malloc/malloc.h>
#else
#include <malloc.h>
#endif

/* --- Memory --- */

static void *checked(void *block, size_t bytes)
{
    if (UNLIKELY(block == NULL)) {
        fprintf(stderr, "kora: out of memory: %zu bytes were refused\n", bytes);
        abort();
    }
    return block;
}

void *allocate(size_t bytes)
{
    return checked(malloc(bytes ? bytes : 1), bytes);
}

void *allocate_zeroed(size_t bytes)
{
    return checked(calloc(1, bytes ? bytes : 1), bytes);
}

void *reallocate(void *block, size_t bytes)
{
    return checked(realloc(block, bytes ? bytes : 1), bytes);
}

/* Bytes that may be used of a block: often a few more than were asked for. */
static inline size_t usable_bytes(const void *block)
{
#ifdef __APPLE__
    return malloc_size(block);
#else
    return malloc_usable_size((void *)block);
#endif
}

size_t block_bytes(const void *block)
{
    return block == NULL ? 0 : usable_bytes(block) + sizeof(size_t);
}

void keep_freed_memory(void)
{
#ifdef __GLIBC__
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    mallopt(M_MMAP_THRESHOLD, 32 << 20); /* the most that it takes */
    mallopt(M_MXFAST, 0);
#endif
}

/* --- What values share --- */

struct limits *limits_share(struct limits *limits)
{
    limits->references++;
    return limits;
}

void limits_release(struct limits *limits)
{
    if (--limits->references == 0)
        free(limits);
}

uint64_t next_random(uint64_t *state)
{
    /* SplitMix64 (Steele, Lea, Flood). */
    uint64_t value = *state += 0x9E3779B97F4A7C15ULL;
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9ULL;
    value = (value ^ value >> 27) * 0x94D049BB133111EBULL;
    return value ^ value >> 31;
}

/* --- Entries --- */

static const uint8_t PAYLOAD_BYTES[] = {
    [STRING] = 0,
    [INTEGER] = sizeof(int64_t),
    [LARGE] = sizeof(struct large),
    [OBJECT] = sizeof(void *),
};

static inline char *key_data(const struct entry *entry)
{
    return (char *)entry->body + entry->key_at;
}

static inline char *value_data(const struct entry *entry)
{
    return key_data(entry) + entry->key_bytes;
}

/* What stands between the deadline and the key. */
static inline char *payload(const struct entry *entry)
{
    return (char *)entry->body + (entry->flags & FLAG_DEADLINE ? sizeof(int64_t) : 0);
}

static inline struct large large_of(const struct entry *entry)
{
    struct large large;
    memcpy(&large, payload(entry), sizeof large);
    return large;
}

bool entry_has_deadline(const struct entry *entry)
{
    return entry->flags & FLAG_DEADLINE;
}

int64_t entry_deadline_ms(const struct entry *entry)
{
    int64_t deadline_ms;
    memcpy(&deadline_ms, entry->body, sizeof deadline_ms);
    return deadline_ms;
}

struct text entry_key(const struct entry *entry)
{
    return (struct text){key_data(entry), entry->key_bytes};
}

int64_t entry_integer(const struct entry *entry)
{
    int64_t value;
    memcpy(&value, payload(entry), sizeof value);
    return value;
}

void *entry_object(const struct entry *entry)
{
    void *object;
    memcpy(&object, payload(entry), sizeof object);
    return object;
}

struct text entry_string(const struct entry *entry, char digits[INTEGER_BYTES_MAX])
{
    if (LIKELY(entry->kind == STRING))
        return (struct text){value_data(entry), entry->value_bytes};
    if (entry->kind == INTEGER)
        return (struct text){digits, format_integer(digits, entry_integer(entry))};
    struct large large = large_of(entry);
    return (struct text){large.block, large.bytes};
}

struct value *entry_value(const struct entry *entry)
{
    return (struct value *)((char *)entry_object(entry) + VALUE_OFFSET);
}

/* What an object is counted with. */
static int64_t object_bytes(const struct kernel *kernel, const struct entry *entry)
{
    return entry->object_kind == OTHER_OBJECT ? kernel->object_bytes(entry_object(entry)) : entry_value(entry)->counted;
}

/* What a value takes beside its entry. */
static int64_t held_bytes(const struct kernel *kernel, const struct entry *entry)
{
    if (entry->kind == LARGE)
        return (int64_t)block_bytes(large_of(entry).block);
    return entry->kind == OBJECT ? object_bytes(kernel, entry) : 0;
}

int64_t entry_bytes(const struct kernel *kernel, const struct entry *entry)
{
    return (int64_t)block_bytes(entry) + held_bytes(kernel, entry);
}

/* Give back what a value holds beside its entry. */
static void release_value(struct kernel *kernel, struct entry *entry)
{
    if (entry->kind == LARGE)
        free(large_of(entry).block);
    else if (entry->kind == OBJECT)
        kernel->release(kernel, entry_object(entry));
}

/* --- Lengths --- */

/* How many items an object has. */
static size_t object_length(const struct kernel *kernel, const struct entry *entry)
{
    const void *value = entry_value(entry);
    switch ((enum object_kind)entry->object_kind) {
    case OTHER_OBJECT:
        return kernel->object_length(entry_object(entry));
    case HASH_OBJECT:
        return hash_count(value);
    case SET_OBJECT:
        return set_count(value);
    case LIST_OBJECT:
        return list_count(value);
    case SORTED_SET_OBJECT:
        return sorted_set_count(value);
    case STREAM_OBJECT:
        return ((const struct stream *)value)->length;
    case NO_OBJECT:
    case OBJECT_KINDS:
        break;
    }
    return 0;
}

static inline unsigned length_bin(size_t length)
{
    return length == 0 ? 0 : 64u - (unsigned)__builtin_clzll(length);
}

/* A new value has come into an entry. */
static inline void count_length(struct keyspace *keyspace, struct entry *entry, size_t length)
{
    entry->length_bin = length_bin(length) & (LENGTH_BINS - 1); /* none has 2^63 */
    keyspace->lengths[entry->object_kind][entry->length_bin]++;
}

/* The value of an entry goes. */
static inline void forget_length(struct keyspace *keyspace, const struct entry *entry)
{
    keyspace->lengths[entry->object_kind][entry->length_bin]--;
}

/* It has another length. */
static inline void change_length(struct keyspace *keyspace, struct entry *entry, size_t length)
{
    if (UNLIKELY(length_bin(length) != entry->length_bin)) {
        forget_length(keyspace, entry);
        count_length(keyspace, entry, length);
    }
}

/* --- Buckets --- */

#define ADDRESS_MASK 0x0000FFFFFFFFFFFEULL

static inline struct entry *bucket_entry(bucket bucket)
{
    return (struct entry *)(uintptr_t)(bucket & ADDRESS_MASK);
}

static inline uint64_t tag_of(uint64_t hash)
{
    return hash & 0xFFFF;
}

static inline bucket make_bucket(uint64_t tag, const struct entry *entry)
{
    /* No system that we run on gives user memory above 47 bits of address without being asked to. */
    if (UNLIKELY((uintptr_t)entry & ~ADDRESS_MASK)) {
        fprintf(stderr, "kora: memory at %p cannot be addressed by a bucket\n", (void *)entry);
        abort();
    }
    return tag << 48 | (uintptr_t)entry | (entry->flags & FLAG_DEADLINE ? BUCKET_VOLATILE : 0);
}

static inline size_t buckets_count(const struct table *table)
{
    return table->buckets == NULL ? 0 : (size_t)1 << table->bits;
}

/* How many keys a table may hold before it grows: one bucket at least is empty, so that a look-up ends. */
static inline uint32_t count_max(unsigned bits)
{
    uint32_t count = 1u << bits;
    return count - (count >= 16 ? count / 8 : 1);
}

#define TABLE_BITS_MIN 2

static void put_bucket(struct table *table, bucket bucket)
{
    size_t mask = ((size_t)1 << table->bits) - 1;
    size_t place = bucket >> 48 & mask;
    while (table->buckets[place])
        place = (place + 1) & mask;
    table->buckets[place] = bucket;
}

/* Move a table's buckets to an array of another size.  Entries are not looked at: a bucket's tag tells its place. */
static void resize(struct table *table, unsigned bits, struct shard_stats *stats)
{
    bucket *old = table->buckets;
    size_t old_count = buckets_count(table);
    table->buckets = allocate_zeroed(sizeof(bucket) << bits);
    table->bits = (uint8_t)bits;
    for (size_t place = 0; place < old_count; place++)
        if (old[place])
            put_bucket(table, old[place]);
    stats->memory_bytes += (int64_t)block_bytes(table->buckets) - (int64_t)block_bytes(old);
    free(old);
}

/* The place of an entry that is known to be in the table. */
static size_t place_of(const struct table *table, uint64_t hash, const struct entry *entry)
{
    size_t mask = ((size_t)1 << table->bits) - 1;
    size_t place = tag_of(hash) & mask;
    while (bucket_entry(table->buckets[place]) != entry)
        place = (place + 1) & mask;
    return place;
}

/* Empty a place, and shift back what had to pass it on its way: there are no tombstones. */
static void clear_place(struct table *table, size_t place)
{
    size_t mask = ((size_t)1 << table->bits) - 1;
    size_t next = place;
    for (;;) {
        next = (next + 1) & mask;
        bucket moving = table->buckets[next];
        if (!moving)
            break;
        size_t wanted = moving >> 48 & mask;
        /* It may move to the gap only if the gap is not in front of where its search begins. */
        if (((next - wanted) & mask) >= ((next - place) & mask)) {
            table->buckets[place] = moving;
            place = next;
        }
    }
    table->buckets[place] = 0;
}

/* --- Splits --- */

static inline size_t split_place(const struct split *split, uint64_t hash)
{
    return hash >> 16 & (((size_t)1 << split->bits) - 1);
}

/* The table that has, or would have, keys of a slot with a hash. */
static inline struct table *part_of(struct table *slot, uint64_t hash)
{
    if (LIKELY(slot->bits != TABLE_SPLIT))
        return slot;
    return slot->split->parts[split_place(slot->split, hash)];
}

/* Divide the part in some place by the next bit of its keys' hashes. */
static void split_part(struct kernel *kernel, struct split *split, size_t place, struct shard_stats *stats)
{
    struct table *low = split->parts[place];
    unsigned depth = low->depth;
    if (depth == split->bits) {
        size_t count = (size_t)1 << split->bits;
        int64_t before = (int64_t)block_bytes(split->parts);
        split->parts = reallocate(split->parts, 2 * count * sizeof *split->parts);
        memcpy(split->parts + count, split->parts, count * sizeof *split->parts);
        split->bits++;
        stats->memory_bytes += (int64_t)block_bytes(split->parts) - before;
    }
    struct table *high = allocate_zeroed(sizeof *high);
    stats->memory_bytes += (int64_t)block_bytes(high);
    bucket *old = low->buckets;
    size_t old_count = buckets_count(low);
    low->depth = high->depth = (uint8_t)(depth + 1);
    low->count = high->count = low->volatile_count = high->volatile_count = 0;
    low->buckets = NULL;
    resize(low, TABLE_BITS_MAX, stats);
    resize(high, TABLE_BITS_MAX, stats);
    /* The only time that hashes are worked out again, so the only time that growing looks at entries. */
    enum { AHEAD = 8 };
    for (size_t at = 0; at < old_count; at++) {
        if (at + AHEAD < old_count && old[at + AHEAD])
            PREFETCH(bucket_entry(old[at + AHEAD]));
        if (!old[at])
            continue;
        struct text key = entry_key(bucket_entry(old[at]));
        uint64_t hash = keyed_hash(kernel->secret, key.data, key.bytes);
        struct table *half = hash >> (16 + depth) & 1 ? high : low;
        put_bucket(half, old[at]);
        half->count++;
        half->volatile_count += old[at] & BUCKET_VOLATILE;
    }
    stats->memory_bytes -= (int64_t)block_bytes(old);
    free(old);
    size_t bit = (size_t)1 << depth;
    for (size_t other = place & (bit - 1); other < (size_t)1 << split->bits; other += bit)
        split->parts[other] = other & bit ? high : low;
}

static void make_split(struct table *slot, struct shard_stats *stats)
{
    struct split *split = allocate(sizeof *split);
    split->bits = 0;
    split->parts = allocate(sizeof *split->parts);
    split->parts[0] = allocate(sizeof **split->parts);
    *split->parts[0] = *slot;
    slot->split = split;
    slot->bits = TABLE_SPLIT;
    stats->memory_bytes += (int64_t)(block_bytes(split) + block_bytes(split->parts) + block_bytes(split->parts[0]));
}

/* Whether a place is the first of those where its part stands: so that each part is met once. */
static inline bool is_first_place(const struct split *split, size_t place)
{
    return place >> split->parts[place]->depth == 0;
}

/* Free the arrays of a slot without keys, and make it as new. */
static void forget_arrays(struct table *slot, struct shard_stats *stats)
{
    if (slot->bits == TABLE_SPLIT) {
        struct split *split = slot->split;
        /* From the end: a part's first place is the last that is looked at, and only then it is freed. */
        for (size_t place = (size_t)1 << split->bits; place-- > 0;) {
            if (is_first_place(split, place)) {
                struct table *part = split->parts[place];
                stats->memory_bytes -= (int64_t)(block_bytes(part->buckets) + block_bytes(part));
                free(part->buckets);
                free(part);
            }
        }
        stats->memory_bytes -= (int64_t)(block_bytes(split->parts) + block_bytes(split));
        free(split->parts);
        free(split);
    } else {
        stats->memory_bytes -= (int64_t)block_bytes(slot->buckets);
        free(slot->buckets);
    }
    *slot = (struct table){0};
}

/* --- Databases --- */

void keyspace_init(struct keyspace *keyspace, struct kernel *kernel)
{
    *keyspace = (struct keyspace){.kernel = kernel};
}

void keyspace_free(struct keyspace *keyspace)
{
    struct discarded rest = {.slots = keyspace->slots, .slots_count = SLOTS};
    discarded_free(keyspace->kernel, &rest);
    keyspace->slots = NULL;
    free(keyspace->attended);
    keyspace->attended = NULL;
    backing_free(keyspace);
}

struct key key_of(const struct kernel *kernel, const char *data, size_t bytes)
{
    return (struct key){data, bytes, keyed_hash(kernel->secret, data, bytes), slot_of(data, bytes)};
}

static inline struct shard_stats *stats_of(const struct keyspace *keyspace, unsigned slot)
{
    return keyspace->by_run[slot >> RUN_BITS];
}

/* The entry of a key, whether or not its time is over; sets *found to its table. */
static inline struct entry *look_up(struct keyspace *keyspace, const struct key *key, struct table **found)
{
    if (UNLIKELY(keyspace->slots == NULL))
        return NULL;
    struct table *table = part_of(&keyspace->slots[key->slot], key->hash);
    if (UNLIKELY(table->buckets == NULL))
        return NULL;
    *found = table;
    size_t mask = ((size_t)1 << table->bits) - 1;
    uint64_t tag = tag_of(key->hash);
    for (size_t place = tag & mask;; place = (place + 1) & mask) {
        bucket bucket = table->buckets[place];
        if (!bucket)
            return NULL;
        if (bucket >> 48 != tag)
            continue;
        struct entry *entry = bucket_entry(bucket);
        if (LIKELY(entry->key_bytes == key->bytes && is_same(key_data(entry), key->data, key->bytes)))
            return entry;
    }
}

/* --- Who wants to know --- */

static inline uint32_t *attended_place(const struct keyspace *keyspace, uint64_t hash)
{
    return &keyspace->attended[hash & ((1u << ATTENDED_BITS) - 1)];
}

static inline void tell(struct keyspace *keyspace, uint64_t hash, const char *key, size_t bytes)
{
    if (UNLIKELY(keyspace->attends_all || (keyspace->attended != NULL && *attended_place(keyspace, hash) != 0)))
        keyspace->kernel->touched(keyspace->owner, key, bytes);
}

static void tell_end(struct keyspace *keyspace, uint64_t hash, const char *key, size_t bytes)
{
    tell(keyspace, hash, key, bytes);
    if (UNLIKELY(keyspace->kernel->journal.on)) {
        struct text words[] = {WORD("DEL"), {key, bytes}};
        journal_append(&keyspace->kernel->journal, keyspace->index, words, 2);
    }
    if (keyspace->tells_ends)
        keyspace->kernel->ended(keyspace->owner, key, bytes);
}

void keyspace_changed(struct keyspace *keyspace, const struct key *key)
{
    keyspace->changes++;
    tell(keyspace, key->hash, key->data, key->bytes);
}

void keyspace_attend(struct keyspace *keyspace, const struct key *key)
{
    if (keyspace->attended == NULL)
        keyspace->attended = allocate_zeroed(sizeof *keyspace->attended << ATTENDED_BITS);
    ++*attended_place(keyspace, key->hash);
    keyspace->attended_count++;
}

void keyspace_disregard(struct keyspace *keyspace, const struct key *key)
{
    --*attended_place(keyspace, key->hash);
    if (--keyspace->attended_count == 0) {
        free(keyspace->attended);
        keyspace->attended = NULL;
    }
}

/* Take an entry out of its table, and free it. */
static inline void take_out(struct keyspace *keyspace, unsigned slot, uint64_t hash, struct table *table,
                            struct entry *entry)
{
    struct shard_stats *stats = stats_of(keyspace, slot);
    struct table *whole = &keyspace->slots[slot];
    unsigned is_volatile = entry->flags & FLAG_DEADLINE ? 1 : 0;
    clear_place(table, place_of(table, hash, entry));
    table->count--;
    table->volatile_count -= is_volatile;
    if (whole != table) {
        whole->count--;
        whole->volatile_count -= is_volatile;
    }
    keyspace->count--;
    keyspace->volatile_count -= is_volatile;
    keyspace->counts_by_run[slot >> RUN_BITS]--;
    forget_length(keyspace, entry);
    stats->memory_bytes -= entry_bytes(keyspace->kernel, entry);
    if (whole->count == 0)
        forget_arrays(whole, stats);
    else if (table->bits > TABLE_BITS_MIN && table->count < 1u << table->bits >> 3)
        resize(table, table->bits - 1u, stats);
    /* Last, since giving back an object may run Python. */
    release_value(keyspace->kernel, entry);
    free(entry);
}

/* Remove an entry that was just looked up. */
static void remove_entry(struct keyspace *keyspace, unsigned slot, uint64_t hash, struct table *table,
                         struct entry *entry)
{
    preserve(keyspace, entry);
    if (UNLIKELY(keyspace->backing != NULL))
        backing_gone(keyspace, slot, hash, entry);
    stats_of(keyspace, slot)->keys--;
    take_out(keyspace, slot, hash, table, entry);
}

/* Free an entry whose key stays, since the store has it. */
static void drop_entry(struct keyspace *keyspace, unsigned slot, struct entry *entry)
{
    struct text key = entry_key(entry);
    uint64_t hash = keyed_hash(keyspace->kernel->secret, key.data, key.bytes);
    take_out(keyspace, slot, hash, part_of(&keyspace->slots[slot], hash), entry);
}

struct entry *keyspace_find(struct keyspace *keyspace, const struct key *key)
{
    keyspace->stats = stats_of(keyspace, key->slot);
    struct table *table;
    struct entry *entry = look_up(keyspace, key, &table);
    if (entry != NULL && UNLIKELY(entry->flags & FLAG_DEADLINE) &&
        entry_deadline_ms(entry) < kernel_now_ms(keyspace->kernel)) {
        remove_entry(keyspace, key->slot, key->hash, table, entry);
        keyspace->stats->expired++;
        tell_end(keyspace, key->hash, key->data, key->bytes);
        return NULL;
    }
    return entry;
}

void keyspace_delete(struct keyspace *keyspace, const struct key *key)
{
    struct table *table = NULL;
    struct entry *entry = look_up(keyspace, key, &table);
    remove_entry(keyspace, key->slot, key->hash, table, entry);
    keyspace_changed(keyspace, key);
}

struct entry *keyspace_peek(struct keyspace *keyspace, const struct key *key)
{
    keyspace->stats = stats_of(keyspace, key->slot);
    struct table *table;
    return look_up(keyspace, key, &table);
}

/* Room for another key: the table in which it will be. */
static struct table *room_for(struct keyspace *keyspace, const struct key *key, struct shard_stats *stats)
{
    if (UNLIKELY(keyspace->slots == NULL))
        keyspace->slots = allocate_zeroed(SLOTS * sizeof *keyspace->slots);
    struct table *slot = &keyspace->slots[key->slot];
    for (;;) {
        struct table *table = part_of(slot, key->hash);
        if (UNLIKELY(table->buckets == NULL)) {
            resize(table, TABLE_BITS_MIN, stats);
            return table;
        }
        if (LIKELY(table->count < count_max(table->bits)))
            return table;
        if (table->bits < TABLE_BITS_MAX) {
            resize(table, table->bits + 1u, stats);
            return table;
        }
        if (slot->bits != TABLE_SPLIT)
            make_split(slot, stats);
        /* Again, should all keys have gone to the same half. */
        split_part(keyspace->kernel, slot->split, split_place(slot->split, key->hash), stats);
    }
}

static void fill_header(struct entry *entry, const struct key *key, enum kind kind, unsigned flags, size_t value_bytes,
                        uint32_t now_s)
{
    entry->key_bytes = (uint32_t)key->bytes;
    entry->value_bytes = (uint32_t)value_bytes;
    entry->touched_s = now_s;
    entry->kind = kind & 3;
    entry->flags = flags & (FLAG_DEADLINE | FLAG_RAW);
    entry->key_at = (uint8_t)(PAYLOAD_BYTES[kind] + (flags & FLAG_DEADLINE ? sizeof(int64_t) : 0));
    entry->object_kind = NO_OBJECT;
}

static inline size_t bytes_needed(const struct key *key, enum kind kind, unsigned flags, size_t value_bytes)
{
    return sizeof(struct entry) + PAYLOAD_BYTES[kind] + (flags & FLAG_DEADLINE ? sizeof(int64_t) : 0) + key->bytes +
           value_bytes;
}

/* What comes into the entry, and its length, is for the caller to fill in. */
static struct entry *insert(struct keyspace *keyspace, const struct key *key, enum kind kind, unsigned flags,
                            size_t value_bytes)
{
    struct shard_stats *stats = stats_of(keyspace, key->slot);
    struct entry *entry = allocate(bytes_needed(key, kind, flags, value_bytes));
    fill_header(entry, key, kind, flags, value_bytes, keyspace->now_s);
    entry->epoch = keyspace->kernel->saving.epoch & (EPOCHS - 1);
    memcpy(key_data(entry), key->data, key->bytes);
    struct table *table = room_for(keyspace, key, stats);
    put_bucket(table, make_bucket(tag_of(key->hash), entry));
    struct table *slot = &keyspace->slots[key->slot];
    unsigned is_volatile = flags & FLAG_DEADLINE ? 1 : 0;
    table->count++;
    table->volatile_count += is_volatile;
    if (slot != table) {
        slot->count++;
        slot->volatile_count += is_volatile;
    }
    keyspace->count++;
    keyspace->volatile_count += is_volatile;
    keyspace->counts_by_run[key->slot >> RUN_BITS]++;
    stats->keys++;
    stats->memory_bytes += (int64_t)block_bytes(entry);
    if (UNLIKELY(keyspace->backing != NULL))
        backing_born(keyspace, key, entry, stats);
    return entry;
}

/* Give an entry another kind, flags and inline length.  Its deadline stays if it had one and will have one, and so does
 * its value if its kind stays the same; anything else is for the caller to fill in, and what the old value held beside
 * the entry is for the caller to give back, before.  So are lengths: forgotten before, or changed.  The entry may move. */
static struct entry *reshape(struct keyspace *keyspace, const struct key *key, struct entry *entry, enum kind kind,
                             unsigned flags, size_t value_bytes)
{
    struct shard_stats *stats = stats_of(keyspace, key->slot);
    bool keeps_payload = entry->kind == kind;
    bool had_deadline = entry->flags & FLAG_DEADLINE, has_deadline = flags & FLAG_DEADLINE;
    int64_t deadline_ms = had_deadline ? entry_deadline_ms(entry) : 0;
    char kept[sizeof(struct large)];
    memcpy(kept, payload(entry), keeps_payload ? PAYLOAD_BYTES[kind] : 0);
    size_t kept_bytes = keeps_payload && kind == STRING ? entry->value_bytes : 0;
    if (kept_bytes > value_bytes)
        kept_bytes = value_bytes;

    size_t needed = bytes_needed(key, kind, flags, value_bytes), usable = usable_bytes(entry);
    struct entry *old = entry;
    char *old_key = key_data(old);
    bool moves = needed > usable || (needed < usable / 2 && usable > 64);
    if (moves) {
        /* What grows will grow again: an eighth of the room is for that, beyond small sizes. */
        entry = allocate(needed + (needed > usable && value_bytes > 256 ? needed / 8 : 0));
        entry->touched_s = old->touched_s;
    }
    uint8_t object_kind = keeps_payload ? old->object_kind : (uint8_t)NO_OBJECT;
    uint8_t bin = old->length_bin, epoch = old->epoch;
    fill_header(entry, key, kind, flags, value_bytes, entry->touched_s);
    entry->object_kind = object_kind;
    entry->length_bin = bin & (LENGTH_BINS - 1);
    entry->epoch = epoch & (EPOCHS - 1);
    memmove(key_data(entry), old_key, key->bytes + kept_bytes);
    memcpy(payload(entry), kept, keeps_payload ? PAYLOAD_BYTES[kind] : 0);
    if (has_deadline)
        memcpy(entry->body, &deadline_ms, sizeof deadline_ms);

    if (moves || had_deadline != has_deadline) {
        struct table *slot = &keyspace->slots[key->slot];
        struct table *table = part_of(slot, key->hash);
        table->buckets[place_of(table, key->hash, old)] = make_bucket(tag_of(key->hash), entry);
        if (had_deadline != has_deadline) {
            uint32_t change = has_deadline ? 1 : (uint32_t)-1;
            table->volatile_count += change;
            if (slot != table)
                slot->volatile_count += change;
            keyspace->volatile_count += has_deadline ? 1 : (uint64_t)-1;
            struct backing *backing = keyspace->backing;
            if (backing != NULL && backing->is_loading)
                entry->epoch |= STATE_VOLATILE; /* it was counted before */
            else if (backing != NULL)
                backing->volatile_count += has_deadline ? 1 : (uint64_t)-1;
        }
    }
    if (moves) {
        stats->memory_bytes += (int64_t)block_bytes(entry) - (int64_t)block_bytes(old);
        free(old);
    }
    return entry;
}

/* An entry for a new value of some kind: inserted, or given that shape, its old value given back.  The new one's length
 * is for the caller to count. */
static struct entry *prepare(struct keyspace *keyspace, const struct key *key, struct entry *entry, enum kind kind,
                             size_t value_bytes)
{
    if (entry == NULL)
        return insert(keyspace, key, kind, 0, value_bytes);
    void *object = entry->kind == OBJECT ? entry_object(entry) : NULL;
    stats_of(keyspace, key->slot)->memory_bytes -= held_bytes(keyspace->kernel, entry);
    forget_length(keyspace, entry);
    if (entry->kind == LARGE) {
        free(large_of(entry).block);
        /* Not to be kept by reshape(), which the old kind would make it do. */
        memset(payload(entry), 0, sizeof(struct large));
    }
    entry = reshape(keyspace, key, entry, kind, entry->flags & FLAG_DEADLINE, value_bytes);
    entry->touched_s = keyspace->now_s;
    if (object != NULL) {
        /* Only what is in the entry now is the keyspace's: giving back may run Python that looks at it. */
        if (kind == OBJECT) {
            void *none = NULL;
            memcpy(payload(entry), &none, sizeof none);
        }
        keyspace->kernel->release(keyspace->kernel, object);
    }
    return entry;
}

static struct entry *store_large(struct keyspace *keyspace, const struct key *key, struct entry *entry, char *block,
                                 size_t bytes, size_t capacity)
{
    entry = prepare(keyspace, key, entry, LARGE, 0);
    struct large large = {block, bytes, capacity};
    memcpy(payload(entry), &large, sizeof large);
    stats_of(keyspace, key->slot)->memory_bytes += (int64_t)block_bytes(block);
    count_length(keyspace, entry, bytes);
    return entry;
}

struct entry *keyspace_store(struct keyspace *keyspace, const struct key *key, struct entry *entry,
                             struct argument *value)
{
    if (UNLIKELY(value->bytes >= LARGE_BYTES_MIN)) {
        char *block = value->block;
        size_t capacity = value->block_capacity;
        if (block != NULL) {
            value->block = NULL;
            value->block_capacity = BLOCK_TAKEN;
            if (capacity > value->bytes + value->bytes / 8)
                value->data = block = reallocate(block, capacity = value->bytes);
        } else {
            block = allocate(capacity = value->bytes);
            memcpy(block, value->data, value->bytes);
        }
        return store_large(keyspace, key, entry, block, value->bytes, capacity);
    }
    int64_t integer;
    if (value->bytes <= INTEGER_BYTES_MAX && parse_integer(value->data, value->bytes, &integer))
        return keyspace_store_integer(keyspace, key, entry, integer);
    if (entry != NULL && entry->kind == STRING && entry->value_bytes == value->bytes) {
        entry->flags &= FLAG_DEADLINE; /* the usual case of all: a value of the same size */
    } else {
        entry = prepare(keyspace, key, entry, STRING, value->bytes);
        count_length(keyspace, entry, value->bytes);
    }
    entry->touched_s = keyspace->now_s;
    memcpy(value_data(entry), value->data, value->bytes);
    return entry;
}

struct entry *keyspace_store_edited(struct keyspace *keyspace, const struct key *key, struct argument *value)
{
    struct entry *entry;
    if (value->bytes >= LARGE_BYTES_MIN) {
        entry = keyspace_store(keyspace, key, NULL, value);
    } else {
        entry = prepare(keyspace, key, NULL, STRING, value->bytes);
        count_length(keyspace, entry, value->bytes);
        memcpy(value_data(entry), value->data, value->bytes);
    }
    entry->flags |= FLAG_RAW;
    return entry;
}

struct entry *keyspace_store_integer(struct keyspace *keyspace, const struct key *key, struct entry *entry,
                                     int64_t value)
{
    if (entry == NULL || entry->kind != INTEGER) {
        entry = prepare(keyspace, key, entry, INTEGER, 0);
        count_length(keyspace, entry, integer_bytes(value));
    } else {
        change_length(keyspace, entry, integer_bytes(value));
    }
    entry->touched_s = keyspace->now_s;
    memcpy(payload(entry), &value, sizeof value);
    return entry;
}

struct entry *keyspace_store_object(struct keyspace *keyspace, const struct key *key, struct entry *entry, void *object,
                                    enum object_kind object_kind)
{
    const struct kernel *kernel = keyspace->kernel;
    entry = prepare(keyspace, key, entry, OBJECT, 0);
    memcpy(payload(entry), &object, sizeof object);
    entry->object_kind = (uint8_t)object_kind;
    if (object_kind != OTHER_OBJECT) {
        struct value *value = entry_value(entry);
        value->counted = value->bytes + (int64_t)kernel->object_head_bytes[object_kind];
    }
    stats_of(keyspace, key->slot)->memory_bytes += object_bytes(kernel, entry);
    count_length(keyspace, entry, object_length(kernel, entry));
    return entry;
}

struct entry *keyspace_make_object(struct keyspace *keyspace, const struct key *key, enum object_kind object_kind)
{
    void *object = keyspace->kernel->make_object(keyspace->kernel, object_kind);
    return object == NULL ? NULL : keyspace_store_object(keyspace, key, NULL, object, object_kind);
}

bool keyspace_updated(struct keyspace *keyspace, const struct key *key, struct entry *entry, bool is_empty)
{
    if (is_empty) {
        keyspace_delete(keyspace, key);
        return false;
    }
    struct value *value = entry_value(entry);
    int64_t size_bytes = value->bytes + (int64_t)keyspace->kernel->object_head_bytes[entry->object_kind];
    stats_of(keyspace, key->slot)->memory_bytes += size_bytes - value->counted;
    value->counted = size_bytes;
    change_length(keyspace, entry, object_length(keyspace->kernel, entry));
    entry->touched_s = keyspace->now_s;
    keyspace_changed(keyspace, key);
    return true;
}

void keyspace_count_anew(struct keyspace *keyspace, struct entry *entry)
{
    change_length(keyspace, entry, object_length(keyspace->kernel, entry));
}

void keyspace_set(struct keyspace *keyspace, const struct key *key, struct argument *value)
{
    struct entry *entry = keyspace_find(keyspace, key);
    if (entry != NULL && UNLIKELY(entry->flags & FLAG_DEADLINE))
        entry = keyspace_drop_deadline(keyspace, key, entry);
    keyspace_store(keyspace, key, entry, value);
    keyspace_changed(keyspace, key);
}

struct entry *keyspace_edit(struct keyspace *keyspace, const struct key *key, struct entry *entry, size_t offset,
                            struct text part)
{
    size_t stop = offset + part.bytes;
    char digits[INTEGER_BYTES_MAX];
    if (entry == NULL) {
        entry = insert(keyspace, key, STRING, 0, 0);
        count_length(keyspace, entry, 0);
    } else if (entry->kind == INTEGER) {
        struct text text = entry_string(entry, digits);
        entry = prepare(keyspace, key, entry, STRING, text.bytes);
        count_length(keyspace, entry, text.bytes);
        memcpy(value_data(entry), text.data, text.bytes);
    }
    entry->flags |= FLAG_RAW;
    entry->touched_s = keyspace->now_s;
    size_t length = entry->kind == STRING ? entry->value_bytes : large_of(entry).bytes;
    size_t grown = stop > length ? stop : length;
    char *data;
    if (entry->kind == STRING && grown < LARGE_BYTES_MIN) {
        if (grown > length) {
            entry = reshape(keyspace, key, entry, STRING, entry->flags, grown);
            entry->flags |= FLAG_RAW;
        }
        data = value_data(entry);
    } else {
        struct shard_stats *stats = stats_of(keyspace, key->slot);
        if (entry->kind == STRING) {
            char *block = allocate(grown);
            memcpy(block, value_data(entry), length);
            entry = store_large(keyspace, key, entry, block, length, grown);
            entry->flags |= FLAG_RAW;
        }
        struct large large = large_of(entry);
        if (grown > large.capacity) {
            /* As sds does: double, but never by more than a megabyte at once. */
            int64_t before = (int64_t)block_bytes(large.block);
            large.capacity = grown + (grown < 1 << 20 ? grown : 1 << 20);
            large.block = reallocate(large.block, large.capacity);
            stats->memory_bytes += (int64_t)block_bytes(large.block) - before;
        }
        large.bytes = grown;
        memcpy(payload(entry), &large, sizeof large);
        data = large.block;
    }
    change_length(keyspace, entry, grown);
    if (offset > length)
        memset(data + length, 0, offset - length);
    memcpy(data + offset, part.data, part.bytes);
    keyspace_changed(keyspace, key);
    return entry;
}

struct entry *keyspace_set_deadline(struct keyspace *keyspace, const struct key *key, struct entry *entry,
                                    int64_t deadline_ms)
{
    if (!(entry->flags & FLAG_DEADLINE))
        entry = reshape(keyspace, key, entry, entry->kind, entry->flags | FLAG_DEADLINE, entry->value_bytes);
    memcpy(entry->body, &deadline_ms, sizeof deadline_ms);
    return entry;
}

struct entry *keyspace_drop_deadline(struct keyspace *keyspace, const struct key *key, struct entry *entry)
{
    return reshape(keyspace, key, entry, entry->kind, entry->flags & ~FLAG_DEADLINE, entry->value_bytes);
}

void keyspace_move(struct keyspace *keyspace, const struct key *key, struct keyspace *target_keyspace,
                   const struct key *target)
{
    struct table *table = NULL;
    struct entry *entry = look_up(keyspace, key, &table);
    preserve(keyspace, entry);
    struct shard_stats *stats = stats_of(keyspace, key->slot);
    enum kind kind = entry->kind;
    bool ends = entry_has_deadline(entry);
    int64_t deadline_ms = ends ? entry_deadline_ms(entry) : 0;
    uint8_t raw = entry->flags & FLAG_RAW;
    enum object_kind object_kind = entry->object_kind;
    struct large large = {0};
    int64_t integer = 0;
    void *object = NULL;
    /* Take the value out, so that removing the entry does not free it. */
    if (kind == LARGE) {
        large = large_of(entry);
        stats->memory_bytes -= (int64_t)block_bytes(large.block);
        memset(payload(entry), 0, sizeof large);
    } else if (kind == OBJECT) {
        object = entry_object(entry);
        stats->memory_bytes -= object_bytes(keyspace->kernel, entry);
        entry->kind = INTEGER; /* of the same size */
    } else if (kind == INTEGER) {
        integer = entry_integer(entry);
    } else {
        large.bytes = entry->value_bytes;
        large.block = allocate(large.bytes);
        memcpy(large.block, value_data(entry), large.bytes);
    }
    remove_entry(keyspace, key->slot, key->hash, table, entry);
    tell(keyspace, key->hash, key->data, key->bytes);

    entry = keyspace_find(target_keyspace, target);
    if (entry != NULL)
        preserve(target_keyspace, entry);
    if (entry != NULL && entry_has_deadline(entry))
        entry = keyspace_drop_deadline(target_keyspace, target, entry);
    if (kind == LARGE) {
        entry = store_large(target_keyspace, target, entry, large.block, large.bytes, large.capacity);
    } else if (kind == OBJECT) {
        entry = keyspace_store_object(target_keyspace, target, entry, object, object_kind);
    } else if (kind == INTEGER) {
        entry = keyspace_store_integer(target_keyspace, target, entry, integer);
    } else {
        entry = prepare(target_keyspace, target, entry, STRING, large.bytes);
        count_length(target_keyspace, entry, large.bytes);
        memcpy(value_data(entry), large.block, large.bytes);
        free(large.block);
    }
    entry->flags = (entry->flags & FLAG_DEADLINE) | (raw & FLAG_RAW);
    if (ends)
        keyspace_set_deadline(target_keyspace, target, entry, deadline_ms);
    keyspace_changed(target_keyspace, target);
}

void keyspace_swap(struct keyspace *keyspace, struct keyspace *other)
{
    struct keyspace kept = *keyspace;
    keyspace->slots = other->slots;
    keyspace->count = other->count;
    keyspace->volatile_count = other->volatile_count;
    memcpy(keyspace->counts_by_run, other->counts_by_run, sizeof keyspace->counts_by_run);
    memcpy(keyspace->lengths, other->lengths, sizeof keyspace->lengths);
    keyspace->saved = other->saved;
    keyspace->backing = other->backing;
    other->slots = kept.slots;
    other->count = kept.count;
    other->volatile_count = kept.volatile_count;
    memcpy(other->counts_by_run, kept.counts_by_run, sizeof other->counts_by_run);
    memcpy(other->lengths, kept.lengths, sizeof other->lengths);
    other->saved = kept.saved;
    other->backing = kept.backing;
}

/* --- Walks --- */

/* The number after `place` when numbers of so many bits are counted from the top bit down; 0 after the last. */
static uint64_t next_reversed(uint64_t place, unsigned bits)
{
    uint64_t bit = (uint64_t)1 << bits >> 1;
    while (bit && place & bit) {
        place ^= bit;
        bit >>= 1;
    }
    return place | bit;
}

/* The table at a place of a slot, and the place that follows.
 *
 * Places of a split are counted in reversed bit order, as in Redis' dictScan: when parts have split since the last
 * step, the places that follow are exactly the halves of parts not yet visited. */
static struct table *step(struct table *slot, uint64_t *place)
{
    if (slot->bits != TABLE_SPLIT) {
        *place = 0;
        return slot;
    }
    struct split *split = slot->split;
    struct table *part = split->parts[*place & (((size_t)1 << split->bits) - 1)];
    *place = next_reversed(*place & (((uint64_t)1 << part->depth) - 1), part->depth);
    return part;
}

uint64_t keyspace_walk(struct keyspace *keyspace, unsigned slot, uint64_t place, visit visit, void *context)
{
    if (keyspace->slots == NULL)
        return 0;
    struct table *table = step(&keyspace->slots[slot], &place);
    for (size_t at = 0; at < buckets_count(table); at++)
        if (table->buckets[at])
            visit(context, bucket_entry(table->buckets[at]));
    return place;
}

/* Save what is unsaved in one table; false where it ended before.  It is begun anew then, since a command may have moved
 * what is in it, and passes over what is saved by now. */
static bool save_table(struct kernel *kernel, struct table *table, uint32_t database, int64_t stop_ns,
                       uint64_t *records_left)
{
    /* What is saved between two looks at the clock: a dozen microseconds. */
    enum { AHEAD = 8, RECORDS = 32, BYTES = 8192 };
    struct saving *saving = &kernel->saving;
    uint64_t unlooked = 0;
    size_t bytes = saving->out.bytes;
    size_t buckets = buckets_count(table);
    for (size_t at = 0; at < buckets; at++) {
        if (at + AHEAD < buckets && table->buckets[at + AHEAD])
            PREFETCH(bucket_entry(table->buckets[at + AHEAD]));
        if (!table->buckets[at])
            continue;
        struct entry *entry = bucket_entry(table->buckets[at]);
        if (is_saved(saving, entry))
            continue;
        if (*records_left == 0)
            return false;
        if (unlooked == RECORDS || saving->out.bytes - bytes >= BYTES) {
            if (clock_monotonic_ns(&kernel->clock) >= stop_ns)
                return false;
            unlooked = 0;
            bytes = saving->out.bytes;
        }
        save_entry(kernel, entry, database);
        unlooked++;
        --*records_left;
    }
    return true;
}

bool saving_walk(struct kernel *kernel, struct table *slots, unsigned slots_count, struct saved_part *part,
                 int64_t stop_ns, uint64_t records_max)
{
    while (slots != NULL && part->slot < slots_count) {
        struct table *slot = &slots[part->slot];
        uint64_t place = part->place;
        if (slot->count > 0) {
            if (!save_table(kernel, step(slot, &place), part->database, stop_ns, &records_max))
                return false;
        } else {
            place = 0;
        }
        part->place = place;
        if (place == 0)
            part->slot++;
        if (slot->count > 0 && clock_monotonic_ns(&kernel->clock) >= stop_ns)
            return false;
    }
    part->slot = slots_count;
    return true;
}

/* Remove an entry because its time is over. */
static void end_entry(struct keyspace *keyspace, unsigned slot, struct table *table, struct entry *entry)
{
    struct text key = entry_key(entry);
    uint64_t hash = keyed_hash(keyspace->kernel->secret, key.data, key.bytes);
    tell_end(keyspace, hash, key.data, key.bytes); /* now, since the key's bytes go with the entry */
    remove_entry(keyspace, slot, hash, table, entry);
    stats_of(keyspace, slot)->expired++;
}

struct expired keyspace_expire_due(struct keyspace *keyspace, unsigned slot, uint64_t place, int64_t now_ms,
                                   uint64_t deleted_max)
{
    enum { DUE_MAX = 128 };
    struct expired result = {.place = 0, .deadline_ms = -1};
    if (keyspace->slots == NULL)
        return result;
    struct entry *due[DUE_MAX];
    size_t due_count = 0;
    if (deleted_max > DUE_MAX)
        deleted_max = DUE_MAX;
    struct table *table = step(&keyspace->slots[slot], &place);
    result.place = place;
    result.looked = table->volatile_count;
    uint64_t left = table->volatile_count;
    for (size_t at = 0; left > 0 && due_count < deleted_max; at++) {
        if (!(table->buckets[at] & BUCKET_VOLATILE))
            continue;
        left--;
        struct entry *entry = bucket_entry(table->buckets[at]);
        int64_t deadline_ms = entry_deadline_ms(entry);
        if (deadline_ms < now_ms)
            due[due_count++] = entry;
        else if (result.deadline_ms < 0)
            result.deadline_ms = deadline_ms;
    }
    /* There may be more in the same table: only these count as looked at, so that each key is counted once. */
    if (due_count == deleted_max)
        result.looked = deleted_max;
    result.deleted = due_count;
    for (size_t at = 0; at < due_count; at++)
        end_entry(keyspace, slot, table, due[at]);
    return result;
}

static uint64_t random_below(struct kernel *kernel, uint64_t limit)
{
    return (uint64_t)(((unsigned __int128)kernel_random(kernel) * limit) >> 64);
}

static struct entry *random_of(struct kernel *kernel, const struct table *table)
{
    for (;;) {
        bucket bucket = table->buckets[random_below(kernel, (uint64_t)1 << table->bits)];
        if (bucket)
            return bucket_entry(bucket);
    }
}

/* A part, drawn in proportion to its keys: a part of small depth stands in many places, and is drawn the less often. */
static struct table *random_part(struct kernel *kernel, const struct table *slot)
{
    const struct split *split = slot->split;
    uint64_t places = (uint64_t)1 << split->bits;
    for (int tries = 0; tries < 64; tries++) {
        struct table *part = split->parts[random_below(kernel, places)];
        if (random_below(kernel, (uint64_t)count_max(TABLE_BITS_MAX) << (split->bits - part->depth)) < part->count)
            return part;
    }
    /* Most parts are nearly empty: walk to one that holds a key drawn by number. */
    uint64_t number = random_below(kernel, slot->count);
    for (uint64_t place = 0;; place++) {
        struct table *part = split->parts[place];
        if (!is_first_place(split, place))
            continue;
        if (number < part->count)
            return part;
        number -= part->count;
    }
}

struct entry *keyspace_random(struct keyspace *keyspace)
{
    if (keyspace->count == 0)
        return NULL;
    struct kernel *kernel = keyspace->kernel;
    uint64_t number = random_below(kernel, keyspace->count);
    unsigned run = 0;
    while (number >= keyspace->counts_by_run[run])
        number -= keyspace->counts_by_run[run++];
    unsigned slot = run << RUN_BITS;
    while (number >= keyspace->slots[slot].count)
        number -= keyspace->slots[slot++].count;
    const struct table *table = &keyspace->slots[slot];
    return random_of(kernel, table->bits == TABLE_SPLIT ? random_part(kernel, table) : table);
}

/* An entry with a deadline in a table that has one: the next from a random bucket on. */
static struct entry *random_volatile_of(struct kernel *kernel, const struct table *table)
{
    size_t mask = ((size_t)1 << table->bits) - 1;
    size_t place = random_below(kernel, mask + 1);
    while (!(table->buckets[place] & BUCKET_VOLATILE))
        place = (place + 1) & mask;
    return bucket_entry(table->buckets[place]);
}

struct entry *keyspace_random_volatile(struct keyspace *keyspace)
{
    if (keyspace->volatile_count == 0)
        return NULL;
    struct kernel *kernel = keyspace->kernel;
    unsigned slot = (unsigned)random_below(kernel, SLOTS);
    while (keyspace->slots[slot].volatile_count == 0)
        slot = (slot + 1) % SLOTS;
    const struct table *table = &keyspace->slots[slot];
    if (table->bits != TABLE_SPLIT)
        return random_volatile_of(kernel, table);
    const struct split *split = table->split;
    size_t places = (size_t)1 << split->bits, place = random_below(kernel, places);
    while (split->parts[place]->volatile_count == 0)
        place = (place + 1) & (places - 1);
    return random_volatile_of(kernel, split->parts[place]);
}

/* --- Freeing bit by bit --- */

struct discarded keyspace_discard(struct keyspace *keyspace, unsigned start, unsigned stop)
{
    struct discarded discarded = {.slots_count = stop - start};
    if (keyspace->slots == NULL)
        return discarded;
    size_t bytes = discarded.slots_count * sizeof *discarded.slots;
    discarded.slots = allocate(bytes);
    memcpy(discarded.slots, keyspace->slots + start, bytes);
    memset(keyspace->slots + start, 0, bytes);
    uint64_t volatile_count = 0;
    for (unsigned at = 0; at < discarded.slots_count; at++) {
        discarded.keys += discarded.slots[at].count;
        volatile_count += discarded.slots[at].volatile_count;
    }
    keyspace->count -= discarded.keys;
    keyspace->volatile_count -= volatile_count;
    for (unsigned run = start >> RUN_BITS; run < stop >> RUN_BITS; run++)
        keyspace->counts_by_run[run] = 0;
    stats_of(keyspace, start)->keys -= (int64_t)discarded.keys;
    if (keyspace->count == 0)
        memset(keyspace->lengths, 0, sizeof keyspace->lengths);
    return discarded;
}

/* Free at most so many entries of a table, from a bucket on; returns how many, and moves the bucket on. */
static uint64_t free_entries(struct kernel *kernel, struct table *table, size_t *bucket, struct shard_stats *stats,
                             uint64_t entries_max)
{
    uint64_t freed = 0;
    for (; *bucket < buckets_count(table) && freed < entries_max; ++*bucket) {
        if (!table->buckets[*bucket])
            continue;
        struct entry *entry = bucket_entry(table->buckets[*bucket]);
        stats->memory_bytes -= entry_bytes(kernel, entry);
        release_value(kernel, entry);
        free(entry);
        freed++;
    }
    return freed;
}

/* The table that is freed next. */
static struct table *table_to_free(const struct discarded *discarded)
{
    struct table *slot = &discarded->slots[discarded->slot];
    return slot->bits == TABLE_SPLIT ? slot->split->parts[discarded->place] : slot;
}

/* Go on from a table without entries to the next one that has any, or to the end. */
static void skip_freed(struct discarded *discarded, struct shard_stats *stats)
{
    while (discarded->slot < discarded->slots_count) {
        struct table *slot = &discarded->slots[discarded->slot];
        if (discarded->bucket < buckets_count(table_to_free(discarded)))
            return;
        discarded->bucket = 0;
        if (slot->bits == TABLE_SPLIT) {
            const struct split *split = slot->split;
            do
                discarded->place++;
            while (discarded->place < (uint64_t)1 << split->bits && !is_first_place(split, discarded->place));
            if (discarded->place < (uint64_t)1 << split->bits)
                continue;
        }
        discarded->place = 0;
        forget_arrays(slot, stats);
        discarded->slot++;
    }
}

uint64_t discarded_free_some(struct kernel *kernel, struct discarded *discarded, struct shard_stats *stats,
                             uint64_t entries_max)
{
    uint64_t freed = 0;
    skip_freed(discarded, stats);
    while (discarded->slot < discarded->slots_count && freed < entries_max) {
        freed += free_entries(kernel, table_to_free(discarded), &discarded->bucket, stats, entries_max - freed);
        skip_freed(discarded, stats);
    }
    discarded->keys -= freed;
    return freed;
}

void discarded_free(struct kernel *kernel, struct discarded *discarded)
{
    struct shard_stats nobody = {0};
    while (discarded->slots != NULL && discarded->slot < discarded->slots_count)
        discarded_free_some(kernel, discarded, &nobody, UINT64_MAX);
    free(discarded->slots);
    *discarded = (struct discarded){0};
}

/* --- For tests --- */

struct tally {
    uint64_t count;
    uint64_t volatile_count;
    int64_t bytes;
    uint64_t lengths[OBJECT_KINDS][LENGTH_BINS];
};

static const char *audit_table(const struct keyspace *keyspace, unsigned slot, const struct table *table,
                               const struct split *split, size_t part, struct tally *tally)
{
    uint64_t count = 0, volatile_count = 0;
    for (size_t at = 0; at < buckets_count(table); at++) {
        bucket bucket = table->buckets[at];
        if (!bucket)
            continue;
        const struct entry *entry = bucket_entry(bucket);
        struct text text = entry_key(entry);
        struct key key = key_of(keyspace->kernel, text.data, text.bytes);
        struct table *found_in;
        count++;
        volatile_count += bucket & BUCKET_VOLATILE;
        tally->bytes += entry_bytes(keyspace->kernel, entry);
        char digits[INTEGER_BYTES_MAX];
        size_t length =
            entry->kind == OBJECT ? object_length(keyspace->kernel, entry) : entry_string(entry, digits).bytes;
        tally->lengths[entry->object_kind][length_bin(length)]++;
        if ((entry->kind == OBJECT) != (entry->object_kind != NO_OBJECT))
            return "an entry has two kinds";
        if (key.slot != slot)
            return "a key is in another slot than its own";
        if (split != NULL && split->parts[split_place(split, key.hash)] != table)
            return "a key is in another part than its own";
        if (split != NULL && split_place(split, key.hash) % ((size_t)1 << table->depth) != part)
            return "a part is deeper than its keys are alike";
        if (bucket >> 48 != tag_of(key.hash))
            return "a tag is not of its key";
        if (look_up((struct keyspace *)keyspace, &key, &found_in) != entry)
            return "a key is not found";
        if (!(bucket & BUCKET_VOLATILE) != !(entry->flags & FLAG_DEADLINE))
            return "a bucket and its entry disagree on the deadline";
        if (usable_bytes(entry) < bytes_needed(&key, entry->kind, entry->flags, entry->value_bytes))
            return "an entry is larger than its block";
        if (entry->kind == LARGE && large_of(entry).capacity > usable_bytes(large_of(entry).block))
            return "a large value is larger than its block";
    }
    if (count != table->count || volatile_count != table->volatile_count)
        return "a table's counts are wrong";
    if (table->buckets != NULL && count > count_max(table->bits))
        return "a table is too full";
    tally->count += count;
    tally->volatile_count += volatile_count;
    tally->bytes += (int64_t)block_bytes(table->buckets);
    return NULL;
}

static const char *audit_slot(const struct keyspace *keyspace, unsigned slot, struct tally *tally)
{
    const struct table *table = &keyspace->slots[slot];
    if (table->bits != TABLE_SPLIT)
        return audit_table(keyspace, slot, table, NULL, 0, tally);
    const struct split *split = table->split;
    struct tally parts = {0};
    memcpy(parts.lengths, tally->lengths, sizeof parts.lengths);
    for (size_t place = 0; place < (size_t)1 << split->bits; place++) {
        if (!is_first_place(split, place))
            continue;
        const char *wrong = audit_table(keyspace, slot, split->parts[place], split, place, &parts);
        if (wrong != NULL)
            return wrong;
        parts.bytes += (int64_t)block_bytes(split->parts[place]);
    }
    if (parts.count != table->count || parts.volatile_count != table->volatile_count)
        return "a split's totals are wrong";
    tally->count += parts.count;
    tally->volatile_count += parts.volatile_count;
    tally->bytes += parts.bytes + (int64_t)(block_bytes(split) + block_bytes(split->parts));
    memcpy(tally->lengths, parts.lengths, sizeof parts.lengths);
    return NULL;
}

const char *keyspace_audit(const struct keyspace *keyspace, int64_t memory_bytes[SLOTS >> RUN_BITS])
{
    uint64_t count = 0, volatile_count = 0;
    struct tally tally = {0};
    for (unsigned run = 0; run < SLOTS >> RUN_BITS && keyspace->slots != NULL; run++) {
        tally.count = tally.volatile_count = 0;
        tally.bytes = 0;
        for (unsigned slot = run << RUN_BITS; slot < (run + 1) << RUN_BITS; slot++) {
            const char *wrong = audit_slot(keyspace, slot, &tally);
            if (wrong != NULL)
                return wrong;
        }
        if (tally.count != keyspace->counts_by_run[run])
            return "a run's count is wrong";
        memory_bytes[run] += tally.bytes;
        count += tally.count;
        volatile_count += tally.volatile_count;
    }
    if (count != keyspace->count || volatile_count != keyspace->volatile_count)
        return "the database's counts are wrong";
    if (memcmp(tally.lengths, keyspace->lengths, sizeof tally.lengths) != 0)
        return "lengths are counted wrong";
    return NULL;
}
