/* Bytes from a client to requests, multibulk and inline, with Redis' limits and error texts (networking.c, 7.0).
 *
 * The reference is kora/resp/parser.py, and every answer here is the same.
 *
 * Nearly always what was read is a number of whole, short requests.  These are parsed where they lie, in the caller's
 * bytes: an argument is a pointer into them, and nothing is copied.  What the plain road does not know at a glance (a
 * length of many digits, an inline request, a mistake) is left to functions out of its way, which see the same bytes
 * again from the start of the line.
 *
 * A request may end in a later read.  Then the arguments that are complete so far move from the batch to the parser,
 * as offsets from the request's first byte, since its bytes are about to be copied, perhaps several times.  When more
 * has come, parsing goes on behind them; the offsets become pointers again once, when the request is complete.  So
 * every byte and every argument is dealt with a bounded number of times, however the request was cut up.  Only an
 * unfinished line is searched again, and it has at most 64 KB.
 *
 * What is left of the caller's bytes is copied to `buffer`, and what comes next is put behind it.  A large argument
 * would be copied again and again in there.  If it has not come whole, it is therefore collected in a block of its own,
 * which goes on with the request and ends as the stored value.  The two bytes behind it go into the block as well: then
 * the input is cut in one place only, in front of the argument, and whatever follows it continues there.
 *
 * Memory is taken for what has come, never for what was announced: buffer, block and vector at most double.
 */
#include "kernel.h"

#include <stdlib.h>

#define NOINLINE __attribute__((noinline))

/* Beyond it the arguments of a batch would leave the cache before they are used. */
#define BATCH_ARGUMENTS 1024
/* What batch_reset() keeps: the last request of an ordinary batch may go beyond the above. */
#define BATCH_ROOM_KEPT (2 * BATCH_ARGUMENTS)
#define BATCH_ROOM_MIN 256

#define ARGUMENT_BYTES_MIN 6 /* $0 and two line ends */
#define BULK_END_BYTES 2

#define BUFFER_BYTES_MIN 128 /* a rest of a few bytes grows to an ordinary request without another allocation */
#define BUFFER_SHRINK_MIN 4096
#define BLOCK_BYTES_USUAL ((1 << 20) + 2)
#define BLOCK_BYTES_MIN 4096

static bool take_multibulk(struct parser *parser, struct batch *batch);
static bool take_inline(struct parser *parser, struct batch *batch);
static bool take_attributes(struct parser *parser, struct batch *batch);
static bool take_unfinished(struct parser *parser, struct batch *batch);
static bool split_words(struct parser *parser, struct batch *batch, const char *line, const char *end);
static size_t rest_start(const struct parser *parser);
static void own_rest(struct parser *parser, size_t more);
static void make_room(struct parser *parser, size_t more);
static void drop_rest(struct parser *parser);
static void drop_request(struct parser *parser);
static void collect(struct parser *parser, const char *data, size_t bytes);

void parser_init(struct parser *parser, uint64_t bulk_max)
{
    memset(parser, 0, sizeof *parser);
    parser->bulk_max = bulk_max;
}

void parser_free(struct parser *parser)
{
    drop_request(parser);
    drop_rest(parser);
}

void parser_feed(struct parser *parser, const char *data, size_t bytes)
{
    if (parser->faulty || bytes == 0)
        return;
    if (parser->block) {
        size_t missing = parser->bulk_wanted - parser->block_bytes;
        size_t taken = bytes < missing ? bytes : missing;
        collect(parser, data, taken);
        data += taken;
        bytes -= taken;
        if (bytes == 0)
            return;
    }
    if (rest_start(parser) == parser->input_bytes) {
        parser->input = data;
        parser->input_bytes = bytes;
        parser->at = 0;
        parser->is_borrowed = true;
        return;
    }
    make_room(parser, bytes);
    memcpy(parser->buffer + parser->input_bytes, data, bytes);
    parser->input_bytes += bytes;
}

bool parser_next(struct parser *parser, struct batch *batch, size_t requests_max)
{
    if (UNLIKELY(parser->in_request) && !take_unfinished(parser, batch))
        return false;
    while (batch->count < requests_max && batch->arguments_count < BATCH_ARGUMENTS) {
        if (parser->at == parser->input_bytes)
            return false;
        bool taken =
            LIKELY(parser->input[parser->at] == '*') ? take_multibulk(parser, batch) : take_inline(parser, batch);
        if (UNLIKELY(!taken))
            return false;
    }
    return parser->at < parser->input_bytes;
}

void parser_keep(struct parser *parser)
{
    size_t rest = parser->input_bytes - rest_start(parser);
    if (rest == 0)
        drop_rest(parser);
    else if (parser->is_borrowed || (parser->buffer_capacity > BUFFER_SHRINK_MIN && rest < parser->buffer_capacity / 4))
        own_rest(parser, 0);
}

size_t parser_pending_bytes(const struct parser *parser)
{
    return parser->input_bytes - rest_start(parser) + parser->block_bytes + parser->blocks_total_bytes;
}

/* --- Batches --- */

void batch_init(struct batch *batch)
{
    memset(batch, 0, sizeof *batch);
}

void batch_reset(struct batch *batch)
{
    if (UNLIKELY(batch->has_blocks)) {
        for (size_t i = 0; i < batch->arguments_count; i++)
            free(batch->arguments[i].block);
        batch->has_blocks = false;
    }
    batch->count = 0;
    batch->arguments_count = 0;
    if (UNLIKELY(batch->arguments_capacity > BATCH_ROOM_KEPT)) {
        free(batch->arguments);
        batch->arguments = NULL;
        batch->arguments_capacity = 0;
    }
}

void batch_free(struct batch *batch)
{
    batch_reset(batch);
    free(batch->arguments);
    batch_init(batch);
}

static NOINLINE void batch_grow(struct batch *batch, size_t capacity_min)
{
    size_t capacity = batch->arguments_capacity * 2;
    if (capacity < BATCH_ROOM_MIN)
        capacity = BATCH_ROOM_MIN;
    if (capacity < capacity_min)
        capacity = capacity_min;
    batch->arguments = reallocate(batch->arguments, capacity * sizeof *batch->arguments);
    batch->arguments_capacity = capacity;
}

/* The next places for arguments in the batch; it grows before the request is known to be complete. */
static inline struct argument *batch_room(struct batch *batch, size_t count)
{
    if (UNLIKELY(batch->arguments_capacity - batch->arguments_count < count))
        batch_grow(batch, batch->arguments_count + count);
    return batch->arguments + batch->arguments_count;
}

/* The arguments behind those that the batch counts become a request. */
static inline void batch_add(struct batch *batch, size_t argc)
{
    struct request *request = &batch->requests[batch->count++];
    request->first = batch->arguments_count;
    request->argc = argc;
    batch->arguments_count += argc;
}

struct argument *batch_take(struct batch *batch, size_t argc)
{
    struct argument *arguments = batch_room(batch, argc);
    batch_add(batch, argc);
    return arguments;
}

/* --- Faults --- */

/* The input is gone at once, but the buffer stays for requests in front of the fault, until parser_keep(). */
static NOINLINE void fail(struct parser *parser, const char *fault)
{
    size_t bytes = strlen(fault);
    if (bytes > FAULT_BYTES - 1)
        bytes = FAULT_BYTES - 1;
    memcpy(parser->fault, fault, bytes);
    parser->fault[bytes] = '\0';
    parser->faulty = true;
    drop_request(parser);
    parser->input_bytes = 0;
    parser->at = 0;
}

/* An empty line shows its \r, and line breaks are spaces in a reply. */
static NOINLINE void fail_at_word(struct parser *parser, char found)
{
    char fault[] = "expected '$', got ' '";
    if (found != '\r' && found != '\n')
        fault[sizeof fault - 3] = found;
    fail(parser, fault);
}

static NOINLINE void fail_at_length(struct parser *parser, uint64_t bytes)
{
    fail(parser, bytes > parser->bulk_max ? "invalid bulk length" : "unauthenticated bulk length");
}

/* --- Multibulk --- */

/* Where the line ends; NULL while it does not, or after a fault, if it is too long. */
static const char *line_end(struct parser *parser, const char *line, const char *end, char terminator,
                            const char *too_big)
{
    size_t bytes = (size_t)(end - line);
    size_t searched = bytes <= LINE_BYTES_MAX ? bytes : LINE_BYTES_MAX + 1;
    const char *found = memchr(line, terminator, searched);
    /* Redis looks for the end with strchr: it sees nothing behind a NUL, and waits until the line is too long. */
    if (found && !memchr(line, '\0', (size_t)(found - line)))
        return found;
    if (bytes > LINE_BYTES_MAX)
        fail(parser, too_big);
    return NULL;
}

/* The header of a request of whatever length, at most 0 for one that is to be ignored; returns what is behind it, or
 * NULL if it is not complete or faulty. */
static NOINLINE const char *multibulk_header(struct parser *parser, const char *line, const char *end, int64_t *argc)
{
    const char *stop = line_end(parser, line, end, '\r', "too big mbulk count string");
    /* The byte behind \r is skipped unseen, but it must be there. */
    if (!stop || stop + 1 == end)
        return NULL;
    if (!parse_integer(line + 1, (size_t)(stop - line - 1), argc) || *argc > MULTIBULK_MAX) {
        fail(parser, "invalid multibulk length");
        return NULL;
    }
    if (*argc > UNAUTHENTICATED_MULTIBULK_MAX && !parser->authenticated) {
        fail(parser, "unauthenticated multibulk length");
        return NULL;
    }
    return stop + 2;
}

/* The same for an argument; its limits are checked by the caller. */
static NOINLINE const char *bulk_header(struct parser *parser, const char *line, const char *end, uint64_t *bytes)
{
    const char *stop = line_end(parser, line, end, '\r', "too big bulk count string");
    if (!stop || stop + 1 == end)
        return NULL;
    if (*line != '$') {
        fail_at_word(parser, *line);
        return NULL;
    }
    int64_t length;
    if (!parse_integer(line + 1, (size_t)(stop - line - 1), &length) || length < 0) {
        fail(parser, "invalid bulk length");
        return NULL;
    }
    *bytes = (uint64_t)length;
    return stop + 2;
}

static inline unsigned digit_of(char character)
{
    return (unsigned)(unsigned char)character - '0';
}

/* As bulk_header(), for lengths of up to three digits; NULL for all others, right or wrong.  That many digits can be
 * read without a look at the end, if only the shortest argument would fit. */
static inline const char *short_bulk_header(const char *line, const char *end, uint64_t *bytes)
{
    if (UNLIKELY(end - line < ARGUMENT_BYTES_MIN || line[0] != '$'))
        return NULL;
    unsigned length = digit_of(line[1]);
    if (UNLIKELY(length > 9))
        return NULL;
    if (line[2] == '\r') {
        *bytes = length;
        return line + 4;
    }
    unsigned digit = digit_of(line[2]);
    if (UNLIKELY(length == 0 || digit > 9))
        return NULL;
    length = length * 10 + digit;
    if (line[3] == '\r') {
        *bytes = length;
        return line + 5;
    }
    digit = digit_of(line[3]);
    if (UNLIKELY(digit > 9 || line[4] != '\r'))
        return NULL;
    *bytes = length * 10 + digit;
    return line + 6;
}

/* How many arguments can be complete in so many bytes, but at least 1, so that there is a vector to point into. */
static inline size_t arguments_fitting(size_t bytes, size_t count)
{
    size_t fitting = bytes / ARGUMENT_BYTES_MIN + 1;
    return count < fitting ? count : fitting;
}

/* Parse up to `count` arguments from `*place` on, and move it behind the last that is complete; returns how many are.
 * If they are fewer, the parser is faulty, or in_bulk with `*place` at the argument's first byte, or at a length line
 * that is not complete. */
static inline size_t parse_arguments(struct parser *parser, const char **place, const char *end,
                                     struct argument *arguments, size_t count)
{
    const char *line = *place;
    uint64_t bytes_max = parser->bulk_max;
    if (UNLIKELY(!parser->authenticated) && bytes_max > UNAUTHENTICATED_BULK_BYTES_MAX)
        bytes_max = UNAUTHENTICATED_BULK_BYTES_MAX;
    size_t parsed = 0;
    while (parsed < count) {
        uint64_t bytes;
        const char *data = short_bulk_header(line, end, &bytes);
        if (UNLIKELY(!data)) {
            data = bulk_header(parser, line, end, &bytes);
            if (!data)
                break;
        }
        if (UNLIKELY(bytes > bytes_max)) {
            fail_at_length(parser, bytes);
            break;
        }
        /* It cannot overflow: parse_integer() gives at most INT64_MAX. */
        if (UNLIKELY((size_t)(end - data) < bytes + BULK_END_BYTES)) {
            parser->in_bulk = true;
            parser->bulk_wanted = bytes + BULK_END_BYTES;
            line = data;
            break;
        }
        arguments[parsed++] = (struct argument){.data = data, .bytes = bytes};
        line = data + bytes + BULK_END_BYTES;
    }
    *place = line;
    return parsed;
}

/* The parser's vector with room for more arguments of the unfinished request. */
static struct argument *unfinished_room(struct parser *parser, size_t count)
{
    size_t needed = parser->arguments_count + count;
    if (needed > parser->arguments_capacity) {
        size_t capacity = parser->arguments_capacity * 2;
        if (capacity < needed)
            capacity = needed;
        parser->arguments = reallocate(parser->arguments, capacity * sizeof *parser->arguments);
        parser->arguments_capacity = capacity;
    }
    return parser->arguments + parser->arguments_count;
}

/* Count arguments that were put into the parser's vector as pointers, make them offsets, and have a large argument that
 * is missing collected from here on. */
static void suspend(struct parser *parser, size_t parsed, const char *place)
{
    const char *base = parser->input + parser->request_start;
    struct argument *arguments = parser->arguments + parser->arguments_count;
    for (size_t i = 0; i < parsed; i++)
        arguments[i].data = (const char *)(uintptr_t)(arguments[i].data - base);
    parser->arguments_count += parsed;
    parser->missing -= parsed;
    parser->at = (size_t)(place - parser->input);
    if (parser->in_bulk && parser->bulk_wanted >= LARGE_BYTES_MIN + BULK_END_BYTES) {
        collect(parser, place, parser->input_bytes - parser->at);
        parser->input_bytes = parser->at;
    }
}

/* A request's input has ended before it: what is complete moves from the batch to the parser. */
static NOINLINE void begin_unfinished(struct parser *parser, const struct argument *arguments, size_t parsed,
                                      size_t argc, const char *place)
{
    parser->in_request = true;
    parser->request_start = parser->at;
    parser->missing = argc;
    memcpy(unfinished_room(parser, parsed ? parsed : 1), arguments, parsed * sizeof *arguments);
    suspend(parser, parsed, place);
}

/* The request that begins here, into the batch; false if it is not complete or faulty. */
static bool take_multibulk(struct parser *parser, struct batch *batch)
{
    const char *start = parser->input + parser->at;
    const char *end = parser->input + parser->input_bytes;
    const char *place;
    size_t argc;
    if (LIKELY(end - start >= 4 && start[2] == '\r' && digit_of(start[1]) - 1 < 9)) {
        argc = digit_of(start[1]);
        place = start + 4;
    } else {
        int64_t announced;
        place = multibulk_header(parser, start, end, &announced);
        if (!place)
            return false;
        if (announced <= 0) {
            parser->at = (size_t)(place - parser->input);
            return true;
        }
        argc = (size_t)announced;
    }
    struct argument *arguments = batch_room(batch, arguments_fitting((size_t)(end - place), argc));
    size_t parsed = parse_arguments(parser, &place, end, arguments, argc);
    if (LIKELY(parsed == argc)) {
        batch_add(batch, argc);
        parser->at = (size_t)(place - parser->input);
        return true;
    }
    if (!parser->faulty)
        begin_unfinished(parser, arguments, parsed, argc, place);
    return false;
}

/* --- Requests that come in pieces --- */

/* End the argument whose length is known, if all of it has come. */
static bool end_bulk(struct parser *parser)
{
    size_t available = parser->block ? parser->block_bytes : parser->input_bytes - parser->at;
    if (available < parser->bulk_wanted)
        return false;
    struct argument *argument = unfinished_room(parser, 1);
    argument->bytes = parser->bulk_wanted - BULK_END_BYTES;
    argument->data = (const char *)(uintptr_t)(parser->at - parser->request_start);
    argument->block = NULL;
    argument->block_capacity = 0;
    if (parser->block) {
        argument->data = argument->block = parser->block;
        argument->block_capacity = parser->block_capacity;
        parser->blocks_total_bytes += parser->block_bytes;
        parser->block = NULL;
        parser->block_bytes = 0;
        parser->block_capacity = 0;
    } else {
        parser->at += parser->bulk_wanted;
    }
    parser->in_bulk = false;
    parser->arguments_count++;
    parser->missing--;
    return true;
}

/* The unfinished request is complete: its arguments go to the batch, which is empty. */
static void end_unfinished(struct parser *parser, struct batch *batch)
{
    size_t argc = parser->arguments_count;
    if (batch->arguments_capacity >= argc) {
        memcpy(batch->arguments, parser->arguments, argc * sizeof *batch->arguments);
        free(parser->arguments);
    } else {
        /* A vector that long is not copied. */
        free(batch->arguments);
        batch->arguments = parser->arguments;
        batch->arguments_capacity = parser->arguments_capacity;
    }
    batch->has_blocks = parser->blocks_total_bytes > 0;
    batch_add(batch, argc);
    parser->arguments = NULL;
    parser->arguments_count = 0;
    parser->arguments_capacity = 0;
    parser->blocks_total_bytes = 0;
    parser->in_request = false;
}

/* As take_multibulk(), for a request that has begun in earlier input. */
static NOINLINE bool take_unfinished(struct parser *parser, struct batch *batch)
{
    if (parser->in_bulk && !end_bulk(parser))
        return false;
    const char *place = parser->input + parser->at;
    const char *end = parser->input + parser->input_bytes;
    struct argument *arguments = unfinished_room(parser, arguments_fitting((size_t)(end - place), parser->missing));
    size_t parsed = parse_arguments(parser, &place, end, arguments, parser->missing);
    if (parser->faulty)
        return false;
    if (parsed < parser->missing) {
        suspend(parser, parsed, place);
        return false;
    }
    const char *base = parser->input + parser->request_start;
    for (size_t i = 0; i < parser->arguments_count; i++) {
        struct argument *argument = &parser->arguments[i];
        if (!argument->block)
            argument->data = base + (uintptr_t)argument->data;
    }
    parser->arguments_count += parsed;
    parser->at = (size_t)(place - parser->input);
    end_unfinished(parser, batch);
    return true;
}

/* Nothing is left of an unfinished request. */
static void drop_request(struct parser *parser)
{
    for (size_t i = 0; i < parser->arguments_count; i++)
        free(parser->arguments[i].block);
    free(parser->arguments);
    free(parser->block);
    parser->arguments = NULL;
    parser->arguments_count = 0;
    parser->arguments_capacity = 0;
    parser->block = NULL;
    parser->block_bytes = 0;
    parser->block_capacity = 0;
    parser->blocks_total_bytes = 0;
    parser->in_bulk = false;
    parser->in_request = false;
}

/* Put bytes behind what the block of the argument has. */
static void collect(struct parser *parser, const char *data, size_t bytes)
{
    size_t needed = parser->block_bytes + bytes;
    if (!parser->block || needed > parser->block_capacity) {
        size_t capacity = needed * 2;
        /* Most that are long end within a megabyte, and what is not written to is only addresses. */
        if (capacity < BLOCK_BYTES_USUAL && needed >= BLOCK_BYTES_USUAL / 16)
            capacity = BLOCK_BYTES_USUAL;
        if (capacity < BLOCK_BYTES_MIN)
            capacity = BLOCK_BYTES_MIN;
        if (capacity > parser->bulk_wanted)
            capacity = parser->bulk_wanted;
        parser->block = reallocate(parser->block, capacity);
        parser->block_capacity = capacity;
    }
    memcpy(parser->block + parser->block_bytes, data, bytes);
    parser->block_bytes = needed;
}

/* --- Input that is left --- */

/* What is in front of this place will not be needed again. */
static size_t rest_start(const struct parser *parser)
{
    return parser->in_request ? parser->request_start : parser->at;
}

/* The rest now stands at this address, of the parser's own. */
static void rest_moved(struct parser *parser, char *buffer, size_t start)
{
    parser->buffer = buffer;
    parser->input = buffer;
    parser->input_bytes -= start;
    parser->at -= start;
    parser->request_start = 0;
    parser->is_borrowed = false;
}

/* How large a buffer is made for the rest and more bytes: if any are to come then at least twice the rest, so that it is
 * copied again only after as much has been fed. */
static size_t buffer_capacity(size_t rest, size_t more)
{
    size_t capacity = rest + (more == 0 || more > rest ? more : rest);
    return capacity < BUFFER_BYTES_MIN ? BUFFER_BYTES_MIN : capacity;
}

/* Copy the rest to a new buffer, with room for more bytes. */
static void own_rest(struct parser *parser, size_t more)
{
    size_t start = rest_start(parser);
    size_t rest = parser->input_bytes - start;
    parser->buffer_capacity = buffer_capacity(rest, more);
    char *buffer = allocate(parser->buffer_capacity);
    memcpy(buffer, parser->input + start, rest);
    free(parser->buffer);
    rest_moved(parser, buffer, start);
}

/* Room for more bytes behind the rest, in the buffer. */
static void make_room(struct parser *parser, size_t more)
{
    if (parser->is_borrowed) {
        own_rest(parser, more);
        return;
    }
    if (parser->buffer_capacity - parser->input_bytes >= more)
        return;
    size_t start = rest_start(parser);
    size_t rest = parser->input_bytes - start;
    if (start >= rest && parser->buffer_capacity - rest >= more) {
        memcpy(parser->buffer, parser->buffer + start, rest);
        rest_moved(parser, parser->buffer, start);
    } else if (start > 0) {
        own_rest(parser, more);
    } else {
        /* The allocator may know how to enlarge a block without copying it. */
        parser->buffer_capacity = buffer_capacity(rest, more);
        parser->buffer = reallocate(parser->buffer, parser->buffer_capacity);
        parser->input = parser->buffer;
    }
}

/* An idle client has no buffer. */
static void drop_rest(struct parser *parser)
{
    free(parser->buffer);
    parser->buffer = NULL;
    parser->buffer_capacity = 0;
    parser->input = NULL;
    parser->input_bytes = 0;
    parser->at = 0;
    parser->is_borrowed = false;
}

/* --- Attributes --- */

const char attributes_mark[1] = "";

/* Digits, at most four of them; SIZE_MAX for anything else, or more than `maximum`. */
static size_t short_number(const char *text, const char *end, size_t maximum)
{
    size_t number = 0;
    if (end - text < 1 || end - text > 4)
        return SIZE_MAX;
    for (; text < end; text++) {
        if (digit_of(*text) > 9)
            return SIZE_MAX;
        number = number * 10 + digit_of(*text);
    }
    return number <= maximum ? number : SIZE_MAX;
}

/* A map in front of a request, which says something about it, as a request whose first word is the mark; false if it is
 * not complete or faulty.  It is short, and is parsed anew where it comes in pieces.  Parser._parse_attributes()
 * (kora/resp/parser.py). */
static NOINLINE bool take_attributes(struct parser *parser, struct batch *batch)
{
    const char *start = parser->input + parser->at;
    size_t size = parser->input_bytes - parser->at;
    struct argument *arguments = batch_room(batch, 1 + 2 * ATTRIBUTES_MAX);
    size_t argc = 0, missing = SIZE_MAX, at = 0;
    arguments[argc++] = (struct argument){.data = attributes_mark};
    while (missing > 0) {
        size_t searched = size < ATTRIBUTES_BYTES_MAX ? size : ATTRIBUTES_BYTES_MAX;
        const char *stop = at < searched ? memchr(start + at, '\r', searched - at) : NULL;
        if (stop == NULL || (size_t)(stop - start) + 2 > size)
            break;
        const char *line = start + at;
        at = (size_t)(stop - start) + 2;
        if (missing == SIZE_MAX) {
            missing = short_number(line + 1, stop, ATTRIBUTES_MAX);
            if (missing == SIZE_MAX) {
                fail(parser, "invalid attribute length");
                return false;
            }
            missing *= 2;
            continue;
        }
        struct argument argument = {.data = line + 1, .bytes = stop > line ? (size_t)(stop - line - 1) : 0};
        if (*line == '$') {
            argument.bytes = short_number(line + 1, stop, ATTRIBUTES_BYTES_MAX);
            if (argument.bytes == SIZE_MAX) {
                fail(parser, "invalid bulk length");
                return false;
            }
            argument.data = start + at;
            at += argument.bytes + BULK_END_BYTES;
            if (at > size)
                break;
        } else if (*line == '\r' || strchr("+:,#_(", *line) == NULL || *line == '\0') {
            fail_at_word(parser, *line >= ' ' && *line <= '~' ? *line : '\n');
            return false;
        }
        arguments[argc++] = argument;
        missing--;
    }
    if ((missing == 0 ? at : size) > ATTRIBUTES_BYTES_MAX) {
        fail(parser, "too big attribute");
        return false;
    }
    if (missing > 0)
        return false;
    parser->at += at;
    if (argc > 1)
        batch_add(batch, argc);
    return true;
}

/* --- Inline --- */

/* A line of words, as one types them into telnet, into the batch; false if it is not complete or faulty. */
static NOINLINE bool take_inline(struct parser *parser, struct batch *batch)
{
    const char *line = parser->input + parser->at;
    if (*line == '|' && parser->input_bytes - parser->at > 1 && digit_of(line[1]) <= 9)
        return take_attributes(parser, batch);
    const char *stop = line_end(parser, line, parser->input + parser->input_bytes, '\n', "too big inline request");
    if (!stop)
        return false;
    size_t bytes = (size_t)(stop - line);
    size_t words_bytes = bytes > 0 && line[bytes - 1] == '\r' ? bytes - 1 : bytes;
    /* Words in quotes are rewritten in their place, so that place must not be the caller's. */
    if (parser->is_borrowed && (memchr(line, '"', bytes) || memchr(line, '\'', bytes))) {
        own_rest(parser, 0);
        line = parser->input;
    }
    if (!split_words(parser, batch, line, line + words_bytes)) {
        fail(parser, "unbalanced quotes in request");
        return false;
    }
    parser->at += bytes + 1;
    return true;
}

static inline bool is_space(char character)
{
    return character == ' ' || (character >= '\t' && character <= '\r');
}

/* What ends a word outside quotes.  \v and \f do not: they part words only in front of them and behind a quote. */
static inline bool ends_word(char character)
{
    return character == ' ' || character == '\t' || character == '\r' || character == '\n';
}

static int hex_value(char character)
{
    if (character >= '0' && character <= '9')
        return character - '0';
    if (character >= 'a' && character <= 'f')
        return character - 'a' + 10;
    if (character >= 'A' && character <= 'F')
        return character - 'A' + 10;
    return -1;
}

/* Write what a backslash means to `*target`, and move it on; returns what follows, or NULL if that is the end. */
static const char *unescape(const char *place, const char *end, char **target)
{
    const char *code = place + 1;
    if (code == end)
        return NULL;
    char meaning = *code;
    const char *after = code + 1;
    switch (*code) {
    case 'n':
        meaning = '\n';
        break;
    case 'r':
        meaning = '\r';
        break;
    case 't':
        meaning = '\t';
        break;
    case 'b':
        meaning = '\b';
        break;
    case 'a':
        meaning = '\a';
        break;
    case 'x':
        if (end - code > 2 && hex_value(code[1]) >= 0 && hex_value(code[2]) >= 0) {
            meaning = (char)(hex_value(code[1]) << 4 | hex_value(code[2]));
            after = code + 3;
        }
        break;
    default:
        break;
    }
    *(*target)++ = meaning;
    return after;
}

/* What is between quotes, the first of which is at `place`, is written to `*target` in the same line, never ahead of
 * where it is read.  Returns what is behind the closing quote, which must be a blank or the end; else NULL. */
static const char *unquote(const char *place, const char *end, char **target)
{
    char quote = *place++;
    while (place < end && *place != quote) {
        if (*place != '\\') {
            *(*target)++ = *place++;
        } else if (quote == '"') {
            place = unescape(place, end, target);
            if (!place)
                return NULL;
        } else {
            /* Between single quotes a backslash is one, unless it is in front of a quote. */
            if (end - place > 1 && place[1] == '\'')
                place++;
            *(*target)++ = *place++;
        }
    }
    if (place == end)
        return NULL;
    place++;
    return place == end || is_space(*place) ? place : NULL;
}

/* The words become a request, if there are any; false where quotes are unbalanced.  sdssplitargs (sds.c).
 *
 * A closing quote ends its word; an opening one may stand within a word. */
static bool split_words(struct parser *parser, struct batch *batch, const char *line, const char *end)
{
    size_t argc = 0;
    const char *place = line;
    for (;;) {
        while (place < end && is_space(*place))
            place++;
        if (place == end)
            break;
        const char *word = place;
        while (place < end && !ends_word(*place) && *place != '"' && *place != '\'')
            place++;
        size_t bytes = (size_t)(place - word);
        if (place < end && !ends_word(*place)) {
            char *target = parser->buffer + (place - parser->input);
            place = unquote(place, end, &target);
            if (!place)
                return false;
            bytes = (size_t)(target - word);
        }
        batch_room(batch, argc + 1)[argc] = (struct argument){.data = word, .bytes = bytes};
        argc++;
    }
    if (argc > 0)
        batch_add(batch, argc);
    return true;
}
