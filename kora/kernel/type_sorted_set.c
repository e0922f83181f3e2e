/* Sorted sets, and the commands on them: see kernel.h for what they are made of. */

#include "kernel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define LEAF_MAX 64
#define BRANCH_MAX 32

/* A member's block. */
struct scored {
    double score;
    char name[]; /* with its length in front: see read_string() */
};

struct leaf {
    struct leaf *previous, *next; /* borrowed: in order of ranks */
    uint32_t count;
    double scores[LEAF_MAX];
    struct scored *members[LEAF_MAX]; /* borrowed */
};

struct branch {
    uint32_t count;
    size_t counts[BRANCH_MAX]; /* of members below each child */
    /* Of the first member below each child. */
    double scores[BRANCH_MAX];
    struct scored *members[BRANCH_MAX]; /* borrowed */
    void *children[BRANCH_MAX];         /* owned: branches, or leaves at height 1 */
};

struct ordered {
    struct members *members; /* owned, and with them the blocks of all members, which are struct scored */
    void *root;              /* owned: a leaf at height 0 */
    unsigned height;         /* branches on the way to a leaf */
    struct leaf *first, *last;
};

static inline bool is_ordered(const struct sorted_set *set)
{
    return set->form == SORTED_SET_IS_BIG;
}

static inline void count_block(struct sorted_set *set, const void *block)
{
    set->value.bytes += (int64_t)block_bytes(block);
}

static inline void discount_block(struct sorted_set *set, const void *block)
{
    set->value.bytes -= (int64_t)block_bytes(block);
}

static inline struct text name_of(const struct scored *member)
{
    return read_string(member->name);
}

/* --- Order --- */

static inline int compare_texts(struct text one, struct text other)
{
    size_t bytes = one.bytes < other.bytes ? one.bytes : other.bytes;
    int order = bytes ? memcmp(one.data, other.data, bytes) : 0;
    return order ? order : (one.bytes > other.bytes) - (one.bytes < other.bytes);
}

/* A place between members: behind those that are less than the given score, member, or both, and, if it is inclusive,
 * behind those that are equal. */
enum by { BY_BOTH, BY_SCORE, BY_MEMBER };

struct bound {
    enum by by;
    bool inclusive;
    double score;
    struct text member;
};

static inline bool is_before(const struct bound *bound, double score, struct text member)
{
    if (bound->by != BY_MEMBER && score != bound->score)
        return score < bound->score;
    if (bound->by == BY_SCORE)
        return bound->inclusive;
    int order = compare_texts(member, bound->member);
    return order < 0 || (order == 0 && bound->inclusive);
}

/* How many of some members in order are before a bound. */
static inline unsigned count_before(const struct bound *bound, const double *scores, struct scored *const *members,
                                    unsigned count)
{
    unsigned first = 0;
    while (count > 0) {
        unsigned half = count / 2, middle = first + half;
        bool before;
        if (bound->by != BY_MEMBER && scores[middle] != bound->score)
            before = scores[middle] < bound->score;
        else
            before = is_before(bound, scores[middle], name_of(members[middle]));
        if (before) {
            first = middle + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first;
}

/* --- The tree --- */

static inline unsigned leaf_before(const struct leaf *leaf, const struct bound *bound)
{
    return count_before(bound, leaf->scores, leaf->members, leaf->count);
}

/* The last child whose first member is before a bound: what is at the bound is below it. */
static inline unsigned child_before(const struct branch *branch, const struct bound *bound)
{
    unsigned before = count_before(bound, branch->scores, branch->members, branch->count);
    return before ? before - 1 : 0;
}

static size_t count_below(const void *node, unsigned height)
{
    if (height == 0)
        return ((const struct leaf *)node)->count;
    const struct branch *branch = node;
    size_t count = 0;
    for (unsigned place = 0; place < branch->count; place++)
        count += branch->counts[place];
    return count;
}

/* Write down anew what a branch knows of a child's first member. */
static inline void note_first(struct branch *branch, unsigned place, unsigned height)
{
    const void *child = branch->children[place];
    if (height == 1) {
        branch->scores[place] = ((const struct leaf *)child)->scores[0];
        branch->members[place] = ((const struct leaf *)child)->members[0];
    } else {
        branch->scores[place] = ((const struct branch *)child)->scores[0];
        branch->members[place] = ((const struct branch *)child)->members[0];
    }
}

#define MOVE_ITEMS(array, target, source, count) memmove(&(array)[target], &(array)[source], (count) * sizeof *(array))
#define COPY_ITEMS(array, target, source_array, source, count)                                                         \
    memcpy(&(array)[target], &(source_array)[source], (count) * sizeof *(array))

static void leaf_move(struct leaf *leaf, unsigned target, unsigned source)
{
    unsigned count = leaf->count - source;
    MOVE_ITEMS(leaf->scores, target, source, count);
    MOVE_ITEMS(leaf->members, target, source, count);
    leaf->count += target - source;
}

static void leaf_append(struct leaf *target, const struct leaf *source, unsigned first, unsigned count)
{
    COPY_ITEMS(target->scores, target->count, source->scores, first, count);
    COPY_ITEMS(target->members, target->count, source->members, first, count);
    target->count += count;
}

static void branch_move(struct branch *branch, unsigned target, unsigned source)
{
    unsigned count = branch->count - source;
    MOVE_ITEMS(branch->counts, target, source, count);
    MOVE_ITEMS(branch->scores, target, source, count);
    MOVE_ITEMS(branch->members, target, source, count);
    MOVE_ITEMS(branch->children, target, source, count);
    branch->count += target - source;
}

static void branch_append(struct branch *target, const struct branch *source, unsigned first, unsigned count)
{
    COPY_ITEMS(target->counts, target->count, source->counts, first, count);
    COPY_ITEMS(target->scores, target->count, source->scores, first, count);
    COPY_ITEMS(target->members, target->count, source->members, first, count);
    COPY_ITEMS(target->children, target->count, source->children, first, count);
    target->count += count;
}

static void *allocate_node(struct sorted_set *set, size_t bytes)
{
    void *node = allocate(bytes);
    count_block(set, node);
    return node;
}

static void free_node(struct sorted_set *set, void *node)
{
    discount_block(set, node);
    free(node);
}

static struct leaf *new_leaf(struct sorted_set *set, struct leaf *previous)
{
    struct ordered *ordered = set->ordered;
    struct leaf *leaf = allocate_node(set, sizeof *leaf);
    leaf->count = 0;
    leaf->previous = previous;
    leaf->next = previous == NULL ? NULL : previous->next;
    if (previous == NULL)
        ordered->first = leaf;
    else
        previous->next = leaf;
    if (leaf->next == NULL)
        ordered->last = leaf;
    else
        leaf->next->previous = leaf;
    return leaf;
}

static void free_leaf(struct sorted_set *set, struct leaf *leaf)
{
    if (leaf->previous == NULL)
        set->ordered->first = leaf->next;
    else
        leaf->previous->next = leaf->next;
    if (leaf->next == NULL)
        set->ordered->last = leaf->previous;
    else
        leaf->next->previous = leaf->previous;
    free_node(set, leaf);
}

/* The new leaf to its right if it had to be divided, or NULL. */
static struct leaf *insert_in_leaf(struct sorted_set *set, struct leaf *leaf, const struct bound *bound,
                                   struct scored *member)
{
    unsigned at = leaf_before(leaf, bound);
    struct leaf *right = NULL;
    if (leaf->count == LEAF_MAX) {
        /* Whoever adds in order, up or down, leaves full leaves behind. */
        unsigned kept = at == LEAF_MAX && leaf->next == NULL ? LEAF_MAX
                        : at == 0 && leaf->previous == NULL  ? 0
                                                             : LEAF_MAX / 2;
        right = new_leaf(set, leaf);
        leaf_append(right, leaf, kept, LEAF_MAX - kept);
        leaf->count = kept;
        if (at > kept || kept == LEAF_MAX) {
            leaf = right;
            at -= kept;
        }
    }
    leaf_move(leaf, at + 1, at);
    leaf->scores[at] = bound->score;
    leaf->members[at] = member;
    return right;
}

/* The same of a node of any height. */
static void *insert_below(struct sorted_set *set, void *node, unsigned height, const struct bound *bound,
                          struct scored *member)
{
    if (height == 0)
        return insert_in_leaf(set, node, bound, member);
    struct branch *branch = node, *other = NULL;
    unsigned at = child_before(branch, bound);
    void *right = insert_below(set, branch->children[at], height - 1, bound, member);
    branch->counts[at]++;
    note_first(branch, at, height);
    if (LIKELY(right == NULL))
        return NULL;
    size_t count = count_below(right, height - 1);
    branch->counts[at++] -= count;
    if (branch->count == BRANCH_MAX) {
        unsigned kept = BRANCH_MAX / 2;
        other = allocate_node(set, sizeof *other);
        other->count = 0;
        branch_append(other, branch, kept, BRANCH_MAX - kept);
        branch->count = kept;
        if (at > kept) {
            branch = other;
            at -= kept;
        }
    }
    branch_move(branch, at + 1, at);
    branch->counts[at] = count;
    branch->children[at] = right;
    note_first(branch, at, height);
    return other;
}

static void insert_in_order(struct sorted_set *set, struct scored *member, double score)
{
    struct ordered *ordered = set->ordered;
    struct bound bound = {BY_BOTH, false, score, name_of(member)};
    void *right = insert_below(set, ordered->root, ordered->height, &bound, member);
    if (right == NULL)
        return;
    struct branch *root = allocate_node(set, sizeof *root);
    root->count = 2;
    root->children[0] = ordered->root;
    root->children[1] = right;
    for (unsigned at = 0; at < 2; at++) {
        root->counts[at] = count_below(root->children[at], ordered->height);
        note_first(root, at, ordered->height + 1);
    }
    ordered->root = root;
    ordered->height++;
}

/* Nodes with fewer than a quarter get some from a neighbour, or are joined with it where both together leave room. */
static inline bool is_poor(const void *node, unsigned height)
{
    return height == 0 ? ((const struct leaf *)node)->count < LEAF_MAX / 4
                       : ((const struct branch *)node)->count < BRANCH_MAX / 4;
}

static inline bool fit_together(size_t count, size_t count_max)
{
    return count <= count_max / 8 * 7;
}

static void balance_leaves(struct sorted_set *set, struct leaf *left, struct leaf *right)
{
    unsigned both = left->count + right->count;
    if (fit_together(both, LEAF_MAX)) {
        leaf_append(left, right, 0, right->count);
        right->count = 0;
    } else if (left->count < both / 2) {
        unsigned count = both / 2 - left->count;
        leaf_append(left, right, 0, count);
        leaf_move(right, 0, count);
    } else {
        unsigned count = left->count - both / 2;
        leaf_move(right, count, 0);
        COPY_ITEMS(right->scores, 0, left->scores, both / 2, count);
        COPY_ITEMS(right->members, 0, left->members, both / 2, count);
        left->count = both / 2;
    }
    if (right->count == 0)
        free_leaf(set, right);
}

static void balance_branches(struct sorted_set *set, struct branch *left, struct branch *right)
{
    unsigned both = left->count + right->count;
    if (fit_together(both, BRANCH_MAX)) {
        branch_append(left, right, 0, right->count);
        right->count = 0;
    } else if (left->count < both / 2) {
        unsigned count = both / 2 - left->count;
        branch_append(left, right, 0, count);
        branch_move(right, 0, count);
    } else {
        unsigned count = left->count - both / 2;
        branch_move(right, count, 0);
        COPY_ITEMS(right->counts, 0, left->counts, both / 2, count);
        COPY_ITEMS(right->scores, 0, left->scores, both / 2, count);
        COPY_ITEMS(right->members, 0, left->members, both / 2, count);
        COPY_ITEMS(right->children, 0, left->children, both / 2, count);
        left->count = both / 2;
    }
    if (right->count == 0)
        free_node(set, right);
}

/* Balance a child with one beside it; every branch has at least two children. */
static void balance(struct sorted_set *set, struct branch *branch, unsigned at, unsigned height)
{
    unsigned left = at + 1 < branch->count ? at : at - 1, right = left + 1;
    size_t both = branch->counts[left] + branch->counts[right];
    unsigned children;
    if (height == 1) {
        struct leaf *low = branch->children[left], *high = branch->children[right];
        children = low->count + high->count;
        balance_leaves(set, low, high);
        children -= low->count;
    } else {
        struct branch *low = branch->children[left], *high = branch->children[right];
        children = low->count + high->count;
        balance_branches(set, low, high);
        children -= low->count;
    }
    branch->counts[left] = count_below(branch->children[left], height - 1);
    note_first(branch, left, height);
    if (children == 0) {
        branch_move(branch, right, right + 1);
    } else {
        branch->counts[right] = both - branch->counts[left];
        note_first(branch, right, height);
    }
}

/* Take out the member right behind a bound that is not inclusive. */
static void remove_below(struct sorted_set *set, void *node, unsigned height, struct bound *bound)
{
    if (height == 0) {
        struct leaf *leaf = node;
        unsigned at = leaf_before(leaf, bound);
        leaf_move(leaf, at, at + 1);
        return;
    }
    struct branch *branch = node;
    bound->inclusive = true; /* the member may be a child's first */
    unsigned at = child_before(branch, bound);
    bound->inclusive = false;
    remove_below(set, branch->children[at], height - 1, bound);
    branch->counts[at]--;
    if (UNLIKELY(is_poor(branch->children[at], height - 1)))
        balance(set, branch, at, height);
    else
        note_first(branch, at, height);
}

static void remove_in_order(struct sorted_set *set, const struct scored *member, double score)
{
    struct ordered *ordered = set->ordered;
    struct bound bound = {BY_BOTH, false, score, name_of(member)};
    remove_below(set, ordered->root, ordered->height, &bound);
    while (ordered->height > 0 && ((struct branch *)ordered->root)->count == 1) {
        struct branch *root = ordered->root;
        ordered->root = root->children[0];
        ordered->height--;
        free_node(set, root);
    }
}

static size_t rank_of(const struct ordered *ordered, const struct bound *bound)
{
    const void *node = ordered->root;
    size_t rank = 0;
    for (unsigned height = ordered->height; height > 0; height--) {
        const struct branch *branch = node;
        unsigned at = child_before(branch, bound);
        for (unsigned place = 0; place < at; place++)
            rank += branch->counts[place];
        node = branch->children[at];
    }
    return rank + leaf_before(node, bound);
}

/* The leaf of a rank that there is, and the place in it. */
static const struct leaf *leaf_of(const struct ordered *ordered, size_t rank, unsigned *place)
{
    const void *node = ordered->root;
    for (unsigned height = ordered->height; height > 0; height--) {
        const struct branch *branch = node;
        unsigned at = 0;
        while (rank >= branch->counts[at])
            rank -= branch->counts[at++];
        node = branch->children[at];
    }
    *place = (unsigned)rank;
    return node;
}

static void free_below(void *node, unsigned height)
{
    if (height > 0) {
        struct branch *branch = node;
        for (unsigned at = 0; at < branch->count; at++)
            free_below(branch->children[at], height - 1);
    }
    free(node);
}

/* --- Scores in packs --- */

#define PACKED_SCORE_BYTES_MAX 8

static struct text pack_score(double score, char target[PACKED_SCORE_BYTES_MAX])
{
    /* As in Redis' listpacks, where -0 becomes an integer as well, and so 0. */
    if (score >= INT32_MIN && score <= INT32_MAX && score == (int32_t)score) {
        int32_t number = (int32_t)score;
        int8_t number_8 = (int8_t)number;
        int16_t number_16 = (int16_t)number;
        if (number == number_8) {
            memcpy(target, &number_8, sizeof number_8);
            return (struct text){target, sizeof number_8};
        }
        if (number == number_16) {
            memcpy(target, &number_16, sizeof number_16);
            return (struct text){target, sizeof number_16};
        }
        memcpy(target, &number, sizeof number);
        return (struct text){target, sizeof number};
    }
    memcpy(target, &score, sizeof score);
    return (struct text){target, sizeof score};
}

static double unpack_score(struct text text)
{
    int8_t number_8;
    int16_t number_16;
    int32_t number;
    double score;
    switch (text.bytes) {
    case sizeof number_8:
        memcpy(&number_8, text.data, sizeof number_8);
        return number_8;
    case sizeof number_16:
        memcpy(&number_16, text.data, sizeof number_16);
        return number_16;
    case sizeof number:
        memcpy(&number, text.data, sizeof number);
        return number;
    default:
        memcpy(&score, text.data, sizeof score);
        return score;
    }
}

/* Count the members of a pack that are before a bound; *at becomes the place of the first that is not. */
static size_t pack_before(const struct pack *pack, const struct bound *bound, size_t *at)
{
    size_t count = 0;
    for (*at = pack_first(pack); *at != PACK_END; count++) {
        struct text member = pack_get(pack, *at);
        size_t score_at = pack_next(pack, *at);
        if (!is_before(bound, unpack_score(pack_get(pack, score_at)), member))
            break;
        *at = pack_next(pack, score_at);
    }
    return count;
}

static void insert_in_pack(struct sorted_set *set, struct text member, double score)
{
    struct bound bound = {BY_BOTH, false, score, member};
    char packed[PACKED_SCORE_BYTES_MAX];
    struct text text = pack_score(score, packed);
    size_t at;
    pack_before(&set->pack, &bound, &at);
    discount_block(set, set->pack.data);
    /* From the back to the front, so that the place stays good; at the end there is none to keep. */
    if (at == PACK_END) {
        pack_insert(&set->pack, PACK_END, member);
        pack_insert(&set->pack, PACK_END, text);
    } else {
        pack_insert(&set->pack, at, text);
        pack_insert(&set->pack, at, member);
    }
    count_block(set, set->pack.data);
}

/* The place of the first of some pairs that go. */
static void delete_in_pack(struct sorted_set *set, size_t at, size_t pairs)
{
    discount_block(set, set->pack.data);
    pack_delete(&set->pack, at, 2 * pairs);
    count_block(set, set->pack.data);
}

/* --- Big sorted sets --- */

static inline struct scored *scored_at(const struct sorted_set *set, uint32_t index)
{
    return (struct scored *)members_node(set->ordered->members, index)->block;
}

static void begin_order(struct sorted_set *set)
{
    struct ordered *ordered = set->ordered = allocate_node(set, sizeof *ordered);
    set->form = SORTED_SET_IS_BIG;
    ordered->members = members_make(offsetof(struct scored, name), &set->value.bytes);
    ordered->height = 0;
    ordered->first = ordered->last = NULL;
    ordered->root = new_leaf(set, NULL);
}

/* A member that is not in it yet. */
static void add_to_order(struct sorted_set *set, uint64_t hash, struct text name, double score)
{
    struct scored *member = allocate(offsetof(struct scored, name) + length_bytes(name.bytes) + name.bytes);
    member->score = score;
    write_string(member->name, name);
    members_add(set->ordered->members, hash, (char *)member, &set->value.bytes);
    insert_in_order(set, member, score);
}

static void convert_to_order(struct sorted_set *set)
{
    struct pack pack = set->pack;
    discount_block(set, pack.data);
    begin_order(set);
    for (size_t at = pack_first(&pack); at != PACK_END; at = pack_next(&pack, at)) {
        struct text member = pack_get(&pack, at);
        at = pack_next(&pack, at);
        add_to_order(set, member_hash(&set->value, member), member, unpack_score(pack_get(&pack, at)));
    }
    pack_free(&pack);
}

static void remove_scored(struct sorted_set *set, uint32_t index)
{
    const struct scored *member = scored_at(set, index);
    remove_in_order(set, member, member->score);
    members_remove(set->ordered->members, index, &set->value.bytes);
}

/* --- What commands do with them --- */

void sorted_set_free(struct sorted_set *set)
{
    if (is_ordered(set)) {
        free_below(set->ordered->root, set->ordered->height);
        members_free(set->ordered->members);
        free(set->ordered);
        set->pack = (struct pack){0};
    } else {
        pack_free(&set->pack);
    }
    set->value.bytes = 0;
}

void sorted_set_copy(struct sorted_set *copy, const struct sorted_set *set)
{
    if (!is_ordered(set)) {
        copy->pack = pack_copy(&set->pack);
        count_block(copy, copy->pack.data);
        return;
    }
    begin_order(copy);
    for (const struct leaf *leaf = set->ordered->first; leaf != NULL; leaf = leaf->next)
        for (unsigned at = 0; at < leaf->count; at++) {
            struct text name = name_of(leaf->members[at]);
            add_to_order(copy, member_hash(&copy->value, name), name, leaf->scores[at]);
        }
}

size_t sorted_set_count(const struct sorted_set *set)
{
    return !is_ordered(set) ? set->pack.count / 2 : set->ordered->members->count;
}

bool sorted_set_is_small(const struct sorted_set *set)
{
    return !is_ordered(set);
}

bool sorted_set_score(const struct sorted_set *set, struct text member, double *score)
{
    if (!is_ordered(set)) {
        size_t at = pack_find(&set->pack, pack_first(&set->pack), member, 2);
        if (at != PACK_END)
            *score = unpack_score(pack_get(&set->pack, pack_next(&set->pack, at)));
        return at != PACK_END;
    }
    uint32_t index = members_find(set->ordered->members, member_hash(&set->value, member), member);
    if (index != NO_MEMBER)
        *score = scored_at(set, index)->score;
    return index != NO_MEMBER;
}

static bool fits_in_pack(const struct sorted_set *set, struct text member)
{
    const struct limits *limits = set->value.limits;
    return set->pack.count / 2 < limits->zset_entries && member.bytes <= limits->zset_value &&
           set->pack.bytes + member.bytes <= PACK_BYTES_MAX;
}

enum added sorted_set_add(struct sorted_set *set, struct text member, double score)
{
    if (!is_ordered(set)) {
        size_t at = pack_find(&set->pack, pack_first(&set->pack), member, 2);
        if (at != PACK_END) {
            if (unpack_score(pack_get(&set->pack, pack_next(&set->pack, at))) == score)
                return IS_SAME;
            delete_in_pack(set, at, 1);
            insert_in_pack(set, member, score);
            return IS_MOVED;
        }
        if (LIKELY(fits_in_pack(set, member))) {
            insert_in_pack(set, member, score);
            return IS_NEW;
        }
        convert_to_order(set);
    }
    uint64_t hash = member_hash(&set->value, member);
    uint32_t index = members_find(set->ordered->members, hash, member);
    if (index == NO_MEMBER) {
        add_to_order(set, hash, member, score);
        return IS_NEW;
    }
    struct scored *scored = scored_at(set, index);
    if (scored->score == score)
        return IS_SAME;
    remove_in_order(set, scored, scored->score);
    scored->score = score;
    insert_in_order(set, scored, score);
    return IS_MOVED;
}

bool sorted_set_remove(struct sorted_set *set, struct text member)
{
    if (!is_ordered(set)) {
        size_t at = pack_find(&set->pack, pack_first(&set->pack), member, 2);
        if (at != PACK_END)
            delete_in_pack(set, at, 1);
        return at != PACK_END;
    }
    uint32_t index = members_find(set->ordered->members, member_hash(&set->value, member), member);
    if (index != NO_MEMBER)
        remove_scored(set, index);
    return index != NO_MEMBER;
}

static size_t count_before_bound(const struct sorted_set *set, const struct bound *bound)
{
    size_t at;
    return !is_ordered(set) ? pack_before(&set->pack, bound, &at) : rank_of(set->ordered, bound);
}

size_t sorted_set_rank(const struct sorted_set *set, struct text member)
{
    struct bound bound = {BY_BOTH, false, 0, member};
    if (!sorted_set_score(set, member, &bound.score))
        return SIZE_MAX;
    return count_before_bound(set, &bound);
}

size_t sorted_set_scores_below(const struct sorted_set *set, double score, bool inclusive)
{
    struct bound bound = {BY_SCORE, inclusive, score, {NULL, 0}};
    return count_before_bound(set, &bound);
}

size_t sorted_set_members_below(const struct sorted_set *set, struct text member, bool inclusive)
{
    struct bound bound = {BY_MEMBER, inclusive, 0, member};
    return count_before_bound(set, &bound);
}

void sorted_set_remove_slice(struct sorted_set *set, size_t start, size_t stop)
{
    if (!is_ordered(set)) {
        if (start < stop)
            delete_in_pack(set, pack_seek(&set->pack, 2 * start), stop - start);
        return;
    }
    for (size_t rank = stop; rank-- > start;) {
        unsigned place;
        const struct leaf *leaf = leaf_of(set->ordered, rank, &place);
        struct text name = name_of(leaf->members[place]);
        remove_scored(set, members_find(set->ordered->members, member_hash(&set->value, name), name));
    }
}

struct sorted_set_walk sorted_set_walk(const struct sorted_set *set, size_t rank)
{
    struct sorted_set_walk walk = {.set = set, .at = PACK_END};
    if (rank >= sorted_set_count(set))
        return walk;
    if (!is_ordered(set))
        walk.at = pack_seek(&set->pack, 2 * rank);
    else
        walk.leaf = leaf_of(set->ordered, rank, &walk.place);
    return walk;
}

bool sorted_set_here(const struct sorted_set_walk *walk, struct ranked *ranked)
{
    if (walk->leaf != NULL) {
        ranked->member = name_of(walk->leaf->members[walk->place]);
        ranked->score = walk->leaf->scores[walk->place];
    } else if (walk->at != PACK_END) {
        const struct pack *pack = &walk->set->pack;
        ranked->member = pack_get(pack, walk->at);
        ranked->score = unpack_score(pack_get(pack, pack_next(pack, walk->at)));
    } else {
        return false;
    }
    return true;
}

void sorted_set_next(struct sorted_set_walk *walk)
{
    if (walk->leaf == NULL) {
        const struct pack *pack = &walk->set->pack;
        walk->at = pack_next(pack, pack_next(pack, walk->at));
    } else if (++walk->place == walk->leaf->count) {
        walk->leaf = walk->leaf->next;
        walk->place = 0;
    }
}

void sorted_set_previous(struct sorted_set_walk *walk)
{
    if (walk->leaf == NULL) {
        const struct pack *pack = &walk->set->pack;
        walk->at = walk->at == 0 ? PACK_END : pack_previous(pack, pack_previous(pack, walk->at));
    } else if (walk->place-- == 0) {
        walk->leaf = walk->leaf->previous;
        walk->place = walk->leaf == NULL ? 0 : walk->leaf->count - 1;
    }
}

size_t sorted_set_random(struct sorted_set *set)
{
    return (size_t)(((unsigned __int128)next_random(&set->value.limits->random) * sorted_set_count(set)) >> 64);
}

uint32_t sorted_set_left(const struct sorted_set *set, uint64_t cursor)
{
    return members_left(set->ordered->members, cursor);
}

struct ranked sorted_set_scanned(const struct sorted_set *set, uint32_t place)
{
    const struct scored *member = scored_at(set, place);
    return (struct ranked){name_of(member), member->score};
}

size_t sorted_set_effort(const struct sorted_set *set)
{
    return !is_ordered(set) ? 1 : set->ordered->members->count;
}

/* --- For tests --- */

struct audit {
    const struct sorted_set *set;
    const struct leaf *leaf; /* that should come next */
    const struct scored *last;
    double last_score;
    int64_t bytes;
    const char *wrong;
};

static size_t audit_below(struct audit *audit, const void *node, unsigned height, bool is_root)
{
    audit->bytes += (int64_t)block_bytes(node);
    if (height == 0) {
        const struct leaf *leaf = node;
        if (leaf != audit->leaf)
            audit->wrong = "leaves are linked in another order than they stand";
        audit->leaf = leaf->next;
        if (leaf->next != NULL && leaf->next->previous != leaf)
            audit->wrong = "leaves are not linked both ways";
        if (leaf->count > LEAF_MAX || (leaf->count == 0 && !is_root))
            audit->wrong = "a leaf is empty or too full";
        for (unsigned at = 0; at < leaf->count; at++) {
            struct scored *member = leaf->members[at];
            struct bound bound = {BY_BOTH, false, leaf->scores[at], name_of(member)};
            if (audit->last != NULL && !is_before(&bound, audit->last_score, name_of(audit->last)))
                audit->wrong = "members are not in order";
            if (member->score != leaf->scores[at])
                audit->wrong = "a member's scores differ";
            if (members_find(audit->set->ordered->members, member_hash(&audit->set->value, name_of(member)),
                             name_of(member)) == NO_MEMBER)
                audit->wrong = "a member is not in the table";
            audit->last = member;
            audit->last_score = leaf->scores[at];
        }
        return leaf->count;
    }
    const struct branch *branch = node;
    size_t sum = 0;
    if (branch->count < 2 || branch->count > BRANCH_MAX)
        audit->wrong = "a branch has too few or too many children";
    for (unsigned at = 0; at < branch->count; at++) {
        size_t count = audit_below(audit, branch->children[at], height - 1, false);
        struct branch noted = *branch;
        note_first(&noted, at, height);
        if (count != branch->counts[at])
            audit->wrong = "a branch counts wrongly";
        if (noted.members[at] != branch->members[at] || noted.scores[at] != branch->scores[at])
            audit->wrong = "a branch does not know its first members";
        sum += count;
    }
    return sum;
}

const char *sorted_set_audit(const struct sorted_set *set)
{
    struct audit audit = {.set = set};
    if (!is_ordered(set)) {
        audit.bytes = (int64_t)block_bytes(set->pack.data);
        audit.wrong = pack_audit(&set->pack);
    } else {
        struct ordered *ordered = set->ordered;
        audit.leaf = ordered->first;
        audit.bytes += (int64_t)block_bytes(ordered);
        if (audit_below(&audit, ordered->root, ordered->height, true) != ordered->members->count)
            audit.wrong = "tree and table differ in how many members they have";
        if (audit.leaf != NULL ||
            (audit.last != NULL && ordered->last->members[ordered->last->count - 1] != audit.last))
            audit.wrong = "the last leaf is another one";
        const char *wrong = members_audit(ordered->members, set->value.limits->secret, &audit.bytes);
        if (wrong != NULL)
            audit.wrong = wrong;
    }
    if (audit.wrong == NULL && audit.bytes != set->value.bytes)
        audit.wrong = "the bytes of a sorted set are counted wrongly";
    return audit.wrong;
}

/* --- Commands: kora/commands/sorted_sets.py is the reference --- */

#define DOUBLE_BYTES_MAX 32

/* kora.resp.reply.format_double(). */
static size_t format_score(char target[DOUBLE_BYTES_MAX], double score)
{
    if (score > -1e17 && score < 1e17) {
        int64_t number = (int64_t)score;
        if ((double)number == score && !(number == 0 && signbit(score)))
            return format_integer(target, number);
    } else if (isinf(score)) {
        memcpy(target, "-inf", 4);
        if (score > 0)
            memcpy(target, "inf", 3);
        return score > 0 ? 3 : 4;
    }
    return (size_t)snprintf(target, DOUBLE_BYTES_MAX, "%.17g", score);
}

static void output_score(struct output *output, double score, int protocol)
{
    char text[DOUBLE_BYTES_MAX + 3];
    if (protocol != 3) {
        output_bulk(output, text, format_score(text, score));
        return;
    }
    text[0] = ',';
    size_t bytes = 1 + format_score(text + 1, score);
    memcpy(text + bytes, "\r\n", 2);
    output_append(output, text, bytes + 2);
}

#define EXACT_DIGITS 15 /* so many always fit into a double's mantissa */

static const double POWERS_OF_10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10,
                                      1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21};

/* A score as digits, with a sign and a point if need be; false for what is written in any other way, be it right or wrong.
 *
 * A number of at most 15 digits and a power of ten up to 10^22 are exact as doubles, and so their quotient is rounded
 * once (Clinger, "How to read floating point numbers accurately").  More digits are for strtod(). */
static bool parse_score(struct text text, double *score)
{
    char copy[DOUBLE_BYTES_MAX];
    size_t at = text.bytes > 0 && text.data[0] == '-', digits = 0, decimals = 0;
    bool is_negative = at == 1, has_point = false;
    uint64_t mantissa = 0;
    if (text.bytes == at || text.bytes >= sizeof copy)
        return false;
    for (; at < text.bytes; at++) {
        unsigned digit = (unsigned)text.data[at] - '0';
        if (digit <= 9) {
            mantissa = digits < EXACT_DIGITS ? mantissa * 10 + digit : mantissa;
            digits++;
            decimals += has_point;
        } else if (text.data[at] == '.' && !has_point && digits > 0) {
            has_point = true;
        } else {
            return false;
        }
    }
    if (has_point && decimals == 0)
        return false;
    if (digits <= EXACT_DIGITS) {
        double number = (double)mantissa / POWERS_OF_10[decimals];
        *score = is_negative ? -number : number;
        return true;
    }
    memcpy(copy, text.data, text.bytes);
    copy[text.bytes] = '\0';
    char *end;
    *score = strtod(copy, &end);
    return end == copy + text.bytes; /* not so where some library has set a locale with another point */
}

/* The sorted set of a request's key, or NULL for a key that is not there; false for what is no sorted set. */
static inline bool find_sorted_set(struct turn *turn, const struct request *request, const struct argument *argv,
                                   struct key *key, struct entry **entry, struct sorted_set **set)
{
    *key = first_key(request, argv);
    *entry = keyspace_find(turn->keyspace, key);
    *set = NULL;
    if (*entry == NULL)
        return true;
    if ((*entry)->object_kind != SORTED_SET_OBJECT)
        return false;
    *set = (struct sorted_set *)entry_value(*entry);
    return true;
}

/* As that, for commands that look, and counted as such. */
static inline bool read_sorted_set(struct turn *turn, const struct request *request, const struct argument *argv,
                                   struct sorted_set **set)
{
    struct key key;
    struct entry *entry;
    if (!find_sorted_set(turn, request, argv, &key, &entry, set))
        return false;
    count_read(turn->keyspace, entry);
    return true;
}

struct add_options {
    bool nx, xx, gt, lt, ch;
};

/* Read the options of ZADD, moving *at on to what follows; INCR, repetitions and what cannot be together are the
 * reference's to judge. */
static bool read_add_options(struct add_options *options, const struct argument *argv, size_t argc, size_t *at)
{
    *options = (struct add_options){0};
    for (; *at < argc; ++*at) {
        struct text word = text_of(&argv[*at]);
        bool *flag = NULL;
        if (word.bytes != 2)
            break;
        if (is_word(word, "NX"))
            flag = &options->nx;
        else if (is_word(word, "XX"))
            flag = &options->xx;
        else if (is_word(word, "GT"))
            flag = &options->gt;
        else if (is_word(word, "LT"))
            flag = &options->lt;
        else if (is_word(word, "CH"))
            flag = &options->ch;
        if (flag == NULL)
            break;
        if (*flag)
            return false;
        *flag = true;
    }
    return options->nx + (options->xx || options->gt || options->lt) < 2 && options->gt + options->lt < 2;
}

/* ZADD of one member. */
static inline enum added add_scored(struct sorted_set *set, struct text member, double score,
                                    const struct add_options *options)
{
    double old;
    if (options->nx || options->xx || options->gt || options->lt) {
        bool is_there = sorted_set_score(set, member, &old);
        if (is_there ? options->nx || (options->gt && score <= old) || (options->lt && score >= old) : options->xx)
            return IS_SAME;
    }
    return sorted_set_add(set, member, score);
}

OPERATION(op_zadd)
{
    UNUSED(kernel);
    struct add_options options;
    struct key key;
    struct entry *entry;
    struct sorted_set *set;
    size_t first = 2, counts[3] = {0};
    double score;
    if (!read_add_options(&options, argv, request->argc, &first) || first == request->argc ||
        (request->argc - first) % 2)
        return false;
    for (size_t at = first; at < request->argc; at += 2)
        if (!parse_score(text_of(&argv[at]), &score) || argv[at + 1].bytes > PACK_BYTES_MAX)
            return false;
    if (!find_sorted_set(turn, request, argv, &key, &entry, &set))
        return false;
    if (entry == NULL) {
        if (options.xx) {
            output_integer(output, 0);
            return true;
        }
        entry = keyspace_make_object(turn->keyspace, &key, SORTED_SET_OBJECT);
        if (entry == NULL)
            return false;
        set = (struct sorted_set *)entry_value(entry);
    }
    for (size_t at = first; at < request->argc; at += 2) {
        if (request->argc - first > 2)
            parse_score(text_of(&argv[at]), &score);
        counts[add_scored(set, text_of(&argv[at + 1]), score, &options)]++;
    }
    if (counts[IS_NEW] || counts[IS_MOVED])
        keyspace_updated(turn->keyspace, &key, entry, false);
    else
        entry->touched_s = turn->keyspace->now_s;
    output_integer(output, (int64_t)(counts[IS_NEW] + (options.ch ? counts[IS_MOVED] : 0)));
    return true;
}

OPERATION(op_zincrby)
{
    UNUSED(kernel);
    struct key key;
    struct entry *entry;
    struct sorted_set *set;
    double score, old = 0;
    /* A word more, and it is ZADD's options that the reference looks for. */
    if (request->argc != 4 || !parse_score(text_of(&argv[2]), &score) || argv[3].bytes > PACK_BYTES_MAX ||
        !find_sorted_set(turn, request, argv, &key, &entry, &set))
        return false;
    struct text member = text_of(&argv[3]);
    if (entry == NULL) {
        entry = keyspace_make_object(turn->keyspace, &key, SORTED_SET_OBJECT);
        if (entry == NULL)
            return false;
        set = (struct sorted_set *)entry_value(entry);
    }
    if (sorted_set_score(set, member, &old))
        score += old;
    if (sorted_set_add(set, member, score) != IS_SAME)
        keyspace_updated(turn->keyspace, &key, entry, false);
    else
        entry->touched_s = turn->keyspace->now_s;
    output_score(output, score, turn->protocol);
    return true;
}

OPERATION(op_zrem)
{
    UNUSED(kernel);
    struct key key;
    struct entry *entry;
    struct sorted_set *set;
    int64_t removed = 0;
    if (!find_sorted_set(turn, request, argv, &key, &entry, &set))
        return false;
    if (set != NULL) {
        for (size_t at = 2; at < request->argc; at++)
            removed += sorted_set_remove(set, text_of(&argv[at]));
        if (removed)
            keyspace_updated(turn->keyspace, &key, entry, sorted_set_count(set) == 0);
        else
            entry->touched_s = turn->keyspace->now_s;
    }
    output_integer(output, removed);
    return true;
}

OPERATION(op_zcard)
{
    UNUSED(kernel);
    struct sorted_set *set;
    if (!read_sorted_set(turn, request, argv, &set))
        return false;
    output_integer(output, set == NULL ? 0 : (int64_t)sorted_set_count(set));
    return true;
}

OPERATION(op_zscore)
{
    UNUSED(kernel);
    struct sorted_set *set;
    double score;
    if (!read_sorted_set(turn, request, argv, &set))
        return false;
    if (set == NULL || !sorted_set_score(set, text_of(&argv[2]), &score))
        output_null(output, turn->protocol);
    else
        output_score(output, score, turn->protocol);
    return true;
}

OPERATION(op_zmscore)
{
    UNUSED(kernel);
    struct sorted_set *set;
    double score;
    if (!read_sorted_set(turn, request, argv, &set))
        return false;
    output_header(output, '*', request->argc - 2);
    for (size_t at = 2; at < request->argc; at++)
        if (set == NULL || !sorted_set_score(set, text_of(&argv[at]), &score))
            output_null(output, turn->protocol);
        else
            output_score(output, score, turn->protocol);
    return true;
}

static bool tell_rank(struct turn *turn, const struct request *request, struct argument *argv, struct output *output,
                      bool from_end)
{
    struct sorted_set *set;
    if (request->argc > 3 || !read_sorted_set(turn, request, argv, &set))
        return false;
    size_t rank = set == NULL ? SIZE_MAX : sorted_set_rank(set, text_of(&argv[2]));
    if (rank == SIZE_MAX)
        output_null(output, turn->protocol);
    else
        output_integer(output, (int64_t)(from_end ? sorted_set_count(set) - 1 - rank : rank));
    return true;
}

OPERATION(op_zrank)
{
    UNUSED(kernel);
    return tell_rank(turn, request, argv, output, false);
}

OPERATION(op_zrevrank)
{
    UNUSED(kernel);
    return tell_rank(turn, request, argv, output, true);
}

static bool pop_scored(struct turn *turn, const struct request *request, struct argument *argv, struct output *output,
                       bool at_end)
{
    struct key key;
    struct entry *entry;
    struct sorted_set *set;
    struct ranked ranked;
    if (request->argc > 2 || !find_sorted_set(turn, request, argv, &key, &entry, &set))
        return false;
    if (set == NULL) {
        output_header(output, '*', 0);
        return true;
    }
    size_t rank = at_end ? sorted_set_count(set) - 1 : 0;
    struct sorted_set_walk walk = sorted_set_walk(set, rank);
    sorted_set_here(&walk, &ranked);
    output_header(output, '*', 2);
    output_bulk(output, ranked.member.data, ranked.member.bytes);
    output_score(output, ranked.score, turn->protocol);
    sorted_set_remove_slice(set, rank, rank + 1);
    keyspace_updated(turn->keyspace, &key, entry, sorted_set_count(set) == 0);
    return true;
}

OPERATION(op_zpopmin)
{
    UNUSED(kernel);
    return pop_scored(turn, request, argv, output, false);
}

OPERATION(op_zpopmax)
{
    UNUSED(kernel);
    return pop_scored(turn, request, argv, output, true);
}

static bool show_range(struct turn *turn, const struct request *request, struct argument *argv, struct output *output,
                       bool from_end)
{
    struct sorted_set *set;
    int64_t first, last;
    size_t start, stop, count;
    bool with_scores = request->argc == 5, in_pairs = with_scores && turn->protocol == 3;
    if (request->argc > 5 || (with_scores && !is_word(text_of(&argv[4]), "WITHSCORES")) ||
        !read_range(argv + 2, &first, &last) || !read_sorted_set(turn, request, argv, &set))
        return false;
    count = set == NULL ? 0 : sorted_set_count(set);
    range_of(first, last, count, &start, &stop);
    output_header(output, '*', with_scores && !in_pairs ? 2 * (stop - start) : stop - start);
    if (start == stop)
        return true;
    struct sorted_set_walk walk = sorted_set_walk(set, from_end ? count - 1 - start : start);
    struct ranked ranked;
    for (; start < stop && sorted_set_here(&walk, &ranked) && !output->failed; start++) {
        if (in_pairs)
            output_header(output, '*', 2);
        output_bulk(output, ranked.member.data, ranked.member.bytes);
        if (with_scores)
            output_score(output, ranked.score, turn->protocol);
        if (from_end)
            sorted_set_previous(&walk);
        else
            sorted_set_next(&walk);
    }
    return true;
}

OPERATION(op_zrange)
{
    UNUSED(kernel);
    return show_range(turn, request, argv, output, false);
}

OPERATION(op_zrevrange)
{
    UNUSED(kernel);
    return show_range(turn, request, argv, output, true);
}
