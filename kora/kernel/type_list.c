/* Lists, and the commands on them: see kernel.h for what they are made of.
 *
 * When a list becomes one listpack, or is one no longer, is Redis' 7.2 to say (t_list.c, listTypeTryConversion), but for
 * one thing: there a list becomes one again once half of what one may hold is left and all of that is in one node, here
 * as soon as half is left. */

#include "kernel.h"

#include <stdlib.h>

#define CHUNK_NODES_MIN 4
#define CHUNK_NODES_MAX 128

/* Nodes: those from `first` on are in use. */
struct chunk {
    uint32_t first, count, capacity;
    struct pack nodes[];
};

/* A chunk, and how many items are in all of its nodes. */
struct span {
    struct chunk *chunk; /* owned */
    size_t items;
};

struct chain {
    size_t items;
    size_t nodes;
    size_t packed_bytes; /* what all items would take in a listpack */
    struct span *spans;  /* owned: those from `first` on are in use */
    uint32_t first, count, capacity;
};

static inline bool is_big_list(const struct list *list)
{
    return UNLIKELY(list->form == LIST_IS_BIG);
}

/* --- Listpacks --- */

#define LISTPACK_HEAD_BYTES 7
#define LISTPACK_SAFE_BYTES 8192 /* beyond it no number of items is allowed */

static size_t packed_integer_bytes(int64_t number)
{
    if (number >= 0 && number <= 127)
        return 2;
    if (number >= -4096 && number <= 4095)
        return 3;
    if (number >= INT16_MIN && number <= INT16_MAX)
        return 4;
    if (number >= -(1 << 23) && number < 1 << 23)
        return 5;
    return number >= INT32_MIN && number <= INT32_MAX ? 6 : 10;
}

/* Bytes of an item in a listpack: a code that tells its length, the item, and how long both are together. */
static size_t packed_bytes_of(struct text item)
{
    int64_t number;
    size_t bytes;
    /* What does not begin with a digit or a minus is no number; most items are told apart by that. */
    if (item.bytes > 0 && item.bytes <= INTEGER_BYTES_MAX && item.data[0] <= '9' &&
        parse_integer(item.data, item.bytes, &number))
        return packed_integer_bytes(number);
    bytes = item.bytes + (item.bytes < 64 ? 1 : item.bytes < 4096 ? 2 : 5);
    return bytes + (bytes <= 127 ? 1 : bytes < 16383 ? 2 : bytes < 2097151 ? 3 : bytes < 268435455 ? 4 : 5);
}

static const uint32_t NODE_BYTES_MAX[] = {4096, 8192, 16384, 32768, 65536};

/* list-max-listpack-size: -1 to -5 for bytes, or a number of items. */
static inline uint32_t node_bytes_max(int32_t size)
{
    return size >= 0 ? LISTPACK_SAFE_BYTES : NODE_BYTES_MAX[size < -5 ? 4 : -size - 1];
}

static inline uint32_t node_items_max(int32_t size)
{
    return size < 0 ? UINT32_MAX : size == 0 ? 1 : (uint32_t)size;
}

/* Whether one listpack may have so much. */
static inline bool fits_in_listpack(const struct list *list, size_t bytes, size_t items)
{
    int32_t size = list->value.limits->list_size;
    return bytes + LISTPACK_HEAD_BYTES <= node_bytes_max(size) && items <= node_items_max(size);
}

/* Whether that is half of one at most: so that a few items more do not change it back at once. */
static inline bool is_half_a_listpack(const struct list *list, size_t bytes, size_t items)
{
    int32_t size = list->value.limits->list_size;
    return size < 0 ? bytes + LISTPACK_HEAD_BYTES <= node_bytes_max(size) / 2
                    : items <= node_items_max(size) / 2 && bytes + LISTPACK_HEAD_BYTES <= LISTPACK_SAFE_BYTES;
}

/* Whether a node may have one item more. */
static inline bool has_room(const struct list *list, const struct pack *node, struct text item)
{
    int32_t size = list->value.limits->list_size;
    return node->bytes + item.bytes + 2 * length_bytes(item.bytes) <= node_bytes_max(size) &&
           node->count < node_items_max(size);
}

/* --- Packs of a list, whose memory is counted --- */

static inline void insert_item(struct list *list, struct pack *pack, size_t at, struct text item)
{
    list->value.bytes -= (int64_t)block_bytes(pack->data);
    pack_insert(pack, at, item);
    list->value.bytes += (int64_t)block_bytes(pack->data);
}

static inline void delete_items(struct list *list, struct pack *pack, size_t at, size_t count)
{
    list->value.bytes -= (int64_t)block_bytes(pack->data);
    pack_delete(pack, at, count);
    list->value.bytes += (int64_t)block_bytes(pack->data);
}

static inline void replace_item(struct list *list, struct pack *pack, size_t at, struct text item)
{
    list->value.bytes -= (int64_t)block_bytes(pack->data);
    pack_replace(pack, at, item);
    list->value.bytes += (int64_t)block_bytes(pack->data);
}

/* Give back the room for growing of a node that is full. */
static void trim(struct list *list, struct pack *pack)
{
    char *old = pack->data;
    if (pack->count == 0 || pack->capacity - pack->bytes < 32)
        return;
    *pack = pack_copy(pack);
    list->value.bytes += (int64_t)block_bytes(pack->data) - (int64_t)block_bytes(old);
    free(old);
}

/* What the items from a place on would take in a listpack. */
static size_t packed_bytes_from(const struct pack *pack, size_t at, size_t count)
{
    size_t bytes = 0;
    for (; count > 0 && at != PACK_END; count--, at = pack_next(pack, at))
        bytes += packed_bytes_of(pack_get(pack, at));
    return bytes;
}

/* --- Arrays with free places at both ends --- */

/* Make a free place at an index of those in use, where there is room; returns its number in the whole array. */
static uint32_t open_place(void *array, size_t item_bytes, uint32_t capacity, uint32_t *first, uint32_t *count,
                           uint32_t index)
{
    char *items = array;
    if (*first > 0 && (index < (*count + 1) / 2 || *first + *count == capacity)) {
        memmove(items + (*first - 1) * item_bytes, items + *first * item_bytes, index * item_bytes);
        --*first;
    } else {
        char *at = items + (*first + index) * item_bytes;
        memmove(at + item_bytes, at, (*count - index) * item_bytes);
    }
    ++*count;
    return *first + index;
}

static void close_place(void *array, size_t item_bytes, uint32_t *first, uint32_t *count, uint32_t index)
{
    char *items = array;
    --*count;
    if (index < *count / 2) {
        memmove(items + (*first + 1) * item_bytes, items + *first * item_bytes, index * item_bytes);
        ++*first;
    } else {
        char *at = items + (*first + index) * item_bytes;
        memmove(at, at + item_bytes, (*count - index) * item_bytes);
    }
}

/* Where the used places of an array that has grown begin: free ones are where the next is wanted. */
static inline uint32_t first_after_growing(uint32_t count, uint32_t capacity, uint32_t index)
{
    return index == 0 ? capacity - count : index == count ? 0 : (capacity - count) / 2;
}

/* --- Chains --- */

static inline struct span *span_at(const struct chain *chain, size_t at)
{
    return &chain->spans[chain->first + at];
}

static inline struct pack *node_at(const struct chunk *chunk, size_t at)
{
    return (struct pack *)&chunk->nodes[chunk->first + at];
}

/* Where a node is, and an item in it. */
struct spot {
    uint32_t span, node;
    size_t index;
};

static inline struct pack *node_of(const struct chain *chain, struct spot spot)
{
    return node_at(span_at(chain, spot.span)->chunk, spot.node);
}

/* The spot of the first or last node. */
static inline struct spot end_spot(const struct chain *chain, bool at_end)
{
    struct spot spot = {0};
    if (at_end) {
        spot.span = chain->count - 1;
        spot.node = span_at(chain, spot.span)->chunk->count - 1;
    }
    return spot;
}

static struct spot spot_of(const struct chain *chain, size_t index)
{
    struct spot spot = {0};
    if (index < chain->items / 2) {
        while (index >= span_at(chain, spot.span)->items)
            index -= span_at(chain, spot.span++)->items;
    } else {
        size_t after = chain->items - index; /* items from that one on */
        spot.span = chain->count - 1;
        while (after > span_at(chain, spot.span)->items)
            after -= span_at(chain, spot.span--)->items;
        index = span_at(chain, spot.span)->items - after;
    }
    const struct chunk *chunk = span_at(chain, spot.span)->chunk;
    while (index >= node_at(chunk, spot.node)->count)
        index -= node_at(chunk, spot.node++)->count;
    spot.index = index;
    return spot;
}

/* The node beside one: false where there is none. */
static bool step_spot(const struct chain *chain, struct spot *spot, bool forwards)
{
    if (forwards) {
        if (++spot->node == span_at(chain, spot->span)->chunk->count) {
            spot->node = 0;
            return ++spot->span < chain->count;
        }
    } else if (spot->node-- == 0) {
        if (spot->span-- == 0)
            return false;
        spot->node = span_at(chain, spot->span)->chunk->count - 1;
    }
    return true;
}

static struct chunk *resize_chunk(struct list *list, struct chunk *old, uint32_t capacity, uint32_t index)
{
    struct chunk *chunk = allocate(sizeof *chunk + capacity * sizeof *chunk->nodes);
    *chunk = (struct chunk){.capacity = capacity};
    if (old != NULL) {
        chunk->count = old->count;
        chunk->first = first_after_growing(old->count, capacity, index);
        memcpy(node_at(chunk, 0), node_at(old, 0), old->count * sizeof *old->nodes);
        list->value.bytes -= (int64_t)block_bytes(old);
        free(old);
    }
    list->value.bytes += (int64_t)block_bytes(chunk);
    return chunk;
}

static void insert_span(struct list *list, uint32_t index, struct span span)
{
    struct chain *chain = list->chain;
    if (chain->count == chain->capacity) {
        uint32_t capacity = chain->capacity ? 2 * chain->capacity : 1;
        struct span *spans = allocate(capacity * sizeof *spans);
        uint32_t first = first_after_growing(chain->count, capacity, index);
        if (chain->count)
            memcpy(spans + first, span_at(chain, 0), chain->count * sizeof *spans);
        list->value.bytes += (int64_t)block_bytes(spans) - (int64_t)block_bytes(chain->spans);
        free(chain->spans);
        chain->spans = spans;
        chain->first = first;
        chain->capacity = capacity;
    }
    chain->spans[open_place(chain->spans, sizeof span, chain->capacity, &chain->first, &chain->count, index)] = span;
}

/* Divide a chunk that is full in two. */
static void split_chunk(struct list *list, uint32_t at)
{
    struct span *span = span_at(list->chain, at);
    struct chunk *low = span->chunk, *high = resize_chunk(list, NULL, CHUNK_NODES_MAX, 0);
    struct span added = {.chunk = high};
    uint32_t kept = low->count / 2;
    high->count = low->count - kept;
    memcpy(node_at(high, 0), node_at(low, kept), high->count * sizeof *high->nodes);
    low->count = kept;
    for (uint32_t node = 0; node < high->count; node++)
        added.items += node_at(high, node)->count;
    span->items -= added.items;
    insert_span(list, at + 1, added);
}

/* Put a node, whose block is counted already, in front of the one at a spot, or behind the last node of its chunk;
 * returns where it is. */
static struct spot insert_node(struct list *list, struct spot spot, struct pack node)
{
    struct chain *chain = list->chain;
    struct chunk *chunk = chain->count ? span_at(chain, spot.span)->chunk : NULL;
    if (chunk != NULL && chunk->count == CHUNK_NODES_MAX) {
        if (spot.node == 0 && spot.span == 0) {
            chunk = NULL;
        } else if (spot.node == chunk->count && spot.span == chain->count - 1) {
            spot = (struct spot){spot.span + 1, 0, 0};
            chunk = NULL;
        } else {
            split_chunk(list, spot.span);
            if (spot.node > span_at(chain, spot.span)->chunk->count)
                spot.node -= span_at(chain, spot.span++)->chunk->count;
            chunk = span_at(chain, spot.span)->chunk;
        }
    }
    if (chunk == NULL) {
        chunk = resize_chunk(list, NULL, CHUNK_NODES_MIN, 0);
        insert_span(list, spot.span, (struct span){.chunk = chunk});
    } else if (chunk->count == chunk->capacity) {
        chunk = resize_chunk(list, chunk, 2 * chunk->capacity, spot.node);
        span_at(chain, spot.span)->chunk = chunk;
    }
    chunk->nodes[open_place(chunk->nodes, sizeof node, chunk->capacity, &chunk->first, &chunk->count, spot.node)] =
        node;
    span_at(chain, spot.span)->items += node.count;
    chain->items += node.count;
    chain->nodes++;
    return spot;
}

/* Take out a node, whose items are the caller's to count and whose block is the caller's to free. */
static void remove_node(struct list *list, struct spot spot)
{
    struct chain *chain = list->chain;
    struct chunk *chunk = span_at(chain, spot.span)->chunk;
    chain->nodes--;
    close_place(chunk->nodes, sizeof *chunk->nodes, &chunk->first, &chunk->count, spot.node);
    if (chunk->count == 0) {
        close_place(chain->spans, sizeof *chain->spans, &chain->first, &chain->count, spot.span);
        list->value.bytes -= (int64_t)block_bytes(chunk);
        free(chunk);
    }
}

static inline void count_items(struct chain *chain, struct spot spot, ptrdiff_t items)
{
    span_at(chain, spot.span)->items += (size_t)items;
    chain->items += (size_t)items;
}

/* Add a node of one item at an end. */
static void push_node(struct list *list, bool at_end, struct text item)
{
    struct chain *chain = list->chain;
    struct spot spot = {0};
    struct pack node = {0};
    insert_item(list, &node, PACK_END, item);
    trim(list, &node);
    if (chain->count) {
        spot = end_spot(chain, at_end);
        trim(list, node_of(chain, spot));
        spot.node += at_end;
    }
    insert_node(list, spot, node);
}

static void push_in_chain(struct list *list, bool at_end, struct text item)
{
    struct chain *chain = list->chain;
    if (chain->count) {
        struct spot spot = end_spot(chain, at_end);
        struct pack *node = node_of(chain, spot);
        if (LIKELY(has_room(list, node, item))) {
            insert_item(list, node, at_end ? PACK_END : pack_first(node), item);
            count_items(chain, spot, 1);
            return;
        }
    }
    push_node(list, at_end, item);
}

/* Put all items of the node behind a spot into that at the spot, if they are few together. */
static void join_with_next(struct list *list, struct spot spot)
{
    struct chain *chain = list->chain;
    struct spot other = spot;
    if (!step_spot(chain, &other, true))
        return;
    struct pack *target = node_of(chain, spot), *source = node_of(chain, other);
    int32_t size = list->value.limits->list_size;
    if (target->bytes + source->bytes > node_bytes_max(size) / 2 ||
        target->count + source->count > node_items_max(size) / 2)
        return;
    size_t items = source->count;
    for (size_t at = pack_first(source); at != PACK_END; at = pack_next(source, at))
        insert_item(list, target, PACK_END, pack_get(source, at));
    list->value.bytes -= (int64_t)block_bytes(source->data);
    pack_free(source);
    count_items(chain, other, -(ptrdiff_t)items);
    count_items(chain, spot, (ptrdiff_t)items);
    remove_node(list, other);
}

/* Divide a node before one of its items; the spot's becomes the first half. */
static void split_node(struct list *list, struct spot spot)
{
    struct pack *node = node_of(list->chain, spot);
    struct pack rest = {0};
    size_t at = pack_seek(node, spot.index), items = node->count - spot.index;
    for (size_t from = at; from != PACK_END; from = pack_next(node, from))
        insert_item(list, &rest, PACK_END, pack_get(node, from));
    delete_items(list, node, at, items);
    count_items(list->chain, spot, -(ptrdiff_t)items);
    spot.node++;
    insert_node(list, spot, rest);
}

static void insert_in_chain(struct list *list, size_t index, struct text item)
{
    struct chain *chain = list->chain;
    struct spot spot = spot_of(chain, index), before = spot;
    struct pack *node = node_of(chain, spot);
    if (LIKELY(has_room(list, node, item))) {
        insert_item(list, node, pack_seek(node, spot.index), item);
        count_items(chain, spot, 1);
        return;
    }
    if (spot.index > 0) {
        split_node(list, spot);
        /* The first half, if there is room, is where the item goes, and else a node between the halves. */
        spot = before = spot_of(chain, index);
    }
    if (step_spot(chain, &before, false)) {
        node = node_of(chain, before);
        if (has_room(list, node, item)) {
            insert_item(list, node, PACK_END, item);
            count_items(chain, before, 1);
            join_with_next(list, before);
            if (step_spot(chain, &before, false))
                join_with_next(list, before);
            return;
        }
    }
    struct pack added = {0};
    insert_item(list, &added, PACK_END, item);
    trim(list, &added);
    insert_node(list, spot, added);
}

/* Remove some items of one node, from its index on. */
static void delete_in_node(struct list *list, struct spot spot, size_t count)
{
    struct chain *chain = list->chain;
    struct pack *node = node_of(chain, spot);
    size_t at = pack_seek(node, spot.index);
    chain->packed_bytes -= packed_bytes_from(node, at, count);
    delete_items(list, node, at, count);
    count_items(chain, spot, -(ptrdiff_t)count);
    if (node->count == 0)
        remove_node(list, spot);
}

static void free_chain(struct chain *chain)
{
    for (uint32_t at = 0; at < chain->count; at++) {
        struct chunk *chunk = span_at(chain, at)->chunk;
        for (uint32_t node = 0; node < chunk->count; node++)
            pack_free(node_at(chunk, node));
        free(chunk);
    }
    free(chain->spans);
    free(chain);
}

/* --- The two forms --- */

static void make_big(struct list *list)
{
    struct pack pack = list->pack;
    struct chain *chain = allocate_zeroed(sizeof *chain);
    chain->packed_bytes = pack.note;
    list->value.bytes += (int64_t)block_bytes(chain);
    list->chain = chain;
    list->form = LIST_IS_BIG;
    pack.note = 0;
    if (pack.count)
        insert_node(list, (struct spot){0}, pack);
}

static void make_small(struct list *list)
{
    struct chain *chain = list->chain;
    struct pack pack = {0};
    struct spot spot = {0};
    if (chain->nodes == 1) {
        pack = *node_of(chain, spot);
        *node_of(chain, spot) = (struct pack){0};
    } else if (chain->nodes > 0) {
        do {
            struct pack *node = node_of(chain, spot);
            for (size_t at = pack_first(node); at != PACK_END; at = pack_next(node, at))
                pack_insert(&pack, PACK_END, pack_get(node, at));
        } while (step_spot(chain, &spot, true));
    }
    pack.note = (uint32_t)chain->packed_bytes;
    free_chain(chain);
    list->pack = pack;
    list->value.bytes = (int64_t)block_bytes(pack.data);
}

/* After items have gone. */
static inline void settle_list(struct list *list)
{
    if (is_big_list(list) && is_half_a_listpack(list, list->chain->packed_bytes, list->chain->items))
        make_small(list);
}

/* Count an item that comes, and see to the form before it does.  It is the bare length that Redis takes for what the
 * item will need. */
static inline void expect_item(struct list *list, struct text item)
{
    if (!is_big_list(list)) {
        if (LIKELY(fits_in_listpack(list, list->pack.note + item.bytes, list->pack.count + 1)))
            return;
        make_big(list);
    }
    list->chain->packed_bytes += packed_bytes_of(item);
}

/* --- What commands do with them --- */

void list_free(struct list *list)
{
    if (is_big_list(list))
        free_chain(list->chain);
    else
        pack_free(&list->pack);
    list->pack = (struct pack){0};
    list->value.bytes = 0;
}

void list_copy(struct list *copy, const struct list *list)
{
    if (!is_big_list(list)) {
        copy->pack = pack_copy(&list->pack);
        copy->value.bytes += (int64_t)block_bytes(copy->pack.data);
        return;
    }
    struct chain *chain = list->chain;
    struct spot spot = {0};
    make_big(copy);
    copy->chain->packed_bytes = chain->packed_bytes;
    if (chain->nodes > 0) {
        do {
            struct pack node = pack_copy(node_of(chain, spot));
            struct spot end = {0};
            if (copy->chain->count) {
                end = end_spot(copy->chain, true);
                end.node++;
            }
            copy->value.bytes += (int64_t)block_bytes(node.data);
            insert_node(copy, end, node);
        } while (step_spot(chain, &spot, true));
    }
}

size_t list_count(const struct list *list)
{
    return is_big_list(list) ? list->chain->items : list->pack.count;
}

bool list_is_small(const struct list *list)
{
    return !is_big_list(list);
}

size_t list_effort(const struct list *list)
{
    return is_big_list(list) ? 1 + list->chain->nodes : 1;
}

void list_push(struct list *list, bool at_end, struct text item)
{
    expect_item(list, item);
    if (is_big_list(list)) {
        push_in_chain(list, at_end, item);
    } else {
        uint32_t note = list->pack.note + (uint32_t)packed_bytes_of(item);
        insert_item(list, &list->pack, at_end ? PACK_END : pack_first(&list->pack), item);
        list->pack.note = note;
    }
}

struct text list_end(const struct list *list, bool at_end)
{
    const struct pack *pack = &list->pack;
    if (is_big_list(list))
        pack = node_of(list->chain, end_spot(list->chain, at_end));
    return pack_get(pack, at_end ? pack_last(pack) : pack_first(pack));
}

void list_pop(struct list *list, bool at_end)
{
    if (is_big_list(list)) {
        struct spot spot = end_spot(list->chain, at_end);
        if (at_end)
            spot.index = node_of(list->chain, spot)->count - 1;
        delete_in_node(list, spot, 1);
        settle_list(list);
    } else {
        list_delete(list, at_end ? list->pack.count - 1 : 0, 1);
    }
}

struct text list_get(const struct list *list, size_t index)
{
    const struct pack *pack = &list->pack;
    if (is_big_list(list)) {
        struct spot spot = spot_of(list->chain, index);
        pack = node_of(list->chain, spot);
        index = spot.index;
    }
    return pack_get(pack, pack_seek(pack, index));
}

void list_set(struct list *list, size_t index, struct text item)
{
    expect_item(list, item);
    if (!is_big_list(list)) {
        size_t at = pack_seek(&list->pack, index);
        list->pack.note += (uint32_t)(packed_bytes_of(item) - packed_bytes_of(pack_get(&list->pack, at)));
        replace_item(list, &list->pack, at, item);
        return;
    }
    struct spot spot = spot_of(list->chain, index);
    struct pack *node = node_of(list->chain, spot);
    size_t at = pack_seek(node, spot.index);
    struct text old = pack_get(node, at);
    if (node->count == 1 || node->bytes - old.bytes + item.bytes <= node_bytes_max(list->value.limits->list_size)) {
        list->chain->packed_bytes -= packed_bytes_of(old);
        replace_item(list, node, at, item);
    } else {
        delete_in_node(list, spot, 1);
        if (index == list->chain->items)
            push_in_chain(list, true, item);
        else
            insert_in_chain(list, index, item);
    }
    settle_list(list);
}

void list_insert(struct list *list, size_t index, struct text item)
{
    size_t count = list_count(list);
    if (index == 0 || index == count) {
        list_push(list, index == count, item);
        return;
    }
    expect_item(list, item);
    if (is_big_list(list)) {
        insert_in_chain(list, index, item);
    } else {
        list->pack.note += (uint32_t)packed_bytes_of(item);
        insert_item(list, &list->pack, pack_seek(&list->pack, index), item);
    }
}

/* As list_delete(), of a big list, without seeing to its form; whole nodes go at once. */
static void delete_in_chain(struct list *list, size_t index, size_t count)
{
    while (count > 0) {
        struct spot spot = spot_of(list->chain, index);
        struct pack *node = node_of(list->chain, spot);
        size_t some = node->count - spot.index < count ? node->count - spot.index : count;
        bool stays = some < node->count;
        delete_in_node(list, spot, some);
        if (stays) {
            join_with_next(list, spot);
            if (step_spot(list->chain, &spot, false))
                join_with_next(list, spot);
        }
        count -= some;
    }
}

void list_delete(struct list *list, size_t index, size_t count)
{
    if (count == 0)
        return;
    if (is_big_list(list)) {
        delete_in_chain(list, index, count);
        settle_list(list);
    } else {
        size_t at = pack_seek(&list->pack, index);
        uint32_t note = list->pack.note - (uint32_t)packed_bytes_from(&list->pack, at, count);
        delete_items(list, &list->pack, at, count);
        list->pack.note = note;
    }
}

/* Take out nodes that have become empty, and join those that have become small. */
static void tidy(struct list *list)
{
    struct chain *chain = list->chain;
    struct spot spot = {0};
    while (spot.span < chain->count) {
        size_t nodes = chain->nodes;
        if (spot.node == span_at(chain, spot.span)->chunk->count)
            spot = (struct spot){spot.span + 1, 0, 0};
        else if (node_of(chain, spot)->count == 0)
            remove_node(list, spot);
        else if (join_with_next(list, spot), chain->nodes == nodes)
            spot.node++;
    }
}

/* Remove those of a pack's items that equal one, at most so many, from its end if they are wanted from there; returns how
 * many. */
static size_t remove_in_pack(struct list *list, struct pack *pack, struct text item, bool from_end, size_t count_max)
{
    size_t removed = 0;
    if (!from_end) {
        for (size_t at = pack_find(pack, pack_first(pack), item, 1); at != PACK_END && removed < count_max; removed++) {
            list->value.bytes -= (int64_t)block_bytes(pack->data);
            at = pack_delete(pack, at, 1);
            list->value.bytes += (int64_t)block_bytes(pack->data);
            at = pack_find(pack, at, item, 1);
        }
        return removed;
    }
    size_t at = pack->count ? pack_last(pack) : PACK_END;
    while (at != PACK_END && removed < count_max) {
        struct text found = pack_get(pack, at);
        bool is_equal = found.bytes == item.bytes && is_same(found.data, item.data, item.bytes);
        size_t before = at == 0 ? PACK_END : pack_previous(pack, at);
        if (is_equal) {
            delete_items(list, pack, at, 1);
            removed++;
        }
        at = before;
    }
    return removed;
}

size_t list_remove(struct list *list, struct text item, bool from_end, size_t count_max)
{
    size_t packed_bytes = packed_bytes_of(item);
    if (!is_big_list(list)) {
        uint32_t note = list->pack.note;
        size_t removed = remove_in_pack(list, &list->pack, item, from_end, count_max);
        list->pack.note = note - (uint32_t)(removed * packed_bytes);
        return removed;
    }
    struct chain *chain = list->chain;
    size_t removed = 0;
    struct spot spot = end_spot(chain, from_end);
    do {
        size_t some = remove_in_pack(list, node_of(chain, spot), item, from_end, count_max - removed);
        count_items(chain, spot, -(ptrdiff_t)some);
        removed += some;
    } while (removed < count_max && step_spot(chain, &spot, !from_end));
    chain->packed_bytes -= removed * packed_bytes;
    if (removed > 0)
        tidy(list);
    settle_list(list);
    return removed;
}

size_t list_shed(struct list *list, size_t count)
{
    size_t items = list_count(list), shed = 0;
    while (shed < count && shed < items) {
        size_t some = is_big_list(list) ? node_of(list->chain, end_spot(list->chain, true))->count : items;
        if (is_big_list(list))
            delete_in_chain(list, items - shed - some, some);
        else
            list_delete(list, 0, items);
        shed += some;
    }
    return shed;
}

/* --- Walks --- */

struct list_walk list_walk(const struct list *list, size_t index)
{
    struct list_walk walk = {.list = list};
    if (index >= list_count(list))
        return walk;
    walk.node = &list->pack;
    if (is_big_list(list)) {
        struct spot spot = spot_of(list->chain, index);
        walk.span = spot.span;
        walk.place = spot.node;
        walk.node = node_of(list->chain, spot);
        index = spot.index;
    }
    walk.at = pack_seek(walk.node, index);
    return walk;
}

struct text list_here(const struct list_walk *walk)
{
    return pack_get(walk->node, walk->at);
}

static void list_step(struct list_walk *walk, bool forwards)
{
    struct spot spot = {walk->span, walk->place, 0};
    if (!is_big_list(walk->list) || !step_spot(walk->list->chain, &spot, forwards)) {
        walk->node = NULL;
        return;
    }
    walk->span = spot.span;
    walk->place = spot.node;
    walk->node = node_of(walk->list->chain, spot);
    walk->at = forwards ? pack_first(walk->node) : pack_last(walk->node);
}

void list_next(struct list_walk *walk)
{
    walk->at = pack_next(walk->node, walk->at);
    if (walk->at == PACK_END)
        list_step(walk, true);
}

void list_previous(struct list_walk *walk)
{
    walk->at = walk->at == 0 ? PACK_END : pack_previous(walk->node, walk->at);
    if (walk->at == PACK_END)
        list_step(walk, false);
}

/* --- For tests --- */

static const char *audit_node(const struct pack *node, int64_t *bytes, size_t *packed_bytes)
{
    *bytes += (int64_t)block_bytes(node->data);
    *packed_bytes += packed_bytes_from(node, pack_first(node), node->count);
    return pack_audit(node);
}

const char *list_audit(const struct list *list)
{
    int64_t bytes = 0;
    size_t packed_bytes = 0, items = 0, nodes = 0;
    const char *wrong = NULL;
    if (!is_big_list(list)) {
        wrong = audit_node(&list->pack, &bytes, &packed_bytes);
        if (wrong == NULL && packed_bytes != list->pack.note)
            wrong = "the bytes of a listpack are counted wrongly";
    } else {
        const struct chain *chain = list->chain;
        bytes += (int64_t)(block_bytes(chain) + block_bytes(chain->spans));
        if (chain->first + chain->count > chain->capacity)
            wrong = "spans are outside of their array";
        for (uint32_t at = 0; at < chain->count && wrong == NULL; at++) {
            const struct chunk *chunk = span_at(chain, at)->chunk;
            size_t items_before = items;
            bytes += (int64_t)block_bytes(chunk);
            if (chunk->count == 0 || chunk->first + chunk->count > chunk->capacity)
                wrong = "a chunk is empty, or nodes are outside of it";
            for (uint32_t node = 0; node < chunk->count && wrong == NULL; node++) {
                wrong = audit_node(node_at(chunk, node), &bytes, &packed_bytes);
                if (node_at(chunk, node)->count == 0)
                    wrong = "a node is empty";
                items += node_at(chunk, node)->count;
                nodes++;
            }
            if (items - items_before != span_at(chain, at)->items)
                wrong = "the items of a span are counted wrongly";
        }
        if (wrong == NULL && (items != chain->items || nodes != chain->nodes || packed_bytes != chain->packed_bytes))
            wrong = "the items or nodes of a list, or the bytes they would have, are counted wrongly";
    }
    if (wrong == NULL && bytes != list->value.bytes)
        wrong = "the bytes of a list are counted wrongly";
    return wrong;
}

/* --- Commands: kora/commands/lists.py is the reference --- */

/* The list of a request's key, or NULL for a key that is not there; false for what is no list. */
static inline bool find_list(struct turn *turn, const struct request *request, const struct argument *argv,
                             struct key *key, struct entry **entry, struct list **list)
{
    *key = first_key(request, argv);
    *entry = keyspace_find(turn->keyspace, key);
    *list = NULL;
    if (*entry == NULL)
        return true;
    if ((*entry)->object_kind != LIST_OBJECT)
        return false;
    *list = (struct list *)entry_value(*entry);
    return true;
}

/* As that, for commands that look, and counted as such. */
static inline bool read_list(struct turn *turn, const struct request *request, const struct argument *argv,
                             struct list **list)
{
    struct key key;
    struct entry *entry;
    if (!find_list(turn, request, argv, &key, &entry, list))
        return false;
    count_read(turn->keyspace, entry);
    return true;
}

static bool push_items(struct turn *turn, const struct request *request, struct argument *argv, struct output *output,
                       bool at_end, bool makes)
{
    struct key key;
    struct entry *entry;
    struct list *list;
    if (!find_list(turn, request, argv, &key, &entry, &list))
        return false;
    if (entry == NULL && !makes) {
        output_integer(output, 0);
        return true;
    }
    for (size_t at = 2; at < request->argc; at++)
        if (UNLIKELY(argv[at].bytes > PACK_BYTES_MAX))
            return false;
    if (entry == NULL) {
        entry = keyspace_make_object(turn->keyspace, &key, LIST_OBJECT);
        if (entry == NULL)
            return false;
        list = (struct list *)entry_value(entry);
    }
    for (size_t at = 2; at < request->argc; at++)
        list_push(list, at_end, text_of(&argv[at]));
    keyspace_updated(turn->keyspace, &key, entry, false);
    output_integer(output, (int64_t)list_count(list));
    return true;
}

OPERATION(op_lpush)
{
    UNUSED(kernel);
    return push_items(turn, request, argv, output, false, true);
}

OPERATION(op_rpush)
{
    UNUSED(kernel);
    return push_items(turn, request, argv, output, true, true);
}

OPERATION(op_lpushx)
{
    UNUSED(kernel);
    return push_items(turn, request, argv, output, false, false);
}

OPERATION(op_rpushx)
{
    UNUSED(kernel);
    return push_items(turn, request, argv, output, true, false);
}

static bool pop_item(struct turn *turn, const struct request *request, struct argument *argv, struct output *output,
                     bool at_end)
{
    struct key key;
    struct entry *entry;
    struct list *list;
    if (request->argc > 2 || !find_list(turn, request, argv, &key, &entry, &list))
        return false;
    if (list == NULL) {
        output_null(output, turn->protocol);
        return true;
    }
    struct text item = list_end(list, at_end);
    output_bulk(output, item.data, item.bytes);
    list_pop(list, at_end);
    keyspace_updated(turn->keyspace, &key, entry, list_count(list) == 0);
    return true;
}

OPERATION(op_lpop)
{
    UNUSED(kernel);
    return pop_item(turn, request, argv, output, false);
}

OPERATION(op_rpop)
{
    UNUSED(kernel);
    return pop_item(turn, request, argv, output, true);
}

OPERATION(op_llen)
{
    UNUSED(kernel);
    struct list *list;
    if (!read_list(turn, request, argv, &list))
        return false;
    output_integer(output, list == NULL ? 0 : (int64_t)list_count(list));
    return true;
}

/* A place counted from the left; false for one that is outside. */
static bool read_place(int64_t index, size_t count, size_t *place)
{
    if (index < 0)
        index += (int64_t)count;
    *place = (size_t)index;
    return index >= 0 && *place < count;
}

OPERATION(op_lindex)
{
    UNUSED(kernel);
    struct list *list;
    int64_t index;
    size_t place;
    if (!parse_integer(argv[2].data, argv[2].bytes, &index) || !read_list(turn, request, argv, &list))
        return false;
    if (list == NULL || !read_place(index, list_count(list), &place)) {
        output_null(output, turn->protocol);
    } else {
        struct text item = list_get(list, place);
        output_bulk(output, item.data, item.bytes);
    }
    return true;
}

OPERATION(op_lset)
{
    UNUSED(kernel);
    struct key key;
    struct entry *entry;
    struct list *list;
    int64_t index;
    size_t place;
    if (!parse_integer(argv[2].data, argv[2].bytes, &index) || argv[3].bytes > PACK_BYTES_MAX ||
        !find_list(turn, request, argv, &key, &entry, &list))
        return false;
    if (list == NULL || !read_place(index, list_count(list), &place))
        return false;
    list_set(list, place, text_of(&argv[3]));
    keyspace_updated(turn->keyspace, &key, entry, false);
    output_ok(output);
    return true;
}

/* What LRANGE and ZRANGE mean by two indices, both included: places from the left, the second behind the last. */
static bool read_range(const struct argument *words, int64_t *first, int64_t *last)
{
    return parse_integer(words[0].data, words[0].bytes, first) && parse_integer(words[1].data, words[1].bytes, last);
}

static void range_of(int64_t first, int64_t last, size_t count, size_t *start, size_t *stop)
{
    int64_t length = (int64_t)count;
    if (first < 0)
        first = first + length < 0 ? 0 : first + length;
    if (last < 0)
        last += length;
    if (last >= length)
        last = length - 1;
    *start = *stop = 0;
    if (first <= last) {
        *start = (size_t)first;
        *stop = (size_t)last + 1;
    }
}

OPERATION(op_lrange)
{
    UNUSED(kernel);
    struct list *list;
    int64_t first, last;
    size_t start, stop;
    if (!read_range(argv + 2, &first, &last) || !read_list(turn, request, argv, &list))
        return false;
    range_of(first, last, list == NULL ? 0 : list_count(list), &start, &stop);
    output_header(output, '*', stop - start);
    if (start == stop)
        return true;
    struct list_walk walk = list_walk(list, start);
    for (; start < stop && !output->failed; start++, list_next(&walk)) {
        struct text item = list_here(&walk);
        output_bulk(output, item.data, item.bytes);
    }
    return true;
}
