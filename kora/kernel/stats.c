/* What is counted of commands, shards and hot keys, and the clock that commands are timed with.
 *
 * The reference is kora/observe/shard_stats.py with histogram.py and hotkeys.py beside it: from the same calls both
 * have the same numbers.  This is here because it happens once for every command.
 */
#define _GNU_SOURCE /* clock_gettime(), and of profile.c what a signal has interrupted */

#include "kernel.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

/* --- Shards --- */

void shard_stats_init(struct shard_stats *stats, size_t commands)
{
    *stats = (struct shard_stats){
        .commands = allocate_zeroed((commands + !commands) * sizeof *stats->commands),
        .commands_count = commands,
    };
}

static void forget_commands(struct shard_stats *stats)
{
    for (size_t slot = 0; slot < stats->commands_count; slot++) {
        struct command_stats *command = &stats->commands[slot];
        if (command->is_shared) {
            memset(command->counts, 0, command->counts_size * sizeof *command->counts);
            *command = (struct command_stats){.counts = command->counts, .is_shared = true};
        } else {
            free(command->counts);
            *command = (struct command_stats){0};
        }
    }
}

void shard_stats_reset(struct shard_stats *stats)
{
    stats->bytes_in = stats->bytes_out = 0;
    stats->hits = stats->misses = 0;
    stats->expired = stats->evicted = 0;
    forget_commands(stats);
}

void shard_stats_free(struct shard_stats *stats)
{
    forget_commands(stats);
    free(stats->commands);
    if (stats->map)
        munmap(stats->map, stats->commands_count * SHARED_COUNTS_BYTES);
    *stats = (struct shard_stats){0};
}

/* The file is as long as all places, and takes memory only where something was counted. */
bool shard_stats_share(struct shard_stats *stats, int fd, off_t offset)
{
    size_t bytes = stats->commands_count * SHARED_COUNTS_BYTES;
    char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    if (map == MAP_FAILED)
        return false;
    for (size_t slot = 0; slot < stats->commands_count; slot++) {
        struct command_stats *command = &stats->commands[slot];
        uint64_t *place = (uint64_t *)(void *)(map + slot * SHARED_COUNTS_BYTES);
        if (command->counts_size)
            memcpy(place, command->counts, command->counts_size * sizeof *place);
        if (!command->is_shared)
            free(command->counts);
        command->counts = place;
        command->is_shared = true;
    }
    if (stats->map)
        munmap(stats->map, bytes);
    stats->map = map;
    return true;
}

/* --- Histograms --- */

/* Values up to 16 µs, which nearly all are: most histograms never grow. */
#define COUNTS_FIRST (8 * HISTOGRAM_HALF)

/* The power of two that the values of a bucket share is 0 below 256, where a value is its own bucket. */
static inline size_t histogram_index(uint64_t value_ns)
{
    if (UNLIKELY(value_ns > HISTOGRAM_HIGHEST_NS))
        value_ns = HISTOGRAM_HIGHEST_NS;
    unsigned lowest_power = (1u << HISTOGRAM_SUB_BITS) - 1;
    unsigned power = 64 - HISTOGRAM_SUB_BITS - (unsigned)__builtin_clzll(value_ns | lowest_power);
    return power * HISTOGRAM_HALF + (value_ns >> power);
}

/* Whole powers of two at a time, so that it happens at most 22 times. */
static __attribute__((noinline, cold)) void grow_counts(struct command_stats *stats, size_t index)
{
    size_t size = (index / HISTOGRAM_HALF + 1) * HISTOGRAM_HALF;
    if (size < COUNTS_FIRST)
        size = COUNTS_FIRST;
    if (!stats->is_shared) {
        stats->counts = reallocate(stats->counts, size * sizeof *stats->counts);
        memset(stats->counts + stats->counts_size, 0, (size - stats->counts_size) * sizeof *stats->counts);
    }
    stats->counts_size = (uint32_t)size;
}

void command_stats_record(struct command_stats *stats, uint64_t elapsed_ns)
{
    size_t index = histogram_index(elapsed_ns);
    stats->calls++;
    stats->elapsed_ns += elapsed_ns;
    if (UNLIKELY(index >= stats->counts_size))
        grow_counts(stats, index);
    stats->counts[index]++;
}

void command_stats_record_many(struct command_stats *stats, uint64_t elapsed_ns, uint64_t count)
{
    size_t index = histogram_index(elapsed_ns);
    stats->calls += count;
    stats->elapsed_ns += elapsed_ns * count;
    if (UNLIKELY(index >= stats->counts_size))
        grow_counts(stats, index);
    stats->counts[index] += count;
}

/* --- Hot keys --- */

static inline uint32_t *count_in_row(const struct hot_keys *hot, unsigned row, uint64_t hash);
static size_t find_hot_key(const struct hot_keys *hot, uint64_t identity);
static size_t admit_hot_key(struct hot_keys *hot, uint64_t identity, const struct hot_access *access);
static void sink(struct hot_keys *hot, size_t at, struct hot_cost moved);
static void rise(struct hot_keys *hot, size_t at, struct hot_cost moved);

void hot_keys_init(struct hot_keys *hot)
{
    *hot = (struct hot_keys){
        .rows = allocate_zeroed(SKETCH_DEPTH * sizeof *hot->rows),
        .keys = allocate_zeroed(HOT_KEYS * sizeof *hot->keys),
    };
    hot_keys_clear(hot);
}

void hot_keys_free(struct hot_keys *hot)
{
    free(hot->rows);
    free(hot->keys);
    *hot = (struct hot_keys){0};
}

void hot_keys_weigh(struct hot_keys *hot, uint64_t hash, uint64_t accesses)
{
    uint32_t weight = accesses > UINT32_MAX ? UINT32_MAX : (uint32_t)accesses;
    /* The rows take 14 bits each of the hash's 64, so that two keys that collide in one row do not in the others. */
    for (unsigned row = 0; row < SKETCH_DEPTH; row++) {
        uint32_t *count = count_in_row(hot, row, hash);
        *count = *count > UINT32_MAX - weight ? UINT32_MAX : *count + weight;
    }
}

void hot_keys_record(struct hot_keys *hot, const struct hot_access *access)
{
    hot_keys_weigh(hot, access->key.hash, access->weight);
    hot_keys_list(hot, access);
}

void hot_keys_list(struct hot_keys *hot, const struct hot_access *access)
{
    hot->recorded += access->weight;

    uint64_t identity = access->key.hash ^ access->database * 0x9E3779B97F4A7C15ULL;
    size_t place = find_hot_key(hot, identity);
    if (place == HOT_KEYS)
        place = admit_hot_key(hot, identity, access);
    size_t at = hot->heap_places[place];
    struct hot_cost moved = hot->heap[at];
    moved.cost += access->weight * (1 + (access->cpu_ns >> HEAVY_NS_BITS) + (access->net_bytes >> HEAVY_BYTES_BITS));
    sink(hot, at, moved);

    struct hot_key *key = &hot->keys[place];
    *(access->is_write ? &key->writes : &key->reads) += access->weight;
    key->cpu_ns += access->weight * access->cpu_ns;
    key->net_bytes += access->weight * access->net_bytes;
    if (key->client == access->client) {
        key->client_lead += access->weight;
    } else if (key->client_lead >= access->weight) {
        key->client_lead -= access->weight;
    } else {
        key->client = access->client;
        key->client_lead = access->weight - key->client_lead;
    }
}

uint64_t hot_keys_estimate(const struct hot_keys *hot, uint64_t hash)
{
    uint64_t estimate = UINT64_MAX;
    for (unsigned row = 0; row < SKETCH_DEPTH; row++) {
        uint64_t count = *count_in_row(hot, row, hash);
        if (count < estimate)
            estimate = count;
    }
    return estimate;
}

void hot_keys_halve_row(struct hot_keys *hot, unsigned row)
{
    for (size_t column = 0; column < SKETCH_WIDTH; column++)
        hot->rows[row][column] >>= 1;
}

void hot_keys_clear(struct hot_keys *hot)
{
    hot->count = 0;
    hot->recorded = 0;
    for (size_t bucket = 0; bucket < sizeof hot->buckets / sizeof *hot->buckets; bucket++)
        hot->buckets[bucket] = HOT_KEYS;
}

void hot_keys_reset(struct hot_keys *hot)
{
    hot_keys_clear(hot);
    memset(hot->rows, 0, SKETCH_DEPTH * sizeof *hot->rows);
}

static inline uint32_t *count_in_row(const struct hot_keys *hot, unsigned row, uint64_t hash)
{
    return &hot->rows[row][hash >> (row * SKETCH_BITS) & (SKETCH_WIDTH - 1)];
}

static inline size_t bucket_of(uint64_t identity)
{
    return identity >> 53; /* one of 2 * HOT_KEYS */
}

/* A place, or HOT_KEYS. */
static size_t find_hot_key(const struct hot_keys *hot, uint64_t identity)
{
    size_t place = hot->buckets[bucket_of(identity)];
    while (place < HOT_KEYS && hot->identities[place] != identity)
        place = hot->next[place];
    return place;
}

/* Space-Saving (Metwally, Agrawal, El Abbadi, 2005): a key that finds the list full takes the place of the one with the
 * least cost, and that cost as its error, since so much may have been recorded of it before. */
static size_t admit_hot_key(struct hot_keys *hot, uint64_t identity, const struct hot_access *access)
{
    size_t place = hot->count;
    uint64_t error = 0;
    if (hot->count < HOT_KEYS) {
        hot->count++;
        rise(hot, place, (struct hot_cost){0, (uint32_t)place});
    } else {
        place = hot->heap[0].key;
        error = hot->heap[0].cost;
        uint16_t *link = &hot->buckets[bucket_of(hot->identities[place])];
        while (*link != place)
            link = &hot->next[*link];
        *link = hot->next[place];
    }
    uint16_t *bucket = &hot->buckets[bucket_of(identity)];
    hot->identities[place] = identity;
    hot->next[place] = *bucket;
    *bucket = (uint16_t)place;

    struct hot_key *key = &hot->keys[place];
    key->error = error;
    key->reads = key->writes = key->cpu_ns = key->net_bytes = 0;
    key->client = access->client;
    key->client_lead = 0;
    key->key_bytes = access->key.bytes;
    key->database = access->database;
    key->slot = (uint16_t)access->key.slot;
    key->name_bytes = access->key.bytes < HOT_NAME_BYTES ? (uint16_t)access->key.bytes : HOT_NAME_BYTES;
    memcpy(key->name, access->key.data, key->name_bytes);
    return place;
}

static inline void put(struct hot_keys *hot, size_t at, struct hot_cost moved)
{
    hot->heap[at] = moved;
    hot->heap_places[moved.key] = (uint16_t)at;
}

/* A cost has grown. */
static void sink(struct hot_keys *hot, size_t at, struct hot_cost moved)
{
    for (;;) {
        size_t least = 4 * at + 1, stop = least + 4 < hot->count ? least + 4 : hot->count;
        if (least >= stop)
            break;
        for (size_t child = least + 1; child < stop; child++)
            if (hot->heap[child].cost < hot->heap[least].cost)
                least = child;
        if (hot->heap[least].cost >= moved.cost)
            break;
        put(hot, at, hot->heap[least]);
        at = least;
    }
    put(hot, at, moved);
}

/* A key is new at the end. */
static void rise(struct hot_keys *hot, size_t at, struct hot_cost moved)
{
    while (at > 0 && hot->heap[(at - 1) / 4].cost > moved.cost) {
        put(hot, at, hot->heap[(at - 1) / 4]);
        at = (at - 1) / 4;
    }
    put(hot, at, moved);
}

/* --- Clocks ---
 *
 * A command is timed by the processor's counter of ticks if that counts evenly, whatever the processor's frequency and
 * whether it sleeps.  What a tick is worth is measured against the system's clock: for the first time 20 ms after the
 * start, from then on about once a second, each time from the start, so that the scale gets more exact.
 *
 * A counter that promises to be even need not be: it may stand still or start again with a suspended machine, run
 * otherwise on the machine that a virtual one was moved to, or differ between cores.  So each measurement compares the
 * time that the ticks predict with the time that it is.  If they disagree by more than 1 % of the time since the last
 * measurement, the counter is given up for good, and commands are timed by the system's clock: slower, but right.
 *
 * All this happens in clock_monotonic_ns(), which the executor calls once at the start of each turn, before its first
 * clock_now(); the scale never changes within a turn.  Should a start be kept across turns all the same, from before
 * the counter was used to after it or the other way round, then the mark of nanoseconds shows it, and that one time
 * counts as 0. */

#define IN_NANOSECONDS (1ULL << 63) /* a point in time of the system's clock: the mark, and nanoseconds */

#define FIRST_MEASUREMENT_NS 20000000 /* reading both clocks together is exact to 0.1 µs: 5 millionths of this */
#define NEXT_MEASUREMENT_NS 1000000000
#define NEVER_NS INT64_MAX
#define ERROR_PARTS 100 /* 1 %: 20 times what the system's clock may be slewed by to follow the time of day */

__extension__ typedef unsigned __int128 wide;

static void clock_measure(struct clock *clock);
static inline int64_t system_monotonic_ns(void);
static bool has_even_ticks(void);
static inline uint64_t ticks_now(void);
static uint64_t ticks_with_time(int64_t *now_ns);

/* A clock that is moved by a test gets its other fields after this. */
void clock_init(struct clock *clock)
{
    *clock = (struct clock){.is_real = true, .calibrate_ns = NEVER_NS};
    if (has_even_ticks()) {
        clock->started_ticks = ticks_with_time(&clock->started_ns);
        clock->calibrate_ns = clock->started_ns + FIRST_MEASUREMENT_NS;
    }
}

uint64_t clock_now(struct clock *clock)
{
    if (LIKELY(clock->scale))
        return ticks_now();
    if (clock->is_real)
        return (uint64_t)system_monotonic_ns() | IN_NANOSECONDS;
    return (uint64_t)clock->monotonic_ns(clock->owner);
}

uint64_t clock_elapsed_ns(const struct clock *clock, uint64_t start, uint64_t stop)
{
    /* Below 0: the counters of two cores may differ by some ticks. */
    int64_t elapsed = (int64_t)(stop - start);
    if (UNLIKELY(elapsed < 0 || (start ^ stop) & IN_NANOSECONDS))
        return 0;
    if (LIKELY(clock->scale && !(stop & IN_NANOSECONDS)))
        return (uint64_t)((wide)elapsed * clock->scale >> 32);
    return (uint64_t)elapsed;
}

int64_t clock_monotonic_ns(struct clock *clock)
{
    if (UNLIKELY(!clock->is_real))
        return clock->monotonic_ns(clock->owner);
    int64_t now_ns = system_monotonic_ns();
    if (UNLIKELY(now_ns >= clock->calibrate_ns))
        clock_measure(clock);
    return now_ns;
}

int64_t clock_begin(struct clock *clock, uint64_t *now)
{
    if (LIKELY(clock->scale)) {
        *now = ticks_now();
        if (LIKELY(*now < clock->calibrate_ticks))
            return clock->started_ns + (int64_t)((wide)(*now - clock->started_ticks) * clock->scale >> 32);
    }
    int64_t now_ns = clock_monotonic_ns(clock);
    *now = clock_now(clock);
    return now_ns;
}

int64_t clock_wall_ms(struct clock *clock)
{
    if (UNLIKELY(!clock->is_real))
        return clock->wall_ms(clock->owner);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static __attribute__((noinline, cold)) void clock_measure(struct clock *clock)
{
    int64_t now_ns;
    uint64_t ticks = ticks_with_time(&now_ns) - clock->started_ticks;
    int64_t elapsed_ns = now_ns - clock->started_ns;

    bool is_even = (int64_t)ticks > 0;
    if (is_even && clock->scale) {
        int64_t predicted_ns = (int64_t)((wide)ticks * clock->scale >> 32);
        int64_t error_ns = predicted_ns > elapsed_ns ? predicted_ns - elapsed_ns : elapsed_ns - predicted_ns;
        int64_t since_last_ns = now_ns - (clock->calibrate_ns - NEXT_MEASUREMENT_NS);
        is_even = error_ns <= since_last_ns / ERROR_PARTS;
    }
    clock->scale = is_even ? (uint64_t)(((wide)elapsed_ns << 32) / ticks) : 0;
    clock->calibrate_ns = clock->scale ? now_ns + NEXT_MEASUREMENT_NS : NEVER_NS;
    clock->calibrate_ticks =
        clock->scale ? clock->started_ticks + ticks + (uint64_t)(((wide)NEXT_MEASUREMENT_NS << 32) / clock->scale) : 0;
}

/* Both clocks, read as closely together as four tries get them: one may be interrupted between two readings. */
static uint64_t ticks_with_time(int64_t *now_ns)
{
    uint64_t closest = 0, ticks = 0;
    *now_ns = 0;
    for (int i = 0; i < 4; i++) {
        uint64_t before = ticks_now();
        int64_t between_ns = system_monotonic_ns();
        uint64_t apart = ticks_now() - before;
        if (i == 0 || apart < closest) {
            closest = apart;
            ticks = before + apart / 2;
            *now_ns = between_ns;
        }
    }
    return ticks;
}

static inline int64_t system_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#if defined(__x86_64__)

/* "Invariant TSC": Intel's manual, volume 3, section 18.17.1; AMD's manual, volume 3, CPUID function 8000_0007. */
static bool has_even_ticks(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) && edx >> 8 & 1;
}

/* Without a barrier: that the processor reads it some instructions early or late is less than a barrier takes. */
static inline uint64_t ticks_now(void)
{
    return __rdtsc();
}

#elif defined(__aarch64__)

#define TICKS_PER_S_MIN 100000000 /* commands take 100 ns: a slower counter, as many are, would see most as 0 */

static bool has_even_ticks(void)
{
    uint64_t ticks_per_s;
    __asm__("mrs %0, cntfrq_el0" : "=r"(ticks_per_s));
    return ticks_per_s >= TICKS_PER_S_MIN;
}

static inline uint64_t ticks_now(void)
{
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}

#else

static bool has_even_ticks(void)
{
    return false;
}

static inline uint64_t ticks_now(void)
{
    return 0;
}

#endif
