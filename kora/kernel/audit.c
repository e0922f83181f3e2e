/* Records of the audit log of what operations run: kora/audit/ring.py says what a record and the ring are, and
 * kora/engine/audit.py what is recorded. */
#include "kernel.h"

#include <stdlib.h>

enum { HEAD_BYTES = 44, AT_OUTCOME_BYTES = 7, AT_NUMBER = 8, AT_TIME = 16 };
enum { RECORD_COMMAND = 1, RECORD_GAP = 3 };
enum { KEY_BYTES_SHOWN = 512, WORD_BYTES_SHOWN = 128, KEYS_SHOWN = 64, WORDS_SHOWN = 32 };
enum { OUTCOME_BYTES = 32, GAP_BYTES = HEAD_BYTES + 24 };
/* Words of the ring's head. */
enum { WRITTEN = 1, READ = 2, NUMBER = 3, DROPPED = 4, GAP_COUNT = 5, GAP_SINCE = 6, GAP_FIRST = 7, WAITING = 9 };

static void put16(char *at, uint16_t number)
{
    memcpy(at, &number, sizeof number);
}

static void put32(char *at, uint32_t number)
{
    memcpy(at, &number, sizeof number);
}

static void put64(char *at, uint64_t number)
{
    memcpy(at, &number, sizeof number);
}

static bool trail_has_room(const struct trail *audit)
{
    const volatile uint64_t *words = audit->words;
    return words[WAITING] == 0 && audit->capacity - (words[WRITTEN] - words[READ]) >= AUDIT_RECORD_MAX + GAP_BYTES;
}

bool audit_blocks(const struct kernel *kernel)
{
    return kernel->audit.words != NULL && kernel->audit.blocks && !trail_has_room(&kernel->audit);
}

static void trail_append(struct trail *audit, const char *record, size_t bytes)
{
    uint64_t written = audit->words[WRITTEN], at = written % audit->capacity;
    size_t first = bytes < audit->capacity - at ? bytes : (size_t)(audit->capacity - at);
    memcpy(audit->data + at, record, first);
    memcpy(audit->data, record + first, bytes - first);
    /* Whoever reads that there is more has to find it. */
    __atomic_store_n(&audit->words[WRITTEN], written + bytes, __ATOMIC_RELEASE);
}

static bool begins_with_any(const struct argument *key, const struct text *prefixes, size_t count)
{
    for (size_t place = 0; place < count; place++)
        if (key->bytes >= prefixes[place].bytes && memcmp(key->data, prefixes[place].data, prefixes[place].bytes) == 0)
            return true;
    return false;
}

struct key_places {
    size_t first, last, step, count;
};

static struct key_places places_of(const struct command *command, size_t argc)
{
    struct key_places places = {command->first_key, 0, command->key_step, 0};
    int64_t last = command->last_key < 0 ? (int64_t)argc + command->last_key : command->last_key;
    if (command->first_key == 0 || last < (int64_t)command->first_key || last >= (int64_t)argc)
        return places;
    places.last = (size_t)last;
    places.count = (places.last - places.first) / places.step + 1;
    return places;
}

static bool wants_keys(const struct trail *audit, const struct argument *argv, const struct key_places *places)
{
    bool is_included = audit->included_count == 0, is_excluded = audit->excluded_count > 0;
    for (size_t place = 0; place < places->count; place++) {
        const struct argument *key = &argv[places->first + place * places->step];
        is_included = is_included || begins_with_any(key, audit->included, audit->included_count);
        is_excluded = is_excluded && begins_with_any(key, audit->excluded, audit->excluded_count);
    }
    return places->count == 0 || (is_included && !is_excluded);
}

/* Appends a word to the record, and returns whether it had room. */
static inline bool add_word(struct trail *audit, const struct argument *word, size_t shown_max)
{
    size_t shown = word->bytes < shown_max ? word->bytes : shown_max;
    if (UNLIKELY(audit->bytes + 4 + shown > AUDIT_RECORD_MAX - OUTCOME_BYTES))
        return false;
    put32(audit->record + audit->bytes, word->bytes < UINT32_MAX ? (uint32_t)word->bytes : UINT32_MAX);
    if (shown > 0)
        memcpy(audit->record + audit->bytes + 4, word->data, shown);
    audit->bytes += 4 + shown;
    return true;
}

bool audit_begin(struct kernel *kernel, const struct turn *turn, const struct command *command,
                 const struct argument *argv, size_t argc)
{
    struct trail *audit = &kernel->audit;
    audit->bytes = 0;
    if (turn->identity_bytes == 0)
        return true;
    /* Whose keys only the reference can tell is for it, and so is what has no keys, of which all words are shown. */
    if (!command->has_keys || command->first_key == 0)
        return false;
    if (UNLIKELY(audit->blocks && !trail_has_room(audit)))
        return false;
    struct key_places places = places_of(command, argc);
    if (UNLIKELY(audit->included_count + audit->excluded_count > 0) && !wants_keys(audit, argv, &places))
        return true;
    char *head = audit->record;
    memset(head, 0, HEAD_BYTES);
    head[4] = RECORD_COMMAND;
    head[5] = (char)command->audited;
    put16(head + 24, (uint16_t)turn->identity_bytes);
    put16(head + 26, (uint16_t)command->name_bytes);
    audit->bytes = HEAD_BYTES;
    memcpy(audit->record + audit->bytes, turn->identity, turn->identity_bytes);
    audit->bytes += turn->identity_bytes;
    memcpy(audit->record + audit->bytes, command->name, command->name_bytes);
    audit->bytes += command->name_bytes;
    size_t shown = 0;
    while (shown < places.count && shown < KEYS_SHOWN &&
           add_word(audit, &argv[places.first + shown * places.step], KEY_BYTES_SHOWN))
        shown++;
    put16(head + 28, (uint16_t)shown);
    put32(head + 32, (uint32_t)places.count);
    if (LIKELY(!audit->wants_words))
        return true;
    size_t others = 0;
    shown = 0;
    bool fits = true;
    for (size_t at = command->is_subcommand ? 2 : 1; at < argc; at++) {
        if (places.count > 0 && at >= places.first && at <= places.last && (at - places.first) % places.step == 0)
            continue;
        others++;
        fits = fits && shown < WORDS_SHOWN && add_word(audit, &argv[at], WORD_BYTES_SHOWN);
        shown += fits;
    }
    put16(head + 30, (uint16_t)shown);
    put32(head + 36, (uint32_t)others);
    return true;
}

/* The first word of an error reply; one that is long or the only one is none, as in kora/engine/audit.py. */
static size_t outcome_of(const char *reply, size_t reply_bytes, char *outcome)
{
    if (reply_bytes == 0 || reply[0] != '-')
        return 0;
    for (size_t at = 1; at < reply_bytes && at < OUTCOME_BYTES; at++) {
        if (reply[at] == ' ' && at > 1) {
            memcpy(outcome, reply + 1, at - 1);
            return at - 1;
        }
    }
    memcpy(outcome, "ERR", 3);
    return 3;
}

static void append_gap(struct trail *audit, uint64_t now_ms)
{
    char record[GAP_BYTES] = {0};
    uint64_t *words = audit->words;
    put32(record, GAP_BYTES);
    record[4] = RECORD_GAP;
    put64(record + AT_NUMBER, words[GAP_FIRST] + words[GAP_COUNT] - 1);
    put64(record + AT_TIME, now_ms);
    put64(record + HEAD_BYTES, words[GAP_COUNT]);
    put64(record + HEAD_BYTES + 8, words[GAP_SINCE]);
    put64(record + HEAD_BYTES + 16, words[GAP_FIRST]);
    trail_append(audit, record, GAP_BYTES);
    words[GAP_COUNT] = 0;
}

void audit_end(struct kernel *kernel, const char *reply, size_t reply_bytes)
{
    struct trail *audit = &kernel->audit;
    uint64_t *words = audit->words;
    if (audit->bytes == 0)
        return;
    uint64_t number = ++words[NUMBER], now_ms = (uint64_t)kernel_now_ms(kernel);
    if (UNLIKELY(!trail_has_room(audit))) {
        if (words[GAP_COUNT]++ == 0) {
            words[GAP_FIRST] = number;
            words[GAP_SINCE] = now_ms;
        }
        words[DROPPED]++;
        return;
    }
    if (UNLIKELY(words[GAP_COUNT] > 0))
        append_gap(audit, now_ms);
    size_t outcome_bytes = outcome_of(reply, reply_bytes, audit->record + audit->bytes);
    audit->bytes += outcome_bytes;
    put32(audit->record, (uint32_t)audit->bytes);
    audit->record[AT_OUTCOME_BYTES] = (char)outcome_bytes;
    put64(audit->record + AT_NUMBER, number);
    put64(audit->record + AT_TIME, now_ms);
    trail_append(audit, audit->record, audit->bytes);
}

void audit_forget(struct trail *audit)
{
    for (size_t place = 0; place < audit->included_count; place++)
        free((char *)audit->included[place].data);
    for (size_t place = 0; place < audit->excluded_count; place++)
        free((char *)audit->excluded[place].data);
    free(audit->included);
    free(audit->excluded);
    audit->included = audit->excluded = NULL;
    audit->included_count = audit->excluded_count = 0;
    audit->words = NULL;
}

void audit_add_prefix(struct text **prefixes, size_t *count, const char *data, size_t bytes)
{
    *prefixes = reallocate(*prefixes, (*count + 1) * sizeof **prefixes);
    char *copy = allocate(bytes + 1);
    memcpy(copy, data, bytes);
    (*prefixes)[(*count)++] = (struct text){copy, bytes};
}
