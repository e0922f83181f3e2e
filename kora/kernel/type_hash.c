/* Hashes: kora/types/hash.py is the reference.
 *
 * A small hash is a pack of fields and values in turn.  A large one is a table of members, of which each is one block: the
 * field, and its value behind it. */

#include "kernel.h"

#include <stdlib.h>

/* --- The structure --- */

uint32_t hash_count(const struct hash_value *hash)
{
    return hash->is_table ? hash->table->count : hash->pack.count / 2;
}

static inline struct text value_behind(struct text field)
{
    return read_string(field.data + field.bytes);
}

static inline size_t pair_bytes(struct text field, struct text value)
{
    return length_bytes(field.bytes) + field.bytes + length_bytes(value.bytes) + value.bytes;
}

static void table_add(struct members *table, uint64_t hash, struct text field, struct text value, int64_t *bytes)
{
    char *block = allocate(pair_bytes(field, value));
    write_string(write_string(block, field), value);
    members_add(table, hash, block, bytes);
}

static void table_replace(struct members *table, uint32_t index, struct text value, int64_t *bytes)
{
    struct node *node = members_node(table, index);
    struct text field = read_string(node->block);
    size_t needed = pair_bytes(field, value), before = block_bytes(node->block), usable = before - sizeof(size_t);
    if (needed > usable || needed < usable / 2) {
        node->block = reallocate(node->block, needed);
        *bytes += (int64_t)block_bytes(node->block) - (int64_t)before;
        field = read_string(node->block);
    }
    write_string((char *)field.data + field.bytes, value);
}

static void make_table(struct hash_value *hash)
{
    struct pack pack = hash->pack;
    int64_t *bytes = &hash->value.bytes;
    struct members *table = members_make(0, bytes);
    for (size_t at = pack_first(&pack); at != PACK_END;) {
        size_t value_at = pack_next(&pack, at);
        struct text field = pack_get(&pack, at);
        table_add(table, member_hash(&hash->value, field), field, pack_get(&pack, value_at), bytes);
        at = pack_next(&pack, value_at);
    }
    *bytes -= (int64_t)block_bytes(pack.data);
    pack_free(&pack);
    hash->table = table;
    hash->is_table = true;
}

bool hash_get(const struct hash_value *hash, struct text field, struct text *value)
{
    if (hash->is_table) {
        uint32_t index = members_find(hash->table, member_hash(&hash->value, field), field);
        if (index == NO_MEMBER)
            return false;
        *value = value_behind(members_name(hash->table, index));
    } else {
        size_t at = pack_find(&hash->pack, pack_first(&hash->pack), field, 2);
        if (at == PACK_END)
            return false;
        *value = pack_get(&hash->pack, pack_next(&hash->pack, at));
    }
    return true;
}

static bool set_in_pack(struct hash_value *hash, struct text field, struct text value)
{
    struct pack *pack = &hash->pack;
    size_t before = block_bytes(pack->data);
    size_t at = pack_find(pack, pack_first(pack), field, 2);
    if (at == PACK_END) {
        pack_insert(pack, PACK_END, field);
        pack_insert(pack, PACK_END, value);
    } else {
        pack_replace(pack, pack_next(pack, at), value);
    }
    hash->value.bytes += (int64_t)block_bytes(pack->data) - (int64_t)before;
    return at == PACK_END;
}

bool hash_set(struct hash_value *hash, struct text field, struct text value)
{
    const struct limits *limits = hash->value.limits;
    if (!hash->is_table) {
        if (field.bytes <= limits->hash_value && value.bytes <= limits->hash_value &&
            hash->pack.bytes + field.bytes + value.bytes < PACK_BYTES_MAX) {
            bool is_new = set_in_pack(hash, field, value);
            if (hash->pack.count / 2 > limits->hash_entries)
                make_table(hash);
            return is_new;
        }
        make_table(hash);
    }
    uint64_t name_hash = member_hash(&hash->value, field);
    uint32_t index = members_find(hash->table, name_hash, field);
    if (index == NO_MEMBER)
        table_add(hash->table, name_hash, field, value, &hash->value.bytes);
    else
        table_replace(hash->table, index, value, &hash->value.bytes);
    return index == NO_MEMBER;
}

bool hash_delete(struct hash_value *hash, struct text field)
{
    if (hash->is_table) {
        uint32_t index = members_find(hash->table, member_hash(&hash->value, field), field);
        if (index == NO_MEMBER)
            return false;
        members_remove(hash->table, index, &hash->value.bytes);
    } else {
        size_t at = pack_find(&hash->pack, pack_first(&hash->pack), field, 2);
        if (at == PACK_END)
            return false;
        size_t before = block_bytes(hash->pack.data);
        pack_delete(&hash->pack, at, 2);
        hash->value.bytes += (int64_t)block_bytes(hash->pack.data) - (int64_t)before;
    }
    return true;
}

bool hash_next(const struct hash_value *hash, size_t *place, struct text *field, struct text *value)
{
    if (hash->is_table) {
        if (*place >= hash->table->count)
            return false;
        *field = members_name(hash->table, (uint32_t)(*place)++);
        *value = value_behind(*field);
        return true;
    }
    if (*place >= hash->pack.bytes) /* PACK_END is the largest of all */
        return false;
    *field = pack_get(&hash->pack, *place);
    size_t value_at = pack_next(&hash->pack, *place);
    *value = pack_get(&hash->pack, value_at);
    *place = pack_next(&hash->pack, value_at);
    return true;
}

void hash_random(struct hash_value *hash, struct text *field, struct text *value)
{
    uint32_t index = (uint32_t)(next_random(&hash->value.limits->random) % hash_count(hash));
    size_t place = hash->is_table ? index : pack_seek(&hash->pack, 2 * (size_t)index);
    hash_next(hash, &place, field, value);
}

uint32_t hash_shed(struct hash_value *hash, uint32_t count)
{
    uint32_t shed = hash_count(hash);
    if (!hash->is_table) {
        hash->value.bytes -= (int64_t)block_bytes(hash->pack.data);
        pack_free(&hash->pack);
        return shed;
    }
    if (shed > count)
        shed = count;
    for (uint32_t left = shed; left > 0; left--)
        members_remove(hash->table, hash->table->count - 1, &hash->value.bytes);
    return shed;
}

void hash_copy(const struct hash_value *hash, struct hash_value *copy)
{
    copy->is_table = hash->is_table;
    copy->is_timed = hash->is_timed;
    copy->timed_count = hash->timed_count;
    if (hash->is_table) {
        copy->table = members_copy(hash->table, &copy->value.bytes);
    } else {
        copy->pack = pack_copy(&hash->pack);
        copy->value.bytes += (int64_t)block_bytes(copy->pack.data);
    }
}

void hash_free(struct hash_value *hash)
{
    if (hash->is_table)
        members_free(hash->table);
    else
        pack_free(&hash->pack);
}

const char *hash_audit(const struct hash_value *hash, int64_t bytes_beside)
{
    int64_t bytes = bytes_beside;
    const char *wrong;
    if (hash->is_table) {
        wrong = members_audit(hash->table, hash->value.limits->secret, &bytes);
    } else {
        bytes += (int64_t)block_bytes(hash->pack.data);
        wrong = hash->pack.count % 2 ? "a field has no value" : pack_audit(&hash->pack);
    }
    if (wrong != NULL)
        return wrong;
    return bytes == hash->value.bytes ? NULL : "a hash's memory is miscounted";
}

/* --- Commands: kora/commands/hashes.py is the reference --- */

/* The hash of a request's key, or NULL for a key that is not there.  False for what is not a hash, and for a hash with
 * deadlines: some of its fields may have to go first. */
static inline bool find_hash(struct turn *turn, const struct request *request, const struct argument *argv,
                             struct key *key, struct entry **entry, struct hash_value **hash)
{
    *key = first_key(request, argv);
    *entry = keyspace_find(turn->keyspace, key);
    *hash = NULL;
    if (*entry == NULL)
        return true;
    if ((*entry)->object_kind != HASH_OBJECT)
        return false;
    *hash = (struct hash_value *)entry_value(*entry);
    return (*hash)->timed_count == 0;
}

/* As that, for commands that look, and counted as such. */
static inline bool read_hash(struct turn *turn, const struct request *request, const struct argument *argv,
                             struct hash_value **hash)
{
    struct key key;
    struct entry *entry;
    if (!find_hash(turn, request, argv, &key, &entry, hash))
        return false;
    count_read(turn->keyspace, entry);
    return true;
}

/* Make a hash where there is none. */
static inline bool make_hash(struct keyspace *keyspace, const struct key *key, struct entry **entry,
                             struct hash_value **hash)
{
    if (*entry != NULL)
        return true;
    *entry = keyspace_make_object(keyspace, key, HASH_OBJECT);
    if (*entry == NULL)
        return false;
    *hash = (struct hash_value *)entry_value(*entry);
    return true;
}

static bool set_fields(struct turn *turn, const struct request *request, struct argument *argv, int64_t *added)
{
    struct key key;
    struct entry *entry;
    struct hash_value *hash;
    if (request->argc % 2 || !find_hash(turn, request, argv, &key, &entry, &hash) ||
        !make_hash(turn->keyspace, &key, &entry, &hash))
        return false;
    *added = 0;
    for (size_t at = 2; at < request->argc; at += 2)
        *added += hash_set(hash, text_of(&argv[at]), text_of(&argv[at + 1]));
    keyspace_updated(turn->keyspace, &key, entry, false);
    return true;
}

OPERATION(op_hset)
{
    UNUSED(kernel);
    int64_t added;
    if (!set_fields(turn, request, argv, &added))
        return false;
    output_integer(output, added);
    return true;
}

OPERATION(op_hmset)
{
    UNUSED(kernel);
    int64_t added;
    if (!set_fields(turn, request, argv, &added))
        return false;
    output_ok(output);
    return true;
}

OPERATION(op_hsetnx)
{
    UNUSED(kernel);
    struct key key;
    struct entry *entry;
    struct hash_value *hash;
    struct text field = text_of(&argv[2]), found;
    if (!find_hash(turn, request, argv, &key, &entry, &hash))
        return false;
    bool is_new = hash == NULL || !hash_get(hash, field, &found);
    if (is_new) {
        if (!make_hash(turn->keyspace, &key, &entry, &hash))
            return false;
        hash_set(hash, field, text_of(&argv[3]));
        keyspace_updated(turn->keyspace, &key, entry, false);
    } else {
        entry->touched_s = turn->keyspace->now_s;
    }
    output_integer(output, is_new);
    return true;
}

OPERATION(op_hincrby)
{
    UNUSED(kernel);
    struct key key;
    struct entry *entry;
    struct hash_value *hash;
    struct text field = text_of(&argv[2]), found;
    char digits[INTEGER_BYTES_MAX];
    int64_t increment, number = 0;
    if (!parse_integer(argv[3].data, argv[3].bytes, &increment) || !find_hash(turn, request, argv, &key, &entry, &hash))
        return false;
    if (hash != NULL && hash_get(hash, field, &found) && !parse_integer(found.data, found.bytes, &number))
        return false;
    if (__builtin_add_overflow(number, increment, &number) || !make_hash(turn->keyspace, &key, &entry, &hash))
        return false;
    hash_set(hash, field, (struct text){digits, format_integer(digits, number)});
    keyspace_updated(turn->keyspace, &key, entry, false);
    output_integer(output, number);
    return true;
}

OPERATION(op_hdel)
{
    UNUSED(kernel);
    struct key key;
    struct entry *entry;
    struct hash_value *hash;
    int64_t deleted = 0;
    if (!find_hash(turn, request, argv, &key, &entry, &hash))
        return false;
    if (hash != NULL) {
        for (size_t at = 2; at < request->argc; at++)
            deleted += hash_delete(hash, text_of(&argv[at]));
        if (deleted)
            keyspace_updated(turn->keyspace, &key, entry, hash_count(hash) == 0);
        else
            entry->touched_s = turn->keyspace->now_s;
    }
    output_integer(output, deleted);
    return true;
}

static inline void output_field(struct output *output, int protocol, const struct hash_value *hash, struct text field)
{
    struct text value;
    if (hash != NULL && hash_get(hash, field, &value))
        output_bulk(output, value.data, value.bytes);
    else
        output_null(output, protocol);
}

OPERATION(op_hget)
{
    UNUSED(kernel);
    struct hash_value *hash;
    if (!read_hash(turn, request, argv, &hash))
        return false;
    output_field(output, turn->protocol, hash, text_of(&argv[2]));
    return true;
}

OPERATION(op_hmget)
{
    UNUSED(kernel);
    struct hash_value *hash;
    if (!read_hash(turn, request, argv, &hash))
        return false;
    output_header(output, '*', request->argc - 2);
    for (size_t at = 2; at < request->argc; at++)
        output_field(output, turn->protocol, hash, text_of(&argv[at]));
    return true;
}

static void output_hash(struct output *output, const struct hash_value *hash, bool fields, bool values)
{
    struct text field, value;
    for (size_t place = 0; hash != NULL && hash_next(hash, &place, &field, &value);) {
        if (fields)
            output_bulk(output, field.data, field.bytes);
        if (values)
            output_bulk(output, value.data, value.bytes);
    }
}

OPERATION(op_hgetall)
{
    UNUSED(kernel);
    struct hash_value *hash;
    if (!read_hash(turn, request, argv, &hash))
        return false;
    size_t count = hash == NULL ? 0 : hash_count(hash);
    if (turn->protocol == 3)
        output_header(output, '%', count);
    else
        output_header(output, '*', 2 * count);
    output_hash(output, hash, true, true);
    return true;
}

OPERATION(op_hkeys)
{
    UNUSED(kernel);
    struct hash_value *hash;
    if (!read_hash(turn, request, argv, &hash))
        return false;
    output_header(output, '*', hash == NULL ? 0 : hash_count(hash));
    output_hash(output, hash, true, false);
    return true;
}

OPERATION(op_hvals)
{
    UNUSED(kernel);
    struct hash_value *hash;
    if (!read_hash(turn, request, argv, &hash))
        return false;
    output_header(output, '*', hash == NULL ? 0 : hash_count(hash));
    output_hash(output, hash, false, true);
    return true;
}

OPERATION(op_hlen)
{
    UNUSED(kernel);
    struct hash_value *hash;
    if (!read_hash(turn, request, argv, &hash))
        return false;
    output_integer(output, hash == NULL ? 0 : hash_count(hash));
    return true;
}

OPERATION(op_hexists)
{
    UNUSED(kernel);
    struct hash_value *hash;
    struct text value;
    if (!read_hash(turn, request, argv, &hash))
        return false;
    output_integer(output, hash != NULL && hash_get(hash, text_of(&argv[2]), &value));
    return true;
}

OPERATION(op_hstrlen)
{
    UNUSED(kernel);
    struct hash_value *hash;
    struct text value = {NULL, 0};
    if (!read_hash(turn, request, argv, &hash))
        return false;
    if (hash == NULL || !hash_get(hash, text_of(&argv[2]), &value))
        value.bytes = 0;
    output_integer(output, (int64_t)value.bytes);
    return true;
}
