/* Packs: byte strings, one after the other in one block, for values that are small.
 *
 *     length | bytes | length reversed      length | bytes | length reversed      …
 *
 * A length is seven bits to a byte, the least significant first, and every byte but the last has its high bit set: one
 * byte for strings below 128.  Behind the bytes it stands again, reversed, so that a walk from the end meets the least
 * significant byte first, and reads it the same way.
 *
 * A pack has no index.  Everything but its two ends costs a walk, which is faster than any table while a few hundred
 * bytes are all there is; who uses packs keeps them small.  Integers stay the text that they came as: what is saved by
 * writing them in binary would be paid for at each comparison and each reply. */

#include "kernel.h"

#include <stdlib.h>

static inline size_t entry_room(size_t length)
{
    return length + 2 * length_bytes(length);
}

/* Read the length of the string that ends before `data`; moves it back to the end of the string's bytes. */
static inline size_t read_length_back(const char **data)
{
    const unsigned char *at = (const unsigned char *)*data - 1;
    size_t length = *at & 0x7F;
    for (unsigned shift = 7; UNLIKELY(*at & 0x80); shift += 7)
        length |= (size_t)(*--at & 0x7F) << shift;
    *data = (const char *)at;
    return length;
}

static void write_entry(char *target, struct text text)
{
    char *end = target + entry_room(text.bytes);
    write_string(target, text);
    size_t length = text.bytes;
    for (; UNLIKELY(length >= 0x80); length >>= 7)
        *--end = (char)(length | 0x80);
    *--end = (char)length;
}

size_t pack_first(const struct pack *pack)
{
    return pack->count ? 0 : PACK_END;
}

size_t pack_last(const struct pack *pack)
{
    return pack_previous(pack, PACK_END);
}

size_t pack_next(const struct pack *pack, size_t at)
{
    size_t next = at + entry_room(read_string(pack->data + at).bytes);
    return next < pack->bytes ? next : PACK_END;
}

size_t pack_previous(const struct pack *pack, size_t at)
{
    if (at == PACK_END)
        at = pack->bytes;
    if (at == 0)
        return PACK_END;
    const char *data = pack->data + at;
    size_t length = read_length_back(&data);
    return at - entry_room(length);
}

size_t pack_seek(const struct pack *pack, size_t index)
{
    size_t at;
    if (index >= pack->count)
        return PACK_END;
    if (index < pack->count / 2) {
        at = 0;
        while (index-- > 0)
            at = pack_next(pack, at);
    } else {
        at = pack_last(pack);
        while (++index < pack->count)
            at = pack_previous(pack, at);
    }
    return at;
}

struct text pack_get(const struct pack *pack, size_t at)
{
    return read_string(pack->data + at);
}

size_t pack_find(const struct pack *pack, size_t at, struct text text, unsigned step)
{
    if (at == PACK_END)
        return PACK_END;
    const char *data = pack->data + at, *end = pack->data + pack->bytes;
    for (unsigned wait = 0; data < end; wait = wait ? wait - 1 : step - 1) {
        struct text found = read_string(data);
        if (wait == 0 && found.bytes == text.bytes && is_same(found.data, text.data, text.bytes))
            return (size_t)(data - pack->data);
        data += entry_room(found.bytes);
    }
    return PACK_END;
}

/* Give a pack a block for so many bytes.  When it grows, an eighth more, so that it is moved seldom; the allocator's
 * blocks are 16 bytes apart, of which it uses 8 itself. */
static void fit_block(struct pack *pack, size_t bytes)
{
    bool grows = bytes > pack->capacity;
    if (!grows && bytes >= pack->capacity / 2)
        return;
    size_t capacity = ((bytes + (grows ? bytes / 8 : 0) + 8 + 15) & ~(size_t)15) - 8;
    if (capacity != pack->capacity) {
        pack->data = reallocate(pack->data, capacity);
        pack->capacity = (uint32_t)capacity;
    }
}

static void open_gap(struct pack *pack, size_t at, size_t bytes)
{
    fit_block(pack, pack->bytes + bytes);
    memmove(pack->data + at + bytes, pack->data + at, pack->bytes - at);
    pack->bytes += (uint32_t)bytes;
}

static void close_gap(struct pack *pack, size_t at, size_t bytes)
{
    memmove(pack->data + at, pack->data + at + bytes, pack->bytes - at - bytes);
    pack->bytes -= (uint32_t)bytes;
    fit_block(pack, pack->bytes);
}

void pack_insert(struct pack *pack, size_t at, struct text text)
{
    if (at == PACK_END)
        at = pack->bytes;
    open_gap(pack, at, entry_room(text.bytes));
    write_entry(pack->data + at, text);
    pack->count++;
}

size_t pack_delete(struct pack *pack, size_t at, size_t count)
{
    size_t stop = at;
    for (size_t left = count; left > 0 && stop < pack->bytes; left--) {
        stop += entry_room(read_string(pack->data + stop).bytes);
        pack->count--;
    }
    if (pack->count == 0) {
        pack_free(pack);
        return PACK_END;
    }
    close_gap(pack, at, stop - at);
    return at < pack->bytes ? at : PACK_END;
}

void pack_replace(struct pack *pack, size_t at, struct text text)
{
    size_t before = entry_room(pack_get(pack, at).bytes), after = entry_room(text.bytes);
    if (after > before)
        open_gap(pack, at, after - before);
    else if (after < before)
        close_gap(pack, at, before - after);
    write_entry(pack->data + at, text);
}

void pack_free(struct pack *pack)
{
    free(pack->data);
    *pack = (struct pack){0};
}

struct pack pack_copy(const struct pack *pack)
{
    struct pack copy = *pack;
    if (pack->bytes) {
        copy.capacity = (uint32_t)(((pack->bytes + 8u + 15u) & ~(size_t)15) - 8);
        copy.data = allocate(copy.capacity);
        memcpy(copy.data, pack->data, pack->bytes);
    }
    return copy;
}

const char *pack_audit(const struct pack *pack)
{
    size_t count = 0;
    if (pack->count == 0)
        return pack->data != NULL || pack->bytes || pack->capacity ? "an empty pack has a block" : NULL;
    if (pack->bytes > pack->capacity || pack->capacity + sizeof(size_t) > block_bytes(pack->data))
        return "a pack is larger than its block";
    for (size_t at = 0; at < pack->bytes; count++) {
        size_t room = entry_room(read_string(pack->data + at).bytes);
        if (room > pack->bytes - at)
            return "a string goes beyond its pack";
        if (pack_previous(pack, at + room) != at)
            return "a string's lengths differ";
        at += room;
    }
    return count == pack->count ? NULL : "a pack's count is wrong";
}
