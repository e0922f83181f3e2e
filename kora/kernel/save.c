/* Snapshots: keys and values as Redis' RDB files have them.  kora/types/rdb is the reference, and says how each looks;
 * kernel.h says how a moment is kept while commands go on.  A snapshot file is put together by kora/persist/saving.py. */

#include "kernel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* --- Numbers and strings: kora/types/rdb/writer.py --- */

/* Room for so many bytes more; returns where they begin. */
static char *extend(struct buffer *buffer, size_t bytes)
{
    if (UNLIKELY(buffer->bytes + bytes > buffer->capacity)) {
        size_t capacity = buffer->capacity + buffer->capacity / 2;
        if (capacity < buffer->bytes + bytes)
            capacity = buffer->bytes + bytes + 256;
        buffer->data = reallocate(buffer->data, capacity);
        buffer->capacity = capacity;
    }
    char *start = buffer->data + buffer->bytes;
    buffer->bytes += bytes;
    return start;
}

void buffer_append(struct buffer *buffer, const char *data, size_t bytes)
{
    if (bytes > 0)
        memcpy(extend(buffer, bytes), data, bytes);
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

static void put_byte(struct buffer *buffer, unsigned byte)
{
    *extend(buffer, 1) = (char)byte;
}

static void put_little(struct buffer *buffer, uint64_t number, size_t bytes)
{
    char *target = extend(buffer, bytes);
    for (size_t at = 0; at < bytes; at++)
        target[at] = (char)(number >> 8 * at);
}

static void put_big(struct buffer *buffer, uint64_t number, size_t bytes)
{
    char *target = extend(buffer, bytes);
    for (size_t at = 0; at < bytes; at++)
        target[at] = (char)(number >> 8 * (bytes - 1 - at));
}

static void put_length(struct buffer *buffer, uint64_t length)
{
    if (length < 1 << 6) {
        put_byte(buffer, (unsigned)length);
    } else if (length < 1 << 14) {
        put_big(buffer, length | 1 << 14, 2);
    } else if (length <= UINT32_MAX) {
        put_byte(buffer, 0x80);
        put_big(buffer, length, 4);
    } else {
        put_byte(buffer, 0x81);
        put_big(buffer, length, 8);
    }
}

/* Shorter strings are not worth compressing, and longer ones are no integers that could be written as such. */
#define COMPRESSED_MIN 21
/* Longer ones are not compressed, either: it would take more than a turn of the loop. */
#define COMPRESSED_MAX (256 << 10)
#define COMPRESSED_SAVES 4
#define INTEGER_DIGITS_MAX 11

static bool put_number(struct buffer *buffer, int64_t number)
{
    for (unsigned form = 0, bits = 8; form < 3; form++, bits *= 2) {
        int64_t limit = (int64_t)1 << (bits - 1);
        if (number >= -limit && number < limit) {
            put_byte(buffer, 0xC0 | form);
            put_little(buffer, (uint64_t)number, bits / 8);
            return true;
        }
    }
    return false;
}

static bool put_compressed(struct buffer *buffer, struct text text)
{
    /* Behind room for both lengths, which are only known when it is done. */
    enum { HEAD = 1 + 9 + 9 };
    size_t start = buffer->bytes, room = text.bytes - COMPRESSED_SAVES;
    extend(buffer, HEAD + room);
    size_t packed =
        lzf_compress((const unsigned char *)text.data, text.bytes, (unsigned char *)buffer->data + start + HEAD, room);
    buffer->bytes = start;
    if (packed == 0)
        return false;
    put_byte(buffer, 0xC3);
    put_length(buffer, packed);
    put_length(buffer, text.bytes);
    memmove(buffer->data + buffer->bytes, buffer->data + start + HEAD, packed);
    buffer->bytes += packed;
    return true;
}

static void put_text(struct saving *saving, struct text text)
{
    struct buffer *out = &saving->out;
    int64_t number;
    if (text.bytes <= INTEGER_DIGITS_MAX) {
        if (parse_integer(text.data, text.bytes, &number) && put_number(out, number))
            return;
    } else if (text.bytes >= COMPRESSED_MIN && text.bytes <= COMPRESSED_MAX && saving->compresses &&
               put_compressed(out, text)) {
        return;
    }
    put_length(out, text.bytes);
    buffer_append(out, text.data, text.bytes);
}

/* --- Listpacks: kora/types/rdb/packs.py --- */

#define LISTPACK_HEAD 6
#define LISTPACK_UNCOUNTED 0xFFFF

struct listpack {
    struct buffer *buffer; /* which it has for itself */
    size_t count;
};

static struct listpack listpack_begin(struct saving *saving)
{
    saving->scratch.bytes = 0;
    extend(&saving->scratch, LISTPACK_HEAD);
    return (struct listpack){&saving->scratch, 0};
}

/* Append it, which is complete then, as a string. */
static void put_listpack(struct saving *saving, const struct listpack *listpack)
{
    struct buffer *buffer = listpack->buffer;
    put_byte(buffer, 0xFF);
    size_t bytes = buffer->bytes, count = listpack->count < LISTPACK_UNCOUNTED ? listpack->count : LISTPACK_UNCOUNTED;
    buffer->bytes = 0;
    put_little(buffer, bytes, 4);
    put_little(buffer, count, 2);
    buffer->bytes = bytes;
    put_text(saving, (struct text){buffer->data, bytes});
}

/* How long an element was stands behind it. */
static void put_back_length(struct buffer *buffer, size_t length)
{
    unsigned bytes = back_bytes(length);
    for (unsigned place = bytes; place-- > 0;)
        put_byte(buffer, (unsigned)(length >> 7 * place & 0x7F) | (place == bytes - 1 ? 0 : 0x80));
}

static unsigned integer_width(int64_t number)
{
    for (unsigned width = 2; width < 5; width++) {
        int64_t limit = (int64_t)1 << (8 * width - 1);
        if (number >= -limit && number < limit)
            return width;
    }
    return 8;
}

static void listpack_add_integer(struct listpack *listpack, int64_t number)
{
    struct buffer *buffer = listpack->buffer;
    listpack->count++;
    if (number >= 0 && number < 128) {
        put_byte(buffer, (unsigned)number);
        put_byte(buffer, 1);
    } else if (number >= -4096 && number < 4096) {
        put_big(buffer, 0xC000 | (number & 0x1FFF), 2);
        put_byte(buffer, 2);
    } else {
        unsigned width = integer_width(number);
        put_byte(buffer, width == 8 ? 0xF4 : 0xEF + width);
        put_little(buffer, (uint64_t)number, width);
        put_byte(buffer, width + 1);
    }
}

static void listpack_add(struct listpack *listpack, struct text text)
{
    int64_t number;
    if (text.bytes <= INTEGER_BYTES_MAX && parse_integer(text.data, text.bytes, &number)) {
        listpack_add_integer(listpack, number);
        return;
    }
    struct buffer *buffer = listpack->buffer;
    size_t start = buffer->bytes;
    listpack->count++;
    if (text.bytes < 64) {
        put_byte(buffer, 0x80 | (unsigned)text.bytes);
    } else if (text.bytes < 4096) {
        put_big(buffer, 0xE000 | text.bytes, 2);
    } else {
        put_byte(buffer, 0xF0);
        put_little(buffer, text.bytes, 4);
    }
    buffer_append(buffer, text.data, text.bytes);
    put_back_length(buffer, buffer->bytes - start);
}

/* What listpack_add() appends for a text. */
static size_t listpack_bytes(struct text text)
{
    int64_t number;
    if (text.bytes <= INTEGER_BYTES_MAX && parse_integer(text.data, text.bytes, &number)) {
        if (number >= 0 && number < 128)
            return 2;
        return number >= -4096 && number < 4096 ? 3 : integer_width(number) + 2;
    }
    size_t bytes = text.bytes + (text.bytes < 64 ? 1 : text.bytes < 4096 ? 2 : 5);
    return bytes + back_bytes(bytes);
}

/* --- Values: kora/types/rdb/values.py --- */

enum rdb_type {
    RDB_STRING = 0,
    RDB_SET = 2,
    RDB_HASH = 4,
    RDB_ZSET_2 = 5,
    RDB_SET_INTSET = 11,
    RDB_HASH_LISTPACK = 16,
    RDB_ZSET_LISTPACK = 17,
    RDB_LIST_QUICKLIST_2 = 18,
    RDB_STREAM_LISTPACKS_2 = 19,
    RDB_SET_LISTPACK = 20,
    RDB_STREAM_LISTPACKS_3 = 21,
    RDB_TOLD /* by Python */
};

static enum rdb_type type_of_entry(const struct saving *saving, const struct entry *entry)
{
    if (entry->kind != OBJECT)
        return RDB_STRING;
    const void *value = entry_value(entry);
    switch (entry->object_kind) {
    case HASH_OBJECT:
        if (((const struct hash_value *)value)->timed_count > 0)
            return RDB_TOLD;
        return ((const struct hash_value *)value)->is_table ? RDB_HASH : RDB_HASH_LISTPACK;
    case SET_OBJECT:
        if (((const struct set_value *)value)->form == SET_INTEGERS)
            return RDB_SET_INTSET;
        return ((const struct set_value *)value)->form == SET_PACK && saving->version > 10 ? RDB_SET_LISTPACK : RDB_SET;
    case LIST_OBJECT:
        return RDB_LIST_QUICKLIST_2;
    case SORTED_SET_OBJECT:
        return sorted_set_is_small(value) ? RDB_ZSET_LISTPACK : RDB_ZSET_2;
    case STREAM_OBJECT:
        return saving->version > 10 ? RDB_STREAM_LISTPACKS_3 : RDB_STREAM_LISTPACKS_2;
    }
    return RDB_TOLD;
}

static void put_hash(struct saving *saving, const struct hash_value *hash, enum rdb_type type)
{
    struct text field, value;
    size_t place = 0;
    if (type == RDB_HASH_LISTPACK) {
        struct listpack listpack = listpack_begin(saving);
        while (hash_next(hash, &place, &field, &value)) {
            listpack_add(&listpack, field);
            listpack_add(&listpack, value);
        }
        put_listpack(saving, &listpack);
        return;
    }
    put_length(&saving->out, hash_count(hash));
    while (hash_next(hash, &place, &field, &value)) {
        put_text(saving, field);
        put_text(saving, value);
    }
}

static void put_set(struct saving *saving, const struct set_value *set, enum rdb_type type)
{
    struct text member;
    char digits[INTEGER_BYTES_MAX];
    size_t place = 0;
    if (type == RDB_SET_INTSET) {
        struct buffer *scratch = &saving->scratch;
        scratch->bytes = 0;
        put_little(scratch, set->integers.width, 4);
        put_little(scratch, set->integers.count, 4);
        /* In the byte order of the machine, which for all that we run on is that of the file. */
        buffer_append(scratch, set->integers.data, (size_t)set->integers.width * set->integers.count);
        put_text(saving, (struct text){scratch->data, scratch->bytes});
    } else if (type == RDB_SET_LISTPACK) {
        struct listpack listpack = listpack_begin(saving);
        while (set_next(set, &place, digits, &member))
            listpack_add(&listpack, member);
        put_listpack(saving, &listpack);
    } else {
        put_length(&saving->out, set_count(set));
        while (set_next(set, &place, digits, &member))
            put_text(saving, member);
    }
}

/* What a node of a list may be long in a quicklist: list-max-listpack-size -2, the default. */
#define RDB_NODE_BYTES_MAX 8192
#define RDB_PACKED_NODE 2

static void put_list(struct saving *saving, const struct list *list)
{
    /* The nodes are counted first: each but the last is as full as can be, and what is longer has one to itself. */
    size_t nodes = 1, bytes = LISTPACK_HEAD + 1, count = 0;
    for (struct list_walk walk = list_walk(list, 0); walk.node != NULL; list_next(&walk)) {
        size_t wanted = listpack_bytes(list_here(&walk));
        if (count > 0 && bytes + wanted > RDB_NODE_BYTES_MAX) {
            nodes++;
            bytes = LISTPACK_HEAD + 1;
            count = 0;
        }
        bytes += wanted;
        count++;
    }
    put_length(&saving->out, nodes);
    struct listpack listpack = listpack_begin(saving);
    for (struct list_walk walk = list_walk(list, 0); walk.node != NULL; list_next(&walk)) {
        struct text item = list_here(&walk);
        if (listpack.count > 0 && listpack.buffer->bytes + 1 + listpack_bytes(item) > RDB_NODE_BYTES_MAX) {
            put_length(&saving->out, RDB_PACKED_NODE);
            put_listpack(saving, &listpack);
            listpack = listpack_begin(saving);
        }
        listpack_add(&listpack, item);
    }
    put_length(&saving->out, RDB_PACKED_NODE);
    put_listpack(saving, &listpack);
}

/* The integers that doubles count without gaps; these Redis writes as such. */
#define EXACT_MAX ((double)((int64_t)1 << 52))

static void listpack_add_score(struct listpack *listpack, double score)
{
    char digits[32];
    if (score >= -EXACT_MAX && score <= EXACT_MAX && score == (double)(int64_t)score)
        listpack_add_integer(listpack, (int64_t)score);
    else if (isinf(score))
        listpack_add(listpack, score > 0 ? (struct text){"inf", 3} : (struct text){"-inf", 4});
    else
        listpack_add(listpack, (struct text){digits, (size_t)snprintf(digits, sizeof digits, "%.17g", score)});
}

static void put_sorted_set(struct saving *saving, const struct sorted_set *set, enum rdb_type type)
{
    struct ranked ranked;
    if (type == RDB_ZSET_LISTPACK) {
        struct listpack listpack = listpack_begin(saving);
        for (struct sorted_set_walk walk = sorted_set_walk(set, 0); sorted_set_here(&walk, &ranked);
             sorted_set_next(&walk)) {
            listpack_add(&listpack, ranked.member);
            listpack_add_score(&listpack, ranked.score);
        }
        put_listpack(saving, &listpack);
        return;
    }
    /* The greatest first: so Redis finds the place of each at the head of its skip list. */
    size_t count = sorted_set_count(set);
    put_length(&saving->out, count);
    for (struct sorted_set_walk walk = sorted_set_walk(set, count - 1); sorted_set_here(&walk, &ranked);
         sorted_set_previous(&walk)) {
        uint64_t bits;
        put_text(saving, ranked.member);
        memcpy(&bits, &ranked.score, sizeof bits);
        put_little(&saving->out, bits, 8);
    }
}

#define SAME_NAMES 2

/* One of our blocks as one of Redis': kora/types/rdb/streams.py says how that looks. */
static void put_block(struct saving *saving, const struct stream *stream, uint32_t place)
{
    const struct block *block = stream_block(stream, place);
    put_length(&saving->out, 16);
    put_big(&saving->out, block->first.ms, 8);
    put_big(&saving->out, block->first.number, 8);
    struct listpack listpack = listpack_begin(saving);
    listpack_add_integer(&listpack, block->pack.count - 1);
    listpack_add_integer(&listpack, 0);
    listpack_add_integer(&listpack, block->names);
    const char *at = pack_get(&block->pack, 0).data;
    for (uint32_t names = block->names; names > 0; names--) {
        struct text name = read_string(at);
        listpack_add(&listpack, name);
        at = name.data + name.bytes;
    }
    listpack_add_integer(&listpack, 0);
    struct stream_walk walk = {stream, place, pack_next(&block->pack, 0)};
    struct stream_entry entry;
    for (; walk.block == place && stream_here(&walk, &entry); stream_next(&walk)) {
        bool shares = entry.shares_names;
        int64_t words = (int64_t)entry.words;
        listpack_add_integer(&listpack, shares ? SAME_NAMES : 0);
        listpack_add_integer(&listpack, (int64_t)(entry.id.ms - block->first.ms));
        listpack_add_integer(&listpack, (int64_t)(entry.id.number - block->first.number));
        if (!shares)
            listpack_add_integer(&listpack, words / 2);
        while (entry.words > 0) {
            bool is_name = entry.words % 2 == 0;
            struct text word = stream_word(&entry);
            if (!(shares && is_name))
                listpack_add(&listpack, word);
        }
        listpack_add_integer(&listpack, shares ? 3 + words / 2 : 4 + words);
    }
    put_listpack(saving, &listpack);
}

static void put_stream(struct saving *saving, const struct stream *stream)
{
    /* A block without entries has the names of the first only. */
    uint32_t blocks = 0;
    for (uint32_t place = 0; place < stream->count; place++)
        blocks += stream_block(stream, place)->pack.count > 1;
    put_length(&saving->out, blocks);
    for (uint32_t place = 0; place < stream->count; place++)
        if (stream_block(stream, place)->pack.count > 1)
            put_block(saving, stream, place);
}

static void put_value(struct saving *saving, const struct entry *entry, enum rdb_type type)
{
    char digits[INTEGER_BYTES_MAX];
    if (entry->kind != OBJECT) {
        put_text(saving, entry_string(entry, digits));
        return;
    }
    const void *value = entry_value(entry);
    switch (entry->object_kind) {
    case HASH_OBJECT:
        put_hash(saving, value, type);
        break;
    case SET_OBJECT:
        put_set(saving, value, type);
        break;
    case LIST_OBJECT:
        put_list(saving, value);
        break;
    case SORTED_SET_OBJECT:
        put_sorted_set(saving, value, type);
        break;
    case STREAM_OBJECT:
        put_stream(saving, value);
        break;
    }
}

/* --- Records --- */

enum { OP_IDLE = 0xF8, OP_FREQUENCY = 0xF9, OP_DEADLINE_MS = 0xFC, OP_DATABASE = 0xFE };

/* When a key was last used, or how often it is, as OBJECT IDLETIME and OBJECT FREQ tell. */
static void put_stamp(struct kernel *kernel, const struct entry *entry)
{
    struct saving *saving = &kernel->saving;
    if (saving->stamps == IDLE_STAMPS) {
        uint64_t now_s = (uint64_t)kernel_now_ms(kernel) / 1000;
        put_byte(&saving->out, OP_IDLE);
        put_length(&saving->out, now_s > entry->touched_s ? now_s - entry->touched_s : 0);
    } else if (saving->stamps == FREQUENCY_STAMPS) {
        struct text key = entry_key(entry);
        uint64_t uses = hot_keys_estimate(&kernel->hot_keys, keyed_hash(kernel->secret, key.data, key.bytes));
        unsigned frequency = 0;
        for (; uses > 0 && frequency < 248; uses >>= 1)
            frequency += 8;
        put_byte(&saving->out, OP_FREQUENCY);
        put_byte(&saving->out, frequency);
    }
}

/* One that is empty was changed before it was saved: then this is not the moment that was asked for. */
static bool is_empty(const struct entry *entry)
{
    if (entry->kind != OBJECT)
        return false;
    const void *value = entry_value(entry);
    switch (entry->object_kind) {
    case HASH_OBJECT:
        return hash_count(value) == 0;
    case SET_OBJECT:
        return set_count(value) == 0;
    case LIST_OBJECT:
        return list_count(value) == 0;
    case SORTED_SET_OBJECT:
        return sorted_set_count(value) == 0;
    }
    return false;
}

void save_entry(struct kernel *kernel, struct entry *entry, uint32_t database)
{
    struct saving *saving = &kernel->saving;
    struct buffer *out = &saving->out;
    entry->epoch = saving->epoch & (EPOCHS - 1);
    if (saving->is_muted)
        return;
    enum rdb_type type = type_of_entry(saving, entry);
    struct buffer told = {0};
    bool is_told = type == RDB_TOLD || type == RDB_STREAM_LISTPACKS_2 || type == RDB_STREAM_LISTPACKS_3;
    if (is_empty(entry) || (is_told && !kernel->tell_object(kernel, entry_object(entry), &told))) {
        saving->failed = true;
        buffer_free(&told);
        return;
    }
    if (saving->database != database) {
        saving->database = database;
        put_byte(out, OP_DATABASE);
        put_length(out, database);
    }
    if (entry_has_deadline(entry)) {
        put_byte(out, OP_DEADLINE_MS);
        put_little(out, (uint64_t)entry_deadline_ms(entry), 8);
    }
    if (saving->stamps != NO_STAMPS)
        put_stamp(kernel, entry);
    put_byte(out, type == RDB_TOLD ? (unsigned char)told.data[0] : type);
    put_text(saving, entry_key(entry));
    if (type == RDB_TOLD) {
        buffer_append(out, told.data + 1, told.bytes - 1);
    } else {
        put_value(saving, entry, type);
        buffer_append(out, told.data, told.bytes);
    }
    buffer_free(&told);
    saving->records++;
}

bool save_value(struct kernel *kernel, const struct entry *entry)
{
    struct saving *saving = &kernel->saving;
    struct buffer *out = &saving->out;
    enum rdb_type type = type_of_entry(saving, entry);
    struct buffer told = {0};
    bool is_told = type == RDB_TOLD || type == RDB_STREAM_LISTPACKS_2 || type == RDB_STREAM_LISTPACKS_3;
    if (is_empty(entry) || (is_told && !kernel->tell_object(kernel, entry_object(entry), &told))) {
        buffer_free(&told);
        return false;
    }
    put_big(out, entry_has_deadline(entry) ? (uint64_t)entry_deadline_ms(entry) : 0, 8);
    put_byte(out, type == RDB_TOLD          ? (unsigned char)told.data[0]
                  : entry->flags & FLAG_RAW ? type | RECORD_EDITED
                                            : type);
    if (type == RDB_TOLD) {
        buffer_append(out, told.data + 1, told.bytes - 1);
    } else {
        put_value(saving, entry, type);
        buffer_append(out, told.data, told.bytes);
    }
    buffer_free(&told);
    return true;
}

bool saving_begin(struct saving *saving)
{
    if (saving->unfinished == EPOCHS - 1)
        return false;
    saving->unfinished++;
    saving->epoch = (saving->epoch + 1) % EPOCHS;
    saving->is_on = true;
    saving->is_muted = saving->failed = false;
    saving->database = -1;
    saving->records = 0;
    saving->out.bytes = 0;
    return true;
}

void saving_end(struct saving *saving)
{
    saving->is_on = saving->is_muted = false;
    saving->unfinished = 0;
    buffer_free(&saving->out);
    buffer_free(&saving->scratch);
}
