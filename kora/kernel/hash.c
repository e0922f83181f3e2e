/* The keyed hash of tables and sketches, and the hash slot of a key.
 *
 * Both are worked out for every key of every request, and most keys have 8 to 32 bytes.  So neither has a loop over
 * single bytes: keys are read in words of eight bytes, of which the odd one overlaps its neighbour or is put together
 * from two or three overlapping pieces.  Nothing outside the key is ever read.
 */
#include "kernel.h"

#define LENGTH_SHIFT 56 /* SipHash has the length, modulo 256, in the top byte of its last word */

static inline uint64_t word_at(const char *data);
static inline uint64_t short_word_at(const char *data, size_t bytes);

/* --- SipHash-1-3 --- */

static inline uint64_t rotated(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}

#define SIP_ROUND                                                                                                      \
    v0 += v1, v2 += v3;                                                                                                \
    v1 = rotated(v1, 13) ^ v0, v3 = rotated(v3, 16) ^ v2;                                                              \
    v0 = rotated(v0, 32);                                                                                              \
    v2 += v1, v0 += v3;                                                                                                \
    v1 = rotated(v1, 17) ^ v2, v3 = rotated(v3, 21) ^ v0;                                                              \
    v2 = rotated(v2, 32)

uint64_t keyed_hash(const uint64_t secret[2], const char *data, size_t bytes)
{
    uint64_t v0 = secret[0] ^ 0x736f6d6570736575, v1 = secret[1] ^ 0x646f72616e646f6d;
    uint64_t v2 = secret[0] ^ 0x6c7967656e657261, v3 = secret[1] ^ 0x7465646279746573;
    uint64_t last = (uint64_t)bytes << LENGTH_SHIFT;
    if (LIKELY(bytes >= 8)) {
        /* The bytes left over by whole words are the upper ones of the last eight.  Shifting in two steps also gives
         * 0 where none are left over: a shift by 64 is undefined. */
        last |= word_at(data + bytes - 8) >> 1 >> (63 - 8 * (bytes & 7));
        size_t at = 0;
        do {
            uint64_t word = word_at(data + at);
            v3 ^= word;
            SIP_ROUND;
            v0 ^= word;
            at += 8;
        } while (at + 8 <= bytes);
    } else {
        last |= short_word_at(data, bytes);
    }
    v3 ^= last;
    SIP_ROUND;
    v0 ^= last;
    v2 ^= 0xff;
    SIP_ROUND;
    SIP_ROUND;
    SIP_ROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

/* --- CRC-16/XMODEM, eight bytes at a time ---
 *
 * The CRC of a message is the message as a polynomial over GF(2), times x^16, modulo P = x^16 + x^12 + x^5 + 1.  That
 * is linear: the CRC of eight bytes is the XOR of what each contributes alone, and a byte with n more behind it
 * contributes its value times x^(16 + 8n) mod P.  TABLES[n] has that product for each of the 256 values ("slicing by
 * 8", Kounavis and Berry).  The CRC so far goes in by XOR with the next two bytes.
 *
 * As the CRC starts from 0, zero bytes in front of a message change nothing.  So it is the first word that may be
 * shorter than eight bytes, and is filled up with zeros.
 *
 * The compiler works out the tables, from nothing but P: each power of x is the one before times x, reduced by P where
 * it reaches x^16, and a byte's product is the sum of those powers whose bits it has. */

#define P_BELOW_X16 0x1021
#define TIMES_X(power) (((power) << 1 & 0xffff) ^ ((power) >> 15) * P_BELOW_X16)
#define POWERS(n, before)                                                                                              \
    X##n##0 = TIMES_X(before), X##n##1 = TIMES_X(X##n##0), X##n##2 = TIMES_X(X##n##1), X##n##3 = TIMES_X(X##n##2),     \
    X##n##4 = TIMES_X(X##n##3), X##n##5 = TIMES_X(X##n##4), X##n##6 = TIMES_X(X##n##5), X##n##7 = TIMES_X(X##n##6)

/* Xnb is x^(16 + 8n + b) mod P. */
enum {
    X_15 = 0x8000,
    POWERS(0, X_15),
    POWERS(1, X07),
    POWERS(2, X17),
    POWERS(3, X27),
    POWERS(4, X37),
    POWERS(5, X47),
    POWERS(6, X57),
    POWERS(7, X67),
};

#define PRODUCT(n, byte)                                                                                               \
    (((byte) >> 0 & 1) * X##n##0 ^ ((byte) >> 1 & 1) * X##n##1 ^ ((byte) >> 2 & 1) * X##n##2 ^                         \
     ((byte) >> 3 & 1) * X##n##3 ^ ((byte) >> 4 & 1) * X##n##4 ^ ((byte) >> 5 & 1) * X##n##5 ^                         \
     ((byte) >> 6 & 1) * X##n##6 ^ ((byte) >> 7 & 1) * X##n##7)
#define PRODUCTS_4(n, first) PRODUCT(n, first), PRODUCT(n, first + 1), PRODUCT(n, first + 2), PRODUCT(n, first + 3)
#define PRODUCTS_16(n, first)                                                                                          \
    PRODUCTS_4(n, first), PRODUCTS_4(n, first + 4), PRODUCTS_4(n, first + 8), PRODUCTS_4(n, first + 12)
#define PRODUCTS_64(n, first)                                                                                          \
    PRODUCTS_16(n, first), PRODUCTS_16(n, first + 16), PRODUCTS_16(n, first + 32), PRODUCTS_16(n, first + 48)
#define PRODUCTS(n) {PRODUCTS_64(n, 0), PRODUCTS_64(n, 64), PRODUCTS_64(n, 128), PRODUCTS_64(n, 192)}

static const uint16_t TABLES[8][256] = {PRODUCTS(0), PRODUCTS(1), PRODUCTS(2), PRODUCTS(3),
                                        PRODUCTS(4), PRODUCTS(5), PRODUCTS(6), PRODUCTS(7)};

/* The next eight bytes, of which the first to be sent is the lowest.  Only two of the products wait for the CRC so far,
 * so the others are summed up first. */
static inline unsigned crc_add(unsigned crc, uint64_t word)
{
    unsigned sum = TABLES[5][word >> 16 & 0xff] ^ TABLES[4][word >> 24 & 0xff] ^ TABLES[3][word >> 32 & 0xff] ^
                   TABLES[2][word >> 40 & 0xff] ^ TABLES[1][word >> 48 & 0xff] ^ TABLES[0][word >> 56];
    return sum ^ (TABLES[7][(word ^ crc >> 8) & 0xff] ^ TABLES[6][(word >> 8 ^ crc) & 0xff]);
}

/* The odd bytes in front of whole words, with zeros before them. */
static inline uint64_t first_word(const char *data, size_t bytes)
{
    unsigned odd = bytes & 7;
    if (!odd)
        return 0;
    uint64_t word = LIKELY(bytes >= 8) ? word_at(data) : short_word_at(data, odd);
    return word << (64 - 8 * odd);
}

static unsigned crc_of(const char *data, size_t bytes)
{
    unsigned crc = crc_add(0, first_word(data, bytes));
    for (size_t at = bytes & 7; at < bytes; at += 8)
        crc = crc_add(crc, word_at(data + at));
    return crc;
}

/* --- The slot --- */

static inline bool has_brace(uint64_t word);
static unsigned slot_of_braced(const char *key, size_t bytes);

/* Most keys have no tag, and looking for one costs less than its own pass over the key when it is done on the words
 * that the CRC needs anyway.  What was worked out before a brace turns up is thrown away. */
unsigned slot_of(const char *key, size_t bytes)
{
    unsigned crc = 0;
    if (bytes & 7) {
        uint64_t word = first_word(key, bytes);
        if (UNLIKELY(has_brace(word)))
            return slot_of_braced(key, bytes);
        crc = crc_add(0, word);
    }
    for (size_t at = bytes & 7; at < bytes; at += 8) {
        uint64_t word = word_at(key + at);
        if (UNLIKELY(has_brace(word)))
            return slot_of_braced(key, bytes);
        crc = crc_add(crc, word);
    }
    return crc & (SLOTS - 1);
}

/* Only what is between the first { and the next } counts, unless that is empty. */
static __attribute__((noinline)) unsigned slot_of_braced(const char *key, size_t bytes)
{
    const char *tag = (const char *)memchr(key, '{', bytes) + 1;
    const char *end = memchr(tag, '}', (size_t)(key + bytes - tag));
    if (end && end > tag)
        return crc_of(tag, (size_t)(end - tag)) & (SLOTS - 1);
    return crc_of(key, bytes) & (SLOTS - 1);
}

/* Whether one of eight bytes is a {: it is one if the XOR with eight of them has a zero byte, and only then does
 * subtracting 1 from each byte borrow into a top bit that was not set ("Bit Twiddling Hacks", haszero). */
static inline bool has_brace(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101;
    uint64_t zero_at_brace = word ^ (ones * '{');
    return (zero_at_brace - ones) & ~zero_at_brace & (ones << 7);
}

/* --- Words --- */

/* Eight bytes from an address that need not be aligned, the first of them lowest. */
static inline uint64_t word_at(const char *data)
{
    uint64_t word;
    memcpy(&word, data, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* As that, for up to seven bytes, with zeros behind them.  Pieces overlap in bytes that are equal, so OR is enough. */
static inline uint64_t short_word_at(const char *data, size_t bytes)
{
    if (bytes >= 4) {
        uint32_t low, high;
        memcpy(&low, data, 4);
        memcpy(&high, data + bytes - 4, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        low = __builtin_bswap32(low);
        high = __builtin_bswap32(high);
#endif
        return low | (uint64_t)high << (8 * (bytes - 4));
    }
    if (!bytes)
        return 0;
    const unsigned char *byte = (const unsigned char *)data;
    uint64_t middle = byte[bytes / 2], last = byte[bytes - 1];
    return byte[0] | middle << (8 * (bytes / 2)) | last << (8 * (bytes - 1));
}

/* The polynomial of Ethernet, from the low bit up. */
static uint32_t CRC32[256];

uint32_t crc32_of(const char *data, size_t bytes)
{
    if (UNLIKELY(CRC32[1] == 0)) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t sum = byte;
            for (int bit = 0; bit < 8; bit++)
                sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0);
            CRC32[byte] = sum;
        }
    }
    uint32_t crc = ~0u;
    for (size_t at = 0; at < bytes; at++)
        crc = crc >> 8 ^ CRC32[(crc ^ (unsigned char)data[at]) & 0xFF];
    return ~crc;
}

uint64_t position_of(const char *key, size_t bytes)
{
    return (uint64_t)slot_of(key, bytes) << POSITION_BITS | crc32_of(key, bytes);
}

void place_begin(char *place, uint32_t id, unsigned slot, const char *key, size_t bytes)
{
    uint64_t head = (uint64_t)id << 16 | slot;
    uint32_t crc = crc32_of(key, bytes);
    for (int at = 0; at < 6; at++)
        place[at] = (char)(head >> (40 - 8 * at));
    for (int at = 0; at < 4; at++)
        place[6 + at] = (char)(crc >> (24 - 8 * at));
}
