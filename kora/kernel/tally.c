/* Tallies of tracked values: kora/types/tally.py and tallies.py say what they are, and TRACK what is done to them.
 *
 * Numbers are in billionths, of which 64 bits would hold no more than some billions: so they have 128.  A histogram is an
 * array in the order of its buckets, found by bisection; most metrics count events, whose values are all 1, and need
 * none.  Tallies stand in an array in the order in which they came, and an index finds their places in it.  That is 64
 * tables of open addressing, so that none is ever so large that growing it takes long; they have the hashes, so that it
 * touches no tally. */

#include "kernel.h"

#include <stdlib.h>

#define SUB_BITS 6
#define BILLION 1000000000
#define WHOLE_MAX 1000000000000000000 /* VALUE_MAX */
#define BUCKET_MAX 8191

typedef unsigned __int128 unsigned128;

struct histogram {
    uint32_t count;
    uint32_t capacity;
    struct bucket_count {
        int64_t bucket;
        uint64_t count;
    } buckets[];
};

struct tracked {
    integer128 sum, min, max, last;
    uint64_t hash;
    uint64_t count;
    int64_t last_ms;
    int64_t bucket;              /* that all values are in, while there is no histogram */
    struct histogram *histogram; /* owned, or NULL */
    uint32_t key_bytes;
    char key[];
};

struct tallies_place {
    uint64_t hash;
    size_t tally; /* its place in the array, and 1; 0: an empty place */
};

void tallies_init(struct tallies *tallies, const uint64_t secret[2])
{
    memset(tallies, 0, sizeof *tallies);
    memcpy(tallies->secret, secret, sizeof tallies->secret);
}

static void tally_free(struct tracked *tally)
{
    free(tally->histogram);
    free(tally);
}

void tallies_free(struct tallies *tallies)
{
    for (size_t at = 0; at < tallies->count; at++)
        tally_free(tallies->tallies[at]);
    free(tallies->tallies);
    for (size_t at = 0; at < TALLIES_TABLES; at++)
        free(tallies->tables[at].places);
}

/* --- Values --- */

static int64_t value_bucket(integer128 units)
{
    unsigned128 magnitude = units < 0 ? -(unsigned128)units : (unsigned128)units;
    uint64_t high = (uint64_t)(magnitude >> 64), low = (uint64_t)magnitude;
    int bits = high ? 128 - __builtin_clzll(high) : low ? 64 - __builtin_clzll(low) : 0;
    int shift = bits - 1 - SUB_BITS;
    int64_t bucket = shift <= 0 ? (int64_t)low : ((int64_t)shift << SUB_BITS) + (int64_t)(magnitude >> shift);
    return units < 0 ? -bucket : bucket;
}

/* Where a bucket is, or would be. */
static uint32_t bucket_place(const struct histogram *histogram, int64_t bucket)
{
    uint32_t low = 0, high = histogram->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (histogram->buckets[middle].bucket < bucket)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct histogram *histogram_sized(struct histogram *histogram, uint32_t capacity)
{
    histogram = reallocate(histogram, sizeof *histogram + capacity * sizeof *histogram->buckets);
    histogram->capacity = capacity;
    return histogram;
}

static __attribute__((noinline)) void count_apart(struct tracked *tally, int64_t bucket, uint64_t count)
{
    struct histogram *histogram = tally->histogram;
    if (histogram == NULL) {
        histogram = tally->histogram = histogram_sized(NULL, 4);
        histogram->count = 1;
        histogram->buckets[0] = (struct bucket_count){tally->bucket, tally->count};
    }
    uint32_t place = bucket_place(histogram, bucket);
    if (place < histogram->count && histogram->buckets[place].bucket == bucket) {
        histogram->buckets[place].count += count;
        return;
    }
    if (histogram->count == histogram->capacity)
        histogram = tally->histogram = histogram_sized(histogram, 2 * histogram->capacity);
    struct bucket_count *at = &histogram->buckets[place];
    memmove(at + 1, at, (histogram->count - place) * sizeof *at);
    *at = (struct bucket_count){bucket, count};
    histogram->count++;
}

/* Before they are added to tally->count. */
static inline void count_bucket(struct tracked *tally, int64_t bucket, uint64_t count)
{
    if (UNLIKELY(tally->count == 0))
        tally->bucket = bucket;
    else if (UNLIKELY(tally->histogram != NULL || bucket != tally->bucket))
        count_apart(tally, bucket, count);
}

static inline void add(struct tracked *tally, integer128 units, int64_t at_ms)
{
    if (UNLIKELY(tally->count == 0))
        tally->min = tally->max = units;
    else if (units < tally->min)
        tally->min = units;
    else if (units > tally->max)
        tally->max = units;
    /* Most often it is the value that came last. */
    count_bucket(
        tally,
        tally->count > 0 && tally->histogram == NULL && units == tally->last ? tally->bucket : value_bucket(units), 1);
    tally->count++;
    tally->sum += units;
    if (at_ms >= tally->last_ms) {
        tally->last = units;
        tally->last_ms = at_ms;
    }
}

/* --- Finding --- */

static struct tallies_table *table_for(struct tallies *tallies, uint64_t hash)
{
    return &tallies->tables[hash / (UINT64_MAX / TALLIES_TABLES + 1)];
}

/* The table has places. */
static struct tallies_place *tally_place(const struct tallies *tallies, const struct tallies_table *table,
                                         uint64_t hash, struct text key)
{
    size_t mask = table->capacity - 1;
    for (size_t at = hash & mask;; at = (at + 1) & mask) {
        struct tallies_place *place = &table->places[at];
        if (place->tally == 0)
            return place;
        if (place->hash == hash) {
            const struct tracked *tally = tallies->tallies[place->tally - 1];
            if (LIKELY(tally->key_bytes == key.bytes) && is_same(tally->key, key.data, key.bytes))
                return place;
        }
    }
}

struct tracked *tallies_find(struct tallies *tallies, struct text key)
{
    uint64_t hash = keyed_hash(tallies->secret, key.data, key.bytes);
    const struct tallies_table *table = table_for(tallies, hash);
    if (table->count == 0)
        return NULL;
    size_t found = tally_place(tallies, table, hash, key)->tally;
    return found ? tallies->tallies[found - 1] : NULL;
}

static void table_grow(struct tallies_table *table)
{
    struct tallies_place *former = table->places;
    size_t former_capacity = table->capacity;
    table->capacity = former_capacity ? 2 * former_capacity : 4;
    table->places = allocate_zeroed(table->capacity * sizeof *table->places);
    size_t mask = table->capacity - 1;
    for (size_t from = 0; from < former_capacity; from++) {
        if (former[from].tally == 0)
            continue;
        size_t at = former[from].hash & mask;
        while (table->places[at].tally != 0)
            at = (at + 1) & mask;
        table->places[at] = former[from];
    }
    free(former);
}

static struct tracked *find_or_make(struct tallies *tallies, struct text key)
{
    uint64_t hash = keyed_hash(tallies->secret, key.data, key.bytes);
    struct tallies_table *table = table_for(tallies, hash);
    /* A quarter stays empty. */
    if (table->count >= table->capacity - table->capacity / 4)
        table_grow(table);
    struct tallies_place *place = tally_place(tallies, table, hash, key);
    if (place->tally != 0)
        return tallies->tallies[place->tally - 1];
    struct tracked *tally = allocate_zeroed(sizeof *tally + key.bytes);
    tally->hash = hash;
    tally->key_bytes = (uint32_t)key.bytes;
    memcpy(tally->key, key.data, key.bytes);
    if (tallies->count == tallies->capacity) {
        tallies->capacity = tallies->capacity ? 2 * tallies->capacity : 4;
        tallies->tallies = reallocate(tallies->tallies, tallies->capacity * sizeof *tallies->tallies);
    }
    tallies->tallies[tallies->count++] = tally;
    table->count++;
    *place = (struct tallies_place){hash, tallies->count};
    return tally;
}

void tallies_pop(struct tallies *tallies)
{
    struct tracked *tally = tallies->tallies[--tallies->count];
    struct tallies_table *table = table_for(tallies, tally->hash);
    struct tallies_place *places = table->places;
    size_t mask = table->capacity - 1, hole = tally->hash & mask;
    while (places[hole].tally != tallies->count + 1)
        hole = (hole + 1) & mask;
    /* What stands behind it moves up, unless that would be before the place where looking for it begins. */
    for (size_t at = (hole + 1) & mask; places[at].tally != 0; at = (at + 1) & mask) {
        if (((at - (places[at].hash & mask)) & mask) >= ((at - hole) & mask)) {
            places[hole] = places[at];
            hole = at;
        }
    }
    places[hole].tally = 0;
    table->count--;
    tally_free(tally);
}

/* --- From and to Python --- */

struct text tally_key(const struct tracked *tally)
{
    return (struct text){tally->key, tally->key_bytes};
}

struct tally_numbers tally_numbers(const struct tracked *tally)
{
    return (struct tally_numbers){tally->count, tally->last_ms, tally->sum, tally->min, tally->max, tally->last};
}

int64_t high_half(integer128 units)
{
    return (int64_t)(units >> 64);
}

uint64_t low_half(integer128 units)
{
    return (uint64_t)units;
}

integer128 of_halves(int64_t high, uint64_t low)
{
    return (integer128)((unsigned128)(uint64_t)high << 64 | low);
}

static void put_varint(struct buffer *buffer, uint64_t number)
{
    char bytes[10];
    size_t count = 0;
    for (; number >= 0x80; number >>= 7)
        bytes[count++] = (char)(number | 0x80);
    bytes[count++] = (char)number;
    buffer_append(buffer, bytes, count);
}

void tally_encode(const struct tracked *tally, struct buffer *buffer)
{
    const struct histogram *histogram = tally->histogram;
    for (uint32_t at = 0; histogram != NULL && at < histogram->count; at++) {
        int64_t bucket = histogram->buckets[at].bucket;
        if (at > 0)
            put_varint(buffer, (uint64_t)(bucket - histogram->buckets[at - 1].bucket));
        else
            put_varint(buffer, bucket >= 0 ? 2 * (uint64_t)bucket : 2 * (uint64_t)-bucket - 1);
        put_varint(buffer, histogram->buckets[at].count);
    }
}

static bool get_varint(const unsigned char **at, const unsigned char *stop, uint64_t *number)
{
    *number = 0;
    for (unsigned shift = 0; *at < stop && shift < 64; shift += 7) {
        unsigned char byte = *(*at)++;
        *number |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* Look through an encoded histogram, and add it to a tally unless that is NULL; false: it is none. */
static bool read_histogram(struct tracked *tally, struct text data)
{
    const unsigned char *at = (const unsigned char *)data.data, *stop = at + data.bytes;
    int64_t bucket = 0;
    for (bool is_first = true; at < stop; is_first = false) {
        uint64_t step, count;
        if (!get_varint(&at, stop, &step) || !get_varint(&at, stop, &count) || step > 4 * BUCKET_MAX)
            return false;
        if (is_first)
            bucket = step & 1 ? -(int64_t)(step + 1) / 2 : (int64_t)(step / 2);
        else
            bucket += (int64_t)step;
        if ((step == 0 && !is_first) || count == 0 || bucket > BUCKET_MAX || bucket < -BUCKET_MAX)
            return false;
        if (tally != NULL) {
            count_bucket(tally, bucket, count);
            /* So that the next bucket finds that there are values already. */
            tally->count += count;
        }
    }
    return true;
}

bool tallies_merge(struct tallies *tallies, struct text key, const struct tally_numbers *numbers, struct text histogram)
{
    if (numbers->count == 0)
        return true;
    if (!read_histogram(NULL, histogram))
        return false;
    struct tracked *tally = find_or_make(tallies, key);
    if (tally->count == 0 || numbers->min < tally->min)
        tally->min = numbers->min;
    if (tally->count == 0 || numbers->max > tally->max)
        tally->max = numbers->max;
    if (tally->count == 0 || numbers->last_ms >= tally->last_ms) {
        tally->last = numbers->last;
        tally->last_ms = numbers->last_ms;
    }
    tally->sum += numbers->sum;
    uint64_t count = tally->count + numbers->count;
    if (histogram.bytes > 0)
        read_histogram(tally, histogram);
    else
        count_bucket(tally, value_bucket(numbers->min), numbers->count);
    tally->count = count;
    tallies->values += numbers->count;
    return true;
}

void tallies_add(struct tallies *tallies, struct text key, integer128 units, int64_t at_ms)
{
    add(find_or_make(tallies, key), units, at_ms);
    tallies->values++;
}

bool tally_bucket(const struct tracked *tally, uint32_t place, int64_t *bucket, uint64_t *count)
{
    if (tally->histogram == NULL) {
        *bucket = tally->bucket;
        *count = tally->count;
        return place == 0;
    }
    if (place >= tally->histogram->count)
        return false;
    *bucket = tally->histogram->buckets[place].bucket;
    *count = tally->histogram->buckets[place].count;
    return true;
}

/* --- The command --- */

/* TRACK metric [value], of a metric that the open interval knows; kora/engine/tracked.py has the rest. */
OPERATION(op_track)
{
    UNUSED(turn);
    struct tallies *tallies = kernel->tallies;
    int64_t whole = 1;
    if (tallies == NULL || request->argc > 3)
        return false;
    if (request->argc == 3 && (!parse_integer(argv[2].data, argv[2].bytes, &whole) || whole < 0 || whole >= WHOLE_MAX))
        return false;
    int64_t now_ms = kernel_now_ms(kernel);
    if (UNLIKELY(now_ms < kernel->tallies_start_ms || now_ms >= kernel->tallies_stop_ms))
        return false;
    struct tracked *tally = tallies_find(tallies, (struct text){argv[1].data, argv[1].bytes});
    if (UNLIKELY(tally == NULL))
        return false;
    add(tally, (integer128)whole * BILLION, now_ms);
    tallies->values++;
    output_ok(output);
    return true;
}
