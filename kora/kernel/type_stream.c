/* Streams, and the commands on their entries: see kernel.h for what they are made of.
 *
 * When a block is full, and how many bytes an entry adds to its listpack, is Redis' to say (streamAppendItem,
 * t_stream.c); kora/types/stream.py is the reference. */

#include "kernel.h"

#include <stdlib.h>

/* A listpack's header and end, and its master entry but for the names: entries, deleted ones, a zero. */
#define NODE_HEAD_BYTES (7 + 2 + 2 + 2)

#define BLOCKS_MIN 4
#define NUMBER_BYTES_MAX 10     /* of a number of 64 bits, seven to a byte */
#define BODY_BYTES_ORDINARY 512 /* what is no larger is put together on the C stack */

/* --- Numbers, as lengths are written --- */

static inline char *write_number(char *target, uint64_t number)
{
    for (; number >= 0x80; number >>= 7)
        *target++ = (char)(number | 0x80);
    *target++ = (char)number;
    return target;
}

static inline uint64_t read_number(const char **data)
{
    const unsigned char *at = (const unsigned char *)*data;
    uint64_t number = *at & 0x7F;
    for (unsigned shift = 7; UNLIKELY(*at & 0x80); shift += 7)
        number |= (uint64_t)(*++at & 0x7F) << shift;
    *data = (const char *)at + 1;
    return number;
}

/* --- Blocks --- */

static inline uint32_t entries_of(const struct block *block)
{
    return block->pack.count - 1; /* the names come first */
}

static int64_t bytes_of_block(const struct block *block)
{
    return (int64_t)(block_bytes(block) + block_bytes(block->pack.data));
}

/* What an entry takes in its block's listpack beside its names and values, and what it adds to the header: see
 * _entry_overhead() of the reference. */
static size_t entry_overhead(const struct block *block, struct stream_id id, size_t names, bool shares_names)
{
    uint64_t ms = id.ms - block->first.ms, number = id.number - block->first.number;
    size_t bytes = 2; /* flags, and below how many elements the entry has */
    /* The difference of the numbers is modulo 2 ** 64, and both are stored as signed integers. */
    bytes += packed_integer_bytes((int64_t)ms) + packed_integer_bytes((int64_t)number);
    if (!shares_names)
        bytes += packed_integer_bytes((int64_t)names) + packed_integer_bytes(2 * (int64_t)names + 4);
    else
        bytes += packed_integer_bytes((int64_t)names + 3);
    int64_t count = entries_of(block);
    return bytes + packed_integer_bytes(count + 1) - packed_integer_bytes(count);
}

static bool has_names(const struct block *block, const struct argument *words, size_t count)
{
    if (block->names != count / 2)
        return false;
    const char *data = pack_get(&block->pack, 0).data;
    for (size_t at = 0; at < count; at += 2) {
        struct text name = read_string(data);
        if (name.bytes != words[at].bytes || !is_same(name.data, words[at].data, name.bytes))
            return false;
        data = name.data + name.bytes;
    }
    return true;
}

/* Append every step-th of some words, with what stands in front of them, as one string of a block's pack. */
static void append_body(struct block *block, struct text front, const struct argument *words, size_t count, size_t step)
{
    size_t bytes = front.bytes;
    for (size_t at = 0; at < count; at += step)
        bytes += length_bytes(words[at].bytes) + words[at].bytes;
    char ordinary[BODY_BYTES_ORDINARY];
    char *body = bytes <= sizeof ordinary ? ordinary : allocate(bytes), *target = body + front.bytes;
    memcpy(body, front.data, front.bytes);
    for (size_t at = 0; at < count; at += step)
        target = write_string(target, (struct text){words[at].data, words[at].bytes});
    pack_insert(&block->pack, PACK_END, (struct text){body, bytes});
    if (body != ordinary)
        free(body);
}

/* The last block is full: give back the room that it had for growing. */
static void trim_block(struct stream *stream)
{
    struct block *block = stream_block(stream, stream->count - 1);
    if (block->pack.capacity - block->pack.bytes < 32)
        return;
    struct pack old = block->pack;
    block->pack = pack_copy(&old);
    stream->value.bytes += (int64_t)block_bytes(block->pack.data) - (int64_t)block_bytes(old.data);
    pack_free(&old);
}

/* Make a free place at the end of the array. */
static void reserve_block(struct stream *stream)
{
    if (stream->start + stream->count < stream->capacity)
        return;
    if (stream->start > 0 && stream->start >= stream->count) {
        /* As many are free in front: so what is moved has been paid for by what has gone. */
        memmove(stream->blocks, stream->blocks + stream->start, stream->count * sizeof *stream->blocks);
        stream->start = 0;
        return;
    }
    stream->value.bytes -= (int64_t)block_bytes(stream->blocks);
    stream->capacity = stream->capacity ? 2 * stream->capacity : 1;
    stream->blocks = reallocate(stream->blocks, stream->capacity * sizeof *stream->blocks);
    stream->value.bytes += (int64_t)block_bytes(stream->blocks);
}

static struct block *open_block(struct stream *stream, struct stream_id id, const struct argument *words, size_t count)
{
    if (stream->count)
        trim_block(stream);
    reserve_block(stream);
    struct block *block = allocate_zeroed(sizeof *block);
    block->first = block->last = id;
    block->names = (uint32_t)(count / 2);
    block->node_bytes = NODE_HEAD_BYTES + packed_integer_bytes(block->names);
    for (size_t at = 0; at < count; at += 2)
        block->node_bytes += packed_bytes_of((struct text){words[at].data, words[at].bytes});
    append_body(block, (struct text){"", 0}, words, count, 2);
    stream->blocks[stream->start + stream->count++] = block;
    stream->value.bytes += bytes_of_block(block);
    return block;
}

static void free_block(struct stream *stream, struct block *block)
{
    stream->value.bytes -= bytes_of_block(block);
    stream->length -= entries_of(block);
    pack_free(&block->pack);
    free(block);
}

static void drop_block(struct stream *stream, uint32_t place)
{
    free_block(stream, stream_block(stream, place));
    struct block **at = stream->blocks + stream->start + place;
    if (place == 0)
        stream->start++;
    else
        memmove(at, at + 1, (stream->count - place - 1) * sizeof *at);
    stream->count--;
    /* Of many that were there once few are left. */
    if (stream->count == 0 || (stream->capacity > BLOCKS_MIN && stream->count <= stream->capacity / 4)) {
        struct block **blocks = NULL;
        stream->value.bytes -= (int64_t)block_bytes(stream->blocks);
        stream->capacity = 2 * stream->count;
        if (stream->count) {
            blocks = allocate(stream->capacity * sizeof *blocks);
            memcpy(blocks, stream->blocks + stream->start, stream->count * sizeof *blocks);
        }
        free(stream->blocks);
        stream->blocks = blocks;
        stream->start = 0;
        stream->value.bytes += (int64_t)block_bytes(stream->blocks);
    }
}

/* Delete entries of a block, from a place in its pack on; at least one is left, or was deleted before. */
static void forget(struct stream *stream, struct block *block, size_t at, uint32_t count)
{
    int64_t entries = entries_of(block), deleted = block->deleted;
    stream->value.bytes -= (int64_t)block_bytes(block->pack.data);
    pack_delete(&block->pack, at, count);
    stream->value.bytes += (int64_t)block_bytes(block->pack.data);
    stream->length -= count;
    /* Redis' counts of entries and of deleted ones are integers in the listpack, too. */
    block->node_bytes += packed_integer_bytes(entries - count) - packed_integer_bytes(entries);
    block->node_bytes += packed_integer_bytes(deleted + count) - packed_integer_bytes(deleted);
    block->deleted += count;
}

/* --- Entries --- */

static struct stream_id read_id(const struct block *block, const char **data)
{
    struct stream_id id = block->first;
    uint64_t ms = read_number(data), number = read_number(data);
    id.ms += ms;
    id.number = ms ? number : id.number + number;
    return id;
}

static struct stream_id id_at(const struct block *block, size_t at)
{
    const char *data = pack_get(&block->pack, at).data;
    return read_id(block, &data);
}

void stream_add(struct stream *stream, struct stream_id id, const struct argument *words, size_t count)
{
    const struct limits *limits = stream->value.limits;
    struct block *block = stream->count ? stream_block(stream, stream->count - 1) : NULL;
    uint64_t bytes = 0, bytes_max = STREAM_NODE_BYTES_MAX;
    if (limits->stream_node_bytes > 0)
        bytes_max = (uint64_t)limits->stream_node_bytes;
    for (size_t at = 0; at < count; at++)
        bytes += words[at].bytes;
    if (block == NULL || block->node_bytes + bytes >= bytes_max ||
        (limits->stream_node_entries > 0 &&
         entries_of(block) + block->deleted >= (uint64_t)limits->stream_node_entries) ||
        block->pack.bytes + bytes + 2 * count >= PACK_BYTES_MAX)
        block = open_block(stream, id, words, count);

    bool shares_names = entries_of(block) + block->deleted == 0 || has_names(block, words, count);
    block->node_bytes += entry_overhead(block, id, count / 2, shares_names);
    for (size_t at = shares_names; at < count; at += shares_names + 1)
        block->node_bytes += packed_bytes_of((struct text){words[at].data, words[at].bytes});

    char front[3 * NUMBER_BYTES_MAX];
    uint64_t ms = id.ms - block->first.ms;
    char *end = write_number(front, ms);
    end = write_number(end, ms ? id.number : id.number - block->first.number);
    end = write_number(end, shares_names ? 0 : count / 2);
    stream->value.bytes -= (int64_t)block_bytes(block->pack.data);
    append_body(block, (struct text){front, (size_t)(end - front)}, words + shares_names, count - shares_names,
                shares_names ? 2 : 1);
    stream->value.bytes += (int64_t)block_bytes(block->pack.data);

    block->last = stream->last_id = id;
    stream->length++;
    stream->entries_added++;
}

/* How many blocks begin at or before an id. */
static uint32_t blocks_up_to(const struct stream *stream, struct stream_id id)
{
    uint32_t low = 0, high = stream->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (stream_id_order(stream_block(stream, middle)->first, id) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first entry of a block from an id on, or PACK_END; tells how many are before it. */
static size_t seek_in_block(const struct block *block, struct stream_id id, uint32_t *before)
{
    size_t at = pack_next(&block->pack, 0);
    for (*before = 0; at != PACK_END && stream_id_order(id_at(block, at), id) < 0; ++*before)
        at = pack_next(&block->pack, at);
    return at;
}

bool stream_delete(struct stream *stream, struct stream_id id)
{
    uint32_t place = blocks_up_to(stream, id), before;
    if (place == 0)
        return false;
    struct block *block = stream_block(stream, --place);
    size_t at = seek_in_block(block, id, &before);
    if (at == PACK_END || stream_id_order(id_at(block, at), id) != 0)
        return false;
    if (entries_of(block) == 1)
        drop_block(stream, place);
    else
        forget(stream, block, at, 1);
    if (stream_id_order(id, stream->max_deleted_id) > 0)
        stream->max_deleted_id = id;
    return true;
}

uint64_t stream_keep(struct stream *stream, uint64_t length, bool approximate, uint64_t limit)
{
    uint64_t before = stream->length;
    while (stream->length > length && stream->count) {
        struct block *block = stream_block(stream, 0);
        uint32_t entries = entries_of(block);
        if (limit && before - stream->length + entries > limit)
            break;
        if (stream->length - entries >= length) {
            drop_block(stream, 0);
            continue;
        }
        if (!approximate)
            forget(stream, block, pack_next(&block->pack, 0), (uint32_t)(stream->length - length));
        break;
    }
    return before - stream->length;
}

uint64_t stream_keep_since(struct stream *stream, struct stream_id id, bool approximate, uint64_t limit)
{
    uint64_t before = stream->length;
    while (stream->count) {
        struct block *block = stream_block(stream, 0);
        uint32_t surplus;
        if (limit && before - stream->length + entries_of(block) > limit)
            break;
        if (stream_id_order(block->last, id) < 0) {
            drop_block(stream, 0);
            continue;
        }
        if (!approximate) {
            seek_in_block(block, id, &surplus);
            if (surplus)
                forget(stream, block, pack_next(&block->pack, 0), surplus);
        }
        break;
    }
    return before - stream->length;
}

uint64_t stream_shed(struct stream *stream, uint64_t count)
{
    uint64_t before = stream->length, dropped = 0;
    /* A block counts as one, since nobody cares whether it is empty. */
    for (; stream->count && before - stream->length + dropped < count; dropped++)
        drop_block(stream, stream->count - 1);
    return before - stream->length + dropped;
}

void stream_copy(const struct stream *stream, struct stream *copy)
{
    struct value value = copy->value;
    *copy = *stream;
    copy->value = value;
    copy->start = 0;
    copy->capacity = stream->count;
    copy->blocks = stream->count ? allocate(stream->count * sizeof *copy->blocks) : NULL;
    copy->value.bytes += (int64_t)block_bytes(copy->blocks);
    for (uint32_t place = 0; place < stream->count; place++) {
        const struct block *block = stream_block(stream, place);
        struct block *twin = copy->blocks[place] = allocate(sizeof *twin);
        *twin = *block;
        twin->pack = pack_copy(&block->pack);
        copy->value.bytes += bytes_of_block(twin);
    }
}

void stream_free(struct stream *stream)
{
    for (uint32_t place = 0; place < stream->count; place++)
        free_block(stream, stream_block(stream, place));
    free(stream->blocks);
    stream->blocks = NULL;
    stream->start = stream->count = stream->capacity = 0;
}

/* --- Walks --- */

/* Where a walk comes to the end of a block. */
static void step_to_block(struct stream_walk *walk, bool forwards)
{
    while (walk->at == PACK_END) {
        walk->block += forwards ? 1 : UINT32_MAX;
        if (walk->block >= walk->stream->count) {
            walk->block = walk->stream->count;
            return;
        }
        const struct pack *pack = &stream_block(walk->stream, walk->block)->pack;
        if (pack->count > 1)
            walk->at = forwards ? pack_next(pack, 0) : pack_last(pack);
    }
}

struct stream_walk stream_walk_from(const struct stream *stream, struct stream_id id)
{
    uint32_t place = blocks_up_to(stream, id), before;
    struct stream_walk walk = {stream, place ? place - 1 : 0, PACK_END};
    if (stream->count == 0)
        return walk;
    walk.at = seek_in_block(stream_block(stream, walk.block), id, &before);
    step_to_block(&walk, true);
    return walk;
}

struct stream_walk stream_walk_back_from(const struct stream *stream, struct stream_id id)
{
    uint32_t place = blocks_up_to(stream, id);
    struct stream_walk walk = {stream, stream->count, PACK_END};
    if (place == 0)
        return walk;
    walk.block = place - 1;
    const struct block *block = stream_block(stream, walk.block);
    for (walk.at = pack_last(&block->pack); walk.at != 0; walk.at = pack_previous(&block->pack, walk.at))
        if (stream_id_order(id_at(block, walk.at), id) <= 0)
            return walk;
    walk.at = PACK_END;
    step_to_block(&walk, false);
    return walk;
}

bool stream_here(const struct stream_walk *walk, struct stream_entry *entry)
{
    if (walk->block >= walk->stream->count)
        return false;
    const struct block *block = stream_block(walk->stream, walk->block);
    const char *data = pack_get(&block->pack, walk->at).data;
    entry->id = read_id(block, &data);
    uint64_t names = read_number(&data);
    entry->shares_names = names == 0;
    entry->words = 2 * (names ? names : block->names);
    entry->names = pack_get(&block->pack, 0).data;
    entry->values = data;
    return true;
}

void stream_next(struct stream_walk *walk)
{
    walk->at = pack_next(&stream_block(walk->stream, walk->block)->pack, walk->at);
    step_to_block(walk, true);
}

void stream_previous(struct stream_walk *walk)
{
    walk->at = pack_previous(&stream_block(walk->stream, walk->block)->pack, walk->at);
    if (walk->at == 0)
        walk->at = PACK_END;
    step_to_block(walk, false);
}

struct text stream_word(struct stream_entry *entry)
{
    const char **data = entry->shares_names && entry->words % 2 == 0 ? &entry->names : &entry->values;
    struct text word = read_string(*data);
    *data = word.data + word.bytes;
    entry->words--;
    return word;
}

/* --- For tests --- */

static const char *audit_block(const struct block *block)
{
    struct stream_id before = {0, 0};
    const char *wrong = pack_audit(&block->pack);
    if (wrong != NULL)
        return wrong;
    if (block->pack.count == 0)
        return "a block of a stream has no names";
    for (size_t at = pack_next(&block->pack, 0); at != PACK_END; at = pack_next(&block->pack, at)) {
        struct stream_id id = id_at(block, at);
        if (stream_id_order(id, block->first) < 0 || stream_id_order(id, block->last) > 0)
            return "an entry is not within its block's ids";
        if (at != pack_next(&block->pack, 0) && stream_id_order(before, id) >= 0)
            return "entries are out of order";
        before = id;
    }
    return NULL;
}

const char *stream_audit(const struct stream *stream, int64_t bytes_beside)
{
    int64_t bytes = bytes_beside + (int64_t)block_bytes(stream->blocks);
    uint64_t length = 0;
    const char *wrong = NULL;
    if ((uint64_t)stream->start + stream->count > stream->capacity)
        wrong = "a stream has more blocks than room for them";
    for (uint32_t place = 0; place < stream->count && wrong == NULL; place++) {
        const struct block *block = stream_block(stream, place);
        wrong = audit_block(block);
        if (place && stream_id_order(stream_block(stream, place - 1)->last, block->first) >= 0)
            wrong = "blocks of a stream are out of order";
        length += entries_of(block);
        bytes += bytes_of_block(block);
    }
    if (wrong == NULL && length != stream->length)
        wrong = "the length of a stream is counted wrongly";
    if (wrong == NULL && bytes != stream->value.bytes)
        wrong = "the bytes of a stream are counted wrongly";
    return wrong;
}

/* --- Commands: kora/commands/streams.py is the reference --- */

/* The stream of a request's key, or NULL for a key that is not there; false for what is no stream. */
static inline bool find_stream(struct turn *turn, const struct request *request, const struct argument *argv,
                               struct key *key, struct entry **entry, struct stream **stream)
{
    *key = first_key(request, argv);
    *entry = keyspace_find(turn->keyspace, key);
    *stream = NULL;
    if (*entry == NULL)
        return true;
    if ((*entry)->kind != OBJECT || (*entry)->object_kind != STREAM_OBJECT)
        return false;
    *stream = (struct stream *)entry_value(*entry);
    return true;
}

/* Digits, as many as 64 bits surely hold; false for all that only the reference can read. */
static bool read_unsigned(const char **data, const char *end, uint64_t *number)
{
    const char *start = *data;
    *number = 0;
    for (; *data < end && **data >= '0' && **data <= '9'; ++*data)
        *number = *number * 10 + (uint64_t)(**data - '0');
    return *data > start && *data - start < INTEGER_BYTES_MAX;
}

/* `<ms>` or `<ms>-<number>`, and with is_open also `<ms>-*`, for which it then is set. */
static bool read_stream_id(struct text text, uint64_t missing_number, struct stream_id *id, bool *is_open)
{
    const char *data = text.data, *end = text.data + text.bytes;
    if (!read_unsigned(&data, end, &id->ms))
        return false;
    id->number = missing_number;
    if (data == end)
        return true;
    if (*data++ != '-')
        return false;
    if (is_open != NULL && end - data == 1 && *data == '*') {
        *is_open = true;
        id->number = 0;
        return true;
    }
    return read_unsigned(&data, end, &id->number) && data == end;
}

static const struct stream_id STREAM_ID_MAX = {UINT64_MAX, UINT64_MAX};

static bool read_bound(struct text text, uint64_t missing_number, struct stream_id *id)
{
    if (text.bytes == 1 && (*text.data == '-' || *text.data == '+')) {
        *id = *text.data == '+' ? STREAM_ID_MAX : (struct stream_id){0, 0};
        return true;
    }
    return read_stream_id(text, missing_number, id, NULL);
}

static inline struct stream_id following_id(struct stream_id id)
{
    id.number++;
    id.ms += id.number == 0;
    return id;
}

static void output_id(struct output *output, struct stream_id id)
{
    char text[2 * NUMBER_BYTES_MAX + 2 * INTEGER_BYTES_MAX];
    char *end = text + format_unsigned(text, id.ms);
    *end++ = '-';
    end += format_unsigned(end, id.number);
    output_bulk(output, text, (size_t)(end - text));
}

enum trimming { NO_TRIMMING, MAXLEN, MINID };

/* What XADD is told, up to the id. */
struct addition {
    enum trimming trimming;
    uint64_t length;
    struct stream_id since;
    bool approximate;
    bool has_limit;
    uint64_t limit;
    bool needs_stream; /* NOMKSTREAM */
    bool is_automatic; /* the id, or at least its number */
    bool is_numbered;
    struct stream_id id;
};

static bool is_sign(const struct argument *word, char sign)
{
    return word->bytes == 1 && *word->data == sign;
}

/* The options from argv[2] on; `place` becomes that of the id.  False for anything unusual. */
static bool read_addition(const struct limits *limits, const struct argument *argv, size_t argc, size_t *place,
                          struct addition *addition)
{
    *addition = (struct addition){0};
    for (*place = 2; *place < argc; ++*place) {
        const struct argument *word = &argv[*place];
        int64_t number;
        if (is_sign(word, '*')) {
            addition->is_automatic = true;
            break;
        }
        if (word->bytes > 0 && *word->data >= '0' && *word->data <= '9') {
            bool is_open = false;
            if (!read_stream_id(text_of(word), 0, &addition->id, &is_open))
                return false;
            addition->is_numbered = !is_open;
            break;
        }
        if (is_word(text_of(word), "NOMKSTREAM")) {
            addition->needs_stream = true;
            continue;
        }
        if (*place + 2 >= argc)
            return false;
        if (is_word(text_of(word), "LIMIT")) {
            if (!parse_integer(word[1].data, word[1].bytes, &number) || number < 0)
                return false;
            addition->has_limit = true;
            addition->limit = (uint64_t)number;
            ++*place;
            continue;
        }
        bool by_id = is_word(text_of(word), "MINID");
        if (addition->trimming != NO_TRIMMING || (!by_id && !is_word(text_of(word), "MAXLEN")))
            return false;
        if (is_sign(word + 1, '~') || is_sign(word + 1, '=')) {
            addition->approximate = is_sign(word + 1, '~');
            ++*place;
        }
        word = &argv[++*place];
        addition->trimming = by_id ? MINID : MAXLEN;
        if (by_id) {
            if (!read_stream_id(text_of(word), 0, &addition->since, NULL))
                return false;
        } else {
            if (!parse_integer(word->data, word->bytes, &number) || number < 0)
                return false;
            addition->length = (uint64_t)number;
        }
    }
    if (addition->has_limit && !addition->approximate)
        return false;
    if (addition->approximate && !addition->has_limit) {
        int64_t entries = limits->stream_node_entries;
        addition->limit = entries <= 0 ? 10000 : entries > 10000 ? 1000000 : 100 * (uint64_t)entries;
    }
    return true;
}

static uint64_t trim_stream(struct stream *stream, const struct addition *addition)
{
    if (addition->trimming == MAXLEN)
        return stream_keep(stream, addition->length, addition->approximate, addition->limit);
    if (addition->trimming == MINID)
        return stream_keep_since(stream, addition->since, addition->approximate, addition->limit);
    return 0;
}

/* The id of a new entry; false where there can be none. */
static bool choose_id(struct kernel *kernel, const struct addition *addition, struct stream_id last,
                      struct stream_id *id)
{
    if (stream_id_order(last, STREAM_ID_MAX) == 0)
        return false;
    if (addition->is_automatic) {
        uint64_t now_ms = (uint64_t)kernel_now_ms(kernel);
        *id = now_ms > last.ms ? (struct stream_id){now_ms, 0} : following_id(last);
        return true;
    }
    *id = addition->id;
    if (!addition->is_numbered && id->ms == last.ms && last.number != UINT64_MAX)
        *id = following_id(last);
    return stream_id_order(*id, last) > 0;
}

/* XADD with the id that was chosen, and of a stream that was trimmed with what that has left: how far an approximate one goes depends on
 * settings. */
static void journal_addition(struct kernel *kernel, const struct turn *turn, const struct stream *stream,
                             const struct argument *key, struct stream_id id, const struct argument *words,
                             size_t count)
{
    struct text few[24], *effect = count + 6 <= 24 ? few : allocate((count + 6) * sizeof *effect);
    char length[INTEGER_BYTES_MAX], name[2 * INTEGER_BYTES_MAX + 1];
    size_t at = 0;
    effect[at++] = WORD("XADD");
    effect[at++] = text_of(key);
    if (stream != NULL) {
        effect[at++] = WORD("MAXLEN");
        effect[at++] = WORD("=");
        effect[at++] = (struct text){length, format_unsigned(length, stream->length)};
    }
    size_t bytes = format_unsigned(name, id.ms);
    name[bytes++] = '-';
    bytes += format_unsigned(name + bytes, id.number);
    effect[at++] = (struct text){name, bytes};
    for (size_t place = 0; place < count; place++)
        effect[at++] = text_of(&words[place]);
    journal_instead(kernel, turn, effect, at);
    if (effect != few)
        free(effect);
}

OPERATION(op_xadd)
{
    struct key key;
    struct entry *entry;
    struct stream *stream;
    struct addition addition;
    struct stream_id id;
    size_t place, argc = request->argc;
    if (!read_addition(kernel->limits, argv, argc, &place, &addition))
        return false;
    size_t bytes = 0, first = place + 1;
    if (argc < first + 2 || (argc - first) % 2 != 0 || !find_stream(turn, request, argv, &key, &entry, &stream))
        return false;
    if (addition.is_numbered && addition.id.ms == 0 && addition.id.number == 0)
        return false;
    if (entry == NULL && addition.needs_stream) {
        output_null(output, turn->protocol);
        return true;
    }
    for (size_t at = first; at < argc; at++)
        bytes += argv[at].bytes;
    if (bytes > STREAM_NODE_BYTES_MAX ||
        !choose_id(kernel, &addition, stream == NULL ? (struct stream_id){0, 0} : stream->last_id, &id))
        return false;
    if (entry == NULL) {
        entry = keyspace_make_object(turn->keyspace, &key, STREAM_OBJECT);
        if (entry == NULL)
            return false;
        stream = (struct stream *)entry_value(entry);
    }
    stream_add(stream, id, argv + first, argc - first);
    bool is_trimmed = trim_stream(stream, &addition) > 0;
    keyspace_updated(turn->keyspace, &key, entry, false);
    if (UNLIKELY(kernel->journal.on))
        journal_addition(kernel, turn, is_trimmed ? stream : NULL, &argv[1], id, argv + first, argc - first);
    output_id(output, id);
    return true;
}

OPERATION(op_xlen)
{
    UNUSED(kernel);
    struct key key;
    struct entry *entry;
    struct stream *stream;
    if (!find_stream(turn, request, argv, &key, &entry, &stream))
        return false;
    count_read(turn->keyspace, entry);
    output_integer(output, stream == NULL ? 0 : (int64_t)stream->length);
    return true;
}

/* Whether a walk has come beyond the last id wanted. */
static inline bool is_beyond(struct stream_id id, struct stream_id end, bool backwards)
{
    int order = stream_id_order(id, end);
    return backwards ? order < 0 : order > 0;
}

static bool range_of_entries(struct turn *turn, const struct request *request, struct argument *argv,
                             struct output *output, bool backwards)
{
    struct key key;
    struct entry *entry;
    struct stream *stream;
    struct stream_entry found;
    struct stream_id first, last;
    int64_t count = INT64_MAX;
    if (!read_bound(text_of(&argv[backwards ? 3 : 2]), 0, &first) ||
        !read_bound(text_of(&argv[backwards ? 2 : 3]), UINT64_MAX, &last))
        return false;
    if (request->argc > 4 && (request->argc != 6 || !is_word(text_of(&argv[4]), "COUNT") ||
                              !parse_integer(argv[5].data, argv[5].bytes, &count) || count <= 0))
        return false;
    if (!find_stream(turn, request, argv, &key, &entry, &stream))
        return false;
    count_read(turn->keyspace, entry);
    if (stream == NULL || stream_id_order(first, last) > 0) {
        output_header(output, '*', 0);
        return true;
    }
    /* Once to count them and once to write them: the first walk does not look at words. */
    struct stream_walk start = backwards ? stream_walk_back_from(stream, last) : stream_walk_from(stream, first);
    struct stream_id end = backwards ? first : last;
    size_t entries = 0;
    for (struct stream_walk walk = start;
         entries < (uint64_t)count && stream_here(&walk, &found) && !is_beyond(found.id, end, backwards); entries++)
        backwards ? stream_previous(&walk) : stream_next(&walk);
    output_header(output, '*', entries);
    for (struct stream_walk walk = start; entries > 0 && !output->failed; entries--) {
        stream_here(&walk, &found);
        output_header(output, '*', 2);
        output_id(output, found.id);
        output_header(output, '*', found.words);
        while (found.words > 0) {
            struct text word = stream_word(&found);
            output_bulk(output, word.data, word.bytes);
        }
        backwards ? stream_previous(&walk) : stream_next(&walk);
    }
    return true;
}

OPERATION(op_xrange)
{
    UNUSED(kernel);
    return range_of_entries(turn, request, argv, output, false);
}

OPERATION(op_xrevrange)
{
    UNUSED(kernel);
    return range_of_entries(turn, request, argv, output, true);
}
