/* The batch executor, and the commands that it knows.
 *
 * An operation does what the handler of the same name in kora/commands does, in the same order, or returns false before
 * it has changed or counted anything.  What that order means for hits, misses and idle times is Redis' and is said
 * there; tests/compat compares both with redis-server, and tests/kernel compares them with each other. */

#include "kernel.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>

/* --- The kernel --- */

void kernel_init(struct kernel *kernel, const uint64_t secret[2])
{
    memset(kernel, 0, sizeof *kernel);
    memcpy(kernel->secret, secret, sizeof kernel->secret);
    kernel->limits = allocate_zeroed(sizeof *kernel->limits);
    kernel->limits->references = 1;
    memcpy(kernel->limits->secret, secret, sizeof kernel->secret);
    kernel->limits->random = secret[0] ^ secret[1] << 1;
    kernel->hot_left = kernel->sampling_ratio = 1;
    kernel->spans.left = SPANS_NEVER;
    samples_begin(kernel);
    hot_keys_init(&kernel->hot_keys);
    kernel->slow_ns = kernel->large_reply_bytes = UINT64_MAX;
    clock_init(&kernel->clock);
    kernel->journal.database = -1;
}

void kernel_free(struct kernel *kernel)
{
    hot_keys_free(&kernel->hot_keys);
    spans_resize(&kernel->spans, 0);
    service_free(&kernel->service);
    journal_free(&kernel->journal);
    audit_forget(&kernel->audit);
    buffer_free(&kernel->saving.out);
    buffer_free(&kernel->saving.scratch);
    free(kernel->shards);
    kernel->shards = NULL;
    limits_release(kernel->limits);
    kernel->limits = NULL;
}

int64_t kernel_now_ms(struct kernel *kernel)
{
    if (kernel->now_ms == 0)
        kernel->now_ms = UNLIKELY(kernel->is_replaying) ? INT64_MIN : clock_wall_ms(&kernel->clock);
    return kernel->now_ms;
}

uint64_t kernel_random(struct kernel *kernel)
{
    return next_random(&kernel->limits->random);
}

int64_t kernel_memory_bytes(const struct kernel *kernel)
{
    int64_t bytes = 0;
    for (size_t index = 0; index < kernel->shards_count; index++)
        bytes += kernel->shards[index]->memory_bytes;
    return bytes;
}

/* --- Replies --- */

static inline bool reserve(struct output *output, size_t bytes)
{
    if (UNLIKELY(output->failed))
        return false;
    if (UNLIKELY(output->capacity - output->bytes < bytes))
        output->failed = !output->grow(output, output->bytes + bytes);
    return !output->failed;
}

void output_append(struct output *output, const char *data, size_t bytes)
{
    if (!reserve(output, bytes))
        return;
    memcpy(output->data + output->bytes, data, bytes);
    output->bytes += bytes;
}

/* A kind, a number and a line end; the caller has reserved the room. */
static inline void put_header(struct output *output, char kind, int64_t number)
{
    char *target = output->data + output->bytes;
    *target++ = kind;
    if (LIKELY((uint64_t)number < 10))
        *target++ = (char)('0' + number);
    else
        target += format_integer(target, number);
    *target++ = '\r';
    *target++ = '\n';
    output->bytes = (size_t)(target - output->data);
}

#define HEADER_BYTES_MAX (INTEGER_BYTES_MAX + 3)

void output_header(struct output *output, char kind, size_t count)
{
    if (reserve(output, HEADER_BYTES_MAX))
        put_header(output, kind, (int64_t)count);
}

void output_integer(struct output *output, int64_t value)
{
    if (reserve(output, HEADER_BYTES_MAX))
        put_header(output, ':', value);
}

void output_bulk(struct output *output, const char *data, size_t bytes)
{
    if (!reserve(output, HEADER_BYTES_MAX + bytes + 2))
        return;
    put_header(output, '$', (int64_t)bytes);
    char *target = output->data + output->bytes;
    memcpy(target, data, bytes);
    target[bytes] = '\r';
    target[bytes + 1] = '\n';
    output->bytes += bytes + 2;
}

void output_null(struct output *output, int protocol)
{
    if (protocol == 3)
        output_append(output, "_\r\n", 3);
    else
        output_append(output, "$-1\r\n", 5);
}

static void output_ok(struct output *output)
{
    output_append(output, "+OK\r\n", 5);
}

static void output_value(struct output *output, const struct entry *entry)
{
    char digits[INTEGER_BYTES_MAX];
    struct text text = entry_string(entry, digits);
    output_bulk(output, text.data, text.bytes);
}

/* --- Looking at keys --- */

static inline struct key first_key(const struct request *request, const struct argument *argv)
{
    return (struct key){argv[1].data, argv[1].bytes, request->hash, request->slot};
}

/* Count a look-up for reading, and mark the key as used: Keyspace.read(). */
static inline void count_read(struct keyspace *keyspace, struct entry *entry)
{
    if (entry == NULL) {
        keyspace->stats->misses++;
    } else {
        keyspace->stats->hits++;
        entry->touched_s = keyspace->now_s;
    }
}

/* As that, without marking: Keyspace.inspect(). */
static inline void count_inspection(struct keyspace *keyspace, const struct entry *entry)
{
    if (entry == NULL)
        keyspace->stats->misses++;
    else
        keyspace->stats->hits++;
}

static inline bool is_string(const struct entry *entry)
{
    return entry == NULL || LIKELY(entry->kind != OBJECT);
}

static inline void prefetch_slot(const struct keyspace *keyspace, unsigned slot)
{
    PREFETCH(&keyspace->slots[slot]);
}

/* The table of a key, and the place where looking it up begins. */
static inline const struct table *table_of(const struct keyspace *keyspace, uint64_t hash, unsigned slot, size_t *place)
{
    const struct table *table = &keyspace->slots[slot];
    if (UNLIKELY(table->bits == TABLE_SPLIT))
        table = table->split->parts[hash >> 16 & (((size_t)1 << table->split->bits) - 1)];
    *place = hash & 0xFFFF & (((size_t)1 << table->bits) - 1);
    return table;
}

static inline void prefetch_bucket(const struct keyspace *keyspace, uint64_t hash, unsigned slot)
{
    size_t place;
    const struct table *table = table_of(keyspace, hash, slot, &place);
    if (table->buckets != NULL)
        PREFETCH(&table->buckets[place]);
}

static inline void prefetch_entry(const struct keyspace *keyspace, uint64_t hash, unsigned slot)
{
    size_t place;
    const struct table *table = table_of(keyspace, hash, slot, &place);
    if (table->buckets == NULL)
        return;
    size_t mask = ((size_t)1 << table->bits) - 1;
    for (bucket bucket; (bucket = table->buckets[place]) != 0; place = (place + 1) & mask) {
        if (bucket >> 48 == (hash & 0xFFFF)) {
            const char *entry = (const char *)(uintptr_t)(bucket & 0x0000FFFFFFFFFFFEULL);
            PREFETCH(entry);
            PREFETCH(entry + 64);
            return;
        }
    }
}

/* Several keys of one request: as many at a time as their memory can be waited for together. */
#define GROUP 16

struct keys {
    struct key keys[GROUP];
    struct argument *arguments[GROUP];
    size_t count;
};

/* The next group of argv[place], argv[place + step], …; moves place on. */
static void next_keys(struct kernel *kernel, const struct keyspace *keyspace, struct argument *argv, size_t argc,
                      size_t *place, size_t step, struct keys *group)
{
    group->count = 0;
    for (; *place < argc && group->count < GROUP; *place += step) {
        struct argument *argument = &argv[*place];
        group->arguments[group->count] = argument;
        group->keys[group->count++] = key_of(kernel, argument->data, argument->bytes);
    }
    if (keyspace->slots == NULL || group->count == 1)
        return;
    for (size_t at = 0; at < group->count; at++)
        prefetch_bucket(keyspace, group->keys[at].hash, group->keys[at].slot);
    for (size_t at = 0; at < group->count; at++)
        prefetch_entry(keyspace, group->keys[at].hash, group->keys[at].slot);
}

/* --- Options that give a time --- */

enum expiry { NO_EXPIRY, EX, PX, EXAT, PXAT };

static enum expiry expiry_of(struct text word)
{
    switch (word.bytes) {
    case 2:
        return is_word(word, "EX") ? EX : is_word(word, "PX") ? PX : NO_EXPIRY;
    case 4:
        return is_word(word, "EXAT") ? EXAT : is_word(word, "PXAT") ? PXAT : NO_EXPIRY;
    default:
        return NO_EXPIRY;
    }
}

static inline struct text text_of(const struct argument *argument)
{
    return (struct text){argument->data, argument->bytes};
}

/* When a key ends; false for anything that is not a time in the future as the option counts it. */
/* What times to come are counted from.  No journal has such, but a file that somebody wrote by hand. */
static int64_t from_ms(struct kernel *kernel)
{
    return UNLIKELY(kernel->is_replaying) ? clock_wall_ms(&kernel->clock) : kernel_now_ms(kernel);
}

static bool read_deadline(struct kernel *kernel, enum expiry expiry, struct text text, int64_t *deadline_ms)
{
    bool in_seconds = expiry == EX || expiry == EXAT, from_now = expiry == EX || expiry == PX;
    int64_t time;
    if (!parse_integer(text.data, text.bytes, &time) || time <= 0)
        return false;
    if (in_seconds && __builtin_mul_overflow(time, 1000, &time))
        return false;
    if (from_now && __builtin_add_overflow(time, from_ms(kernel), &time))
        return false;
    *deadline_ms = time;
    return true;
}

/* What SET and GETEX are told.  Anything unusual, repetitions included, is the reference's to judge. */
struct options {
    bool nx, xx, get, keep;
    enum expiry expiry;
    struct text time;
};

static bool read_options(struct options *options, const struct argument *words, size_t count, bool is_set)
{
    *options = (struct options){0};
    for (size_t at = 0; at < count; at++) {
        struct text word = text_of(&words[at]);
        enum expiry expiry = expiry_of(word);
        bool *flag = NULL;
        if (expiry != NO_EXPIRY) {
            if (options->expiry != NO_EXPIRY || options->keep || ++at == count)
                return false;
            options->expiry = expiry;
            options->time = text_of(&words[at]);
            continue;
        }
        if (!is_set)
            flag = is_word(word, "PERSIST") ? &options->keep : NULL;
        else if (is_word(word, "NX"))
            flag = &options->nx;
        else if (is_word(word, "XX"))
            flag = &options->xx;
        else if (is_word(word, "GET"))
            flag = &options->get;
        else if (is_word(word, "KEEPTTL"))
            flag = &options->keep;
        if (flag == NULL || *flag)
            return false;
        *flag = true;
    }
    return !(options->nx && options->xx) && !(options->keep && options->expiry != NO_EXPIRY);
}

/* --- Strings --- */

#define OPERATION(name)                                                                                                \
    static bool name(struct kernel *kernel, struct turn *turn, const struct request *request, struct argument *argv,   \
                     struct output *output)

#define UNUSED(name) (void)(name)

OPERATION(op_ping)
{
    UNUSED(kernel);
    UNUSED(turn);
    if (request->argc > 2)
        return false;
    if (request->argc == 1)
        output_append(output, "+PONG\r\n", 7);
    else
        output_bulk(output, argv[1].data, argv[1].bytes);
    return true;
}

OPERATION(op_echo)
{
    UNUSED(kernel);
    UNUSED(turn);
    UNUSED(request);
    output_bulk(output, argv[1].data, argv[1].bytes);
    return true;
}

OPERATION(op_get)
{
    UNUSED(kernel);
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(turn->keyspace, &key);
    if (!is_string(entry))
        return false;
    count_read(turn->keyspace, entry);
    if (entry == NULL)
        output_null(output, turn->protocol);
    else
        output_value(output, entry);
    return true;
}

static bool set_with_options(struct kernel *kernel, struct turn *turn, const struct request *request,
                             struct argument *argv, struct output *output)
{
    struct keyspace *keyspace = turn->keyspace;
    struct options options;
    int64_t deadline_ms = 0;
    if (!read_options(&options, argv + 3, request->argc - 3, true))
        return false;
    bool ends = options.expiry != NO_EXPIRY;
    if (ends && !read_deadline(kernel, options.expiry, options.time, &deadline_ms))
        return false;
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(keyspace, &key);
    if (options.get) {
        if (!is_string(entry))
            return false;
        count_read(keyspace, entry);
        if (entry == NULL)
            output_null(output, turn->protocol);
        else
            output_value(output, entry);
    }
    if ((options.nx && entry != NULL) || (options.xx && entry == NULL)) {
        if (entry != NULL)
            entry->touched_s = keyspace->now_s;
        if (!options.get)
            output_null(output, turn->protocol);
        return true;
    }
    if (options.keep && entry != NULL && entry_has_deadline(entry)) {
        ends = true;
        deadline_ms = entry_deadline_ms(entry);
    }
    if (!ends && entry != NULL && entry_has_deadline(entry))
        entry = keyspace_drop_deadline(keyspace, &key, entry);
    entry = keyspace_store(keyspace, &key, entry, &argv[2]);
    if (ends)
        keyspace_set_deadline(keyspace, &key, entry, deadline_ms);
    keyspace_changed(keyspace, &key);
    if (UNLIKELY(kernel->journal.on) && ends)
        journal_value(kernel, turn, &argv[1], text_of(&argv[2]), &deadline_ms);
    if (!options.get)
        output_ok(output);
    return true;
}

OPERATION(op_set)
{
    if (UNLIKELY(request->argc > 3))
        return set_with_options(kernel, turn, request, argv, output);
    struct key key = first_key(request, argv);
    keyspace_set(turn->keyspace, &key, &argv[2]);
    output_ok(output);
    return true;
}

OPERATION(op_setnx)
{
    UNUSED(kernel);
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(turn->keyspace, &key);
    if (entry != NULL)
        entry->touched_s = turn->keyspace->now_s;
    else
        keyspace_set(turn->keyspace, &key, &argv[2]);
    output_integer(output, entry == NULL);
    return true;
}

static bool set_until(struct kernel *kernel, struct turn *turn, const struct request *request, struct argument *argv,
                      struct output *output, enum expiry expiry)
{
    struct keyspace *keyspace = turn->keyspace;
    int64_t deadline_ms;
    if (!read_deadline(kernel, expiry, text_of(&argv[2]), &deadline_ms))
        return false;
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(keyspace, &key);
    entry = keyspace_store(keyspace, &key, entry, &argv[3]);
    keyspace_set_deadline(keyspace, &key, entry, deadline_ms);
    keyspace_changed(keyspace, &key);
    if (UNLIKELY(kernel->journal.on))
        journal_value(kernel, turn, &argv[1], text_of(&argv[3]), &deadline_ms);
    output_ok(output);
    return true;
}

OPERATION(op_setex)
{
    return set_until(kernel, turn, request, argv, output, EX);
}

OPERATION(op_psetex)
{
    return set_until(kernel, turn, request, argv, output, PX);
}

OPERATION(op_getset)
{
    if (!op_get(kernel, turn, request, argv, output))
        return false;
    struct key key = first_key(request, argv);
    keyspace_set(turn->keyspace, &key, &argv[2]);
    return true;
}

OPERATION(op_getdel)
{
    UNUSED(kernel);
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(turn->keyspace, &key);
    if (!is_string(entry))
        return false;
    count_read(turn->keyspace, entry);
    if (entry == NULL) {
        output_null(output, turn->protocol);
    } else {
        output_value(output, entry);
        keyspace_delete(turn->keyspace, &key);
    }
    return true;
}

OPERATION(op_getex)
{
    struct keyspace *keyspace = turn->keyspace;
    struct options options;
    int64_t deadline_ms = 0;
    if (!read_options(&options, argv + 2, request->argc - 2, false))
        return false;
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(keyspace, &key);
    if (entry == NULL) {
        count_read(keyspace, NULL);
        output_null(output, turn->protocol);
        return true;
    }
    if (!is_string(entry))
        return false;
    if (options.expiry != NO_EXPIRY && !read_deadline(kernel, options.expiry, options.time, &deadline_ms))
        return false;
    count_read(keyspace, entry);
    output_value(output, entry);
    if (options.expiry != NO_EXPIRY && deadline_ms <= kernel_now_ms(kernel)) {
        keyspace_delete(keyspace, &key);
        if (UNLIKELY(kernel->journal.on))
            journal_removal(kernel, turn, &argv[1]);
    } else if (options.expiry != NO_EXPIRY) {
        keyspace_set_deadline(keyspace, &key, entry, deadline_ms);
        keyspace_changed(keyspace, &key);
        if (UNLIKELY(kernel->journal.on))
            journal_deadline(kernel, turn, &argv[1], deadline_ms);
    } else if (options.keep && entry_has_deadline(entry)) {
        keyspace_drop_deadline(keyspace, &key, entry);
        keyspace_changed(keyspace, &key);
    }
    return true;
}

OPERATION(op_mget)
{
    struct keyspace *keyspace = turn->keyspace;
    struct keys group;
    output_header(output, '*', request->argc - 1);
    for (size_t place = 1; place < request->argc;) {
        next_keys(kernel, keyspace, argv, request->argc, &place, 1, &group);
        for (size_t at = 0; at < group.count; at++) {
            struct entry *entry = keyspace_find(keyspace, &group.keys[at]);
            count_read(keyspace, entry);
            if (entry == NULL || entry->kind == OBJECT)
                output_null(output, turn->protocol);
            else
                output_value(output, entry);
        }
    }
    return true;
}

static void set_all(struct kernel *kernel, struct keyspace *keyspace, struct argument *argv, size_t argc)
{
    struct keys group;
    for (size_t place = 1; place < argc;) {
        next_keys(kernel, keyspace, argv, argc, &place, 2, &group);
        for (size_t at = 0; at < group.count; at++)
            keyspace_set(keyspace, &group.keys[at], group.arguments[at] + 1);
    }
}

OPERATION(op_mset)
{
    if (request->argc % 2 == 0)
        return false;
    set_all(kernel, turn->keyspace, argv, request->argc);
    output_ok(output);
    return true;
}

OPERATION(op_msetnx)
{
    struct keyspace *keyspace = turn->keyspace;
    struct keys group;
    if (request->argc % 2 == 0)
        return false;
    for (size_t place = 1; place < request->argc;) {
        next_keys(kernel, keyspace, argv, request->argc, &place, 2, &group);
        for (size_t at = 0; at < group.count; at++) {
            struct entry *entry = keyspace_find(keyspace, &group.keys[at]);
            if (entry != NULL) {
                entry->touched_s = keyspace->now_s;
                output_integer(output, 0);
                return true;
            }
        }
    }
    set_all(kernel, keyspace, argv, request->argc);
    output_integer(output, 1);
    return true;
}

static size_t string_bytes(const struct entry *entry)
{
    char digits[INTEGER_BYTES_MAX];
    return entry_string(entry, digits).bytes;
}

OPERATION(op_append)
{
    UNUSED(kernel);
    struct keyspace *keyspace = turn->keyspace;
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(keyspace, &key);
    size_t length = 0;
    if (entry == NULL) {
        length = argv[2].bytes;
        keyspace_set(keyspace, &key, &argv[2]);
    } else {
        if (!is_string(entry))
            return false;
        size_t before = string_bytes(entry);
        length = before + argv[2].bytes;
        if (length > turn->bulk_max)
            return false;
        keyspace_edit(keyspace, &key, entry, before, text_of(&argv[2]));
    }
    output_integer(output, (int64_t)length);
    return true;
}

OPERATION(op_strlen)
{
    UNUSED(kernel);
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(turn->keyspace, &key);
    if (!is_string(entry))
        return false;
    count_read(turn->keyspace, entry);
    output_integer(output, entry == NULL ? 0 : (int64_t)string_bytes(entry));
    return true;
}

OPERATION(op_getrange)
{
    UNUSED(kernel);
    int64_t start, stop;
    if (!parse_integer(argv[2].data, argv[2].bytes, &start) || !parse_integer(argv[3].data, argv[3].bytes, &stop))
        return false;
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(turn->keyspace, &key);
    if (!is_string(entry))
        return false;
    count_read(turn->keyspace, entry);
    if (entry == NULL || (start < 0 && stop < 0 && start > stop)) {
        output_bulk(output, "", 0);
        return true;
    }
    char digits[INTEGER_BYTES_MAX];
    struct text text = entry_string(entry, digits);
    int64_t length = (int64_t)text.bytes;
    if (start < 0)
        start = start + length < 0 ? 0 : start + length;
    if (stop < 0)
        stop = stop + length < 0 ? 0 : stop + length;
    if (stop >= length)
        stop = length - 1;
    if (start > stop)
        output_bulk(output, "", 0);
    else
        output_bulk(output, text.data + start, (size_t)(stop - start + 1));
    return true;
}

OPERATION(op_setrange)
{
    UNUSED(kernel);
    struct keyspace *keyspace = turn->keyspace;
    int64_t offset;
    if (!parse_integer(argv[2].data, argv[2].bytes, &offset) || offset < 0)
        return false;
    struct text part = text_of(&argv[3]);
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(keyspace, &key);
    if (!is_string(entry))
        return false;
    size_t length = entry == NULL ? 0 : string_bytes(entry);
    if (part.bytes > 0) {
        uint64_t stop = (uint64_t)offset + part.bytes;
        if (stop > turn->bulk_max)
            return false;
        keyspace_edit(keyspace, &key, entry, (size_t)offset, part);
        if (stop > length)
            length = (size_t)stop;
    } else if (entry != NULL) {
        entry->touched_s = keyspace->now_s;
    }
    output_integer(output, (int64_t)length);
    return true;
}

static bool increase(struct turn *turn, const struct request *request, struct argument *argv, struct output *output,
                     int64_t increment)
{
    struct keyspace *keyspace = turn->keyspace;
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(keyspace, &key);
    int64_t value = 0;
    if (entry != NULL) {
        if (LIKELY(entry->kind == INTEGER)) {
            value = entry_integer(entry);
        } else {
            if (entry->kind != STRING)
                return false;
            struct text text = entry_string(entry, NULL);
            if (!parse_integer(text.data, text.bytes, &value))
                return false;
        }
    }
    if (__builtin_add_overflow(value, increment, &value))
        return false;
    keyspace_store_integer(keyspace, &key, entry, value);
    keyspace_changed(keyspace, &key);
    output_integer(output, value);
    return true;
}

OPERATION(op_incr)
{
    UNUSED(kernel);
    return increase(turn, request, argv, output, 1);
}

OPERATION(op_decr)
{
    UNUSED(kernel);
    return increase(turn, request, argv, output, -1);
}

OPERATION(op_incrby)
{
    UNUSED(kernel);
    int64_t increment;
    return parse_integer(argv[2].data, argv[2].bytes, &increment) && increase(turn, request, argv, output, increment);
}

OPERATION(op_decrby)
{
    UNUSED(kernel);
    int64_t decrement;
    return parse_integer(argv[2].data, argv[2].bytes, &decrement) && decrement != INT64_MIN &&
           increase(turn, request, argv, output, -decrement);
}

#if LDBL_MANT_DIG == 64 /* the numbers that INCRBYFLOAT counts in; elsewhere the reference works them out */

#define DECIMAL_BYTES_MAX 40

/* A plain decimal number: what strtold makes of it needs no second thought, nor does its size. */
static bool read_decimal(struct text text, long double *value)
{
    char copy[DECIMAL_BYTES_MAX + 1];
    size_t digits = 0, points = 0;
    if (text.bytes == 0 || text.bytes > DECIMAL_BYTES_MAX)
        return false;
    for (size_t at = 0; at < text.bytes; at++) {
        char byte = text.data[at];
        if (byte >= '0' && byte <= '9')
            digits++;
        else if (byte == '.' && digits > 0)
            points++;
        else if (byte != '-' || at > 0)
            return false;
    }
    if (digits == 0 || points > 1)
        return false;
    memcpy(copy, text.data, text.bytes);
    copy[text.bytes] = '\0';
    *value = strtold(copy, NULL);
    return true;
}

OPERATION(op_incrbyfloat)
{
    struct keyspace *keyspace = turn->keyspace;
    long double value = 0, increment;
    char digits[INTEGER_BYTES_MAX], result[2 * DECIMAL_BYTES_MAX + 32];
    if (!read_decimal(text_of(&argv[2]), &increment))
        return false;
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(keyspace, &key);
    if (entry != NULL && (!is_string(entry) || !read_decimal(entry_string(entry, digits), &value)))
        return false;
    int bytes = snprintf(result, sizeof result, "%.17Lf", value + increment);
    while (result[bytes - 1] == '0')
        bytes--;
    if (result[bytes - 1] == '.')
        bytes--;
    const char *start = result;
    if (bytes == 2 && memcmp(result, "-0", 2) == 0) {
        start++;
        bytes--;
    }
    struct argument stored = {.data = start, .bytes = (size_t)bytes};
    keyspace_store(keyspace, &key, entry, &stored);
    keyspace_changed(keyspace, &key);
    /* Not every machine adds up in the same precision. */
    if (UNLIKELY(kernel->journal.on))
        journal_value(kernel, turn, &argv[1], text_of(&stored), NULL);
    output_bulk(output, start, (size_t)bytes);
    return true;
}

#endif

/* --- Keys of any type --- */

OPERATION(op_del)
{
    struct keyspace *keyspace = turn->keyspace;
    struct keys group;
    int64_t deleted = 0;
    for (size_t place = 1; place < request->argc;) {
        next_keys(kernel, keyspace, argv, request->argc, &place, 1, &group);
        for (size_t at = 0; at < group.count; at++) {
            if (keyspace_find(keyspace, &group.keys[at]) != NULL) {
                keyspace_delete(keyspace, &group.keys[at]);
                deleted++;
            }
        }
    }
    output_integer(output, deleted);
    return true;
}

OPERATION(op_unlink)
{
    struct keyspace *keyspace = turn->keyspace;
    for (size_t place = 1; place < request->argc; place++) {
        struct key key = key_of(kernel, argv[place].data, argv[place].bytes);
        /* Other values than strings may have many parts, which are freed later. */
        if (!is_string(keyspace_peek(keyspace, &key)))
            return false;
    }
    return op_del(kernel, turn, request, argv, output);
}

static bool count_keys(struct kernel *kernel, struct turn *turn, const struct request *request, struct argument *argv,
                       struct output *output, bool is_use)
{
    struct keyspace *keyspace = turn->keyspace;
    struct keys group;
    int64_t found = 0;
    for (size_t place = 1; place < request->argc;) {
        next_keys(kernel, keyspace, argv, request->argc, &place, 1, &group);
        for (size_t at = 0; at < group.count; at++) {
            struct entry *entry = keyspace_find(keyspace, &group.keys[at]);
            if (is_use)
                count_read(keyspace, entry);
            else
                count_inspection(keyspace, entry);
            found += entry != NULL;
        }
    }
    output_integer(output, found);
    return true;
}

OPERATION(op_exists)
{
    return count_keys(kernel, turn, request, argv, output, false);
}

OPERATION(op_touch)
{
    return count_keys(kernel, turn, request, argv, output, true);
}

OPERATION(op_type)
{
    UNUSED(kernel);
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(turn->keyspace, &key);
    if (!is_string(entry))
        return false;
    count_inspection(turn->keyspace, entry);
    if (entry == NULL)
        output_append(output, "+none\r\n", 7);
    else
        output_append(output, "+string\r\n", 9);
    return true;
}

static bool expire(struct kernel *kernel, struct turn *turn, const struct request *request, struct argument *argv,
                   struct output *output, int64_t unit_ms, bool from_now)
{
    struct keyspace *keyspace = turn->keyspace;
    bool nx = false, xx = false, gt = false, lt = false;
    for (size_t at = 3; at < request->argc; at++) {
        struct text word = text_of(&argv[at]);
        if (is_word(word, "NX"))
            nx = true;
        else if (is_word(word, "XX"))
            xx = true;
        else if (is_word(word, "GT"))
            gt = true;
        else if (is_word(word, "LT"))
            lt = true;
        else
            return false;
    }
    if ((nx && (xx || gt || lt)) || (gt && lt))
        return false;
    int64_t deadline_ms;
    if (!parse_integer(argv[2].data, argv[2].bytes, &deadline_ms) ||
        __builtin_mul_overflow(deadline_ms, unit_ms, &deadline_ms))
        return false;
    if (from_now && __builtin_add_overflow(deadline_ms, from_ms(kernel), &deadline_ms))
        return false;
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(keyspace, &key);
    bool is_met = false;
    if (entry != NULL) {
        entry->touched_s = keyspace->now_s;
        /* A key without a deadline ends later than any other. */
        if (!entry_has_deadline(entry)) {
            is_met = !xx && !gt;
        } else {
            int64_t current_ms = entry_deadline_ms(entry);
            is_met = !nx && !(gt && deadline_ms <= current_ms) && !(lt && deadline_ms >= current_ms);
        }
    }
    if (is_met && deadline_ms <= kernel_now_ms(kernel)) {
        keyspace_delete(keyspace, &key);
        if (UNLIKELY(kernel->journal.on))
            journal_removal(kernel, turn, &argv[1]);
    } else if (is_met) {
        keyspace_set_deadline(keyspace, &key, entry, deadline_ms);
        keyspace_changed(keyspace, &key);
        if (UNLIKELY(kernel->journal.on))
            journal_deadline(kernel, turn, &argv[1], deadline_ms);
    }
    output_integer(output, is_met);
    return true;
}

OPERATION(op_expire)
{
    return expire(kernel, turn, request, argv, output, 1000, true);
}

OPERATION(op_pexpire)
{
    return expire(kernel, turn, request, argv, output, 1, true);
}

OPERATION(op_expireat)
{
    return expire(kernel, turn, request, argv, output, 1000, false);
}

OPERATION(op_pexpireat)
{
    return expire(kernel, turn, request, argv, output, 1, false);
}

/* -2 for a key that is not there, -1 for one that does not end. */
static int64_t inspect_deadline_ms(struct turn *turn, const struct request *request, struct argument *argv)
{
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(turn->keyspace, &key);
    count_inspection(turn->keyspace, entry);
    if (entry == NULL)
        return -2;
    return entry_has_deadline(entry) ? entry_deadline_ms(entry) : -1;
}

static int64_t left_ms(struct kernel *kernel, int64_t deadline_ms)
{
    if (deadline_ms < 0)
        return deadline_ms;
    int64_t now_ms = kernel_now_ms(kernel);
    return deadline_ms < now_ms ? 0 : deadline_ms - now_ms;
}

/* Rounded to the nearest second, as Redis does. */
static int64_t in_seconds(int64_t time_ms)
{
    return time_ms < 0 ? time_ms : (int64_t)(((uint64_t)time_ms + 500) / 1000);
}

OPERATION(op_ttl)
{
    output_integer(output, in_seconds(left_ms(kernel, inspect_deadline_ms(turn, request, argv))));
    return true;
}

OPERATION(op_pttl)
{
    output_integer(output, left_ms(kernel, inspect_deadline_ms(turn, request, argv)));
    return true;
}

OPERATION(op_expiretime)
{
    UNUSED(kernel);
    output_integer(output, in_seconds(inspect_deadline_ms(turn, request, argv)));
    return true;
}

OPERATION(op_pexpiretime)
{
    UNUSED(kernel);
    output_integer(output, inspect_deadline_ms(turn, request, argv));
    return true;
}

OPERATION(op_persist)
{
    UNUSED(kernel);
    struct keyspace *keyspace = turn->keyspace;
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(keyspace, &key);
    bool persisted = entry != NULL && entry_has_deadline(entry);
    if (entry != NULL)
        entry->touched_s = keyspace->now_s;
    if (persisted) {
        keyspace_drop_deadline(keyspace, &key, entry);
        keyspace_changed(keyspace, &key);
    }
    output_integer(output, persisted);
    return true;
}

/* --- Other types: type_hash.c, type_set.c, type_list.c, type_sorted_set.c --- */

OPERATION(op_hset);
OPERATION(op_hmset);
OPERATION(op_hsetnx);
OPERATION(op_hincrby);
OPERATION(op_hdel);
OPERATION(op_hget);
OPERATION(op_hmget);
OPERATION(op_hgetall);
OPERATION(op_hkeys);
OPERATION(op_hvals);
OPERATION(op_hlen);
OPERATION(op_hexists);
OPERATION(op_hstrlen);
OPERATION(op_sadd);
OPERATION(op_srem);
OPERATION(op_sismember);
OPERATION(op_smismember);
OPERATION(op_scard);
OPERATION(op_smembers);
OPERATION(op_spop);
OPERATION(op_srandmember);
OPERATION(op_lpush);
OPERATION(op_rpush);
OPERATION(op_lpushx);
OPERATION(op_rpushx);
OPERATION(op_lpop);
OPERATION(op_rpop);
OPERATION(op_llen);
OPERATION(op_lindex);
OPERATION(op_lset);
OPERATION(op_lrange);
OPERATION(op_zadd);
OPERATION(op_zincrby);
OPERATION(op_zrem);
OPERATION(op_zcard);
OPERATION(op_zscore);
OPERATION(op_zmscore);
OPERATION(op_zrank);
OPERATION(op_zrevrank);
OPERATION(op_zpopmin);
OPERATION(op_zpopmax);
OPERATION(op_zrange);
OPERATION(op_zrevrange);
OPERATION(op_xadd);
OPERATION(op_xlen);
OPERATION(op_xrange);
OPERATION(op_xrevrange);
OPERATION(op_bitcount);
OPERATION(op_bitpos);
OPERATION(op_bitop);
OPERATION(op_track);

static const struct {
    const char *name;
    operation operation;
} OPERATIONS[] = {
    {"ping", op_ping},
    {"echo", op_echo},
    {"get", op_get},
    {"set", op_set},
    {"setnx", op_setnx},
    {"setex", op_setex},
    {"psetex", op_psetex},
    {"getset", op_getset},
    {"getdel", op_getdel},
    {"getex", op_getex},
    {"mget", op_mget},
    {"mset", op_mset},
    {"msetnx", op_msetnx},
    {"append", op_append},
    {"strlen", op_strlen},
    {"getrange", op_getrange},
    {"substr", op_getrange},
    {"setrange", op_setrange},
    {"incr", op_incr},
    {"decr", op_decr},
    {"incrby", op_incrby},
    {"decrby", op_decrby},
#if LDBL_MANT_DIG == 64
    {"incrbyfloat", op_incrbyfloat},
#endif
    {"del", op_del},
    {"unlink", op_unlink},
    {"exists", op_exists},
    {"touch", op_touch},
    {"type", op_type},
    {"expire", op_expire},
    {"pexpire", op_pexpire},
    {"expireat", op_expireat},
    {"pexpireat", op_pexpireat},
    {"ttl", op_ttl},
    {"pttl", op_pttl},
    {"expiretime", op_expiretime},
    {"pexpiretime", op_pexpiretime},
    {"persist", op_persist},
    {"hset", op_hset},
    {"hmset", op_hmset},
    {"hsetnx", op_hsetnx},
    {"hincrby", op_hincrby},
    {"hdel", op_hdel},
    {"hget", op_hget},
    {"hmget", op_hmget},
    {"hgetall", op_hgetall},
    {"hkeys", op_hkeys},
    {"hvals", op_hvals},
    {"hlen", op_hlen},
    {"hexists", op_hexists},
    {"hstrlen", op_hstrlen},
    {"sadd", op_sadd},
    {"srem", op_srem},
    {"sismember", op_sismember},
    {"smismember", op_smismember},
    {"scard", op_scard},
    {"smembers", op_smembers},
    {"spop", op_spop},
    {"srandmember", op_srandmember},
    {"lpush", op_lpush},
    {"rpush", op_rpush},
    {"lpushx", op_lpushx},
    {"rpushx", op_rpushx},
    {"lpop", op_lpop},
    {"rpop", op_rpop},
    {"llen", op_llen},
    {"lindex", op_lindex},
    {"lset", op_lset},
    {"lrange", op_lrange},
    {"zadd", op_zadd},
    {"zincrby", op_zincrby},
    {"zrem", op_zrem},
    {"zcard", op_zcard},
    {"zscore", op_zscore},
    {"zmscore", op_zmscore},
    {"zrank", op_zrank},
    {"zrevrank", op_zrevrank},
    {"zpopmin", op_zpopmin},
    {"zpopmax", op_zpopmax},
    {"zrange", op_zrange},
    {"zrevrange", op_zrevrange},
    {"xadd", op_xadd},
    {"xlen", op_xlen},
    {"xrange", op_xrange},
    {"xrevrange", op_xrevrange},
    {"bitcount", op_bitcount},
    {"bitpos", op_bitpos},
    {"bitop", op_bitop},
    {"track", op_track},
};

/* --- Finding a command by its name --- */

/* The first 16 bytes of a name in small letters, as two words.  Setting one bit makes capitals small and changes other
 * characters as well; so it proves nothing but for names that are made of letters only, which nearly all are. */
struct folded {
    uint64_t low, high;
};

#define SMALL 0x2020202020202020ULL

static inline uint64_t load(const char *data, size_t bytes)
{
    /* Two loads that overlap instead of one that ends anywhere: reading beyond the input is not allowed. */
    if (bytes >= 4) {
        uint32_t first, last;
        memcpy(&first, data, 4);
        memcpy(&last, data + bytes - 4, 4);
        return first | (uint64_t)last << (bytes - 4) * 8;
    }
    if (bytes == 0)
        return 0;
    return (uint64_t)(uint8_t)data[0] | (uint64_t)(uint8_t)data[bytes / 2] << bytes / 2 * 8 |
           (uint64_t)(uint8_t)data[bytes - 1] << (bytes - 1) * 8;
}

static inline struct folded fold(const char *name, size_t bytes)
{
    struct folded folded = {0, 0};
    if (LIKELY(bytes <= 8)) {
        folded.low = load(name, bytes) | (bytes < 8 ? SMALL >> (8 - bytes) * 8 : SMALL);
        if (UNLIKELY(bytes == 0))
            folded.low = 0;
    } else {
        memcpy(&folded.low, name, 8);
        folded.low |= SMALL;
        size_t rest = bytes - 8 < 8 ? bytes - 8 : 8;
        folded.high = load(name + 8, rest) | (rest < 8 ? SMALL >> (8 - rest) * 8 : SMALL);
    }
    return folded;
}

static inline size_t command_place(struct folded folded)
{
    return ((folded.low ^ folded.high * 3) * 0x9E3779B97F4A7C15ULL) >> (64 - COMMANDS_BITS);
}

static bool is_same_name(const struct command *command, const char *name, size_t bytes)
{
    for (size_t at = 0; at < bytes; at++) {
        char small = name[at] >= 'A' && name[at] <= 'Z' ? (char)(name[at] | 0x20) : name[at];
        if (small != command->name[at])
            return false;
    }
    return true;
}

const struct command *kernel_find_command(const struct kernel *kernel, const char *name, size_t bytes)
{
    if (UNLIKELY(bytes == 0 || bytes > COMMAND_NAME_MAX))
        return NULL;
    struct folded folded = fold(name, bytes);
    for (size_t place = command_place(folded);; place = (place + 1) & ((1 << COMMANDS_BITS) - 1)) {
        const struct command *command = &kernel->commands[place];
        if (command->name_bytes == 0)
            return NULL;
        if (command->name_bytes != bytes)
            continue;
        if (LIKELY(bytes <= 16 && command->is_letters)) {
            uint64_t low, high;
            memcpy(&low, command->name, 8);
            memcpy(&high, command->name + 8, 8);
            if (low == folded.low && high == folded.high)
                return command;
        } else if (is_same_name(command, name, bytes)) {
            return command;
        }
    }
}

struct command *kernel_add_command(struct kernel *kernel, const char *name, size_t bytes)
{
    if (bytes == 0 || bytes > COMMAND_NAME_MAX)
        return NULL;
    size_t place = command_place(fold(name, bytes)), tried = 0;
    while (kernel->commands[place].name_bytes != 0) {
        place = (place + 1) & ((1 << COMMANDS_BITS) - 1);
        /* A quarter stays empty, so that looking up what is not there is soon over. */
        if (++tried > 3 << (COMMANDS_BITS - 2))
            return NULL;
    }
    struct command *command = &kernel->commands[place];
    memset(command, 0, sizeof *command);
    memcpy(command->name, name, bytes);
    command->name_bytes = bytes;
    command->is_letters = true;
    for (size_t at = 0; at < bytes; at++)
        if (name[at] < 'a' || name[at] > 'z')
            command->is_letters = false;
    for (size_t at = 0; at < sizeof OPERATIONS / sizeof *OPERATIONS; at++)
        if (strlen(OPERATIONS[at].name) == bytes && memcmp(OPERATIONS[at].name, name, bytes) == 0)
            command->operation = OPERATIONS[at].operation;
    return command;
}

/* --- Batches --- */

/* The command, or subcommand, that a request names; NULL where only the reference can tell. */
static const struct command *find_for(const struct kernel *kernel, const struct argument *argv, size_t argc)
{
    const struct command *command = kernel_find_command(kernel, argv[0].data, argv[0].bytes);
    if (LIKELY(command == NULL || !command->is_container) || argc == 1)
        return command == NULL || command->is_subcommand ? NULL : command;
    char name[COMMAND_NAME_MAX];
    size_t bytes = command->name_bytes + 1 + argv[1].bytes;
    if (bytes > COMMAND_NAME_MAX)
        return NULL;
    memcpy(name, command->name, command->name_bytes);
    name[command->name_bytes] = '|';
    memcpy(name + command->name_bytes + 1, argv[1].data, argv[1].bytes);
    return kernel_find_command(kernel, name, bytes);
}

void batch_prepare(struct kernel *kernel, struct keyspace *keyspace, struct batch *batch)
{
    kernel->now_ms = 0;
    bool fetches = batch->count > 1 && keyspace->slots != NULL;
    for (size_t at = 0; at < batch->count; at++) {
        struct request *request = &batch->requests[at];
        const struct argument *argv = batch->arguments + request->first;
        const struct command *command = find_for(kernel, argv, request->argc);
        request->command = command;
        /* All operations that have a key have it first. */
        if (command != NULL && command->operation != NULL && command->first_key == 1 && request->argc > 1) {
            struct key key = key_of(kernel, argv[1].data, argv[1].bytes);
            request->hash = key.hash;
            request->slot = key.slot;
            if (fetches)
                prefetch_slot(keyspace, key.slot);
        } else {
            request->slot = SLOTS;
        }
    }
    if (!fetches)
        return;
    for (size_t at = 0; at < batch->count; at++)
        if (batch->requests[at].slot < SLOTS)
            prefetch_bucket(keyspace, batch->requests[at].hash, batch->requests[at].slot);
    for (size_t at = 0; at < batch->count; at++)
        if (batch->requests[at].slot < SLOTS)
            prefetch_entry(keyspace, batch->requests[at].hash, batch->requests[at].slot);
}

/* An entry has 32 bits for the length of its key.  Only who raises proto-max-bulk-len can send a longer word. */
static bool keys_fit(const struct argument *argv, size_t argc)
{
    for (size_t at = 0; at < argc; at++)
        if (argv[at].bytes > KEY_BYTES_MAX)
            return false;
    return true;
}

/* What is kept of a request that may be for the journal while it runs. */
struct journaling {
    uint64_t changes;
    struct journal early; /* its words, where running it may free them */
};

static __attribute__((noinline)) struct journaling
begin_journaling(const struct turn *turn, const struct argument *argv, size_t argc, bool has_blocks)
{
    struct journaling journaling;
    journaling.changes = turn->keyspace->changes;
    journaling.early.data = NULL;
    /* MSET gives the blocks of large values away, and takes one back where a key comes twice. */
    if (UNLIKELY(has_blocks)) {
        memset(&journaling.early, 0, sizeof journaling.early);
        journaling.early.database = turn->keyspace->index;
        journal_request(&journaling.early, turn->keyspace->index, argv, argc);
    }
    return journaling;
}

static __attribute__((noinline)) void end_journaling(struct kernel *kernel, const struct turn *turn,
                                                     const struct argument *argv, size_t argc,
                                                     struct journaling *journaling)
{
    struct journal *journal = &kernel->journal;
    if (!journal->told && turn->keyspace->changes != journaling->changes) {
        if (UNLIKELY(journaling->early.data != NULL))
            journal_copy(journal, turn->keyspace->index, &journaling->early);
        else
            journal_request(journal, turn->keyspace->index, argv, argc);
    }
    journal->told = false;
    journal_free(&journaling->early);
}

bool is_blind(const struct command *command, const struct argument *argv, size_t argc)
{
    operation operation = command->operation;
    if (operation != op_set)
        return operation == op_mset || operation == op_setex || operation == op_psetex;
    if (argc != 5)
        return argc == 3;
    struct text option = text_of(&argv[3]);
    return is_word(option, "EX") || is_word(option, "PX") || is_word(option, "EXAT") || is_word(option, "PXAT");
}

/* What a command may change, before it does: where the table cannot tell its keys, whatever its words name. */
static __attribute__((noinline)) void preserve_keys(struct keyspace *keyspace, const struct command *command,
                                                    const struct argument *argv, size_t argc)
{
    int64_t first = 1, last = (int64_t)argc - 1, step = 1;
    if (command->first_key != 0) {
        first = command->first_key;
        step = command->key_step;
        if (command->last_key >= 0 && command->last_key < last)
            last = command->last_key;
    }
    for (int64_t at = first; at <= last; at += step) {
        struct key key = key_of(keyspace->kernel, argv[at].data, argv[at].bytes);
        struct entry *entry = keyspace_peek(keyspace, &key);
        if (entry != NULL)
            preserve(keyspace, entry);
    }
}

size_t batch_run(struct kernel *kernel, struct turn *turn, struct batch *batch, size_t place, struct output *output,
                 size_t bytes_max)
{
    for (; place < batch->count; place++) {
        const struct request *request = &batch->requests[place];
        const struct command *command = request->command;
        struct argument *argv = batch->arguments + request->first;
        if (UNLIKELY(command == NULL || command->operation == NULL || request->argc < command->argc_min ||
                     request->argc > command->argc_max || kernel->hands_over || turn->keyspace->tells_ends))
            return place;
        if (UNLIKELY(!kernel->observing) && command->lengthy)
            turn->started = clock_now(&kernel->clock);
        if (UNLIKELY(turn->bulk_max > KEY_BYTES_MAX) && !keys_fit(argv, request->argc))
            return place;
        if (UNLIKELY(command->denyoom && kernel->maxmemory > 0) &&
            kernel_memory_bytes(kernel) > (int64_t)kernel->maxmemory)
            return place;
        struct keyspace *keyspace = turn->keyspace;
        struct backing *backing = keyspace->backing;
        if (UNLIKELY(backing != NULL) && !keys_are_ready(keyspace, request, argv))
            return place;
        uint8_t audited = command->audited;
        if (UNLIKELY(audited) && !audit_begin(kernel, turn, command, argv, request->argc))
            return place;
        if (command->lengthy)
            board_begin(kernel, turn, command, argv, request->argc);
        bool is_journaled = UNLIKELY(kernel->journal.on) && command->writes;
        struct journaling journaling;
        if (UNLIKELY(is_journaled))
            journaling = begin_journaling(turn, argv, request->argc, batch->has_blocks);
        if (UNLIKELY(kernel->saving.is_on) && command->writes && turn->keyspace->backing == NULL)
            preserve_keys(turn->keyspace, command, argv, request->argc);
        size_t mark = output->bytes;
        if (UNLIKELY(kernel->is_sampled)) {
            kernel->running = command;
            kernel->in_operation = true;
        }
        bool is_sampled = kernel->is_sampled;
        if (UNLIKELY(is_sampled)) {
            kernel->running = command;
            kernel->in_operation = true;
        }
        bool done = command->operation(kernel, turn, request, argv, output);
        if (UNLIKELY(is_sampled))
            kernel->in_operation = false;
        if (UNLIKELY(backing != NULL) && backing->has_marked)
            backing_reconsider(keyspace, request, argv);
        if (UNLIKELY(is_journaled))
            end_journaling(kernel, turn, argv, request->argc, &journaling);
        if (command->lengthy)
            board_end(kernel);
        if (UNLIKELY(!done))
            return place;
        if (UNLIKELY(output->failed)) {
            if (audited)
                audit_end(kernel, "-", 1);
            output->bytes = mark;
            return place;
        }
        if (UNLIKELY(audited))
            audit_end(kernel, output->data + mark, output->bytes - mark);
        size_t reply_bytes = output->bytes - mark;
        if (UNLIKELY(settle(kernel, turn, command, argv, request->argc, reply_bytes))) {
            kernel->note(turn, command, argv, request->argc, reply_bytes);
            turn->started = clock_now(&kernel->clock);
        }
        if (UNLIKELY(output->bytes > bytes_max || kernel->interrupted))
            return place + 1;
    }
    return place;
}

/* Record the keys of a request for hot keys: the one whose turn it is, for all that were passed over since the last; or
 * one that took so much that no other shall stand for it. */
static __attribute__((noinline)) void sample_keys(struct kernel *kernel, const struct turn *turn,
                                                  const struct command *command, const struct argument *argv,
                                                  size_t argc, uint64_t elapsed_ns, size_t reply_bytes, bool is_heavy)
{
    int64_t ratio = kernel->sampling_ratio;
    if (!command->has_keys || !ratio)
        return;
    struct hot_access access = {
        .database = turn->database,
        .is_write = command->writes,
        .client = turn->client_id,
        .weight = is_heavy ? 1 : (uint64_t)ratio,
        .cpu_ns = elapsed_ns,
        .net_bytes = request_bytes(argv, argc) + reply_bytes,
    };
    if (command->first_key == 0) {
        kernel->unnamed = access;
        return;
    }
    int64_t last = command->last_key < 0 ? (int64_t)argc + command->last_key : command->last_key;
    int64_t first = command->first_key, step = command->key_step;
    if (last < first || last >= (int64_t)argc)
        return;
    uint64_t count = (uint64_t)((last - first) / step + 1);
    access.cpu_ns /= count;
    access.net_bytes /= count;
    if (ratio > 1 && count > 1) {
        /* One key stands for all of the command's, or MGET of a thousand would pay for a thousand. */
        access.weight *= count;
        first += (int64_t)(kernel_random(kernel) % count) * step;
        count = 1;
    }
    for (; count > 0; count--, first += step) {
        struct key key = key_of(kernel, argv[first].data, argv[first].bytes);
        access.key = (struct key_name){key.data, key.bytes, key.hash, key.slot};
        hot_keys_record(&kernel->hot_keys, &access);
    }
}

static size_t digits_of(uint64_t number)
{
    size_t digits = 1;
    while ((number /= 10) > 0)
        digits++;
    return digits;
}

uint64_t request_bytes(const struct argument *argv, size_t argc)
{
    uint64_t bytes = 3 + digits_of(argc);
    for (size_t at = 0; at < argc; at++)
        bytes += 5 + digits_of(argv[at].bytes) + argv[at].bytes;
    return bytes;
}

/* A command took long: whoever waited for it is to know. */
static __attribute__((noinline, cold)) void note_interval(struct kernel *kernel, const struct turn *turn,
                                                          const struct command *command, const struct argument *argv,
                                                          size_t argc, uint64_t now)
{
    struct culprit culprit = {.client_id = (int64_t)turn->client_id, .slot = (int)command->stats_slot};
    memcpy(culprit.address, turn->address, ADDRESS_BYTES);
    if (command->first_key > 0 && command->first_key < argc) {
        const struct argument *key = &argv[command->first_key];
        culprit.key_bytes = key->bytes < CULPRIT_KEY_BYTES ? (uint32_t)key->bytes : CULPRIT_KEY_BYTES;
        memcpy(culprit.key, key->data, culprit.key_bytes);
    }
    kernel->notes_unnamed = command->first_key == 0 && command->has_keys;
    int64_t start_ns = turn->begun_ns + (int64_t)clock_elapsed_ns(&kernel->clock, turn->begun, turn->started);
    int64_t stop_ns = turn->begun_ns + (int64_t)clock_elapsed_ns(&kernel->clock, turn->begun, now);
    service_note(&kernel->service, &culprit, start_ns, stop_ns);
    service_end_run(kernel);
}

/* Whose turn has come, of hot keys and of tracing; returns whether tracing's has. */
static __attribute__((noinline)) bool take_samples(struct kernel *kernel, const struct turn *turn,
                                                   const struct command *command, const struct argument *argv,
                                                   size_t argc, uint64_t elapsed_ns, size_t reply_bytes, bool is_heavy)
{
    bool is_traced = false;
    if (kernel->samples_left <= 0) {
        samples_settle(kernel);
        is_traced = kernel->spans.left <= 0;
        if (is_traced)
            kernel->spans.left = spans_step(kernel);
        if (kernel->hot_left <= 0) {
            /* A random step with the ratio as its mean: an even one would beat with pipelines of a similar length. */
            int64_t ratio = kernel->sampling_ratio;
            kernel->hot_left = ratio ? 1 + (int64_t)(kernel_random(kernel) % (uint64_t)(2 * ratio - 1)) : SPANS_NEVER;
            if (!is_heavy)
                sample_keys(kernel, turn, command, argv, argc, elapsed_ns, reply_bytes, false);
        }
        samples_begin(kernel);
    }
    if (is_heavy)
        sample_keys(kernel, turn, command, argv, argc, elapsed_ns, reply_bytes, true);
    return is_traced;
}

bool settle(struct kernel *kernel, struct turn *turn, const struct command *command, const struct argument *argv,
            size_t argc, size_t reply_bytes)
{
    if (!kernel->observing)
        return false;
    uint64_t now = clock_now(&kernel->clock);
    uint64_t elapsed_ns = clock_elapsed_ns(&kernel->clock, turn->started, now);
    command_stats_record(&turn->keyspace->stats->commands[command->stats_slot], elapsed_ns);
    struct reading *reading = kernel->service.reading;
    if (UNLIKELY((reading->slot != command->stats_slot) | (reading->count == RUN_MAX) | (elapsed_ns >= NOTABLE_NS)))
        service_next_run(kernel, command->stats_slot, turn->started);
    reading->count++;
    reading->last = turn->started;
    if (UNLIKELY(elapsed_ns >= NOTABLE_NS))
        note_interval(kernel, turn, command, argv, argc, now);
    uint64_t started = turn->started;
    turn->started = now;
    bool is_heavy = (elapsed_ns >> HEAVY_NS_BITS | reply_bytes >> HEAVY_BYTES_BITS) != 0;
    bool is_traced = false;
    if (UNLIKELY((--kernel->samples_left <= 0) | is_heavy))
        is_traced = take_samples(kernel, turn, command, argv, argc, elapsed_ns, reply_bytes, is_heavy);
    bool is_notable = !LIKELY(elapsed_ns < kernel->slow_ns && reply_bytes < kernel->large_reply_bytes);
    if (UNLIKELY(is_traced)) {
        /* Who is looked at by Python in any case is traced there, with more than is known here. */
        kernel->is_traced = is_notable = is_notable || kernel->spans.asks;
        if (!is_notable)
            spans_record(kernel, turn, command->stats_slot, started, now);
    }
    if (LIKELY(!is_notable))
        return false;
    turn->elapsed_ns = elapsed_ns;
    return true;
}

/* --- The activity board: kora/observe/board.py says what stands where --- */

enum { WORD_COMMAND_STARTED = 3, WORD_KEY_LENGTH = 4 };
enum { AT_COMMAND = 64, AT_ADDRESS = 96, AT_KEY = 160, KEY_SHOWN_MAX = 32 };

static void write_word(struct kernel *kernel, int word, uint64_t value)
{
    ((volatile uint64_t *)kernel->board)[word] = value;
}

void board_begin(struct kernel *kernel, const struct turn *turn, const struct command *command,
                 const struct argument *argv, size_t argc)
{
    char *page = kernel->board;
    write_word(kernel, WORD_COMMAND_STARTED, 0);
    memcpy(page + AT_COMMAND, command->board_name, sizeof command->board_name);
    memcpy(page + AT_ADDRESS, turn->address, AT_KEY - AT_ADDRESS);
    size_t shown = 0;
    if (command->first_key > 0 && command->first_key < argc) {
        const struct argument *key = &argv[command->first_key];
        shown = key->bytes < KEY_SHOWN_MAX ? key->bytes : KEY_SHOWN_MAX;
        memcpy(page + AT_KEY, key->data, shown);
    }
    write_word(kernel, WORD_KEY_LENGTH, shown);
    uint64_t started_ns = (uint64_t)turn->begun_ns + clock_elapsed_ns(&kernel->clock, turn->begun, turn->started);
    write_word(kernel, WORD_COMMAND_STARTED, started_ns);
}

void board_end(struct kernel *kernel)
{
    write_word(kernel, WORD_COMMAND_STARTED, 0);
}
