/*
 * What a suspend looks like to a process: the clocks that count it are ahead.
 * The file $ASLEEP holds by how many seconds, as a long.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int (*real)(clockid_t, struct timespec *);
static volatile long *ahead;

__attribute__((constructor)) static void prepare(void) {
    const char *path = getenv("ASLEEP");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (fd < 0)
        return;
    ahead = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
    if (ahead == MAP_FAILED)
        abort();
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int done;
    if (!real)
        prepare();
    done = real(clock, at);
    if (ahead && (clock == CLOCK_REALTIME || clock == CLOCK_BOOTTIME))
        at->tv_sec += *ahead;
    return done;
}
