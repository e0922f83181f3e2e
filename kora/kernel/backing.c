/* Keyspaces that hold a part of their keys, above a store that has all of them: kora/store/backing.py says how the two
 * go together.  Here is what a keyspace knows beside its entries: which keys are not there although the store may have
 * them (ghosts), what has changed since the store was told last (marks), and how many keys there are in all.
 *
 * A mark names an entry or a ghost by the slot and the hash of its key, since entries move and go.  Whoever follows a
 * mark looks for those with that hash that are in the state that the mark was made for; there may be none any more. */
#include "kernel.h"

#include <stdlib.h>

/* --- Marks --- */

static void marks_add(struct marks *marks, uint64_t hash, unsigned slot)
{
    if (marks->count == marks->capacity) {
        if (marks->first > marks->capacity / 2) {
            marks->count -= marks->first;
            memmove(marks->items, marks->items + marks->first, marks->count * sizeof *marks->items);
            marks->first = 0;
        } else {
            marks->capacity = marks->capacity ? 2 * marks->capacity : 64;
            marks->items = reallocate(marks->items, marks->capacity * sizeof *marks->items);
        }
    }
    marks->items[marks->count++] = (struct mark){hash, slot};
}

static void marks_free(struct marks *marks)
{
    free(marks->items);
    *marks = (struct marks){0};
}

/* Large ones came with many changes at once, and are not kept for that. */
static void marks_clear(struct marks *marks)
{
    enum { KEPT = 1 << 14 };
    marks->first = marks->count = 0;
    if (marks->capacity > KEPT)
        marks_free(marks);
}

/* --- Ghosts: open addressing, and what follows is shifted back when one goes --- */

static inline size_t ghosts_mask(const struct ghosts *ghosts)
{
    return ((size_t)1 << ghosts->bits) - 1;
}

static void ghosts_resize(struct ghosts *ghosts, unsigned bits)
{
    struct ghost **old = ghosts->places;
    size_t old_count = old == NULL ? 0 : (size_t)1 << ghosts->bits;
    ghosts->places = allocate_zeroed(sizeof *ghosts->places << bits);
    ghosts->bits = bits;
    for (size_t at = 0; at < old_count; at++) {
        if (old[at] == NULL)
            continue;
        size_t place = old[at]->hash & ghosts_mask(ghosts);
        while (ghosts->places[place] != NULL)
            place = (place + 1) & ghosts_mask(ghosts);
        ghosts->places[place] = old[at];
    }
    free(old);
}

static struct ghost *ghost_find(const struct ghosts *ghosts, const struct key *key)
{
    if (ghosts->count == 0)
        return NULL;
    for (size_t place = key->hash & ghosts_mask(ghosts);; place = (place + 1) & ghosts_mask(ghosts)) {
        struct ghost *ghost = ghosts->places[place];
        if (ghost == NULL)
            return NULL;
        if (ghost->hash == key->hash && ghost->key_bytes == key->bytes && is_same(ghost->key, key->data, key->bytes))
            return ghost;
    }
}

/* Of a key that has none. */
static struct ghost *ghost_add(struct ghosts *ghosts, const struct key *key, unsigned state)
{
    enum { BITS_MIN = 6 };
    if (ghosts->places == NULL)
        ghosts_resize(ghosts, BITS_MIN);
    else if (ghosts->count > ghosts_mask(ghosts) / 2) /* each look along the way is a cache miss */
        ghosts_resize(ghosts, ghosts->bits + 1);
    struct ghost *ghost = allocate(sizeof *ghost + key->bytes);
    ghost->hash = key->hash;
    ghost->slot = key->slot;
    ghost->key_bytes = (uint32_t)key->bytes;
    ghost->state = (uint8_t)state;
    ghost->reading = 0;
    memcpy(ghost->key, key->data, key->bytes);
    size_t place = key->hash & ghosts_mask(ghosts);
    while (ghosts->places[place] != NULL)
        place = (place + 1) & ghosts_mask(ghosts);
    ghosts->places[place] = ghost;
    ghosts->count++;
    ghosts->bytes += (int64_t)block_bytes(ghost);
    return ghost;
}

static void ghost_remove(struct ghosts *ghosts, struct ghost *ghost)
{
    size_t mask = ghosts_mask(ghosts), place = ghost->hash & mask;
    while (ghosts->places[place] != ghost)
        place = (place + 1) & mask;
    for (size_t next = (place + 1) & mask; ghosts->places[next] != NULL; next = (next + 1) & mask) {
        size_t wanted = ghosts->places[next]->hash & mask;
        if (((next - wanted) & mask) >= ((next - place) & mask)) {
            ghosts->places[place] = ghosts->places[next];
            place = next;
        }
    }
    ghosts->places[place] = NULL;
    ghosts->count--;
    ghosts->bytes -= (int64_t)block_bytes(ghost);
    free(ghost);
}

static void ghosts_free(struct ghosts *ghosts)
{
    for (size_t at = 0; ghosts->places != NULL && at < (size_t)1 << ghosts->bits; at++)
        free(ghosts->places[at]);
    free(ghosts->places);
    *ghosts = (struct ghosts){0};
}

static inline bool is_clean_ghost(const struct ghost *ghost)
{
    return !(ghost->state & (STATE_DIRTY | STATE_FLIGHT | STATE_AWAITED));
}

/* --- What a keyspace tells of its entries --- */

static void begin_dirty(struct backing *backing, uint64_t hash, unsigned slot, int64_t bytes)
{
    marks_add(&backing->dirty, hash, slot);
    backing->dirty_keys++;
    backing->dirty_bytes += bytes;
}

static void end_dirty(struct backing *backing, int64_t bytes)
{
    backing->dirty_keys--;
    /* What has become larger meanwhile was counted with less. */
    backing->dirty_bytes = backing->dirty_keys == 0 || backing->dirty_bytes < bytes ? 0 : backing->dirty_bytes - bytes;
}

void backing_changes(struct keyspace *keyspace, struct entry *entry)
{
    if (entry->epoch & STATE_DIRTY)
        return;
    struct text key = entry_key(entry);
    entry->epoch |= STATE_DIRTY;
    begin_dirty(keyspace->backing, keyed_hash(keyspace->kernel->secret, key.data, key.bytes),
                slot_of(key.data, key.bytes), entry_bytes(keyspace->kernel, entry));
}

void backing_born(struct keyspace *keyspace, const struct key *key, struct entry *entry, struct shard_stats *stats)
{
    struct backing *backing = keyspace->backing;
    struct ghost *ghost = ghost_find(&backing->ghosts, key);
    if (backing->is_loading) {
        entry->epoch = STATE_STORED;
        if (ghost != NULL)
            ghost_remove(&backing->ghosts, ghost);
        stats->keys--; /* it was there before */
        return;
    }
    unsigned state = STATE_DIRTY;
    if ((ghost == NULL || ghost->state & STATE_AWAITED) && keyspace->count - 1 != backing->count) {
        /* Nobody knew of it, and not all keys there are were held: the store may have this one. */
        state |= STATE_UNSURE;
        backing->unsure_dirty++;
    }
    if (ghost != NULL) {
        state |= ghost->state & (STATE_STORED | STATE_VOLATILE | STATE_FLIGHT | STATE_UNSURE);
        if (ghost->state & STATE_DIRTY)
            end_dirty(backing, (int64_t)block_bytes(ghost));
        ghost_remove(&backing->ghosts, ghost);
    }
    entry->epoch = state & (EPOCHS - 1);
    begin_dirty(backing, key->hash, key->slot, (int64_t)block_bytes(entry));
    backing->count++;
    backing->counts_by_run[key->slot >> RUN_BITS]++;
}

void backing_gone(struct keyspace *keyspace, unsigned slot, uint64_t hash, const struct entry *entry)
{
    struct backing *backing = keyspace->backing;
    struct text text = entry_key(entry);
    struct key key = {text.data, text.bytes, hash, slot};
    end_dirty(backing, entry_bytes(keyspace->kernel, entry));
    backing->count--;
    backing->counts_by_run[slot >> RUN_BITS]--;
    if (entry->flags & FLAG_DEADLINE)
        backing->volatile_count--;
    unsigned state = entry->epoch & (STATE_STORED | STATE_VOLATILE | STATE_FLIGHT | STATE_UNSURE);
    if (state & (STATE_STORED | STATE_UNSURE))
        state |= STATE_DIRTY;
    struct ghost *ghost = ghost_add(&backing->ghosts, &key, state);
    if (state & STATE_DIRTY)
        begin_dirty(backing, hash, slot, (int64_t)block_bytes(ghost));
}

/* --- Looking --- */

bool keyspace_knows(struct keyspace *keyspace, const struct key *key)
{
    if (LIKELY(keyspace_peek(keyspace, key) != NULL))
        return true;
    const struct ghost *ghost = ghost_find(&keyspace->backing->ghosts, key);
    return ghost != NULL && !(ghost->state & STATE_AWAITED);
}

bool keys_are_known(struct keyspace *keyspace, const struct command *command, const struct argument *argv, size_t argc)
{
    if (command->first_key == 0)
        return !command->declares_keys;
    int64_t last = command->last_key < 0 ? (int64_t)argc + command->last_key : command->last_key;
    for (int64_t at = command->first_key; at <= last && at < (int64_t)argc; at += command->key_step) {
        struct key key = key_of(keyspace->kernel, argv[at].data, argv[at].bytes);
        if (!keyspace_knows(keyspace, &key))
            return false;
    }
    return true;
}

static inline bool make_ready(struct keyspace *keyspace, const struct key *key, bool writes)
{
    struct entry *entry = keyspace_peek(keyspace, key);
    if (LIKELY(entry != NULL)) {
        if (writes)
            preserve(keyspace, entry);
    } else {
        const struct ghost *ghost = ghost_find(&keyspace->backing->ghosts, key);
        if (ghost == NULL || ghost->state & STATE_AWAITED)
            return false;
    }
    keyspace->backing->hits++;
    return true;
}

bool keys_are_ready(struct keyspace *keyspace, const struct request *request, const struct argument *argv)
{
    const struct command *command = request->command;
    int64_t argc = (int64_t)request->argc, at = command->first_key;
    int64_t last = command->last_key < 0 ? argc + command->last_key : command->last_key;
    struct backing *backing = keyspace->backing;
    backing->has_marked = false;
    if (at == 0)
        return !command->declares_keys;
    if (LIKELY(at == 1 && argc > 1)) {
        /* The one whose hash is known: see batch_prepare(). */
        struct key key = {argv[1].data, argv[1].bytes, request->hash, request->slot};
        uint64_t dirty_keys = backing->dirty_keys;
        if (!make_ready(keyspace, &key, command->writes) && !is_blind(command, argv, request->argc))
            return false;
        backing->has_marked = backing->dirty_keys != dirty_keys && last == 1;
        backing->changes_before = keyspace->changes;
        at += command->key_step;
    }
    for (; at <= last && at < argc; at += command->key_step) {
        struct key key = key_of(keyspace->kernel, argv[at].data, argv[at].bytes);
        if (!make_ready(keyspace, &key, command->writes) && !is_blind(command, argv, request->argc))
            return false;
    }
    return true;
}

void backing_reconsider(struct keyspace *keyspace, const struct request *request, const struct argument *argv)
{
    struct backing *backing = keyspace->backing;
    backing->has_marked = false;
    if (keyspace->changes != backing->changes_before)
        return;
    struct key key = {argv[1].data, argv[1].bytes, request->hash, request->slot};
    struct entry *entry = keyspace_peek(keyspace, &key);
    /* Streams note their readers, which is no change that anybody is told of. */
    if (entry == NULL || !(entry->epoch & STATE_DIRTY) || entry->object_kind == STREAM_OBJECT)
        return;
    entry->epoch &= ~STATE_DIRTY & (EPOCHS - 1);
    end_dirty(backing, entry_bytes(keyspace->kernel, entry));
    struct marks *dirty = &backing->dirty;
    if (dirty->count > dirty->first && dirty->items[dirty->count - 1].hash == key.hash)
        dirty->count--;
}

uint64_t keyspace_asked_by(struct keyspace *keyspace, const struct key *key)
{
    if (keyspace_peek(keyspace, key) != NULL)
        return KNOWN;
    const struct ghost *ghost = ghost_find(&keyspace->backing->ghosts, key);
    return ghost == NULL ? 0 : ghost->state & STATE_AWAITED ? ghost->reading : KNOWN;
}

void keyspace_await(struct keyspace *keyspace, const struct key *key, uint64_t reading)
{
    ghost_add(&keyspace->backing->ghosts, key, STATE_AWAITED)->reading = reading;
}

bool keyspace_end_awaiting(struct keyspace *keyspace, const struct key *key, uint64_t reading)
{
    struct ghost *ghost = ghost_find(&keyspace->backing->ghosts, key);
    if (ghost == NULL || !(ghost->state & STATE_AWAITED) || ghost->reading != reading)
        return false;
    ghost_remove(&keyspace->backing->ghosts, ghost);
    return true;
}

void keyspace_absent(struct keyspace *keyspace, const struct key *key)
{
    struct ghost *ghost = ghost_find(&keyspace->backing->ghosts, key);
    if (ghost != NULL)
        ghost->state &= ~STATE_AWAITED;
    else if (keyspace_peek(keyspace, key) == NULL)
        ghost_add(&keyspace->backing->ghosts, key, 0);
}

/* --- Following marks --- */

/* One after the other, the entries that a mark may name: those of its slot with its hash. */
struct named {
    struct table *table;
    size_t place;
    const struct mark *mark;
};

static struct named named_by(struct keyspace *keyspace, const struct mark *mark)
{
    struct named named = {.mark = mark};
    if (keyspace->slots == NULL)
        return named;
    named.table = part_of(&keyspace->slots[mark->slot], mark->hash);
    if (named.table->buckets == NULL)
        named.table = NULL;
    else
        named.place = tag_of(mark->hash) & (((size_t)1 << named.table->bits) - 1);
    return named;
}

static struct entry *next_named(struct keyspace *keyspace, struct named *named, unsigned state)
{
    while (named->table != NULL) {
        bucket bucket = named->table->buckets[named->place];
        if (!bucket)
            return NULL;
        named->place = (named->place + 1) & (((size_t)1 << named->table->bits) - 1);
        struct entry *entry = bucket_entry(bucket);
        if (bucket >> 48 != tag_of(named->mark->hash) || !(entry->epoch & state))
            continue;
        struct text key = entry_key(entry);
        if (keyed_hash(keyspace->kernel->secret, key.data, key.bytes) == named->mark->hash)
            return entry;
    }
    return NULL;
}

/* The ghost at or behind a place with a mark's hash that is in a state; moves the place behind it. */
static struct ghost *next_ghost(const struct ghosts *ghosts, const struct mark *mark, size_t *place, unsigned state)
{
    while (ghosts->count > 0 && ghosts->places[*place] != NULL) {
        struct ghost *ghost = ghosts->places[*place];
        *place = (*place + 1) & ghosts_mask(ghosts);
        if (ghost->hash == mark->hash && ghost->state & state)
            return ghost;
    }
    return NULL;
}

static unsigned what_was(unsigned state)
{
    if (state & STATE_UNSURE)
        return WAS_UNKNOWN;
    return !(state & STATE_STORED) ? WAS_ABSENT : state & STATE_VOLATILE ? WAS_VOLATILE : WAS_LASTING;
}

static void give_out_unsure(struct backing *backing)
{
    backing->unsure_dirty--;
    backing->unsure_flight++;
}

size_t keyspace_take_dirty(struct keyspace *keyspace, size_t bytes_max, visit_change visit, void *context)
{
    enum { CHANGE_BYTES = 64 };
    struct kernel *kernel = keyspace->kernel;
    struct backing *backing = keyspace->backing;
    struct marks *dirty = &backing->dirty;
    struct buffer *out = &kernel->saving.out;
    size_t bytes = 0, failed = 0;
    for (size_t left = dirty->count - dirty->first; left > 0 && bytes < bytes_max; left--) {
        struct mark mark = dirty->items[dirty->first++];
        struct named named = named_by(keyspace, &mark);
        struct entry *entry;
        bool is_given = false;
        while ((entry = next_named(keyspace, &named, STATE_DIRTY)) != NULL) {
            out->bytes = 0;
            if (!save_value(kernel, entry)) {
                marks_add(dirty, mark.hash, mark.slot);
                failed++;
                continue;
            }
            end_dirty(backing, entry_bytes(kernel, entry));
            if (entry->epoch & STATE_UNSURE)
                give_out_unsure(backing);
            visit(context, mark.slot, entry_key(entry), (struct text){out->data, out->bytes}, false,
                  what_was(entry->epoch));
            bytes += out->bytes + entry->key_bytes + CHANGE_BYTES;
            entry->epoch = STATE_STORED | STATE_FLIGHT | (entry_has_deadline(entry) ? STATE_VOLATILE : 0);
            is_given = true;
        }
        size_t place = mark.hash & (backing->ghosts.places == NULL ? 0 : ghosts_mask(&backing->ghosts));
        struct ghost *ghost;
        while ((ghost = next_ghost(&backing->ghosts, &mark, &place, STATE_DIRTY)) != NULL) {
            end_dirty(backing, (int64_t)block_bytes(ghost));
            if (ghost->state & STATE_UNSURE)
                give_out_unsure(backing);
            visit(context, mark.slot, (struct text){ghost->key, ghost->key_bytes}, (struct text){NULL, 0}, true,
                  what_was(ghost->state));
            bytes += ghost->key_bytes + CHANGE_BYTES;
            ghost->state = STATE_FLIGHT;
            is_given = true;
        }
        if (is_given)
            marks_add(&backing->flight, mark.hash, mark.slot);
    }
    if (dirty->first == dirty->count)
        marks_clear(dirty);
    if (out->capacity > 1 << 20)
        buffer_free(out);
    return failed;
}

void keyspace_written(struct keyspace *keyspace)
{
    struct backing *backing = keyspace->backing;
    for (size_t at = backing->flight.first; at < backing->flight.count; at++) {
        const struct mark *mark = &backing->flight.items[at];
        struct named named = named_by(keyspace, mark);
        struct entry *entry;
        while ((entry = next_named(keyspace, &named, STATE_FLIGHT)) != NULL)
            entry->epoch &= ~STATE_FLIGHT & (EPOCHS - 1);
        size_t place = mark->hash & (backing->ghosts.places == NULL ? 0 : ghosts_mask(&backing->ghosts));
        struct ghost *ghost;
        while ((ghost = next_ghost(&backing->ghosts, mark, &place, STATE_FLIGHT)) != NULL)
            ghost->state &= ~STATE_FLIGHT;
    }
    marks_clear(&backing->flight);
}

void keyspace_overwritten(struct keyspace *keyspace, unsigned run, uint64_t keys, uint64_t volatile_keys)
{
    struct backing *backing = keyspace->backing;
    backing->count -= keys;
    backing->volatile_count -= volatile_keys;
    backing->counts_by_run[run] -= (int64_t)keys;
    keyspace->by_run[run]->keys -= (int64_t)keys;
}

void keyspace_walk_unsure(struct keyspace *keyspace, visit_key visit, void *context)
{
    struct backing *backing = keyspace->backing;
    for (size_t at = backing->dirty.first; at < backing->dirty.count; at++) {
        const struct mark *mark = &backing->dirty.items[at];
        struct named named = named_by(keyspace, mark);
        struct entry *entry;
        while ((entry = next_named(keyspace, &named, STATE_UNSURE)) != NULL)
            visit(context, entry_key(entry));
        size_t place = mark->hash & (backing->ghosts.places == NULL ? 0 : ghosts_mask(&backing->ghosts));
        struct ghost *ghost;
        while ((ghost = next_ghost(&backing->ghosts, mark, &place, STATE_UNSURE)) != NULL)
            visit(context, (struct text){ghost->key, ghost->key_bytes});
    }
}

void keyspace_make_sure(struct keyspace *keyspace, const struct key *key, unsigned was)
{
    struct backing *backing = keyspace->backing;
    unsigned state = STATE_DIRTY | (was != WAS_ABSENT ? STATE_STORED : 0) | (was == WAS_VOLATILE ? STATE_VOLATILE : 0);
    struct entry *entry = keyspace_peek(keyspace, key);
    struct ghost *ghost = entry == NULL ? ghost_find(&backing->ghosts, key) : NULL;
    if (entry != NULL && entry->epoch & STATE_UNSURE) {
        entry->epoch = state & (EPOCHS - 1);
    } else if (ghost != NULL && ghost->state & STATE_UNSURE) {
        if (was == WAS_ABSENT) {
            end_dirty(backing, (int64_t)block_bytes(ghost));
            state = 0;
        }
        ghost->state = (uint8_t)state;
    } else {
        return; /* a mark named it twice */
    }
    backing->unsure_dirty--;
    if (was != WAS_ABSENT)
        keyspace_overwritten(keyspace, key->slot >> RUN_BITS, 1, was == WAS_VOLATILE);
}

/* --- Walks --- */

static bool is_between(uint64_t position, uint64_t start, uint64_t stop)
{
    return start <= position && position < stop;
}

static void visit_if_unsettled(struct entry *entry, uint64_t start, uint64_t stop, visit visit, void *context)
{
    if (!(entry->epoch & (STATE_DIRTY | STATE_FLIGHT)))
        return;
    struct text key = entry_key(entry);
    if (is_between(position_of(key.data, key.bytes), start, stop))
        visit(context, entry);
}

void keyspace_walk_unsettled(struct keyspace *keyspace, uint64_t start, uint64_t stop, visit visit, void *context)
{
    const struct backing *backing = keyspace->backing;
    const struct marks *lists[] = {&backing->dirty, &backing->flight};
    size_t marks_count = 0, entries_count = 0;
    if (keyspace->slots == NULL)
        return;
    for (size_t list = 0; list < 2; list++)
        marks_count += lists[list]->count - lists[list]->first;
    unsigned slot_start = (unsigned)(start >> POSITION_BITS), slot_stop = (unsigned)((stop - 1) >> POSITION_BITS) + 1;
    for (unsigned slot = slot_start; slot < slot_stop && slot < SLOTS && entries_count < marks_count; slot++)
        entries_count += keyspace->slots[slot].count;
    if (entries_count >= marks_count) {
        for (size_t list = 0; list < 2; list++) {
            for (size_t at = lists[list]->first; at < lists[list]->count; at++) {
                const struct mark *mark = &lists[list]->items[at];
                if (mark->slot < slot_start || mark->slot >= slot_stop)
                    continue;
                struct named named = named_by(keyspace, mark);
                struct entry *entry;
                while ((entry = next_named(keyspace, &named, STATE_DIRTY | STATE_FLIGHT)) != NULL)
                    visit_if_unsettled(entry, start, stop, visit, context);
            }
        }
        return;
    }
    for (unsigned slot = slot_start; slot < slot_stop && slot < SLOTS; slot++) {
        uint64_t place = 0;
        do {
            struct table *table = step(&keyspace->slots[slot], &place);
            for (size_t at = 0; at < buckets_count(table); at++)
                if (table->buckets[at])
                    visit_if_unsettled(bucket_entry(table->buckets[at]), start, stop, visit, context);
        } while (place != 0);
    }
}

/* --- Making room --- */

static bool may_drop(const struct kernel *kernel, const struct entry *entry, uint32_t touched_max_s)
{
    return !(entry->epoch & (STATE_DIRTY | STATE_FLIGHT)) && entry->touched_s <= touched_max_s &&
           !(entry->kind == OBJECT && kernel->is_held(entry_object(entry)));
}

static int by_number(const void *first, const void *second)
{
    uint32_t one = *(const uint32_t *)first, other = *(const uint32_t *)second;
    return one < other ? -1 : one > other;
}

/* Up to when the third of all entries was used that was not used for longest, as a sample tells. */
static uint32_t touched_long_ago_s(struct keyspace *keyspace)
{
    enum { SAMPLES = 33 };
    uint32_t touched_s[SAMPLES];
    for (size_t at = 0; at < SAMPLES; at++)
        touched_s[at] = keyspace_random(keyspace)->touched_s;
    qsort(touched_s, SAMPLES, sizeof *touched_s, by_number);
    return touched_s[SAMPLES / 3];
}

struct dropped keyspace_drop_clean(struct keyspace *keyspace, int64_t bytes_max, uint64_t keys_max, uint64_t looks_max)
{
    enum { AT_ONCE = 64, AHEAD = 8 };
    struct backing *backing = keyspace->backing;
    struct kernel *kernel = keyspace->kernel;
    struct dropped dropped = {0};
    if (keyspace->count == 0)
        return dropped;
    uint32_t touched_max_s = bytes_max == INT64_MAX ? UINT32_MAX : touched_long_ago_s(keyspace);
    unsigned slots_left = SLOTS + 1; /* once around */
    while (dropped.bytes < bytes_max && dropped.keys < keys_max && dropped.looked < looks_max && slots_left > 0 &&
           keyspace->count > 0) {
        unsigned slot = backing->hand_slot;
        uint64_t place = backing->hand_place;
        struct entry *chosen[AT_ONCE];
        size_t chosen_count = 0;
        bool is_full = false;
        if (keyspace->slots[slot].count > 0) {
            struct table *table = step(&keyspace->slots[slot], &place);
            size_t buckets = buckets_count(table);
            for (size_t at = 0; at < buckets; at++) {
                if (at + AHEAD < buckets && table->buckets[at + AHEAD])
                    PREFETCH(bucket_entry(table->buckets[at + AHEAD]));
                if (!table->buckets[at])
                    continue;
                struct entry *entry = bucket_entry(table->buckets[at]);
                dropped.looked++;
                if (!may_drop(kernel, entry, touched_max_s))
                    continue;
                if (chosen_count == AT_ONCE) {
                    is_full = true;
                    break;
                }
                chosen[chosen_count++] = entry;
            }
        } else {
            place = 0;
        }
        for (size_t at = 0; at < chosen_count && dropped.bytes < bytes_max && dropped.keys < keys_max; at++) {
            dropped.bytes += entry_bytes(kernel, chosen[at]);
            dropped.keys++;
            drop_entry(keyspace, slot, chosen[at]);
        }
        if (is_full)
            continue; /* the same table again */
        backing->hand_place = place;
        if (place == 0) {
            backing->hand_slot = (slot + 1) % SLOTS;
            slots_left--;
        }
    }
    return dropped;
}

size_t keyspace_drop_ghosts(struct keyspace *keyspace, size_t count_max)
{
    struct ghosts *ghosts = &keyspace->backing->ghosts;
    if (ghosts->count <= count_max)
        return ghosts->count;
    struct ghosts kept = {0};
    for (size_t at = 0; at < (size_t)1 << ghosts->bits; at++) {
        struct ghost *ghost = ghosts->places[at];
        if (ghost == NULL || is_clean_ghost(ghost))
            continue;
        struct key key = {ghost->key, ghost->key_bytes, ghost->hash, ghost->slot};
        ghost_add(&kept, &key, ghost->state)->reading = ghost->reading;
    }
    ghosts_free(ghosts);
    *ghosts = kept;
    return ghosts->count;
}

/* --- Life --- */

void keyspace_back(struct keyspace *keyspace)
{
    keyspace->backing = allocate_zeroed(sizeof *keyspace->backing);
    struct saving *saving = &keyspace->kernel->saving;
    /* No entry ever has this number, so that preserve() sees each change. */
    saving->epoch = EPOCHS - 1;
    saving->is_on = true;
}

void backing_flushed(struct keyspace *keyspace)
{
    struct backing *backing = keyspace->backing;
    marks_free(&backing->dirty);
    marks_free(&backing->flight);
    ghosts_free(&backing->ghosts);
    uint64_t hits = backing->hits;
    *backing = (struct backing){.hits = hits};
}

void backing_free(struct keyspace *keyspace)
{
    if (keyspace->backing != NULL)
        backing_flushed(keyspace);
    free(keyspace->backing);
    keyspace->backing = NULL;
}
