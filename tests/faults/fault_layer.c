// A faulty disk between a server and the file system, to be preloaded into the server: fault_layer.py is its other end.
//
// Calls that change what is below FAULT_LAYER/data are counted, written down in FAULT_LAYER/trace, and refused, delayed
// or never returned from, as the test says through FAULT_LAYER/control, which both sides have mapped.  Whatever file is
// opened to be written gets a second name in FAULT_LAYER/kept, its inode's number, so that power_cut.py finds contents
// that have been unlinked.  A sync costs only the delay that is asked for: a killed process loses nothing of what the
// operating system has, and what a machine would lose is worked out from the trace.
//
// Lines of the trace, whose words are separated by tabs; paths are relative to FAULT_LAYER/data:
//   entry PATH INODE         a name is there: opened with O_CREAT, or made by link
//   folder PATH INODE        the same, made by mkdir
//   cut INODE SIZE           truncated
//   rename SOURCE TARGET
//   unlink PATH
//   sync TICKET INODE SIZE   a file's sync has begun, at this size; SIZE is -1 for a directory, then comes its PATH
//   synced TICKET            and has ended well
//   kill CALL WHAT           the process ends itself before this call
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OPEN, WRITE, SYNC, SYNC_DIRECTORY, RENAME, UNLINK, TRUNCATE, READ, KINDS };
static const char *const WORDS[KINDS] = {"open",   "write",  "sync",     "sync-directory",
                                         "rename", "unlink", "truncate", "read"};

// fault_layer.py has the same layout.
struct control {
    _Atomic uint64_t calls;   // of all kinds
    _Atomic uint64_t counted; // of those of kinds_killing
    uint64_t kill_at;         // the counted call in whose place the process is killed; 0: never
    int64_t room_bytes;       // what may yet be written before the disk is full; negative: any amount
    int64_t clock_offset_ns;  // what the wall clock is wrong by
    uint32_t kinds_killing;   // a bit for each kind
    uint32_t sync_delay_us;
    int32_t pid;           // the server's; a forked child that is told to end takes its parent with it
    int32_t errors[KINDS]; // errno with which calls of a kind fail; 0: they do not
};

static struct control *control;
static char root[PATH_MAX], kept[PATH_MAX];
static size_t root_size;
static int trace = -1;
static _Atomic uint64_t tickets;

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("FAULT_LAYER");
    char path[PATH_MAX];
    if (folder == NULL)
        return;
    snprintf(path, sizeof path, "%s/control", folder);
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0)
        return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    syscall(SYS_close, descriptor);
    if (mapped == MAP_FAILED)
        return;
    snprintf(root, sizeof root, "%s/data", folder);
    root_size = strlen(root);
    snprintf(kept, sizeof kept, "%s/kept", folder);
    snprintf(path, sizeof path, "%s/trace", folder);
    trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    control = mapped;
    control->pid = getpid();
}

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
    char line[3 * PATH_MAX];
    va_list arguments;
    int error = errno;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    syscall(SYS_write, trace, line, (size_t)size);
    errno = error;
}

// The path below the root, or NULL: it is none of ours.
static const char *inside(const char *path)
{
    if (strncmp(path, root, root_size) != 0)
        return NULL;
    if (path[root_size] == '\0')
        return ".";
    return path[root_size] == '/' ? path + root_size + 1 : NULL;
}

// The folder's real path counts, since a server may name its files relative to where it is.
static const char *named(int folder, const char *path, char *out)
{
    char directory[PATH_MAX];
    if (control == NULL)
        return NULL;
    const char *slash = strrchr(path, '/');
    if (path[0] != '/' && folder != AT_FDCWD) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        if (realpath(link, directory) == NULL)
            return NULL;
    } else if (slash == NULL) {
        if (getcwd(directory, sizeof directory) == NULL)
            return NULL;
    } else {
        char parent[PATH_MAX];
        snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);
        if (realpath(parent, directory) == NULL)
            return NULL;
    }
    snprintf(out, 2 * PATH_MAX, "%s/%s", directory, slash == NULL ? path : slash + 1);
    return inside(out);
}

static const char *opened(int descriptor, char *out, struct stat *about)
{
    char link[64];
    if (control == NULL || syscall(SYS_fstat, descriptor, about) != 0)
        return NULL;
    if (!S_ISREG(about->st_mode) && !S_ISDIR(about->st_mode))
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, out, PATH_MAX - 1);
    if (size < 0)
        return NULL;
    out[size] = '\0';
    return inside(out);
}

static void die(void)
{
    syscall(SYS_kill, control->pid, SIGKILL);
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

// Count a call; returns whether it is the last one.
static int is_last(int kind)
{
    atomic_fetch_add(&control->calls, 1);
    if ((control->kinds_killing >> kind & 1) == 0)
        return 0;
    uint64_t call = atomic_fetch_add(&control->counted, 1) + 1;
    if (control->kill_at == 0 || call != control->kill_at)
        return 0;
    tell("kill\t%llu\t%s\n", (unsigned long long)call, WORDS[kind]);
    return 1;
}

// Count a call that happens wholly or not at all; returns whether it is to fail, with errno set.
static int refused(int kind)
{
    if (is_last(kind))
        die();
    if (control->errors[kind] == 0)
        return 0;
    errno = control->errors[kind];
    return 1;
}

// --- Contents ---

static ssize_t written(int descriptor, const void *data, size_t size, off_t place)
{
    struct stat about;
    char path[PATH_MAX];
    if (opened(descriptor, path, &about) == NULL)
        goto plain;
    if (is_last(WRITE)) {
        // Torn: a part of it has reached the file.
        if (place < 0)
            syscall(SYS_write, descriptor, data, size / 2);
        else
            syscall(SYS_pwrite64, descriptor, data, size / 2, place);
        die();
    }
    if (control->errors[WRITE] != 0) {
        errno = control->errors[WRITE];
        return -1;
    }
    if (control->room_bytes >= 0) {
        if ((int64_t)size > control->room_bytes)
            size = (size_t)control->room_bytes;
        if (size == 0) {
            errno = ENOSPC;
            return -1;
        }
        control->room_bytes -= (int64_t)size;
    }
plain:
    return place < 0 ? syscall(SYS_write, descriptor, data, size)
                     : syscall(SYS_pwrite64, descriptor, data, size, place);
}

ssize_t write(int descriptor, const void *data, size_t size)
{
    return written(descriptor, data, size, -1);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t place)
{
    return written(descriptor, data, size, place);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off_t place)
{
    return written(descriptor, data, size, place);
}

ssize_t writev(int descriptor, const struct iovec *pieces, int count)
{
    struct stat about;
    char path[PATH_MAX];
    if (opened(descriptor, path, &about) == NULL)
        return syscall(SYS_writev, descriptor, pieces, count);
    for (int i = 0; i < count; i++)
        if (pieces[i].iov_len > 0)
            return written(descriptor, pieces[i].iov_base, pieces[i].iov_len, -1);
    return 0;
}

// Reading is neither counted nor written down: it only fails where that is asked for, and only at a place in a file.
ssize_t pread64(int descriptor, void *data, size_t size, off_t place)
{
    struct stat about;
    char path[PATH_MAX];
    if (control != NULL && control->errors[READ] != 0 && opened(descriptor, path, &about) != NULL) {
        errno = control->errors[READ];
        return -1;
    }
    return syscall(SYS_pread64, descriptor, data, size, place);
}

ssize_t pread(int descriptor, void *data, size_t size, off_t place)
{
    return pread64(descriptor, data, size, place);
}

static int truncated(int descriptor, off_t size)
{
    struct stat about;
    char path[PATH_MAX];
    if (opened(descriptor, path, &about) == NULL)
        return (int)syscall(SYS_ftruncate, descriptor, size);
    if (refused(TRUNCATE))
        return -1;
    int result = (int)syscall(SYS_ftruncate, descriptor, size);
    if (result == 0)
        tell("cut\t%llu\t%lld\n", (unsigned long long)about.st_ino, (long long)size);
    return result;
}

int ftruncate(int descriptor, off_t size)
{
    return truncated(descriptor, size);
}

int ftruncate64(int descriptor, off_t size)
{
    return truncated(descriptor, size);
}

static int synced(int descriptor, int number)
{
    struct stat about;
    char path[PATH_MAX];
    const char *name = opened(descriptor, path, &about);
    if (name == NULL)
        return (int)syscall(number, descriptor);
    int is_directory = S_ISDIR(about.st_mode);
    uint64_t ticket = atomic_fetch_add(&tickets, 1);
    tell("sync\t%d-%llu\t%llu\t%lld\t%s\n", getpid(), (unsigned long long)ticket, (unsigned long long)about.st_ino,
         is_directory ? -1LL : (long long)about.st_size, name);
    if (control->sync_delay_us > 0) {
        struct timespec delay = {control->sync_delay_us / 1000000, control->sync_delay_us % 1000000 * 1000L};
        nanosleep(&delay, NULL);
    }
    if (refused(is_directory ? SYNC_DIRECTORY : SYNC))
        return -1;
    tell("synced\t%d-%llu\n", getpid(), (unsigned long long)ticket);
    return 0;
}

int fsync(int descriptor)
{
    return synced(descriptor, SYS_fsync);
}

int fdatasync(int descriptor)
{
    return synced(descriptor, SYS_fdatasync);
}

// --- Names ---

static void entered(const char *name, const char *path)
{
    struct stat about;
    char copy[PATH_MAX + 32];
    if (lstat(path, &about) != 0)
        return;
    if (S_ISREG(about.st_mode)) {
        snprintf(copy, sizeof copy, "%s/%llu", kept, (unsigned long long)about.st_ino);
        syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, copy, 0);
    }
    tell("%s\t%s\t%llu\n", S_ISDIR(about.st_mode) ? "folder" : "entry", name, (unsigned long long)about.st_ino);
    if (S_ISREG(about.st_mode) && about.st_size == 0)
        tell("cut\t%llu\t0\n", (unsigned long long)about.st_ino);
}

static int open_at(int folder, const char *path, int flags, mode_t mode)
{
    char whole[2 * PATH_MAX];
    const char *name = flags & O_CREAT ? named(folder, path, whole) : NULL;
    if (name != NULL && refused(OPEN))
        return -1;
    int descriptor = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (name != NULL && descriptor >= 0)
        entered(name, whole);
    return descriptor;
}

#define MODE_OF(flags, last, mode)                                                                                     \
    do {                                                                                                               \
        if (((flags) & (O_CREAT | O_TMPFILE)) != 0) {                                                                  \
            va_list arguments;                                                                                         \
            va_start(arguments, last);                                                                                 \
            (mode) = (mode_t)va_arg(arguments, int);                                                                   \
            va_end(arguments);                                                                                         \
        }                                                                                                              \
    } while (0)

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, flags, mode);
    return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, flags, mode);
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, flags, mode);
    return open_at(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, flags, mode);
    return open_at(folder, path, flags, mode);
}

static FILE *opened_stream(const char *symbol, const char *path, const char *mode)
{
    char whole[2 * PATH_MAX];
    const char *name = mode[0] == 'r' ? NULL : named(AT_FDCWD, path, whole);
    if (name != NULL && refused(OPEN))
        return NULL;
    FILE *(*real)(const char *, const char *) = (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, symbol);
    FILE *stream = real(path, mode);
    if (name != NULL && stream != NULL)
        entered(name, whole);
    return stream;
}

FILE *fopen(const char *path, const char *mode)
{
    return opened_stream("fopen", path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    return opened_stream("fopen64", path, mode);
}

int mkdir(const char *path, mode_t mode)
{
    char whole[2 * PATH_MAX];
    const char *name = named(AT_FDCWD, path, whole);
    if (name != NULL && refused(OPEN))
        return -1;
    int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (name != NULL && result == 0)
        entered(name, whole);
    return result;
}

static int linked(int source_folder, const char *source, int target_folder, const char *target, int flags)
{
    char whole[2 * PATH_MAX];
    const char *name = named(target_folder, target, whole);
    if (name != NULL && refused(OPEN))
        return -1;
    int result = (int)syscall(SYS_linkat, source_folder, source, target_folder, target, flags);
    if (name != NULL && result == 0)
        entered(name, whole);
    return result;
}

int link(const char *source, const char *target)
{
    return linked(AT_FDCWD, source, AT_FDCWD, target, 0);
}

int linkat(int source_folder, const char *source, int target_folder, const char *target, int flags)
{
    return linked(source_folder, source, target_folder, target, flags);
}

static int renamed(int source_folder, const char *source, int target_folder, const char *target)
{
    char whole_source[2 * PATH_MAX], whole_target[2 * PATH_MAX];
    const char *from = named(source_folder, source, whole_source), *to = named(target_folder, target, whole_target);
    if ((from != NULL || to != NULL) && refused(RENAME))
        return -1;
    int result = (int)syscall(SYS_renameat2, source_folder, source, target_folder, target, 0);
    if (result == 0 && from != NULL && to != NULL)
        tell("rename\t%s\t%s\n", from, to);
    return result;
}

int rename(const char *source, const char *target)
{
    return renamed(AT_FDCWD, source, AT_FDCWD, target);
}

int renameat(int source_folder, const char *source, int target_folder, const char *target)
{
    return renamed(source_folder, source, target_folder, target);
}

static int unlinked(int folder, const char *path, int flags)
{
    char whole[2 * PATH_MAX];
    const char *name = named(folder, path, whole);
    if (name != NULL && refused(UNLINK))
        return -1;
    int result = (int)syscall(SYS_unlinkat, folder, path, flags);
    if (name != NULL && result == 0)
        tell("unlink\t%s\n", name);
    return result;
}

int unlink(const char *path)
{
    return unlinked(AT_FDCWD, path, 0);
}

int unlinkat(int folder, const char *path, int flags)
{
    return unlinked(folder, path, flags);
}

int rmdir(const char *path)
{
    return unlinked(AT_FDCWD, path, AT_REMOVEDIR);
}

// --- The wall clock ---

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && control != NULL && control->clock_offset_ns != 0 &&
        (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = now->tv_sec * INT64_C(1000000000) + now->tv_nsec + control->clock_offset_ns;
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return result;
}

time_t time(time_t *out)
{
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (out != NULL)
        *out = precise.tv_sec;
    return precise.tv_sec;
}
