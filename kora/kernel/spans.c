/* Requests that are traced: one in so many, chosen by counting down, which costs those that are not chosen nothing.
 *
 * A span is written down when its request has ended, with what was measured anyway.  Nothing has to be known before,
 * since a request of the kernel has neither a parent nor children: those run in Python. */

#include "kernel.h"

#include <math.h>
#include <stdlib.h>

void spans_resize(struct spans *spans, uint64_t capacity)
{
    if (capacity == spans->capacity)
        return;
    free(spans->ring);
    spans->ring = capacity ? allocate_zeroed(capacity * sizeof *spans->ring) : NULL;
    spans->capacity = capacity;
    spans->first = spans->count;
}

void spans_choose(struct kernel *kernel, double ratio)
{
    samples_settle(kernel);
    kernel->spans.log_rest = ratio > 0 && ratio < 1 ? log1p(-ratio) : 0;
    kernel->spans.left = ratio <= 0 ? SPANS_NEVER : spans_step(kernel);
    samples_begin(kernel);
}

/* Each request is chosen with the same probability, whatever was chosen before: the steps between are geometric. */
int64_t spans_step(struct kernel *kernel)
{
    if (kernel->spans.log_rest == 0)
        return 1;
    double uniform = (double)((kernel_random(kernel) >> 11) + 1) / 9007199254740993.0; /* within 0 and 1 */
    double steps = log(uniform) / kernel->spans.log_rest;
    return steps < 1e15 ? 1 + (int64_t)steps : SPANS_NEVER / 2;
}

void samples_settle(struct kernel *kernel)
{
    int64_t passed = kernel->samples_step - kernel->samples_left;
    kernel->hot_left -= passed;
    if (kernel->spans.left != SPANS_NEVER)
        kernel->spans.left -= passed;
    kernel->samples_step = kernel->samples_left;
}

void samples_begin(struct kernel *kernel)
{
    kernel->samples_left = kernel->hot_left < kernel->spans.left ? kernel->hot_left : kernel->spans.left;
    kernel->samples_step = kernel->samples_left;
}

static uint64_t next_id(struct kernel *kernel)
{
    uint64_t id = kernel_random(kernel);
    return id ? id : 1; /* W3C Trace Context: all zeroes is no id */
}

void spans_record(struct kernel *kernel, const struct turn *turn, unsigned slot, uint64_t started, uint64_t stopped)
{
    struct spans *spans = &kernel->spans;
    struct reading *reading = kernel->service.reading;
    if (spans->capacity == 0)
        return;
    struct traced *span = &spans->ring[spans->count % spans->capacity];
    span->trace_id[0] = next_id(kernel);
    span->trace_id[1] = next_id(kernel);
    span->span_id = next_id(kernel);
    span->started_ns = turn->begun_ns + (int64_t)clock_elapsed_ns(&kernel->clock, turn->begun, started);
    span->stopped_ns = turn->begun_ns + (int64_t)clock_elapsed_ns(&kernel->clock, turn->begun, stopped);
    span->begun_ns = turn->begun_ns;
    span->arrived_ns = reading->is_timed ? reading->arrived_ns : turn->begun_ns;
    span->parsed_ns =
        reading->parsed ? turn->begun_ns + (int64_t)clock_elapsed_ns(&kernel->clock, turn->begun, reading->parsed) : 0;
    span->flushed_ns = reading->is_timed ? 0 : span->stopped_ns;
    span->client_id = (int64_t)turn->client_id;
    span->slot = slot;
    span->database = turn->database;
    memcpy(span->address, turn->address, ADDRESS_BYTES);
    if (reading->is_timed && reading->spans_count++ == 0)
        reading->spans_first = spans->count;
    spans->count++;
}

/* Between those of a reading there may be some of others, which were read while a script ran. */
void spans_flushed(struct spans *spans, const struct reading *reading, int64_t client_id, int64_t now_ns)
{
    uint64_t at = reading->spans_first;
    if (at < spans->first)
        at = spans->first;
    if (spans->count - at > spans->capacity)
        at = spans->count - spans->capacity;
    for (; at < spans->count; at++) {
        struct traced *span = &spans->ring[at % spans->capacity];
        if (span->flushed_ns == 0 && span->client_id == client_id)
            span->flushed_ns = now_ns;
    }
}
