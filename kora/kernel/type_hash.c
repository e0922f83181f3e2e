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
