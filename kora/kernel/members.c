/* The members of a large value: a hash table whose nodes are also an array without gaps.
 *
 * WHAT IT IS FOR.  Sets, hashes and sorted sets that have outgrown their packs, with a hundred to a hundred million
 * members.  It finds, adds and removes a member in constant time, chooses one at random in constant time, is walked by
 * SCAN, and does each of these without a pause: nothing is ever rebuilt.
 *
 *     nodes    0         1         2         3          …    count         16 bytes each, in the order of arrival
 *             +---------+---------+---------+---------+
 *             | block   |         |         |         |
 *             | hash    |         |         |         |
 *             | next  --|----------------->3|         |
 *             +---------+---------+---------+---------+
 *     heads    1         0         2         0          …    chains        4 bytes each: where a chain begins
 *
 * GROWTH is linear hashing (Litwin, "Linear hashing: a new tool for file and table addressing"): one chain is divided
 * whenever a few members have come, in turn, and two are joined again when members have gone.  A node keeps half of its
 * member's hash, so that this looks at nodes only and never at members.  Both arrays are segmented, so that they are
 * never moved.
 *
 * REMOVAL moves the last node to the gap.  So there is none, and a random index is a random member.
 *
 * SCAN goes through the nodes from the last to the first, and its cursor is how many of them are left.  Members that are
 * removed meanwhile make others move, but only to lower places: one that was not shown yet stays ahead of the scan.  New
 * ones come behind it.  So whatever is there all the time is shown, most often once, and no member is shown twice unless
 * it moved.
 *
 * The hash is keyed, like that of keys: nobody can choose members that share a chain. */

#include "kernel.h"

#include <stdio.h>
#include <stdlib.h>

/* --- Segmented arrays --- */

#define FIRST_ROOM 64

/* Directories double: their room follows from how many parts there are. */
static inline bool is_power_of_two(uint32_t number)
{
    return (number & (number - 1)) == 0;
}

static void set_directory(struct segments *segments, uint32_t room, int64_t *bytes)
{
    *bytes -= (int64_t)block_bytes(segments->parts);
    segments->parts = reallocate(segments->parts, room * sizeof *segments->parts);
    *bytes += (int64_t)block_bytes(segments->parts);
}

/* Give the first part, while it is the only one, room for so many items. */
static void set_first_room(struct segments *segments, size_t item_bytes, uint32_t room, int64_t *bytes)
{
    char *part = segments->parts[0];
    *bytes -= (int64_t)block_bytes(part);
    segments->parts[0] = part = reallocate(part, room * item_bytes);
    if (room > segments->room)
        memset(part + segments->room * item_bytes, 0, (room - segments->room) * item_bytes);
    *bytes += (int64_t)block_bytes(part);
    segments->room = room;
}

/* Make room for more items, which are zero. */
static void segments_grow(struct segments *segments, size_t item_bytes, unsigned bits, int64_t *bytes)
{
    uint32_t full = 1u << bits;
    if (segments->parts_count == 0) {
        set_directory(segments, 1, bytes);
        segments->parts[0] = NULL;
        segments->parts_count = 1;
    }
    if (segments->room < full) {
        uint32_t room = segments->room < FIRST_ROOM ? FIRST_ROOM : segments->room + segments->room / 2;
        set_first_room(segments, item_bytes, room < full ? room : full, bytes);
        return;
    }
    if (is_power_of_two(segments->parts_count))
        set_directory(segments, 2 * segments->parts_count, bytes);
    void *part = allocate_zeroed(item_bytes << bits);
    segments->parts[segments->parts_count++] = part;
    segments->room += full;
    *bytes += (int64_t)block_bytes(part);
}

/* Give back what is not needed for so many items, but for some room to come and go in. */
static void segments_shrink(struct segments *segments, size_t item_bytes, unsigned bits, uint32_t wanted,
                            int64_t *bytes)
{
    uint32_t full = 1u << bits;
    if (segments->parts_count > 1) {
        if (segments->room - wanted < 2 * full)
            return;
        void *part = segments->parts[--segments->parts_count];
        segments->room -= full;
        *bytes -= (int64_t)block_bytes(part);
        free(part);
        if (is_power_of_two(segments->parts_count))
            set_directory(segments, segments->parts_count, bytes);
    } else if (segments->room > FIRST_ROOM && wanted < segments->room / 4) {
        set_first_room(segments, item_bytes, segments->room / 2, bytes);
    }
}

static void segments_free(struct segments *segments)
{
    for (uint32_t at = 0; at < segments->parts_count; at++)
        free(segments->parts[at]);
    free(segments->parts);
}

static int64_t segments_bytes(const struct segments *segments)
{
    int64_t bytes = (int64_t)block_bytes(segments->parts);
    for (uint32_t at = 0; at < segments->parts_count; at++)
        bytes += (int64_t)block_bytes(segments->parts[at]);
    return bytes;
}

/* --- Chains --- */

#define CHAINS_MIN 16

static inline uint32_t *head_of(const struct members *members, uint32_t chain)
{
    return (uint32_t *)members->heads.parts[chain >> HEADS_BITS] + (chain & ((1u << HEADS_BITS) - 1));
}

/* The chain of a hash where there are so many: by as many bits as all chains have, and one more for those that have
 * been divided already in this round. */
static inline uint32_t chain_of(uint32_t hash, uint32_t chains)
{
    uint32_t round = 1u << (31 - __builtin_clz(chains));
    uint32_t chain = hash & (2 * round - 1);
    return chain < chains ? chain : chain & (round - 1);
}

/* Where the number of a node is written: in its chain's head, or in the node before it. */
static inline uint32_t *link_to(const struct members *members, uint32_t index)
{
    uint32_t *link = head_of(members, chain_of(members_node(members, index)->hash, members->chains));
    while (*link != index + 1)
        link = &members_node(members, *link - 1)->next;
    return link;
}

/* Have one chain more: members of another go there. */
static void divide_chain(struct members *members, int64_t *bytes)
{
    uint32_t added = members->chains;
    if (added == members->heads.room)
        segments_grow(&members->heads, sizeof(uint32_t), HEADS_BITS, bytes);
    uint32_t *target = head_of(members, added);
    uint32_t *link = head_of(members, added & ~(1u << (31 - __builtin_clz(added))));
    *target = 0;
    members->chains++;
    while (*link) {
        struct node *node = members_node(members, *link - 1);
        if (chain_of(node->hash, members->chains) == added) {
            *target = *link;
            target = &node->next;
            *link = node->next;
            node->next = 0;
        } else {
            link = &node->next;
        }
    }
}

/* Have one chain less: the last is added to the one that it came from. */
static void join_chain(struct members *members, int64_t *bytes)
{
    uint32_t removed = members->chains - 1;
    uint32_t *head = head_of(members, removed);
    uint32_t *link = head_of(members, removed & ~(1u << (31 - __builtin_clz(removed))));
    while (*link)
        link = &members_node(members, *link - 1)->next;
    *link = *head;
    *head = 0;
    members->chains--;
    segments_shrink(&members->heads, sizeof(uint32_t), HEADS_BITS, members->chains, bytes);
}

/* --- Members --- */

struct members *members_make(uint32_t ahead, int64_t *bytes)
{
    struct members *members = allocate_zeroed(sizeof *members);
    *bytes += (int64_t)block_bytes(members);
    segments_grow(&members->heads, sizeof(uint32_t), HEADS_BITS, bytes);
    members->chains = CHAINS_MIN;
    members->ahead = ahead;
    return members;
}

void members_free(struct members *members)
{
    for (uint32_t index = 0; index < members->count; index++)
        free(members_node(members, index)->block);
    segments_free(&members->nodes);
    segments_free(&members->heads);
    free(members);
}

struct members *members_copy(const struct members *members, int64_t *bytes)
{
    struct members *copy = members_make(members->ahead, bytes);
    for (uint32_t index = 0; index < members->count; index++) {
        const struct node *node = members_node(members, index);
        size_t usable = block_bytes(node->block) - sizeof(size_t);
        char *block = allocate(usable);
        memcpy(block, node->block, usable);
        members_add(copy, node->hash, block, bytes);
    }
    return copy;
}

uint32_t members_find(const struct members *members, uint64_t hash, struct text name)
{
    uint32_t half = (uint32_t)hash;
    for (uint32_t at = *head_of(members, chain_of(half, members->chains)); at;) {
        const struct node *node = members_node(members, at - 1);
        if (node->hash == half) {
            struct text found = read_string(node->block + members->ahead);
            if (LIKELY(found.bytes == name.bytes && is_same(found.data, name.data, name.bytes)))
                return at - 1;
        }
        at = node->next;
    }
    return NO_MEMBER;
}

void members_add(struct members *members, uint64_t hash, char *block, int64_t *bytes)
{
    if (UNLIKELY(members->count == NO_MEMBER - 1)) {
        fprintf(stderr, "kora: a value has 2^32 members, and no room for more\n");
        abort();
    }
    if (members->count == members->nodes.room)
        segments_grow(&members->nodes, sizeof(struct node), NODES_BITS, bytes);
    uint32_t index = members->count++;
    /* Two members to three chains: longer ones save little memory and cost a wait for it. */
    for (unsigned times = 0; times < 2 && members->chains < members->count + members->count / 2; times++)
        if (members->chains < UINT32_MAX / 2)
            divide_chain(members, bytes);
    uint32_t *head = head_of(members, chain_of((uint32_t)hash, members->chains));
    *members_node(members, index) = (struct node){block, (uint32_t)hash, *head};
    *head = index + 1;
    *bytes += (int64_t)block_bytes(block);
}

void members_remove(struct members *members, uint32_t index, int64_t *bytes)
{
    struct node *node = members_node(members, index);
    *bytes -= (int64_t)block_bytes(node->block);
    free(node->block);
    *link_to(members, index) = node->next;
    uint32_t last = --members->count;
    if (last != index) {
        *link_to(members, last) = index + 1;
        *node = *members_node(members, last);
    }
    segments_shrink(&members->nodes, sizeof(struct node), NODES_BITS, members->count, bytes);
    for (unsigned times = 0; times < 4 && members->chains > CHAINS_MIN && members->chains / 3 > members->count; times++)
        join_chain(members, bytes);
}

/* --- For tests --- */

const char *members_audit(const struct members *members, const uint64_t secret[2], int64_t *bytes)
{
    uint32_t chained = 0;
    *bytes += (int64_t)block_bytes(members) + segments_bytes(&members->nodes) + segments_bytes(&members->heads);
    if (members->count > members->nodes.room || members->chains > members->heads.room)
        return "members have no room";
    for (uint32_t index = 0; index < members->count; index++) {
        const struct node *node = members_node(members, index);
        struct text name = members_name(members, index);
        *bytes += (int64_t)block_bytes(node->block);
        uint64_t hash = keyed_hash(secret, name.data, name.bytes);
        if ((uint32_t)hash != node->hash)
            return "a node's hash is not of its member";
        if (members_find(members, hash, name) != index)
            return "a member is not found";
    }
    for (uint32_t chain = 0; chain < members->chains; chain++)
        for (uint32_t at = *head_of(members, chain); at; at = members_node(members, at - 1)->next)
            if (++chained > members->count)
                return "chains have more nodes than there are";
    if (chained != members->count)
        return "chains have fewer nodes than there are";
    if (members->chains > CHAINS_MIN && members->chains / 3 > members->count + 2)
        return "there are too many chains";
    return NULL;
}
