/* Strings as rows of bits: kora/types/bits.py and kora/commands/bitmaps.py are the reference.
 *
 * Here are the commands that go through a whole string, which Python would have to have copied first. */

#include "kernel.h"

#include <stdlib.h>

/* Bit 0 is the highest of the first byte. */

static inline uint64_t count_in_words(const char *data, size_t bytes)
{
    uint64_t count = 0, word;
    for (; bytes >= sizeof word; data += sizeof word, bytes -= sizeof word) {
        memcpy(&word, data, sizeof word);
        count += (uint64_t)__builtin_popcountll(word);
    }
    word = 0;
    memcpy(&word, data, bytes);
    return count + (uint64_t)__builtin_popcountll(word);
}

#if defined(__x86_64__)
/* Not every processor of that kind counts bits by itself; where one does, it is five times as fast. */
__attribute__((target("popcnt"))) static uint64_t count_by_processor(const char *data, size_t bytes)
{
    return count_in_words(data, bytes);
}
#endif

static uint64_t count_in_bytes(const char *data, size_t bytes)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("popcnt"))
        return count_by_processor(data, bytes);
#endif
    return count_in_words(data, bytes);
}

/* How many of the bits from one place to another, which must lie inside, are set. */
static uint64_t count_bits(const char *data, uint64_t start, uint64_t stop)
{
    if (start >= stop)
        return 0;
    size_t first = start >> 3, last = (stop - 1) >> 3;
    unsigned before = (unsigned char)data[first] >> (8 - (start & 7));
    unsigned after = (unsigned char)data[last] & (0xFFu >> (((stop - 1) & 7) + 1));
    return count_in_bytes(data + first, last - first + 1) - (uint64_t)__builtin_popcount(before) -
           (uint64_t)__builtin_popcount(after);
}

/* The place of the first 0 or 1 from a place on and before another, both inside; -1 if there is none. */
static int64_t find_bit(const char *data, bool bit, uint64_t start, uint64_t stop)
{
    if (start >= stop)
        return -1;
    uint64_t idle_word = bit ? 0 : UINT64_MAX, word;
    unsigned idle = bit ? 0 : 0xFF, edge = 0xFF00u >> (start & 7) & 0xFF;
    size_t at = start >> 3, end = ((stop - 1) >> 3) + 1;
    /* Bits of the first byte that lie before the start are made what is not looked for. */
    unsigned byte = bit ? (unsigned char)data[at] & ~edge : (unsigned char)data[at] | edge;
    if (byte == idle) {
        for (at++; end - at >= sizeof word; at += sizeof word) {
            memcpy(&word, data + at, sizeof word);
            if (word != idle_word)
                break;
        }
        while (at < end && (unsigned char)data[at] == idle)
            at++;
        if (at == end)
            return -1;
        byte = (unsigned char)data[at];
    }
    if (!bit)
        byte ^= 0xFF;
    uint64_t found = 8 * (uint64_t)at + (uint64_t)__builtin_clz(byte) - (8 * sizeof byte - 8);
    return found < stop ? (int64_t)found : -1;
}

/* What BITCOUNT and BITPOS are told by two places, both included, of bytes or of bits: the first bit, and the one behind
 * the last; the same where there is none. */
static void bits_of(int64_t start, int64_t end, bool in_bits, size_t bytes, uint64_t *first, uint64_t *stop)
{
    int64_t whole = (int64_t)(in_bits ? 8 * bytes : bytes);
    if (start < 0)
        start = start + whole < 0 ? 0 : start + whole;
    if (end < 0)
        end = end + whole < 0 ? 0 : end + whole;
    end = end < whole ? end + 1 : whole;
    if (start >= end)
        start = end = 0;
    *first = (uint64_t)(in_bits ? start : 8 * start);
    *stop = (uint64_t)(in_bits ? end : 8 * end);
}

static bool read_unit(struct text word, bool *in_bits)
{
    *in_bits = is_word(word, "BIT");
    return *in_bits || is_word(word, "BYTE");
}

/* --- Commands --- */

OPERATION(op_bitcount)
{
    UNUSED(kernel);
    char digits[INTEGER_BYTES_MAX];
    int64_t start = 0, end = -1;
    uint64_t first, stop;
    bool in_bits = false;
    size_t argc = request->argc;
    if (argc == 3 || argc > 5)
        return false;
    if (argc > 3 &&
        (!parse_integer(argv[2].data, argv[2].bytes, &start) || !parse_integer(argv[3].data, argv[3].bytes, &end)))
        return false;
    if (argc > 4 && !read_unit(text_of(&argv[4]), &in_bits))
        return false;
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(turn->keyspace, &key);
    if (!is_string(entry))
        return false;
    count_read(turn->keyspace, entry);
    if (entry == NULL || (start < 0 && end < 0 && start > end)) {
        output_integer(output, 0);
        return true;
    }
    struct text text = entry_string(entry, digits);
    bits_of(start, end, in_bits, text.bytes, &first, &stop);
    output_integer(output, (int64_t)count_bits(text.data, first, stop));
    return true;
}

OPERATION(op_bitpos)
{
    UNUSED(kernel);
    char digits[INTEGER_BYTES_MAX];
    int64_t bit, start = 0, end = -1;
    uint64_t first, stop;
    bool in_bits = false;
    size_t argc = request->argc;
    if (argc > 6 || !parse_integer(argv[2].data, argv[2].bytes, &bit) || bit < 0 || bit > 1 ||
        (argc > 3 && !parse_integer(argv[3].data, argv[3].bytes, &start)) ||
        (argc > 4 && !parse_integer(argv[4].data, argv[4].bytes, &end)) ||
        (argc > 5 && !read_unit(text_of(&argv[5]), &in_bits)))
        return false;
    struct key key = first_key(request, argv);
    struct entry *entry = keyspace_find(turn->keyspace, &key);
    if (!is_string(entry))
        return false;
    count_read(turn->keyspace, entry);
    if (entry == NULL) {
        output_integer(output, bit ? -1 : 0);
        return true;
    }
    struct text text = entry_string(entry, digits);
    bits_of(start, end, in_bits, text.bytes, &first, &stop);
    int64_t place = find_bit(text.data, bit, first, stop);
    /* No end was given, and behind the string all bits are clear. */
    if (place < 0 && first < stop && !bit && argc < 5)
        place = 8 * (int64_t)text.bytes;
    output_integer(output, place);
    return true;
}

enum combination { BITOP_AND, BITOP_OR, BITOP_XOR, BITOP_NOT };

/* Combine a string with what there is so far; what is beyond its end are zeros. */
static void combine(char *restrict target, size_t bytes, struct text source, enum combination combination)
{
    const char *restrict data = source.data;
    switch (combination) {
    case BITOP_AND:
        for (size_t at = 0; at < source.bytes; at++)
            target[at] &= data[at];
        memset(target + source.bytes, 0, bytes - source.bytes);
        break;
    case BITOP_OR:
        for (size_t at = 0; at < source.bytes; at++)
            target[at] |= data[at];
        break;
    case BITOP_XOR:
        for (size_t at = 0; at < source.bytes; at++)
            target[at] ^= data[at];
        break;
    case BITOP_NOT:
        for (size_t at = 0; at < source.bytes; at++)
            target[at] = (char)~data[at];
        break;
    }
}

/* Store a string that takes over a block; in Redis it is `raw`, whatever is in it. */
static void store_raw(struct keyspace *keyspace, const struct key *key, char *block, size_t bytes)
{
    struct argument value = {.data = block, .bytes = bytes, .block = block, .block_capacity = bytes};
    if (bytes >= LARGE_BYTES_MIN) {
        keyspace_set(keyspace, key, &value);
        keyspace_peek(keyspace, key)->flags |= FLAG_RAW;
    } else {
        struct argument nothing = {.data = ""};
        struct entry *entry = keyspace_find(keyspace, key);
        if (entry != NULL && entry_has_deadline(entry))
            entry = keyspace_drop_deadline(keyspace, key, entry);
        entry = keyspace_store(keyspace, key, entry, &nothing);
        keyspace_edit(keyspace, key, entry, 0, (struct text){block, bytes});
    }
    free(value.block);
}

#define BITOP_SOURCES_MAX 64 /* more are the reference's */

OPERATION(op_bitop)
{
    struct keyspace *keyspace = turn->keyspace;
    char digits[BITOP_SOURCES_MAX][INTEGER_BYTES_MAX];
    struct text sources[BITOP_SOURCES_MAX];
    struct text word = text_of(&argv[1]);
    enum combination combination = is_word(word, "AND")   ? BITOP_AND
                                   : is_word(word, "OR")  ? BITOP_OR
                                   : is_word(word, "XOR") ? BITOP_XOR
                                                          : BITOP_NOT;
    size_t count = request->argc - 3, bytes = 0;
    if (count > BITOP_SOURCES_MAX || (combination == BITOP_NOT && (count > 1 || !is_word(word, "NOT"))))
        return false;
    /* Once for the types, and for those to go whose time is over: then entries stay where they are. */
    for (size_t at = 0; at < count; at++) {
        struct key key = key_of(kernel, argv[3 + at].data, argv[3 + at].bytes);
        if (!is_string(keyspace_find(keyspace, &key)))
            return false;
    }
    for (size_t at = 0; at < count; at++) {
        struct key key = key_of(kernel, argv[3 + at].data, argv[3 + at].bytes);
        struct entry *entry = keyspace_find(keyspace, &key);
        count_read(keyspace, entry);
        sources[at] = entry == NULL ? (struct text){"", 0} : entry_string(entry, digits[at]);
        bytes = sources[at].bytes > bytes ? sources[at].bytes : bytes;
    }
    struct key target = key_of(kernel, argv[2].data, argv[2].bytes);
    if (bytes == 0) {
        if (keyspace_find(keyspace, &target) != NULL)
            keyspace_delete(keyspace, &target);
    } else {
        char *block = allocate(bytes);
        if (combination == BITOP_NOT) {
            combine(block, bytes, sources[0], BITOP_NOT);
        } else {
            memcpy(block, sources[0].data, sources[0].bytes);
            memset(block + sources[0].bytes, 0, bytes - sources[0].bytes);
        }
        for (size_t at = 1; at < count; at++)
            combine(block, bytes, sources[at], combination);
        store_raw(keyspace, &target, block, bytes);
    }
    output_integer(output, (int64_t)bytes);
    return true;
}
