/* Faults of system calls, put before libc by LD_PRELOAD; see system_faults.py.
 *
 * CLOCK_OFFSET_S: seconds that the clock of the process is ahead (negative: behind). Monotonic clocks stay right.
 * FULL_DISK_FILE: while this file exists, no file of the process can grow: ENOSPC. Blocks that exist are written.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static long offset_s;
static const char *full_disk_file;

__attribute__((constructor)) static void read_environment(void) {
    const char *offset = getenv("CLOCK_OFFSET_S");
    offset_s = offset ? atol(offset) : 0;
    const char *file = getenv("FULL_DISK_FILE");
    /* A copy: Postgres writes the titles of its processes over the environment. */
    full_disk_file = file ? strdup(file) : NULL;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset_s;
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    REAL(gettimeofday);
    int result = real(now, zone);
    if (result == 0 && now) now->tv_sec += offset_s;
    return result;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}

/* True for a write to `end` that would make a regular file longer on the full disk. */
static int is_refused(int file, off_t end) {
    struct stat found;
    int before = errno;
    int refused = full_disk_file && access(full_disk_file, F_OK) == 0 && fstat(file, &found) == 0
                  && S_ISREG(found.st_mode) && end > found.st_size;
    errno = refused ? ENOSPC : before;
    return refused;
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    return is_refused(file, at + (off_t)size) ? -1 : real(file, data, size, at);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) {
    REAL(pwritev);
    off_t end = at;
    for (int part = 0; part < count; part++) end += (off_t)parts[part].iov_len;
    return is_refused(file, end) ? -1 : real(file, parts, count, at);
}

int posix_fallocate(int file, off_t at, off_t size) {
    REAL(posix_fallocate);
    return is_refused(file, at + size) ? ENOSPC : real(file, at, size);
}
