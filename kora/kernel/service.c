/* Service time, and who is to blame for it.
 *
 * The reference is kora/observe/service.py, which says how and why: from the same calls both have the same numbers.
 * This is here because it happens once for every read. */

#include "kernel.h"

#include <stdlib.h>

/* As in the reference. */
#define ASLEEP_NS 30000
#define ASLEEP_PARTS 8
#define APART_NS 20000
#define PAUSE_SHIFT 3
#define PAUSE_NS_MAX 60000000000

static inline int64_t larger(int64_t one, int64_t other)
{
    return one > other ? one : other;
}

static inline int64_t smaller(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

void service_init(struct service *service, size_t commands, int64_t jiffy_ns)
{
    service->reading = &service->nobody;
    service->noted_ns = allocate_zeroed((commands + !commands) * sizeof *service->noted_ns);
    service->commands_count = commands;
    service->event_loop = (struct culprit){.slot = -1};
    service->jiffy_ns = jiffy_ns;
    service->ask_ns = 2 * jiffy_ns;
    service->intervals = allocate_zeroed(INTERVALS * sizeof *service->intervals);
}

void service_free(struct service *service)
{
    free(service->noted_ns);
    free(service->intervals);
    service->noted_ns = NULL;
    service->intervals = NULL;
}

void service_reset(struct service *service)
{
    memset(service->noted_ns, 0, service->commands_count * sizeof *service->noted_ns);
    service->reads = 0;
    service->suffered_ns = service->suffered_ns_min = service->suffered_ns_max = 0;
}

/* --- Intervals --- */

static inline struct interval *newest_of(const struct service *service)
{
    return &service->intervals[(service->first + service->count - 1) % INTERVALS];
}

static void add_waited(struct waited *target, const struct waited *source)
{
    target->victims += source->victims;
    target->ns += source->ns;
    target->ns_min += source->ns_min;
    target->ns_max += source->ns_max;
}

static bool is_of_same(const struct culprit *one, const struct culprit *other)
{
    return one->slot == other->slot && one->client_id == other->client_id && one->label == other->label;
}

static void add_interval(struct service *service, const struct culprit *culprit, int64_t start_ns, int64_t stop_ns)
{
    if (service->count > 0) {
        struct interval *newest = newest_of(service);
        const struct culprit *before = &newest->culprit;
        start_ns = larger(start_ns, newest->stop_ns);
        bool is_same_key = culprit->key_bytes == 0 || (culprit->key_bytes == before->key_bytes &&
                                                       memcmp(culprit->key, before->key, before->key_bytes) == 0);
        if (is_same_key && is_of_same(culprit, before) && start_ns - newest->stop_ns < APART_NS) {
            /* Whatever it did between belongs to it as well: sending its reply, for one. */
            newest->stop_ns = larger(stop_ns, newest->stop_ns);
            return;
        }
        if (service->count == INTERVALS) {
            add_waited(&service->rest, &service->intervals[service->first].waited);
            service->first = (service->first + 1) % INTERVALS;
            service->count--;
        }
    }
    if (stop_ns <= start_ns)
        return;
    service->count++;
    *newest_of(service) = (struct interval){.start_ns = start_ns, .stop_ns = stop_ns, .culprit = *culprit};
}

/* The loop did something that nobody has told of. */
static void note_gap(struct service *service, int64_t start_ns, int64_t stop_ns)
{
    if (UNLIKELY(stop_ns - start_ns >= NOTABLE_NS))
        add_interval(service, service->is_lagging ? &service->lagging : &service->event_loop, start_ns, stop_ns);
}

/* --- From the loop --- */

static void loop_prepared(struct service *service, int64_t now_ns)
{
    note_gap(service, larger(service->busy_ns, service->polled_ns), now_ns);
    service->has_turns = true;
    if (service->polled_ns)
        service->window_ns = service->polled_ns;
    service->prepared_ns = service->busy_ns = now_ns;
    service->polled_ns = 0;
}

static void loop_checked(struct service *service, int64_t now_ns)
{
    if (!service->polled_ns)
        service->polled_ns = service->busy_ns = now_ns;
}

void service_prepared(struct kernel *kernel)
{
    uint64_t now;
    loop_prepared(&kernel->service, clock_begin(&kernel->clock, &now));
}

void service_checked(struct kernel *kernel)
{
    uint64_t now;
    if (!kernel->service.polled_ns)
        loop_checked(&kernel->service, clock_begin(&kernel->clock, &now));
}

static struct kernel *kernel_of(void *handle)
{
    struct kernel *kernel;
    memcpy(&kernel, (char *)handle - LOOP_HANDLE_OFFSET, sizeof kernel);
    return kernel;
}

void service_loop_prepared(void *handle)
{
    service_prepared(kernel_of(handle));
}

void service_loop_checked(void *handle)
{
    service_checked(kernel_of(handle));
}

/* --- Reads --- */

static inline bool has_slept(const struct service *service, int64_t start_ns, int64_t now_ns)
{
    int64_t gap_ns = now_ns - start_ns;
    return gap_ns > ASLEEP_NS && gap_ns > (start_ns - service->window_ns) / ASLEEP_PARTS;
}

bool service_bounds(struct service *service, struct reading *reading, int64_t client_id, int64_t last_ns)
{
    int64_t now_ns = reading->begun_ns;
    if (UNLIKELY(service->is_lagging) && service->lagging.client_id == client_id)
        service->is_lagging = false;
    if (UNLIKELY(reading->outer != &service->nobody)) {
        service->polled_ns = service->window_ns = now_ns; /* in the middle of a script */
    } else if (!service->has_turns) {
        if (has_slept(service, service->busy_ns, now_ns))
            service->window_ns = now_ns;
        service->polled_ns = now_ns;
    } else if (service->polled_ns) {
        note_gap(service, service->busy_ns, now_ns);
    } else {
        service->polled_ns = now_ns;
        if (has_slept(service, service->prepared_ns, now_ns))
            service->window_ns = now_ns;
    }
    reading->low_ns = smaller(larger(service->window_ns, last_ns), now_ns);
    reading->high_ns = larger(service->polled_ns, reading->low_ns);
    return reading->high_ns - reading->low_ns >= service->ask_ns;
}

void service_narrow(struct service *service, struct reading *reading, int64_t age_ns)
{
    if (age_ns < 0)
        return;
    int64_t start_ns = larger(reading->low_ns, reading->begun_ns - age_ns - service->jiffy_ns);
    int64_t stop_ns = smaller(reading->high_ns, reading->begun_ns - age_ns + service->jiffy_ns);
    if (start_ns > stop_ns)
        return;
    reading->low_ns = start_ns;
    reading->high_ns = stop_ns;
}

/* What of a wait, from `from_ns` to now, an interval overlaps that ends before `stop_ns`. */
static inline int64_t overlap(const struct interval *interval, int64_t stop_ns, int64_t from_ns)
{
    return larger(0, stop_ns - larger(interval->start_ns, from_ns));
}

static void charge(struct service *service, const struct reading *reading)
{
    int64_t now_ns = reading->begun_ns;
    struct waited rest = {
        .ns = now_ns - reading->arrived_ns,
        .ns_min = now_ns - reading->high_ns,
        .ns_max = now_ns - reading->low_ns,
    };
    service->reads++;
    service->suffered_ns += rest.ns;
    service->suffered_ns_min += rest.ns_min;
    service->suffered_ns_max += rest.ns_max;
    rest.victims = rest.ns > 0;
    for (size_t back = 1; back <= service->count; back++) {
        struct interval *interval = &service->intervals[(service->first + service->count - back) % INTERVALS];
        if (interval->stop_ns <= reading->low_ns)
            break;
        int64_t stop_ns = smaller(interval->stop_ns, now_ns);
        struct waited part = {
            .ns = overlap(interval, stop_ns, reading->arrived_ns),
            .ns_min = overlap(interval, stop_ns, reading->high_ns),
            .ns_max = overlap(interval, stop_ns, reading->low_ns),
        };
        if (part.ns) {
            part.victims = 1;
            rest.victims = 0;
        }
        add_waited(&interval->waited, &part);
        rest.ns -= part.ns;
        rest.ns_min -= part.ns_min;
        rest.ns_max -= part.ns_max;
    }
    add_waited(&service->rest, &rest);
}

void service_arrive(struct service *service, struct reading *reading, bool is_told, int64_t last_ns, int64_t *pause_ns)
{
    int64_t width_ns = reading->high_ns - reading->low_ns, pause = *pause_ns;
    int64_t arrived_ns = reading->low_ns;
    if (is_told || pause == 0)
        arrived_ns += width_ns / 2;
    else if (width_ns > 0)
        /* Here a width is less than ask_ns, which has 25 bits, and a pause has 36. */
        arrived_ns += width_ns * pause / (2 * pause + width_ns);
    int64_t last_pause_ns = smaller(larger(0, arrived_ns - last_ns), PAUSE_NS_MAX);
    *pause_ns = pause ? pause + ((last_pause_ns - pause) >> PAUSE_SHIFT) : last_pause_ns;
    reading->arrived_ns = arrived_ns;
    charge(service, reading);
}

/* --- What runs --- */

static void record_runs(struct service *service, struct reading *reading, int64_t now_ns)
{
    uint64_t service_ns = (uint64_t)larger(0, now_ns - reading->arrived_ns);
    for (size_t at = 0; at < reading->runs_count; at++) {
        const struct run *run = &reading->runs[at];
        command_stats_record_many(&service->waits[run->slot], (uint64_t)larger(0, run->waited_ns), run->count);
        command_stats_record_many(&service->services[run->slot], service_ns, run->count);
    }
    reading->runs_count = 0;
}

static int64_t time_of(const struct kernel *kernel, const struct reading *reading, uint64_t now)
{
    return reading->begun_ns + (int64_t)clock_elapsed_ns(&kernel->clock, reading->begun, now);
}

static void keep_run(struct service *service, struct reading *reading, unsigned slot, unsigned count, int64_t waited_ns,
                     int64_t now_ns)
{
    if (!reading->is_timed)
        return;
    if (UNLIKELY(reading->runs_count == RUNS))
        record_runs(service, reading, now_ns);
    reading->runs[reading->runs_count++] = (struct run){.slot = slot, .count = count, .waited_ns = waited_ns};
}

static inline void end_run(struct kernel *kernel, struct reading *reading)
{
    if (reading->count == 0)
        return;
    uint64_t middle = reading->first + (reading->last - reading->first) / 2;
    int64_t waited_ns = time_of(kernel, reading, middle) - reading->arrived_ns;
    keep_run(&kernel->service, reading, reading->slot, reading->count, waited_ns, reading->arrived_ns + waited_ns);
    reading->count = 0;
}

void service_next_run(struct kernel *kernel, unsigned slot, uint64_t started)
{
    struct reading *reading = kernel->service.reading;
    end_run(kernel, reading);
    reading->slot = slot;
    reading->first = started;
}

/* What comes next begins a run in any case. */
void service_end_run(struct kernel *kernel)
{
    end_run(kernel, kernel->service.reading);
    kernel->service.reading->slot = UINT_MAX;
}

void service_ran(struct kernel *kernel, unsigned slot, int64_t started_ns, unsigned count)
{
    struct service *service = &kernel->service;
    struct reading *reading = service->reading;
    service_end_run(kernel);
    keep_run(service, reading, slot, count, started_ns - reading->arrived_ns, started_ns);
}

void service_note(struct service *service, const struct culprit *culprit, int64_t start_ns, int64_t stop_ns)
{
    struct reading *reading = service->reading;
    if (reading->is_timed) {
        if (start_ns - reading->piece_ns >= NOTABLE_NS && reading->runs_count > 0) {
            struct culprit piece = *culprit;
            piece.slot = (int)reading->runs[reading->runs_count - 1].slot;
            piece.key_bytes = 0;
            add_interval(service, &piece, reading->piece_ns, start_ns);
        }
        reading->piece_ns = stop_ns;
    }
    service->noted_ns[culprit->slot] += stop_ns - start_ns;
    add_interval(service, culprit, start_ns, stop_ns);
}

static __attribute__((noinline, cold)) void note_rest(struct service *service, const struct reading *reading,
                                                      const char *address, int64_t client_id, int64_t now_ns)
{
    struct culprit culprit = {.client_id = client_id, .slot = (int)reading->runs[reading->runs_count - 1].slot};
    memcpy(culprit.address, address, ADDRESS_BYTES);
    add_interval(service, &culprit, reading->piece_ns, now_ns);
}

int64_t service_end(struct kernel *kernel, struct reading *reading, const char *address, int64_t client_id)
{
    struct service *service = &kernel->service;
    end_run(kernel, reading);
    int64_t now_ns = time_of(kernel, reading, clock_now(&kernel->clock));
    if (UNLIKELY(now_ns - reading->piece_ns >= NOTABLE_NS) && reading->runs_count > 0)
        note_rest(service, reading, address, client_id, now_ns);
    record_runs(service, reading, now_ns);
    if (UNLIKELY(reading->spans_count > 0))
        spans_flushed(&kernel->spans, reading, client_id, now_ns);
    service->busy_ns = now_ns;
    return now_ns;
}

/* --- From others --- */

void service_note_job(struct service *service, int label, int64_t start_ns, int64_t stop_ns)
{
    struct culprit culprit = {.slot = -1, .label = label};
    if (stop_ns - start_ns >= NOTABLE_NS)
        add_interval(service, &culprit, start_ns, stop_ns);
    service->busy_ns = stop_ns;
}

void service_lag(struct service *service, int64_t client_id)
{
    if (service->count == 0 || newest_of(service)->culprit.client_id != client_id)
        return;
    service->is_lagging = true;
    service->lagging = newest_of(service)->culprit;
}

void service_forget(struct service *service, int64_t client_id)
{
    if (service->lagging.client_id == client_id)
        service->is_lagging = false;
}
