/* Preloaded into a server: a wall clock that jumps, and a disk that takes long. $FAULTS is a file of two doubles that is
   read at every call: seconds added to the time of day, and seconds that each fsync takes longer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile double *faults;

__attribute__((constructor)) static void start(void) {
    const char *name = getenv("FAULTS");
    int file = name ? open(name, O_RDONLY) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, 2 * sizeof(double), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) faults = page;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (id == CLOCK_REALTIME && faults) now->tv_sec += (time_t)faults[0];
    return result;
}

static void slow(void) {
    if (faults && faults[1] > 0) usleep((useconds_t)(1e6 * faults[1]));
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    slow();
    return real(file);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    slow();
    return real(file);
}
