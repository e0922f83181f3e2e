/* Loading snapshots: records of an RDB file, for as long as they are what nearly all are.  kora/persist/loading.py is the
 * reference, and reads what is refused here: streams, hashes whose fields have deadlines, what is beside the keys, and
 * whatever is wrong.  So nothing here says what is wrong, but nothing that is may pass: each check of the reference's
 * (kora/types/rdb) is made here, too.
 *
 * A value is made before its key is stored, and is given back if its bytes turn out to be bad; so the keyspace has either
 * the whole record, or nothing of it. */
#include "kernel.h"

#include <math.h>
#include <stdlib.h>

/* RDB_TYPE_… and RDB_OPCODE_… (rdb.h) */
enum {
    TYPE_STRING = 0,
    TYPE_LIST = 1,
    TYPE_SET = 2,
    TYPE_ZSET = 3,
    TYPE_HASH = 4,
    TYPE_ZSET_2 = 5,
    TYPE_LIST_ZIPLIST = 10,
    TYPE_SET_INTSET = 11,
    TYPE_ZSET_ZIPLIST = 12,
    TYPE_HASH_ZIPLIST = 13,
    TYPE_LIST_QUICKLIST = 14,
    TYPE_HASH_LISTPACK = 16,
    TYPE_ZSET_LISTPACK = 17,
    TYPE_LIST_QUICKLIST_2 = 18,
    TYPE_SET_LISTPACK = 20,
    OPCODE_IDLE = 248,
    OPCODE_FREQUENCY = 249,
    OPCODE_DEADLINE_MS = 252,
    OPCODE_DEADLINE_S = 253,
};

#define PLAIN_NODE 1
#define PACKED_NODE 2
#define LZF_GROWTH_MAX (264 / 3) /* what it makes of three bytes at best */

/* --- Bytes, lengths and strings: kora/types/rdb/reader.py --- */

struct cursor {
    const unsigned char *at, *end;
    bool is_cut; /* something went on beyond the end */
    size_t string_bytes_max;
};

/* Where a string is put that does not stand in the file as it is. */
struct scratch {
    char digits[INTEGER_BYTES_MAX];
    char *block; /* owned */
    size_t capacity;
};

static inline bool has_bytes(struct cursor *cursor, uint64_t bytes)
{
    if (LIKELY((uint64_t)(cursor->end - cursor->at) >= bytes))
        return true;
    cursor->is_cut = true;
    return false;
}

static inline uint64_t little_endian(const unsigned char *at, unsigned bytes)
{
    uint64_t number = 0;
    for (unsigned place = 0; place < bytes; place++)
        number |= (uint64_t)at[place] << 8 * place;
    return number;
}

static inline int64_t signed_little_endian(const unsigned char *at, unsigned bytes)
{
    unsigned unused = 64 - 8 * bytes;
    return (int64_t)(little_endian(at, bytes) << unused) >> unused;
}

static inline uint64_t big_endian(const unsigned char *at, unsigned bytes)
{
    uint64_t number = 0;
    for (unsigned place = 0; place < bytes; place++)
        number = number << 8 | at[place];
    return number;
}

static bool take_length(struct cursor *cursor, uint64_t *length)
{
    if (!has_bytes(cursor, 1))
        return false;
    unsigned first = *cursor->at;
    unsigned bytes = first < 0x40 ? 0 : first < 0x80 ? 1 : first == 0x80 ? 4 : 8;
    if (first > 0x81 || !has_bytes(cursor, 1 + bytes))
        return false;
    *length = bytes < 2 ? first & 0x3F : 0;
    if (bytes > 0)
        *length = *length << 8 | big_endian(cursor->at + 1, bytes);
    cursor->at += 1 + bytes;
    return true;
}

/* How many elements follow, each of a byte at least; but those that are beyond the end of the window may be in the file. */
static bool take_count(struct cursor *cursor, uint64_t *count)
{
    return take_length(cursor, count) && *count > 0 && has_bytes(cursor, *count);
}

static bool take_compressed(struct cursor *cursor, struct scratch *scratch, struct text *text)
{
    uint64_t packed_bytes, bytes;
    if (!take_length(cursor, &packed_bytes) || !take_length(cursor, &bytes) || bytes > cursor->string_bytes_max ||
        packed_bytes > UINT32_MAX || bytes > packed_bytes * LZF_GROWTH_MAX || !has_bytes(cursor, packed_bytes))
        return false;
    if (bytes > scratch->capacity) {
        free(scratch->block);
        scratch->block = allocate(scratch->capacity = bytes);
    }
    if (!lzf_decompress(cursor->at, packed_bytes, (unsigned char *)scratch->block, bytes))
        return false;
    cursor->at += packed_bytes;
    *text = (struct text){scratch->block == NULL ? "" : scratch->block, bytes};
    return true;
}

/* The text is good until the scratch is used again. */
static inline bool take_text(struct cursor *cursor, struct scratch *scratch, struct text *text)
{
    if (!has_bytes(cursor, 1))
        return false;
    unsigned first = *cursor->at;
    if (first >= 0xC0) {
        cursor->at++;
        if (first == 0xC3)
            return take_compressed(cursor, scratch, text);
        if (first > 0xC3)
            return false;
        unsigned bytes = 1u << (first & 3);
        if (!has_bytes(cursor, bytes))
            return false;
        *text =
            (struct text){scratch->digits, format_integer(scratch->digits, signed_little_endian(cursor->at, bytes))};
        cursor->at += bytes;
        return true;
    }
    uint64_t length;
    if (!take_length(cursor, &length) || length > cursor->string_bytes_max || !has_bytes(cursor, length))
        return false;
    *text = (struct text){(const char *)cursor->at, length};
    cursor->at += length;
    return true;
}

/* --- Listpacks and ziplists: kora/types/rdb/packs.py and older.py --- */

/* A walk over the elements of either; the block is somebody else's. */
struct walk {
    const unsigned char *start, *at, *last; /* last: the byte that ends it */
    bool is_ziplist;
    uint64_t count;            /* walked */
    size_t before;             /* in a ziplist: how long the element before is */
    const unsigned char *tail; /* and where it begins */
    bool is_bad;
    char digits[INTEGER_BYTES_MAX];
};

#define PACKED_HEAD_BYTES 6
#define ZIPLIST_HEAD_BYTES 10

static bool begin_walk(struct walk *walk, struct text block, bool is_ziplist)
{
    const unsigned char *start = (const unsigned char *)block.data;
    size_t head = is_ziplist ? ZIPLIST_HEAD_BYTES : PACKED_HEAD_BYTES;
    if (block.bytes < head + 1 || little_endian(start, 4) != block.bytes || start[block.bytes - 1] != 0xFF)
        return false;
    walk->start = start;
    walk->at = walk->tail = start + head;
    walk->last = start + block.bytes - 1;
    walk->is_ziplist = is_ziplist;
    walk->count = 0;
    walk->before = 0;
    walk->is_bad = false;
    return true;
}

static inline bool give_integer(struct walk *walk, int64_t number, struct text *text)
{
    *text = (struct text){walk->digits, format_integer(walk->digits, number)};
    return true;
}

static bool next_of_listpack(struct walk *walk, struct text *text)
{
    const unsigned char *at = walk->at;
    size_t left = (size_t)(walk->last - at); /* 1 at least; the byte at walk->last may be looked at, too */
    unsigned first = *at;
    size_t length;
    if (first < 0x80) {
        length = 1;
    } else if (first < 0xC0) {
        length = 1 + (first & 0x3F);
    } else if (first < 0xE0) {
        length = 2;
    } else if (first < 0xF0) {
        length = 2 + ((size_t)(first & 0x0F) << 8 | at[1]);
    } else if (first == 0xF0) {
        if (left < 5)
            return false;
        length = 5 + (size_t)little_endian(at + 1, 4);
    } else if (first <= 0xF4) {
        length = first == 0xF4 ? 9 : 3 + (first - 0xF1); /* integers of 2, 3, 4 and 8 bytes */
    } else {
        return false;
    }
    unsigned back = back_bytes(length);
    if (length >= left || left - length < back)
        return false;
    const unsigned char *behind = at + length;
    for (unsigned place = 0; place < back; place++) {
        unsigned part = (unsigned)(length >> 7 * (back - 1 - place)) & 0x7F;
        if (behind[place] != (place > 0 ? part | 0x80 : part))
            return false;
    }
    walk->at = behind + back;
    if (first < 0x80)
        return give_integer(walk, first, text);
    if (first < 0xC0)
        *text = (struct text){(const char *)at + 1, length - 1};
    else if (first < 0xE0)
        return give_integer(walk, (int64_t)((uint64_t)((first & 0x1F) << 8 | at[1]) << 51) >> 51, text);
    else if (first < 0xF0)
        *text = (struct text){(const char *)at + 2, length - 2};
    else if (first == 0xF0)
        *text = (struct text){(const char *)at + 5, length - 5};
    else
        return give_integer(walk, signed_little_endian(at + 1, (unsigned)length - 1), text);
    return true;
}

static bool next_of_ziplist(struct walk *walk, struct text *text)
{
    const unsigned char *at = walk->at;
    size_t left = (size_t)(walk->last - at);
    size_t back = *at, back_length = 1;
    if (back == 0xFE) {
        if (left < 5)
            return false;
        back = (size_t)little_endian(at + 1, 4);
        back_length = 5;
    }
    if (back != walk->before || left <= back_length)
        return false;
    const unsigned char *code = at + back_length;
    left -= back_length; /* from the code on, 1 at least */
    unsigned first = *code;
    size_t head = 1, length = 0;
    int64_t number = 0;
    bool is_integer = first >= 0xC0;
    if (first < 0x40) {
        length = first;
    } else if (first < 0x80) {
        head = 2;
        length = (size_t)(first & 0x3F) << 8 | code[1];
    } else if (first < 0xC0) {
        if (left < 5)
            return false;
        head = 5;
        length = (size_t)big_endian(code + 1, 4);
    } else if (first >= 0xF1 && first <= 0xFD) {
        number = first - 0xF1;
    } else {
        unsigned width = first == 0xC0 ? 2 : first == 0xD0 ? 4 : first == 0xE0 ? 8 : first == 0xF0 ? 3 : 1;
        if ((width == 1 && first != 0xFE) || left < 1 + width)
            return false;
        number = signed_little_endian(code + 1, width);
        length = width;
    }
    if (head > left || length > left - head)
        return false;
    walk->tail = at;
    walk->at = code + head + length;
    walk->before = (size_t)(walk->at - at);
    if (is_integer)
        return give_integer(walk, number, text);
    *text = (struct text){(const char *)code + head, length};
    return true;
}

/* The next element, good until the next but one; false at the end, and where something is wrong. */
static inline bool next_element(struct walk *walk, struct text *text)
{
    if (walk->at >= walk->last)
        return false;
    if (LIKELY(walk->is_ziplist ? next_of_ziplist(walk, text) : next_of_listpack(walk, text))) {
        walk->count++;
        return true;
    }
    walk->is_bad = true;
    return false;
}

/* Whether a walk that is over was all in order. */
static bool end_walk(const struct walk *walk)
{
    if (walk->is_bad || walk->at != walk->last)
        return false;
    uint64_t count = little_endian(walk->start + (walk->is_ziplist ? 8 : 4), 2);
    if (count != 0xFFFF && count != walk->count)
        return false;
    return !walk->is_ziplist || little_endian(walk->start + 4, 4) == (uint64_t)(walk->tail - walk->start);
}

/* --- Values: kora/types/rdb/values.py --- */

struct load {
    struct keyspace *keyspace;
    struct cursor cursor;
    struct scratch name, first, second;
};

static bool fill_list(struct load *load, unsigned type, struct list *list)
{
    struct cursor *cursor = &load->cursor;
    struct text text, block;
    struct walk walk;
    uint64_t count = 1;
    if (type != TYPE_LIST_ZIPLIST && !take_count(cursor, &count))
        return false;
    for (; count > 0; count--) {
        uint64_t node = PACKED_NODE;
        if (type == TYPE_LIST_QUICKLIST_2 && !take_length(cursor, &node))
            return false;
        if (!take_text(cursor, &load->first, &block))
            return false;
        if (type == TYPE_LIST || node == PLAIN_NODE) {
            list_push(list, true, block);
            continue;
        }
        if (node != PACKED_NODE || !begin_walk(&walk, block, type != TYPE_LIST_QUICKLIST_2))
            return false;
        while (next_element(&walk, &text))
            list_push(list, true, text);
        if (!end_walk(&walk))
            return false;
    }
    return list_count(list) > 0;
}

static bool fill_intset(struct text block, struct set_value *set)
{
    const unsigned char *data = (const unsigned char *)block.data;
    char digits[INTEGER_BYTES_MAX];
    if (block.bytes < 8)
        return false;
    unsigned width = (unsigned)little_endian(data, 4);
    uint64_t count = little_endian(data + 4, 4);
    if ((width != 2 && width != 4 && width != 8) || block.bytes != 8 + width * count)
        return false;
    int64_t latest = 0;
    for (uint64_t place = 0; place < count; place++) {
        int64_t number = signed_little_endian(data + 8 + place * width, width);
        if (place > 0 && number <= latest)
            return false;
        latest = number;
        set_add(set, (struct text){digits, format_integer(digits, number)});
    }
    return count > 0;
}

static bool fill_set(struct load *load, unsigned type, struct set_value *set)
{
    struct cursor *cursor = &load->cursor;
    struct text text, block;
    struct walk walk;
    uint64_t count;
    if (type == TYPE_SET) {
        if (!take_count(cursor, &count))
            return false;
        for (; count > 0; count--)
            if (!take_text(cursor, &load->first, &text) || !set_add(set, text))
                return false;
        return true;
    }
    if (!take_text(cursor, &load->first, &block))
        return false;
    if (type == TYPE_SET_INTSET)
        return fill_intset(block, set);
    if (!begin_walk(&walk, block, false))
        return false;
    while (next_element(&walk, &text))
        if (!set_add(set, text))
            return false;
    return end_walk(&walk) && walk.count > 0;
}

#define SCORE_BYTES_MAX 40

/* A score that is written as a text.  Those that few write are left to the reference. */
static bool read_score(struct text text, double *score)
{
    char copy[SCORE_BYTES_MAX + 1];
    if (parse_score(text, score))
        return true;
    if (text.bytes == 0 || text.bytes > SCORE_BYTES_MAX)
        return false;
    memcpy(copy, text.data, text.bytes);
    copy[text.bytes] = '\0';
    if (strcmp(copy, "inf") == 0 || strcmp(copy, "-inf") == 0) {
        *score = copy[0] == '-' ? -INFINITY : INFINITY;
        return true;
    }
    if (strspn(copy, "0123456789+-.e") != text.bytes)
        return false;
    char *end;
    *score = strtod(copy, &end);
    return end == copy + text.bytes && isfinite(*score) && *score != 0;
}

/* As rdbSaveDoubleValue writes it: a text behind its length, and lengths from 253 on for what has no digits. */
static bool take_old_score(struct cursor *cursor, double *score)
{
    if (!has_bytes(cursor, 1))
        return false;
    unsigned length = *cursor->at;
    if (length >= 253) {
        cursor->at++;
        *score = length == 254 ? INFINITY : -INFINITY;
        return length != 253;
    }
    if (!has_bytes(cursor, 1 + length))
        return false;
    struct text text = {(const char *)cursor->at + 1, length};
    cursor->at += 1 + length;
    return read_score(text, score);
}

static bool fill_sorted_set(struct load *load, unsigned type, struct sorted_set *set)
{
    struct cursor *cursor = &load->cursor;
    struct text member, text, block;
    struct walk walk;
    double score;
    uint64_t count;
    if (type == TYPE_ZSET || type == TYPE_ZSET_2) {
        if (!take_count(cursor, &count))
            return false;
        for (; count > 0; count--) {
            if (!take_text(cursor, &load->first, &member))
                return false;
            if (type == TYPE_ZSET) {
                if (!take_old_score(cursor, &score))
                    return false;
            } else {
                if (!has_bytes(cursor, 8))
                    return false;
                uint64_t bits = little_endian(cursor->at, 8);
                memcpy(&score, &bits, 8);
                cursor->at += 8;
            }
            if (isnan(score) || sorted_set_add(set, member, score) != IS_NEW)
                return false;
        }
        return true;
    }
    if (!take_text(cursor, &load->first, &block) || !begin_walk(&walk, block, type == TYPE_ZSET_ZIPLIST))
        return false;
    char digits[INTEGER_BYTES_MAX];
    while (next_element(&walk, &member)) {
        if (member.data == walk.digits) { /* which the score may want */
            memcpy(digits, walk.digits, sizeof digits);
            member.data = digits;
        }
        if (!next_element(&walk, &text) || !read_score(text, &score) || sorted_set_add(set, member, score) != IS_NEW)
            return false;
    }
    return end_walk(&walk) && walk.count > 0;
}

static bool fill_hash(struct load *load, unsigned type, struct hash_value *hash)
{
    struct cursor *cursor = &load->cursor;
    struct text field, text, block;
    struct walk walk;
    uint64_t count;
    if (type == TYPE_HASH) {
        if (!take_count(cursor, &count))
            return false;
        for (; count > 0; count--)
            if (!take_text(cursor, &load->first, &field) || !take_text(cursor, &load->second, &text) ||
                !hash_set(hash, field, text))
                return false;
        return true;
    }
    if (!take_text(cursor, &load->first, &block) || !begin_walk(&walk, block, type == TYPE_HASH_ZIPLIST))
        return false;
    char digits[INTEGER_BYTES_MAX];
    while (next_element(&walk, &field)) {
        if (field.data == walk.digits) {
            memcpy(digits, walk.digits, sizeof digits);
            field.data = digits;
        }
        if (!next_element(&walk, &text) || !hash_set(hash, field, text))
            return false;
    }
    return end_walk(&walk) && walk.count > 0;
}

static enum object_kind kind_of(unsigned type)
{
    switch (type) {
    case TYPE_LIST:
    case TYPE_LIST_ZIPLIST:
    case TYPE_LIST_QUICKLIST:
    case TYPE_LIST_QUICKLIST_2:
        return LIST_OBJECT;
    case TYPE_SET:
    case TYPE_SET_INTSET:
    case TYPE_SET_LISTPACK:
        return SET_OBJECT;
    case TYPE_ZSET:
    case TYPE_ZSET_2:
    case TYPE_ZSET_ZIPLIST:
    case TYPE_ZSET_LISTPACK:
        return SORTED_SET_OBJECT;
    case TYPE_HASH:
    case TYPE_HASH_ZIPLIST:
    case TYPE_HASH_LISTPACK:
        return HASH_OBJECT;
    default:
        return OTHER_OBJECT;
    }
}

/* A value that is no string: a new reference, or NULL. */
static void *take_object(struct load *load, unsigned type, enum object_kind object_kind)
{
    struct kernel *kernel = load->keyspace->kernel;
    void *object = kernel->make_object(kernel, (int)object_kind);
    if (object == NULL)
        return NULL;
    void *value = (char *)object + VALUE_OFFSET;
    bool is_whole = object_kind == LIST_OBJECT         ? fill_list(load, type, value)
                    : object_kind == SET_OBJECT        ? fill_set(load, type, value)
                    : object_kind == SORTED_SET_OBJECT ? fill_sorted_set(load, type, value)
                                                       : fill_hash(load, type, value);
    if (is_whole)
        return object;
    kernel->release(kernel, object);
    return NULL;
}

/* --- Records --- */

/* What stands in front of a key. */
struct use {
    int64_t deadline_ms; /* 0: none */
    uint64_t idle_s;
    int frequency; /* -1: not known */
};

/* Returns false, with the cursor anywhere, for what is no key with a value that is known here. */
static bool take_prefixes(struct cursor *cursor, struct use *use, unsigned *type)
{
    for (;;) {
        if (!has_bytes(cursor, 1))
            return false;
        unsigned code = *cursor->at++;
        unsigned bytes = code == OPCODE_DEADLINE_MS  ? 8
                         : code == OPCODE_DEADLINE_S ? 4
                         : code == OPCODE_FREQUENCY  ? 1
                                                     : 0;
        if (!has_bytes(cursor, bytes))
            return false;
        switch (code) {
        case OPCODE_DEADLINE_MS:
            use->deadline_ms = signed_little_endian(cursor->at, 8);
            break;
        case OPCODE_DEADLINE_S:
            use->deadline_ms = signed_little_endian(cursor->at, 4) * 1000;
            break;
        case OPCODE_FREQUENCY:
            use->frequency = *cursor->at;
            break;
        case OPCODE_IDLE:
            if (!take_length(cursor, &use->idle_s))
                return false;
            break;
        default:
            *type = code;
            return code == TYPE_STRING || kind_of(code) != OTHER_OBJECT;
        }
        cursor->at += bytes;
    }
}

static void remember_use(struct kernel *kernel, const struct key *key, struct entry *entry, const struct use *use,
                         bool is_lfu)
{
    if (!is_lfu) {
        entry->touched_s -= use->idle_s < entry->touched_s ? (uint32_t)use->idle_s : entry->touched_s;
        return;
    }
    if (use->frequency < 0)
        return;
    /* Engine.remember_use() */
    uint64_t wanted = 1ull << use->frequency / 8 >> 1, known = hot_keys_estimate(&kernel->hot_keys, key->hash);
    if (wanted > known)
        hot_keys_weigh(&kernel->hot_keys, key->hash, wanted - known);
}

static bool load_record(struct load *load, const struct load_terms *terms, struct loaded *loaded)
{
    struct keyspace *keyspace = load->keyspace;
    struct kernel *kernel = keyspace->kernel;
    struct use use = {.frequency = -1};
    unsigned type;
    struct text name;
    if (!take_prefixes(&load->cursor, &use, &type) || !take_text(&load->cursor, &load->name, &name))
        return false;
    enum object_kind object_kind = kind_of(type);
    struct text text = {NULL, 0};
    void *object = NULL;
    if (type == TYPE_STRING) {
        if (!take_text(&load->cursor, &load->first, &text))
            return false;
    } else if ((object = take_object(load, type, object_kind)) == NULL) {
        return false;
    }
    if (use.deadline_ms > 0 && use.deadline_ms < terms->now_ms) {
        if (object != NULL)
            kernel->release(kernel, object);
        loaded->expired++;
        return true;
    }
    struct key key = key_of(kernel, name.data, name.bytes);
    if (UNLIKELY(use.deadline_ms < 0 || keyspace_peek(keyspace, &key) != NULL)) {
        if (object != NULL)
            kernel->release(kernel, object);
        return false;
    }
    struct entry *entry;
    if (object != NULL) {
        entry = keyspace_store_object(keyspace, &key, NULL, object, object_kind);
    } else {
        struct argument value = {.data = text.data, .bytes = text.bytes};
        entry = keyspace_store(keyspace, &key, NULL, &value);
    }
    if (use.deadline_ms > 0)
        entry = keyspace_set_deadline(keyspace, &key, entry, use.deadline_ms);
    if (use.idle_s > 0 || use.frequency >= 0)
        remember_use(kernel, &key, entry, &use, terms->is_lfu);
    loaded->keys++;
    return true;
}

struct loaded load_records(struct keyspace *keyspace, const unsigned char *data, size_t at, size_t stop, size_t bytes,
                           const struct load_terms *terms)
{
    struct loaded loaded = {.at = at};
    struct load load = {
        .keyspace = keyspace,
        .cursor = {.at = data + at, .end = data + bytes, .string_bytes_max = terms->string_bytes_max},
    };
    while (loaded.at < stop && load_record(&load, terms, &loaded))
        loaded.at = (size_t)(load.cursor.at - data);
    loaded.is_cut = loaded.at < stop && load.cursor.is_cut;
    free(load.name.block);
    free(load.first.block);
    free(load.second.block);
    return loaded;
}

bool load_value(struct keyspace *keyspace, const struct key *key, int64_t deadline_ms, struct text value,
                size_t string_bytes_max)
{
    struct backing *backing = keyspace->backing;
    const unsigned char *data = (const unsigned char *)value.data;
    if (value.bytes == 0)
        return false;
    bool is_edited = data[0] & RECORD_EDITED;
    unsigned type = data[0] & ~RECORD_EDITED;
    enum object_kind object_kind = kind_of(type);
    if (type != TYPE_STRING && object_kind == OTHER_OBJECT)
        return false;
    struct load load = {
        .keyspace = keyspace,
        .cursor = {.at = data + 1, .end = data + value.bytes, .string_bytes_max = string_bytes_max},
    };
    struct text text = {NULL, 0};
    void *object = NULL;
    bool is_whole = type == TYPE_STRING ? take_text(&load.cursor, &load.first, &text)
                                        : (object = take_object(&load, type, object_kind)) != NULL;
    is_whole = is_whole && load.cursor.at == load.cursor.end;
    if (is_whole) {
        backing->is_loading = true;
        struct entry *entry;
        if (object != NULL) {
            entry = keyspace_store_object(keyspace, key, NULL, object, object_kind);
        } else {
            struct argument argument = {.data = text.data, .bytes = text.bytes};
            entry = is_edited ? keyspace_store_edited(keyspace, key, &argument)
                              : keyspace_store(keyspace, key, NULL, &argument);
        }
        if (deadline_ms > 0)
            keyspace_set_deadline(keyspace, key, entry, deadline_ms);
        backing->is_loading = false;
    } else if (object != NULL) {
        keyspace->kernel->release(keyspace->kernel, object);
    }
    free(load.first.block);
    free(load.second.block);
    return is_whole;
}
