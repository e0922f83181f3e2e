/* Numbers and words as they come over the wire. */
#include "kernel.h"

/* Every 64-bit number has at most so many digits, and so many digits never overflow a uint64_t. */
#define DIGITS_MAX 19

bool parse_integer(const char *data, size_t bytes, int64_t *value)
{
    bool is_negative = bytes > 0 && data[0] == '-';
    const char *digits = data + is_negative;
    size_t count = bytes - is_negative;
    if (count == 0 || count > DIGITS_MAX)
        return false;
    if (digits[0] == '0') {
        /* One that Redis would write otherwise, -0 or 007, is a string to it. */
        *value = 0;
        return bytes == 1;
    }
    uint64_t magnitude = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned digit = (unsigned)digits[i] - '0';
        if (digit > 9)
            return false;
        magnitude = magnitude * 10 + digit;
    }
    if (magnitude > (uint64_t)INT64_MAX + is_negative)
        return false;
    /* Negated as an unsigned number, since that of INT64_MIN does not fit into a signed one. */
    *value = (int64_t)(is_negative ? 0 - magnitude : magnitude);
    return true;
}

/* Dividing is what takes the time, and two digits at a time take half as many divisions. */
static const char PAIRS[] = "00010203040506070809"
                            "10111213141516171819"
                            "20212223242526272829"
                            "30313233343536373839"
                            "40414243444546474849"
                            "50515253545556575859"
                            "60616263646566676869"
                            "70717273747576777879"
                            "80818283848586878889"
                            "90919293949596979899";

size_t format_unsigned(char *target, uint64_t value)
{
    char digits[INTEGER_BYTES_MAX];
    char *first = digits + sizeof digits;
    while (value >= 100) {
        first -= 2;
        memcpy(first, PAIRS + value % 100 * 2, 2);
        value /= 100;
    }
    if (value >= 10) {
        first -= 2;
        memcpy(first, PAIRS + value * 2, 2);
    } else {
        *--first = (char)('0' + value);
    }
    size_t bytes = (size_t)(digits + sizeof digits - first);
    memcpy(target, first, bytes);
    return bytes;
}

size_t format_integer(char *target, int64_t value)
{
    if (value >= 0)
        return format_unsigned(target, (uint64_t)value);
    *target = '-';
    return 1 + format_unsigned(target + 1, 0 - (uint64_t)value);
}

size_t integer_bytes(int64_t value)
{
    static const uint64_t POWERS[] = {0,
                                      10,
                                      100,
                                      1000,
                                      10000,
                                      100000,
                                      1000000,
                                      10000000,
                                      100000000,
                                      1000000000,
                                      10000000000,
                                      100000000000,
                                      1000000000000,
                                      10000000000000,
                                      100000000000000,
                                      1000000000000000,
                                      10000000000000000,
                                      100000000000000000,
                                      1000000000000000000,
                                      10000000000000000000U};
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    /* log10 from log2, by 1233 / 4096; it is that or one more. */
    unsigned digits = (64u - (unsigned)__builtin_clzll(magnitude | 1)) * 1233 >> 12;
    return digits + (magnitude >= POWERS[digits]) + (value < 0);
}

bool is_word(struct text given, const char *word)
{
    for (size_t i = 0; i < given.bytes; i++) {
        char letter = given.data[i];
        if (letter >= 'a' && letter <= 'z')
            letter = (char)(letter - 'a' + 'A');
        /* The word may be the shorter one, and a NUL among the given bytes is not its end. */
        if (word[i] == '\0' || letter != word[i])
            return false;
    }
    return word[given.bytes] == '\0';
}
