// Hot loops in C. Every kernel has one body, compiled for each instruction set and reached through a table of functions.
//
// All kernels of this header but those that measure speed are strict: the same bytes give the same bits on every instruction set
// (no contraction to FMA, a fixed number of lanes, one order of summation). The kernels of models are in RWKVLayerKernels.h.

#ifndef CRWKV_KERNELS_H
#define CRWKV_KERNELS_H

#include <stddef.h>
#include <stdint.h>

// Little-endian elements of a file. Elements of 8 bits or fewer are counted by value (count_bytes) instead.
typedef enum {
    RWKV_ELEMENT_F64,
    RWKV_ELEMENT_F32,
    RWKV_ELEMENT_F16,
    RWKV_ELEMENT_BF16,
    RWKV_ELEMENT_I64,
    RWKV_ELEMENT_U64,
    RWKV_ELEMENT_I32,
    RWKV_ELEMENT_U32,
    RWKV_ELEMENT_I16,
    RWKV_ELEMENT_U16,
} rwkv_element;

// What one pass over up to 2^32 elements finds. Sums are of x - shift over the finite x, where shift is the first of them, so
// that a large mean does not swallow a small deviation. With finite == 0 the doubles mean nothing.
typedef struct {
    uint64_t finite, zeros, nans, infinities;
    double minimum, maximum;
    double shift, sum, sum_of_squares;
} rwkv_statistics;

// What passes over pairs of values have found. Equal values do not differ, nor do two NaNs. A pair that differs and is not finite
// on both sides also counts as incomparable. Only finite pairs add to the sums.
typedef struct {
    uint64_t differing, incomparable;
    double largest_difference, squared_differences, squares_of_a, squares_of_b, products;
} rwkv_comparison;

// The comparison of two rows of logits, a and b, for the same token.
typedef struct {
    // log of the sum of exp
    double log_sum_a, log_sum_b;
    // sum of p_a (log p_a - log p_b), in nats
    double divergence;
    double largest_difference, squared_differences;
    double sum_of_a, squares_of_a;
    // ids of the tokens with the largest logits, the largest first; -1 where there are fewer tokens
    int64_t top_a[5], top_b[5];
    // how far a's second-largest is below its largest; infinity if count is 1
    double margin;
} rwkv_logits_comparison;

typedef struct {
    // elements are aligned to their size
    void (*statistics)(rwkv_element element, const void *elements, size_t count, rwkv_statistics *result);
    // adds to counts[v] how often the byte v occurs
    void (*count_bytes)(const uint8_t *bytes, size_t count, uint64_t counts[256]);
    // exact, except for 64-bit integers beyond 2^53
    void (*to_doubles)(rwkv_element element, const void *elements, size_t count, double *values);
    // accumulates into *result
    void (*compare)(const double *a, const double *b, size_t count, rwkv_comparison *result);
    // of finite numbers; count > 0
    void (*compare_logits)(const double *a, const double *b, size_t count, rwkv_logits_comparison *result);
    // casts between F64, F32, F16 and BF16, rounding once, to nearest with ties to even; returns how many finite values overflow:
    // they become infinite, or the target's largest finite value if `saturates`; source and target must not overlap
    uint64_t (*cast)(
        rwkv_element from, const void *source, rwkv_element to, void *target, size_t count, int saturates);
    // y += factor x
    void (*add_scaled)(float factor, const float *x, float *y, size_t count);
    // makes rows start..<end, of `length` numbers each, orthogonal to all rows before them and of norm one; the rows before
    // `start` must be orthonormal already; end <= length; bits of results that are not finite are unspecified
    void (*orthonormalise)(double *rows, size_t start, size_t end, size_t length);
    // multiplies and adds fp32 numbers in registers at peak speed; returns the number of floating-point operations
    double (*multiply_add)(size_t rounds);
    // reads bytes and discards them
    void (*read)(const void *bytes, size_t count);
} rwkv_kernels;

// In ascending order of preference; every machine supports the baseline.
typedef enum {
    RWKV_INSTRUCTION_SET_BASELINE,
    RWKV_INSTRUCTION_SET_AVX2,
    RWKV_INSTRUCTION_SET_AVX512,
} rwkv_instruction_set;

// The kernels for an instruction set; NULL if this machine does not support it.
const rwkv_kernels *rwkv_kernels_for(rwkv_instruction_set instruction_set);

// The best instruction set of this machine.
rwkv_instruction_set rwkv_best_instruction_set(void);

// The CRC-32 of zip archives; `crc` is that of the bytes before, 0 if there are none.
uint32_t rwkv_crc32(uint32_t crc, const void *bytes, size_t count);

// Exponential and natural logarithm: the same bits on every machine, within two units in the last place.
double rwkv_exp(double x);
double rwkv_log(double x);

// The same bits on every machine; within 2^-52 for |x| <= 2^20, and NaN beyond 2^62.
void rwkv_sine_cosine(double x, double *sine, double *cosine);

// The recurrence of RWKV-7 for one head, one number at a time: like wkv7 of the layer kernels, but with a state [value][key].
// For comparing speed: loops are compiled as written, without vectors.
void rwkv_plain_wkv7(
    const float *r, const float *w, const float *k, const float *v, const float *kk, const float *a, size_t rows, size_t stride,
    size_t size, float *state, float *y);

// y[output] = sum over inputs of weight[output][input] x[input], one number at a time; for comparing speed.
void rwkv_plain_product(const float *weight, size_t inputs, size_t outputs, const float *x, float *y);

// Tells the processor that this thread is spinning on a value that another thread will change.
static inline void rwkv_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// Features of processor and operating system, besides our instruction sets, that cores of OpenBLAS depend on.
enum {
    RWKV_FEATURE_AVX = 1,
    RWKV_FEATURE_FMA4 = 2,
    RWKV_FEATURE_3DNOW = 4,
    RWKV_FEATURE_AVX512_BF16 = 8,
    // Zen 3 and Zen 4: the latter computes 512 bits in two halves, and is a little faster with kernels for AVX2.
    RWKV_FEATURE_HALVED_AVX512 = 16,
};
unsigned rwkv_processor_features(void);

// Makes the process keep up to 64 MiB of freed memory: returning it and getting it back, page by page and zeroed, takes a tenth
// of a forward pass's time.
void rwkv_keep_freed_memory(void);

// How many processors this process may run on; at least one.
int rwkv_available_processors(void);

// Exchanges two paths, atomically where the file system can; returns 0, or -1 with errno. On failure both are as they were, if
// the file system lets renames be undone.
int rwkv_exchange(const char *a, const char *b);

// Exchanges two paths by three renames: for a moment, what was at `b` is at `a`.replaced, and nothing is at `b`.
int rwkv_exchange_by_renames(const char *a, const char *b);

// Extends a file to `count` bytes and reserves disk space for them, or does nothing where the file system cannot; returns 0, or
// -1 with errno.
int rwkv_reserve(int descriptor, int64_t count);

// Renames `path` to `target`, which must not exist; returns 0, or -1 with errno.
int rwkv_rename_new(const char *path, const char *target);

// Starts writing a part of a file to disk, without waiting for it.
void rwkv_begin_writeback(int descriptor, int64_t offset, int64_t count);

// Maps a file for reading; returns NULL with errno on failure. If the file is truncated while it is mapped, a handler of SIGBUS
// makes the lost bytes read as zeros, and rwkv_mapping_is_cut returns 1.
const void *rwkv_map(int descriptor, size_t length, int *slot);

// Whether a read found that bytes of a mapping had been lost.
int rwkv_mapping_is_cut(int slot);

// Unmaps a file.
void rwkv_unmap(const void *start, size_t length, int slot);

#include "RWKVLayerKernels.h"

#endif
