/* Preloaded into a server, this moves its wall clock by the nanoseconds in a file, which others
 * change while it runs, or makes it stand at a time in that file. All other clocks go as they do.
 *
 * The kernel is asked directly: the functions replaced here may be called before a library can look
 * up the originals. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

struct shift {
    int64_t by;
    /* Nanoseconds since 1970 that the clock shows; 0 if it runs. */
    int64_t stands_at;
};

static const struct shift unshifted = {0, 0};
static const volatile struct shift *shift = &unshifted;

__attribute__((constructor)) static void find_shift(void)
{
    const char *path = getenv("DISTRIBUTED_LOCK_CLOCK_SHIFT");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        shift = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result != 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return result;
    int64_t stands_at = shift->stands_at;
    int64_t at = stands_at ? stands_at : now->tv_sec * SECOND + now->tv_nsec + shift->by;
    now->tv_sec = at / SECOND;
    now->tv_nsec = at % SECOND;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec at;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &at) != 0)
        return -1;
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result)
{
    struct timespec at;
    if (clock_gettime(CLOCK_REALTIME, &at) != 0)
        return -1;
    if (result)
        *result = at.tv_sec;
    return at.tv_sec;
}
