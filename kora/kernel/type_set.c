/* Sets: kora/types/set.py is the reference.
 *
 * A small set is a sorted array while it is of integers only, then a pack; a large one is a table of members. */

#include "kernel.h"

#include <stdlib.h>

_Static_assert(offsetof(struct set_value, form) == offsetof(struct set_value, pack.note) &&
                   offsetof(struct set_value, form) == offsetof(struct set_value, integers.form),
               "a set's form has one place");

/* --- Integers --- */

static inline int64_t integer_at(const struct integers *integers, size_t place)
{
    const char *data = integers->data + place * integers->width;
    int16_t narrow;
    int32_t middle;
    int64_t wide;
    switch (integers->width) {
    case 2:
        memcpy(&narrow, data, 2);
        return narrow;
    case 4:
        memcpy(&middle, data, 4);
        return middle;
    default:
        memcpy(&wide, data, 8);
        return wide;
    }
}

static inline void put_integer(struct integers *integers, size_t place, int64_t integer)
{
    char *data = integers->data + place * integers->width;
    int16_t narrow = (int16_t)integer;
    int32_t middle = (int32_t)integer;
    switch (integers->width) {
    case 2:
        memcpy(data, &narrow, 2);
        break;
    case 4:
        memcpy(data, &middle, 4);
        break;
    default:
        memcpy(data, &integer, 8);
    }
}

static inline uint32_t width_of(int64_t integer)
{
    return integer == (int16_t)integer ? 2 : integer == (int32_t)integer ? 4 : 8;
}

/* The place of an integer, or the one where it would have to be. */
static bool find_integer(const struct integers *integers, int64_t integer, size_t *place)
{
    size_t low = 0, high = integers->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (integer_at(integers, middle) < integer)
            low = middle + 1;
        else
            high = middle;
    }
    *place = low;
    return low < integers->count && integer_at(integers, low) == integer;
}

/* Make an array for as many integers of some width.  The allocator's blocks are 16 bytes apart, of which it uses 8. */
static struct integers make_integers(size_t count, uint32_t width)
{
    size_t bytes = ((count * width + 8 + 15) & ~(size_t)15) - 8;
    return (struct integers){allocate(bytes), (uint32_t)count, (uint32_t)(bytes / width), width, SET_INTEGERS};
}

static void insert_integer(struct integers *integers, size_t place, int64_t integer)
{
    uint32_t width = width_of(integer) > integers->width ? width_of(integer) : integers->width;
    size_t count = integers->count;
    if (width != integers->width || count == integers->capacity) {
        struct integers grown = make_integers(count + 1 + (count > 16 ? count / 8 : 0), width);
        grown.count = (uint32_t)count;
        if (width == integers->width && count > 0) {
            memcpy(grown.data, integers->data, count * width);
        } else {
            for (size_t at = 0; at < count; at++)
                put_integer(&grown, at, integer_at(integers, at));
        }
        free(integers->data);
        *integers = grown;
    }
    char *data = integers->data + place * width;
    memmove(data + width, data, (count - place) * width);
    put_integer(integers, place, integer);
    integers->count++;
}

static void delete_integer(struct integers *integers, size_t place)
{
    uint32_t width = integers->width;
    char *data = integers->data + place * width;
    size_t count = --integers->count;
    memmove(data, data + width, (count - place) * width);
    if (count < integers->capacity / 2 && integers->capacity * width > 24) {
        struct integers shrunk = make_integers(count, width);
        memcpy(shrunk.data, integers->data, count * width);
        free(integers->data);
        *integers = shrunk;
    }
}

/* --- The structure --- */

static inline void *small_block(const struct set_value *set)
{
    return set->form == SET_INTEGERS ? set->integers.data : set->pack.data;
}

uint32_t set_count(const struct set_value *set)
{
    switch (set->form) {
    case SET_INTEGERS:
        return set->integers.count;
    case SET_PACK:
        return set->pack.count;
    default:
        return set->table->count;
    }
}

static inline bool read_member(struct text member, int64_t *integer)
{
    return member.bytes <= INTEGER_BYTES_MAX && parse_integer(member.data, member.bytes, integer);
}

bool set_has(const struct set_value *set, struct text member)
{
    int64_t integer;
    size_t place;
    switch (set->form) {
    case SET_INTEGERS:
        return read_member(member, &integer) && find_integer(&set->integers, integer, &place);
    case SET_PACK:
        return pack_find(&set->pack, pack_first(&set->pack), member, 1) != PACK_END;
    default:
        return members_find(set->table, member_hash(&set->value, member), member) != NO_MEMBER;
    }
}

static void add_member(struct members *table, uint64_t hash, struct text member, int64_t *bytes)
{
    char *block = allocate(length_bytes(member.bytes) + member.bytes);
    write_string(block, member);
    members_add(table, hash, block, bytes);
}

/* Give a set of another form another one: its members come to be in a pack or a table. */
static void change_form(struct set_value *set, enum set_form form)
{
    struct pack pack = {0};
    int64_t *bytes = &set->value.bytes;
    struct members *table = form == SET_TABLE ? members_make(0, bytes) : NULL;
    char digits[INTEGER_BYTES_MAX];
    struct text member;
    for (size_t place = 0; set_next(set, &place, digits, &member);) {
        if (form == SET_TABLE)
            add_member(table, member_hash(&set->value, member), member, bytes);
        else
            pack_insert(&pack, PACK_END, member);
    }
    *bytes -= (int64_t)block_bytes(small_block(set));
    free(small_block(set));
    if (form == SET_TABLE) {
        set->table = table;
    } else {
        set->pack = pack;
        *bytes += (int64_t)block_bytes(pack.data);
    }
    set->form = form;
}

static inline bool fits_pack(const struct set_value *set, uint32_t count, struct text member)
{
    const struct limits *limits = set->value.limits;
    return count < limits->set_entries && member.bytes <= limits->set_value;
}

/* Whether integers could be in a pack: their texts are no longer than a pack's strings may be. */
static bool integers_fit_pack(const struct set_value *set)
{
    char digits[INTEGER_BYTES_MAX];
    uint32_t count = set->integers.count;
    return count == 0 || (set_at(set, 0, digits).bytes <= set->value.limits->set_value &&
                          set_at(set, count - 1, digits).bytes <= set->value.limits->set_value);
}

static bool add_integer(struct set_value *set, int64_t integer)
{
    size_t place, before = block_bytes(set->integers.data);
    if (find_integer(&set->integers, integer, &place))
        return false;
    insert_integer(&set->integers, place, integer);
    set->value.bytes += (int64_t)block_bytes(set->integers.data) - (int64_t)before;
    uint32_t count_max = set->value.limits->set_intset_entries;
    if (set->integers.count > (count_max < 1u << 30 ? count_max : 1u << 30))
        change_form(set, SET_TABLE);
    return true;
}

/* As Redis 7.2 has it in setTypeCreate() and setTypeAddAux() (t_set.c). */
bool set_add(struct set_value *set, struct text member)
{
    struct pack *pack = &set->pack;
    if (set->form == SET_INTEGERS) {
        int64_t integer;
        uint32_t count = set->integers.count;
        if ((count > 0 || set->value.limits->set_intset_entries > 0) && read_member(member, &integer))
            return add_integer(set, integer);
        change_form(set, fits_pack(set, count, member) && integers_fit_pack(set) ? SET_PACK : SET_TABLE);
    }
    if (set->form == SET_PACK) {
        if (pack_find(pack, pack_first(pack), member, 1) != PACK_END)
            return false;
        if (fits_pack(set, pack->count, member) && pack->bytes + member.bytes < PACK_BYTES_MAX) {
            size_t before = block_bytes(pack->data);
            pack_insert(pack, PACK_END, member);
            set->value.bytes += (int64_t)block_bytes(pack->data) - (int64_t)before;
            return true;
        }
        change_form(set, SET_TABLE);
    }
    uint64_t hash = member_hash(&set->value, member);
    if (members_find(set->table, hash, member) != NO_MEMBER)
        return false;
    add_member(set->table, hash, member, &set->value.bytes);
    return true;
}

void set_remove_at(struct set_value *set, size_t place)
{
    if (set->form == SET_TABLE) {
        members_remove(set->table, (uint32_t)place, &set->value.bytes);
        return;
    }
    size_t before = block_bytes(small_block(set));
    if (set->form == SET_INTEGERS)
        delete_integer(&set->integers, place);
    else
        pack_delete(&set->pack, place, 1);
    set->value.bytes += (int64_t)block_bytes(small_block(set)) - (int64_t)before;
}

bool set_remove(struct set_value *set, struct text member)
{
    int64_t integer;
    size_t place;
    if (set->form == SET_INTEGERS) {
        if (!read_member(member, &integer) || !find_integer(&set->integers, integer, &place))
            return false;
    } else if (set->form == SET_PACK) {
        place = pack_find(&set->pack, pack_first(&set->pack), member, 1);
        if (place == PACK_END)
            return false;
    } else {
        place = members_find(set->table, member_hash(&set->value, member), member);
        if (place == NO_MEMBER)
            return false;
    }
    set_remove_at(set, place);
    return true;
}

struct text set_at(const struct set_value *set, size_t place, char digits[INTEGER_BYTES_MAX])
{
    switch (set->form) {
    case SET_INTEGERS:
        return (struct text){digits, format_integer(digits, integer_at(&set->integers, place))};
    case SET_PACK:
        return pack_get(&set->pack, place);
    default:
        return members_name(set->table, (uint32_t)place);
    }
}

bool set_next(const struct set_value *set, size_t *place, char digits[INTEGER_BYTES_MAX], struct text *member)
{
    if (set->form == SET_PACK) {
        if (*place >= set->pack.bytes) /* PACK_END is the largest of all */
            return false;
        *member = pack_get(&set->pack, *place);
        *place = pack_next(&set->pack, *place);
    } else {
        if (*place >= set_count(set))
            return false;
        *member = set_at(set, (*place)++, digits);
    }
    return true;
}

size_t set_random(struct set_value *set)
{
    size_t index = next_random(&set->value.limits->random) % set_count(set);
    return set->form == SET_PACK ? pack_seek(&set->pack, index) : index;
}

uint32_t set_shed(struct set_value *set, uint32_t count)
{
    uint32_t shed = set_count(set);
    if (set->form != SET_TABLE) {
        set->value.bytes -= (int64_t)block_bytes(small_block(set));
        free(small_block(set));
        set->pack = (struct pack){0};
        return shed;
    }
    if (shed > count)
        shed = count;
    for (uint32_t left = shed; left > 0; left--)
        members_remove(set->table, set->table->count - 1, &set->value.bytes);
    return shed;
}

void set_copy(const struct set_value *set, struct set_value *copy)
{
    copy->form = set->form;
    if (set->form == SET_TABLE) {
        copy->table = members_copy(set->table, &copy->value.bytes);
        return;
    }
    if (set->form == SET_PACK) {
        copy->pack = pack_copy(&set->pack);
    } else if (set->integers.count > 0) {
        copy->integers = make_integers(set->integers.count, set->integers.width);
        memcpy(copy->integers.data, set->integers.data, (size_t)set->integers.count * set->integers.width);
    }
    copy->value.bytes += (int64_t)block_bytes(small_block(copy));
}

void set_free(struct set_value *set)
{
    if (set->form == SET_TABLE)
        members_free(set->table);
    else
        free(small_block(set));
}

const char *set_audit(const struct set_value *set)
{
    int64_t bytes = 0;
    const char *wrong = NULL;
    if (set->form == SET_TABLE) {
        wrong = members_audit(set->table, set->value.limits->secret, &bytes);
    } else {
        bytes = (int64_t)block_bytes(small_block(set));
        if (set->form == SET_PACK)
            wrong = pack_audit(&set->pack);
        else if ((size_t)set->integers.capacity * set->integers.width + sizeof(size_t) > (size_t)bytes &&
                 set->integers.data != NULL)
            wrong = "integers are larger than their block";
        else
            for (size_t at = 1; at < set->integers.count; at++)
                if (integer_at(&set->integers, at - 1) >= integer_at(&set->integers, at))
                    wrong = "integers are out of order";
    }
    if (wrong != NULL)
        return wrong;
    return bytes == set->value.bytes ? NULL : "a set's memory is miscounted";
}

/* --- Commands: kora/commands/sets.py is the reference --- */

/* The set of a request's key, or NULL for a key that is not there; false for what is no set. */
static inline bool find_set(struct turn *turn, const struct request *request, const struct argument *argv,
                            struct key *key, struct entry **entry, struct set_value **set)
{
    *key = first_key(request, argv);
    *entry = keyspace_find(turn->keyspace, key);
    *set = NULL;
    if (*entry == NULL)
        return true;
    if ((*entry)->object_kind != SET_OBJECT)
        return false;
    *set = (struct set_value *)entry_value(*entry);
    return true;
}

/* As that, for commands that look, and counted as such. */
static inline bool read_set(struct turn *turn, const struct request *request, const struct argument *argv,
                            struct set_value **set)
{
    struct key key;
    struct entry *entry;
    if (!find_set(turn, request, argv, &key, &entry, set))
        return false;
    count_read(turn->keyspace, entry);
    return true;
}

OPERATION(op_sadd)
{
    UNUSED(kernel);
    struct key key;
    struct entry *entry;
    struct set_value *set;
    int64_t added = 0;
    if (!find_set(turn, request, argv, &key, &entry, &set))
        return false;
    if (entry == NULL) {
        entry = keyspace_make_object(turn->keyspace, &key, SET_OBJECT);
        if (entry == NULL)
            return false;
        set = (struct set_value *)entry_value(entry);
    }
    for (size_t at = 2; at < request->argc; at++)
        added += set_add(set, text_of(&argv[at]));
    if (added)
        keyspace_updated(turn->keyspace, &key, entry, false);
    else
        entry->touched_s = turn->keyspace->now_s;
    output_integer(output, added);
    return true;
}

OPERATION(op_srem)
{
    UNUSED(kernel);
    struct key key;
    struct entry *entry;
    struct set_value *set;
    int64_t removed = 0;
    if (!find_set(turn, request, argv, &key, &entry, &set))
        return false;
    if (set != NULL) {
        for (size_t at = 2; at < request->argc; at++)
            removed += set_remove(set, text_of(&argv[at]));
        if (removed)
            keyspace_updated(turn->keyspace, &key, entry, set_count(set) == 0);
        else
            entry->touched_s = turn->keyspace->now_s;
    }
    output_integer(output, removed);
    return true;
}

OPERATION(op_sismember)
{
    UNUSED(kernel);
    struct set_value *set;
    if (!read_set(turn, request, argv, &set))
        return false;
    output_integer(output, set != NULL && set_has(set, text_of(&argv[2])));
    return true;
}

OPERATION(op_smismember)
{
    UNUSED(kernel);
    struct set_value *set;
    if (!read_set(turn, request, argv, &set))
        return false;
    output_header(output, '*', request->argc - 2);
    for (size_t at = 2; at < request->argc; at++)
        output_integer(output, set != NULL && set_has(set, text_of(&argv[at])));
    return true;
}

OPERATION(op_scard)
{
    UNUSED(kernel);
    struct set_value *set;
    if (!read_set(turn, request, argv, &set))
        return false;
    output_integer(output, set == NULL ? 0 : set_count(set));
    return true;
}

OPERATION(op_smembers)
{
    UNUSED(kernel);
    struct set_value *set;
    char digits[INTEGER_BYTES_MAX];
    struct text member;
    if (!read_set(turn, request, argv, &set))
        return false;
    output_header(output, turn->protocol == 3 ? '~' : '*', set == NULL ? 0 : set_count(set));
    for (size_t place = 0; set != NULL && set_next(set, &place, digits, &member);)
        output_bulk(output, member.data, member.bytes);
    return true;
}

/* The reply to who wants one member: a random one, whose place it returns. */
static size_t output_random(struct output *output, struct set_value *set)
{
    char digits[INTEGER_BYTES_MAX];
    size_t place = set_random(set);
    struct text member = set_at(set, place, digits);
    output_bulk(output, member.data, member.bytes);
    return place;
}

OPERATION(op_spop)
{
    struct key key;
    struct entry *entry;
    struct set_value *set;
    if (request->argc > 2 || !find_set(turn, request, argv, &key, &entry, &set))
        return false;
    if (set == NULL) {
        output_null(output, turn->protocol);
    } else {
        size_t place = output_random(output, set);
        if (UNLIKELY(kernel->journal.on)) {
            char digits[INTEGER_BYTES_MAX];
            struct text words[] = {WORD("SREM"), text_of(&argv[1]), set_at(set, place, digits)};
            journal_instead(kernel, turn, words, 3);
        }
        set_remove_at(set, place);
        keyspace_updated(turn->keyspace, &key, entry, set_count(set) == 0);
    }
    return true;
}

OPERATION(op_srandmember)
{
    UNUSED(kernel);
    struct set_value *set;
    if (request->argc > 2 || !read_set(turn, request, argv, &set))
        return false;
    if (set == NULL)
        output_null(output, turn->protocol);
    else
        output_random(output, set);
    return true;
}
