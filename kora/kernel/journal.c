/* What changes, as RESP, on its way to the journal: see kora/engine/effects.py, which says what it promises. */
#include "kernel.h"

#include <stdlib.h>

static char *journal_room(struct journal *journal, size_t bytes)
{
    if (UNLIKELY(journal->capacity - journal->bytes < bytes)) {
        size_t capacity = journal->capacity < 4096 ? 8192 : 2 * journal->capacity;
        if (capacity < journal->bytes + bytes)
            capacity = journal->bytes + bytes;
        journal->data = reallocate(journal->data, capacity);
        journal->capacity = capacity;
    }
    return journal->data + journal->bytes;
}

/* `*3` or `$3` and the end of the line. */
static inline char *write_length(char *at, char kind, size_t number)
{
    *at++ = kind;
    if (LIKELY(number < 10))
        *at++ = (char)('0' + number);
    else
        at += format_unsigned(at, number);
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

#define LENGTH_BYTES_MAX (INTEGER_BYTES_MAX + 3)

static char *write_bulk(char *at, struct text word)
{
    at = write_length(at, '$', word.bytes);
    if (word.bytes > 0)
        memcpy(at, word.data, word.bytes);
    at += word.bytes;
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

/* Another effect begins; it is of that database. */
static void begin_effect(struct journal *journal, uint32_t database)
{
    journal->group_effects++;
    if (LIKELY(journal->database == (int64_t)database))
        return;
    char digits[INTEGER_BYTES_MAX];
    struct text number = {digits, format_unsigned(digits, database)};
    char *at = journal_room(journal, 64);
    memcpy(at, "*2\r\n$6\r\nSELECT\r\n", 16);
    journal->bytes = (size_t)(write_bulk(at + 16, number) - journal->data);
    journal->database = database;
}

void journal_append(struct journal *journal, uint32_t database, const struct text *words, size_t count)
{
    begin_effect(journal, database);
    size_t bytes = LENGTH_BYTES_MAX;
    for (size_t place = 0; place < count; place++)
        bytes += LENGTH_BYTES_MAX + words[place].bytes + 2;
    char *at = write_length(journal_room(journal, bytes), '*', count);
    for (size_t place = 0; place < count; place++)
        at = write_bulk(at, words[place]);
    journal->bytes = (size_t)(at - journal->data);
}

/* How many bytes the words of a request take behind the first's length, if they stand as clients send them. */
static size_t stretch_bytes(const struct argument *argv, size_t argc)
{
    const char *at = argv[0].data;
    if (argc < 2)
        return 0;
    for (size_t place = 0;; place++) {
        const struct argument *word = &argv[place];
        if (word->data != at || word->block != NULL || word->block_capacity != 0)
            return 0;
        at += word->bytes;
        if (place + 1 == argc)
            return (size_t)(at - argv[0].data) + 2;
        size_t header_bytes = 6; /* the line's end behind this word, `$`, one digit, and another line's end */
        for (size_t number = word[1].bytes; number >= 10; number /= 10)
            header_bytes++;
        if (word[1].data != at + header_bytes || memcmp(at, "\r\n$", 3) != 0)
            return 0;
        at += header_bytes;
    }
}

void journal_request(struct journal *journal, uint32_t database, const struct argument *argv, size_t argc)
{
    size_t stretch = stretch_bytes(argv, argc);
    if (LIKELY(stretch > 0)) {
        begin_effect(journal, database);
        char *at = journal_room(journal, 2 * LENGTH_BYTES_MAX + stretch);
        at = write_length(at, '*', argc);
        at = write_length(at, '$', argv[0].bytes);
        memcpy(at, argv[0].data, stretch);
        journal->bytes = (size_t)(at - journal->data) + stretch;
        return;
    }
    struct text few[16] = {{NULL, 0}}, *words = argc <= 16 ? few : allocate(argc * sizeof *words);
    for (size_t place = 0; place < argc; place++)
        words[place] = (struct text){argv[place].data, argv[place].bytes};
    journal_append(journal, database, words, argc);
    if (words != few)
        free(words);
}

void journal_copy(struct journal *journal, uint32_t database, const struct journal *other)
{
    begin_effect(journal, database);
    memcpy(journal_room(journal, other->bytes), other->data, other->bytes);
    journal->bytes += other->bytes;
}

void journal_begin(struct journal *journal)
{
    if (journal->depth++ == 0) {
        journal->group_at = journal->bytes;
        journal->group_effects = 0;
    }
}

void journal_end(struct journal *journal)
{
    if (--journal->depth > 0 || journal->group_effects < 2)
        return;
    static const char multi[] = "*1\r\n$5\r\nMULTI\r\n", exec[] = "*1\r\n$4\r\nEXEC\r\n";
    const size_t multi_bytes = sizeof multi - 1, exec_bytes = sizeof exec - 1;
    journal_room(journal, multi_bytes + exec_bytes);
    char *group = journal->data + journal->group_at;
    memmove(group + multi_bytes, group, journal->bytes - journal->group_at);
    memcpy(group, multi, multi_bytes);
    journal->bytes += multi_bytes;
    memcpy(journal->data + journal->bytes, exec, exec_bytes);
    journal->bytes += exec_bytes;
}

void journal_clear(struct journal *journal)
{
    journal->bytes = journal->group_at = 0;
    /* A burst's room is given back. */
    if (journal->capacity > JOURNAL_KEPT_MAX) {
        free(journal->data);
        journal->data = NULL;
        journal->capacity = 0;
    }
}

void journal_free(struct journal *journal)
{
    free(journal->data);
    journal->data = NULL;
    journal->bytes = journal->capacity = 0;
}

/* Whether what stands around a request's words is what a client sends there; not of words with a block of their own. */
static bool has_plain_frame(const struct parser *parser, const struct argument *argv, size_t argc)
{
    for (size_t place = 0; place < argc; place++) {
        if (argv[place].block != NULL)
            continue;
        char header[2 * LENGTH_BYTES_MAX], *stop = header;
        if (place == 0)
            stop = write_length(stop, '*', argc);
        stop = write_length(stop, '$', argv[place].bytes);
        size_t bytes = (size_t)(stop - header);
        const char *word = argv[place].data;
        /* Behind the header, so that it is not inline, and its line ends in the input. */
        if ((size_t)(word - parser->input) < bytes || memcmp(word - bytes, header, bytes) != 0 ||
            memcmp(word + argv[place].bytes, "\r\n", 2) != 0)
            return false;
    }
    return true;
}

bool journal_is_plain(const struct parser *parser, const struct batch *batch, size_t bytes)
{
    size_t expected = 0;
    for (size_t at = 0; at < batch->count; at++) {
        const struct request *request = &batch->requests[at];
        const struct argument *argv = batch->arguments + request->first;
        expected += request_bytes(argv, request->argc);
        if (expected > bytes || !has_plain_frame(parser, argv, request->argc))
            return false;
    }
    return expected == bytes;
}

void journal_instead(struct kernel *kernel, const struct turn *turn, const struct text *words, size_t count)
{
    journal_append(&kernel->journal, turn->keyspace->index, words, count);
    kernel->journal.told = true;
}

void journal_deadline(struct kernel *kernel, const struct turn *turn, const struct argument *key, int64_t deadline_ms)
{
    char digits[INTEGER_BYTES_MAX];
    struct text words[] = {WORD("PEXPIREAT"), {key->data, key->bytes}, {digits, format_integer(digits, deadline_ms)}};
    journal_instead(kernel, turn, words, 3);
}

void journal_value(struct kernel *kernel, const struct turn *turn, const struct argument *key, struct text value,
                   const int64_t *deadline_ms)
{
    char digits[INTEGER_BYTES_MAX];
    struct text words[5] = {WORD("SET"), {key->data, key->bytes}, value};
    if (deadline_ms == NULL) {
        words[3] = WORD("KEEPTTL");
    } else {
        words[3] = WORD("PXAT");
        words[4] = (struct text){digits, format_integer(digits, *deadline_ms)};
    }
    journal_instead(kernel, turn, words, deadline_ms == NULL ? 4 : 5);
}

void journal_removal(struct kernel *kernel, const struct turn *turn, const struct argument *key)
{
    struct text words[] = {WORD("DEL"), {key->data, key->bytes}};
    journal_instead(kernel, turn, words, 2);
}
