/* What the processor is busy with, by samples: a timer on the CPU clock of the loop's thread sends that thread a signal
 * each time it has run for so long, wherever it is then: in the kernel, in the interpreter, or in a call of the system.
 *
 * The handler notes the address that was being run, and for whom: as much as may be done in a signal handler.  While
 * Python runs it also has the interpreter look at its stack, at the next place where that is sound; the stack belongs to
 * all samples since the last that wait for one.  Samples are in a ring, which whoever takes them empties.  Handler and
 * taker are the same thread: the handler may interrupt the taker, and never the other way round.
 *
 * A process has one handler for a signal, so there is one sampler that is on, whichever kernel it belongs to.
 */
#include "kernel.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#endif

enum { WORD_CLIENT = 2 }; /* of the activity board: 0 while nobody has a turn */

#if defined(__linux__) && defined(SIGEV_THREAD_ID)

static struct sampler *volatile sampling;

static uintptr_t interrupted_address(const void *context)
{
#if defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
#else
    (void)context;
    return 0;
#endif
}

static void sample(int number, siginfo_t *info, void *context)
{
    (void)number;
    struct sampler *sampler = sampling;
    if (sampler == NULL || info->si_code != SI_TIMER)
        return; /* of a timer that was stopped, or sent by somebody */
    int error = errno;
    const struct kernel *kernel = sampler->kernel;
    bool has_client = ((const volatile uint64_t *)kernel->board)[WORD_CLIENT] != 0;
    struct cpu_sample new = {
        .address = interrupted_address(context),
        .command = has_client ? kernel->running : NULL,
        /* The system looks at the clock at its ticks only; what it has missed since then counts as well. */
        .count = 1 + (uint32_t)(info->si_overrun > 0 ? info->si_overrun : 0),
        .is_of_loop = sampler->is_in_loop(sampler->owner),
        .is_operation = has_client && kernel->in_operation,
    };
    uint32_t last = sampler->last;
    if (UNLIKELY(last - sampler->first == CPU_SAMPLES)) {
        /* A command that takes long keeps whoever takes samples from it: then these are all of its kind. */
        sampler->ring[(last - 1) % CPU_SAMPLES].count += new.count;
    } else {
        sampler->ring[last % CPU_SAMPLES] = new;
        sampler->last = last + 1;
    }
    if (!new.is_of_loop)
        sampler->ask(sampler->owner);
    errno = error;
}

static bool make_timer(timer_t *timer)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGPROF;
#ifdef sigev_notify_thread_id
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
#else
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
#endif
    return timer_create(CLOCK_THREAD_CPUTIME_ID, &event, timer) == 0;
}

bool sampler_is_possible(void)
{
    timer_t timer;
    return make_timer(&timer) && timer_delete(timer) == 0;
}

bool sampler_start(struct sampler *sampler, int64_t period_ns)
{
    sampler->first = sampler->last = 0;
    struct sigaction action = {.sa_sigaction = sample, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&action.sa_mask);
    timer_t timer;
    if (sigaction(SIGPROF, &action, NULL) != 0 || !make_timer(&timer))
        return false;
    sampler->timer = timer;
    sampling = sampler;
    sampler->kernel->running = NULL;
    sampler->kernel->is_sampled = true;
    struct timespec period = {.tv_sec = period_ns / 1000000000, .tv_nsec = period_ns % 1000000000};
    struct itimerspec times = {.it_interval = period, .it_value = period};
    if (timer_settime(timer, 0, &times, NULL) != 0) {
        sampler_stop(sampler);
        return false;
    }
    return true;
}

void sampler_stop(struct sampler *sampler)
{
    if (sampling != sampler)
        return;
    sampling = NULL;
    sampler->kernel->is_sampled = false;
    timer_delete(sampler->timer);
    /* The handler stays: a signal may be under way. */
}

#else

bool sampler_is_possible(void)
{
    errno = ENOSYS;
    return false;
}

bool sampler_start(struct sampler *sampler, int64_t period_ns)
{
    (void)sampler, (void)period_ns;
    errno = ENOSYS;
    return false;
}

void sampler_stop(struct sampler *sampler)
{
    (void)sampler;
}

#endif

bool sampler_take(struct sampler *sampler, struct cpu_sample *sample)
{
    if (sampler->first == sampler->last)
        return false;
    *sample = sampler->ring[sampler->first % CPU_SAMPLES];
    sampler->first++;
    return true;
}
