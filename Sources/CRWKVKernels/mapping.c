// Memory-mapped files that can be truncated while they are mapped. Reading past the new end of such a file raises SIGBUS, which
// would kill the process if it were not handled.

#define _GNU_SOURCE
#include "CRWKVKernels.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <threads.h>
#include <unistd.h>

enum { MAPPING_LIMIT = 4096 };

static struct {
    _Atomic(uintptr_t) start;
    _Atomic(size_t) length;
    atomic_int is_cut;
} mappings[MAPPING_LIMIT];

static once_flag once = ONCE_FLAG_INIT;
static struct sigaction previous;
static uintptr_t page_size;

// Handles SIGBUS. If the fault is in one of our mappings, marks the mapping as cut and maps zeros from the faulting page to the
// end of the mapping. Otherwise, calls the previous handler.
static void on_bus_error(int number, siginfo_t *info, void *context) {
    const uintptr_t address = (uintptr_t)info->si_addr;
    // If a process sent the signal (si_code <= 0), si_addr is not a fault address.
    for (int slot = 0; slot < MAPPING_LIMIT && info->si_code > 0; slot++) {
        const uintptr_t start = mappings[slot].start;
        const size_t length = mappings[slot].length;
        if (start == 0 || address < start || address - start >= length) continue;
        mappings[slot].is_cut = 1;
        const uintptr_t page = address & ~(page_size - 1);
        if (mmap((void *)page, start + length - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == (void *)page) return;
    }
    // The signal was not caused by one of our mappings, or the zeros could not be mapped.
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    } else {
        signal(number, SIG_DFL);
        raise(number);
    }
}

static void install(void) {
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous);
}

const void *rwkv_map(int descriptor, size_t length, int *slot) {
    call_once(&once, install);
    void *start = mmap(NULL, length, PROT_READ, MAP_SHARED, descriptor, 0);
    if (start == MAP_FAILED) return NULL;
    for (int candidate = 0; candidate < MAPPING_LIMIT; candidate++) {
        uintptr_t none = 0;
        // Claims the slot. The signal handler ignores it until `start` is set below, because no fault address is as high as
        // UINTPTR_MAX.
        if (!atomic_compare_exchange_strong(&mappings[candidate].start, &none, UINTPTR_MAX)) continue;
        mappings[candidate].is_cut = 0;
        mappings[candidate].length = length;
        mappings[candidate].start = (uintptr_t)start;
        *slot = candidate;
        return start;
    }
    munmap(start, length);
    errno = ENOMEM;
    return NULL;
}

int rwkv_mapping_is_cut(int slot) { return mappings[slot].is_cut; }

void rwkv_unmap(const void *start, size_t length, int slot) {
    mappings[slot].length = 0;
    mappings[slot].start = 0;
    munmap((void *)start, length);
}
