/*
 * Preloaded into a database server, moves its wall clock while it runs: by as many nanoseconds as the
 * file named in TESTKIT_CLOCK says (eight bytes, native order), which may change at any time. Clocks
 * that count from the machine's start stay as they are.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL                     /* in nanoseconds */
#define LEAST_WALL 1000000000                   /* 2001, in seconds */

static const volatile int64_t *offset;

/* Shared, so that all processes of a server, forked or executed, step at the same moment. */
__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("TESTKIT_CLOCK");
    int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
        /* A server whose clock cannot be moved would pass every test. */
        fprintf(stderr, "testkit: cannot map TESTKIT_CLOCK=%s\n", file ? file : "");
        _exit(127);
    }
    close(fd);
    offset = page;
}

/* By the system call: the next library's function may not be there yet when the first ask comes. */
static int read_clock(clockid_t clock, struct timespec *now) {
    return (int)syscall(SYS_clock_gettime, clock, now);
}

static struct timespec moved(struct timespec at, int64_t by) {
    int64_t nanos = at.tv_nsec + by % SECOND;
    at.tv_sec += by / SECOND;
    if (nanos < 0) { nanos += SECOND; at.tv_sec -= 1; }
    if (nanos >= SECOND) { nanos -= SECOND; at.tv_sec += 1; }
    at.tv_nsec = nanos;
    return at;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = read_clock(clock, now);
    if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        *now = moved(*now, *offset);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return (time_t)-1;
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}

/*
 * A wait until a moment of the wall clock is the kernel's, whose clock was not moved. Which clock a
 * condition has cannot be asked; but no machine has been up for
 * the 31 years that a wall clock shows at least.
 */
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    if (until->tv_sec < LEAST_WALL) return pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, until);
    struct timespec real = moved(*until, offset ? -*offset : 0);
    return pthread_cond_clockwait(condition, mutex, CLOCK_REALTIME, &real);
}
