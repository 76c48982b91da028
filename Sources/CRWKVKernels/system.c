// Wrappers for Linux and processor functions that Swift's Glibc module does not expose.

#define _GNU_SOURCE
#include "CRWKVKernels.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

int rwkv_available_processors(void) {
    cpu_set_t processors;
    return sched_getaffinity(0, sizeof processors, &processors) == 0 ? CPU_COUNT(&processors) : 1;
}

void rwkv_keep_freed_memory(void) {
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

unsigned rwkv_processor_features(void) {
    unsigned features = 0;
#if defined(__x86_64__)
    unsigned eax, ebx, ecx, edx, signature, vendor;
    // __builtin_cpu_supports also checks that the operating system saves the vector registers.
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx")) features |= RWKV_FEATURE_AVX;
    if (__builtin_cpu_supports("fma4")) features |= RWKV_FEATURE_FMA4;
    if (__builtin_cpu_supports("avx512bf16")) features |= RWKV_FEATURE_AVX512_BF16;
    if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && edx >> 31) features |= RWKV_FEATURE_3DNOW;
    if (__get_cpuid(0, &eax, &vendor, &ecx, &edx) && vendor == signature_AMD_ebx && __get_cpuid(1, &signature, &ebx, &ecx, &edx) &&
        (signature >> 8 & 0xF) + (signature >> 20 & 0xFF) == 0x19)
        features |= RWKV_FEATURE_HALVED_AVX512;
#endif
    return features;
}

int rwkv_exchange(const char *a, const char *b) {
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0) return 0;
    return errno == EINVAL || errno == ENOSYS ? rwkv_exchange_by_renames(a, b) : -1;
}

int rwkv_exchange_by_renames(const char *a, const char *b) {
    char *aside;
    if (asprintf(&aside, "%s.replaced", a) < 0) return -1;
    int result = rename(b, aside);
    if (result == 0) {
        result = rename(a, b) == 0 && rename(aside, a) == 0 ? 0 : -1;
        if (result != 0) {
            const int error = errno;
            rename(b, a);  // Fails harmlessly if `a` has not been renamed.
            rename(aside, b);
            errno = error;
        }
    }
    free(aside);
    return result;
}

int rwkv_rename_new(const char *path, const char *target) {
    if (renameat2(AT_FDCWD, path, AT_FDCWD, target, RENAME_NOREPLACE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return -1;
    // The file system does not support RENAME_NOREPLACE. Creating a hard link does not replace an existing file either.
    if (link(path, target) != 0) return -1;
    unlink(path);
    return 0;
}

int rwkv_reserve(int descriptor, int64_t count) {
    if (count <= 0 || fallocate(descriptor, 0, 0, count) == 0) return 0;
    // Even without a reservation, writes report an error if the file system runs out of space.
    return errno == EOPNOTSUPP || errno == ENOSYS ? 0 : -1;
}

void rwkv_begin_writeback(int descriptor, int64_t offset, int64_t count) {
    sync_file_range(descriptor, offset, count, SYNC_FILE_RANGE_WRITE);
}
