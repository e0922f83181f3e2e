/* What takes the time when values are written as Redis' RDB and read again, where they are long: the checksum, and the
 * compression of strings.  kora/types/crc64.py and kora/types/lzf.py are the reference, and say how both look. */
#include "kernel.h"

/* --- CRC-64: eight bytes at a time, each by a table of its own --- */

#define POLYNOMIAL 0x95AC9329AC4BC9B5ull

/* [n][b]: what byte b does to the sum when n more bytes come behind it.  Filled once, never changed. */
static uint64_t crc_tables[8][256];

void crc64_prepare(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t row = byte;
        for (int bit = 0; bit < 8; bit++)
            row = row >> 1 ^ (row & 1 ? POLYNOMIAL : 0);
        crc_tables[0][byte] = row;
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t row = crc_tables[0][byte];
        for (int behind = 1; behind < 8; behind++) {
            row = crc_tables[0][row & 0xFF] ^ row >> 8;
            crc_tables[behind][byte] = row;
        }
    }
}

uint64_t crc64(uint64_t crc, const unsigned char *data, size_t bytes)
{
    for (; bytes >= 8; data += 8, bytes -= 8) {
        uint64_t eight = 0;
        for (int place = 0; place < 8; place++) /* one load, on a little-endian machine */
            eight |= (uint64_t)data[place] << 8 * place;
        crc ^= eight;
        crc = crc_tables[7][crc & 0xFF] ^ crc_tables[6][crc >> 8 & 0xFF] ^ crc_tables[5][crc >> 16 & 0xFF] ^
              crc_tables[4][crc >> 24 & 0xFF] ^ crc_tables[3][crc >> 32 & 0xFF] ^ crc_tables[2][crc >> 40 & 0xFF] ^
              crc_tables[1][crc >> 48 & 0xFF] ^ crc_tables[0][crc >> 56];
    }
    for (; bytes > 0; data++, bytes--)
        crc = crc_tables[0][(crc ^ *data) & 0xFF] ^ crc >> 8;
    return crc;
}

/* --- LZF --- */

#define LITERALS_MAX 32
#define BACK_MAX (1u << 13)
#define REPEAT_MIN 3
#define REPEAT_MAX 264
#define SEEN_BITS_MIN 8
#define SEEN_BITS_MAX 16

static uint32_t three_at(const unsigned char *data)
{
    return (uint32_t)data[0] << 16 | (uint32_t)data[1] << 8 | data[2];
}

/* Where in a table of so many bits three bytes belong. */
static uint32_t row_of(uint32_t three, unsigned bits)
{
    return three * 2654435761u >> (32 - bits);
}

/* Returns where the output goes on; NULL if there is no room for it. */
static unsigned char *put_literals(unsigned char *out, const unsigned char *out_end, const unsigned char *data,
                                   size_t bytes)
{
    while (bytes > 0) {
        size_t run = bytes < LITERALS_MAX ? bytes : LITERALS_MAX;
        if ((size_t)(out_end - out) < run + 1)
            return NULL;
        *out++ = (unsigned char)(run - 1);
        memcpy(out, data, run);
        out += run;
        data += run;
        bytes -= run;
    }
    return out;
}

size_t lzf_compress(const unsigned char *data, size_t bytes, unsigned char *out, size_t room)
{
    if (bytes > UINT32_MAX)
        return 0;
    unsigned bits = SEEN_BITS_MIN;
    while (bits < SEEN_BITS_MAX && (size_t)1 << bits < bytes)
        bits++;
    uint32_t *seen = allocate(sizeof(uint32_t) << bits); /* owned: where three bytes were seen last, and 1; 0: nowhere */
    memset(seen, 0, sizeof(uint32_t) << bits);
    unsigned char *next = out;
    const unsigned char *out_end = out + room;
    size_t start = 0, place = 0;
    while (place + REPEAT_MIN <= bytes) {
        uint32_t three = three_at(data + place);
        uint32_t *row = &seen[row_of(three, bits)];
        size_t earlier = *row;
        *row = (uint32_t)place + 1;
        if (earlier == 0 || place - earlier >= BACK_MAX || three_at(data + earlier - 1) != three) {
            place++;
            continue;
        }
        earlier--;
        size_t back = place - earlier - 1;
        size_t length_max = bytes - place < REPEAT_MAX ? bytes - place : REPEAT_MAX;
        size_t length = REPEAT_MIN;
        while (length < length_max && data[earlier + length] == data[place + length])
            length++;
        next = put_literals(next, out_end, data + start, place - start);
        if (next == NULL || out_end - next < (length < 9 ? 2 : 3)) {
            next = NULL;
            break;
        }
        if (length < 9) {
            *next++ = (unsigned char)((length - 2) << 5 | back >> 8);
        } else {
            *next++ = (unsigned char)(7 << 5 | back >> 8);
            *next++ = (unsigned char)(length - 9);
        }
        *next++ = (unsigned char)back;
        place += length;
        start = place;
        for (size_t late = place - 2; late < place && late + REPEAT_MIN <= bytes; late++)
            seen[row_of(three_at(data + late), bits)] = (uint32_t)late + 1;
    }
    if (next != NULL)
        next = put_literals(next, out_end, data + start, bytes - start);
    free(seen);
    return next == NULL ? 0 : (size_t)(next - out);
}

bool lzf_decompress(const unsigned char *data, size_t bytes, unsigned char *out, size_t out_bytes)
{
    const unsigned char *end = data + bytes;
    unsigned char *next = out;
    const unsigned char *out_end = out + out_bytes;
    while (data < end) {
        size_t control = *data++;
        if (control < LITERALS_MAX) {
            size_t run = control + 1;
            if ((size_t)(end - data) < run || (size_t)(out_end - next) < run)
                return false;
            memcpy(next, data, run);
            data += run;
            next += run;
            continue;
        }
        size_t length = control >> 5;
        if ((size_t)(end - data) < (length == 7 ? 2u : 1u))
            return false;
        if (length == 7)
            length += *data++;
        size_t back = ((control & 0x1F) << 8 | *data++) + 1;
        length += 2;
        if ((size_t)(next - out) < back || (size_t)(out_end - next) < length)
            return false;
        for (const unsigned char *from = next - back; length > 0; length--) /* it may run into what it makes */
            *next++ = *from++;
    }
    return next == out_end;
}
