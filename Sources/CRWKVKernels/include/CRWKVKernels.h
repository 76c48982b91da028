// Hot loops in C. Each kernel has one body, which is compiled for every instruction set and called through a function table.
//
// All kernels in this header except those that measure speed are strict: the same bytes give the same bits on every instruction
// set (no contraction to FMA, a fixed number of lanes, one order of summation). RWKVLayerKernels.h has the kernels for models.

#ifndef CRWKV_KERNELS_H
#define CRWKV_KERNELS_H

#include <stddef.h>
#include <stdint.h>

// Types of little-endian elements in a file. Elements of 8 bits or fewer are counted by value (count_bytes) instead.
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

// The results of one pass over up to 2^32 elements. Both sums are over x - shift for every finite x, where shift is the first
// finite x, so that a large mean does not swallow small deviations. If finite is 0, the doubles are meaningless.
typedef struct {
    uint64_t finite, zeros, nans, infinities;
    double minimum, maximum;
    double shift, sum, sum_of_squares;
} rwkv_statistics;

// The accumulated results of comparing pairs of values. Two NaNs count as equal. A pair that differs and has a non-finite value
// also counts as incomparable. Only pairs of finite values add to the sums.
typedef struct {
    uint64_t differing, incomparable;
    double largest_difference, squared_differences, squares_of_a, squares_of_b, products;
} rwkv_comparison;

// The result of comparing two rows of logits, a and b, for the same token.
typedef struct {
    // The logarithms of the sums of exp.
    double log_sum_a, log_sum_b;
    // The sum of p_a (log p_a - log p_b), in nats.
    double divergence;
    double largest_difference, squared_differences;
    double sum_of_a, squares_of_a;
    // Ids of the tokens with the largest logits, in descending order; padded with -1 if there are fewer than five tokens.
    int64_t top_a[5], top_b[5];
    // The largest minus the second-largest logit of a; infinity if count is 1.
    double margin;
} rwkv_logits_comparison;

typedef struct {
    // Computes statistics of elements, which must be aligned to their size.
    void (*statistics)(rwkv_element element, const void *elements, size_t count, rwkv_statistics *result);
    // Adds the number of occurrences of each byte v to counts[v].
    void (*count_bytes)(const uint8_t *bytes, size_t count, uint64_t counts[256]);
    // Converts elements to doubles, exactly except for 64-bit integers beyond 2^53.
    void (*to_doubles)(rwkv_element element, const void *elements, size_t count, double *values);
    // Compares pairs of values, accumulating into *result.
    void (*compare)(const double *a, const double *b, size_t count, rwkv_comparison *result);
    // Compares two rows of finite logits; count > 0.
    void (*compare_logits)(const double *a, const double *b, size_t count, rwkv_logits_comparison *result);
    // Casts between F64, F32, F16 and BF16, rounding once, to nearest with ties to even. Returns how many finite values overflow:
    // they become infinite, or the target's largest finite value if `saturates`. Source and target must not overlap.
    uint64_t (*cast)(
        rwkv_element from, const void *source, rwkv_element to, void *target, size_t count, int saturates);
    // Adds factor times x to y.
    void (*add_scaled)(float factor, const float *x, float *y, size_t count);
    // Makes rows start..<end, of `length` numbers each, orthogonal to all preceding rows and of norm one. The rows before `start`
    // must already be orthonormal; end <= length. The bits of non-finite results are unspecified.
    void (*orthonormalise)(double *rows, size_t start, size_t end, size_t length);
    // Multiplies and adds fp32 numbers in registers at peak speed; returns the number of floating-point operations.
    double (*multiply_add)(size_t rounds);
    // Reads bytes and discards them.
    void (*read)(const void *bytes, size_t count);
} rwkv_kernels;

// Instruction sets, in ascending order of preference; every machine supports the baseline.
typedef enum {
    RWKV_INSTRUCTION_SET_BASELINE,
    RWKV_INSTRUCTION_SET_AVX2,
    RWKV_INSTRUCTION_SET_AVX512,
} rwkv_instruction_set;

// Returns the kernels for an instruction set, or NULL if this machine does not support it.
const rwkv_kernels *rwkv_kernels_for(rwkv_instruction_set instruction_set);

// Returns the best instruction set that this machine supports.
rwkv_instruction_set rwkv_best_instruction_set(void);

// Computes the CRC-32 that zip archives use; `crc` is the CRC-32 of the preceding bytes, or 0 if there are none.
uint32_t rwkv_crc32(uint32_t crc, const void *bytes, size_t count);

// Compute the exponential and the natural logarithm: the same bits on every machine, within two units in the last place.
double rwkv_exp(double x);
double rwkv_log(double x);

// Computes sin x and cos x: the same bits on every machine, within 2^-52 for |x| <= 2^20, and NaN for |x| > 2^62.
void rwkv_sine_cosine(double x, double *sine, double *cosine);

// Computes the RWKV-7 recurrence for one head, one number at a time: like wkv7 in the layer kernels, but with a [value][key]
// state. A baseline for speed: its inner loops are compiled without vectors.
void rwkv_plain_wkv7(
    const float *r, const float *w, const float *k, const float *v, const float *kk, const float *a, size_t rows, size_t stride,
    size_t size, float *state, float *y);

// Computes y[output] = sum over inputs of weight[output][input] x[input], one number at a time; a baseline for speed.
void rwkv_plain_product(const float *weight, size_t inputs, size_t outputs, const float *x, float *y);

// Tells the processor that this thread is spinning on a value that another thread will change.
static inline void rwkv_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// Processor and operating-system features, besides our instruction sets, that OpenBLAS cores depend on.
enum {
    RWKV_FEATURE_AVX = 1,
    RWKV_FEATURE_FMA4 = 2,
    RWKV_FEATURE_3DNOW = 4,
    RWKV_FEATURE_AVX512_BF16 = 8,
    // Zen 3 or Zen 4. Zen 4 computes 512-bit vectors in two halves and is slightly faster with AVX2 kernels.
    RWKV_FEATURE_HALVED_AVX512 = 16,
};
unsigned rwkv_processor_features(void);

// Makes the process keep up to 64 MiB of freed memory: returning memory and getting it back, page by page and zeroed, takes a
// tenth of a forward pass's time.
void rwkv_keep_freed_memory(void);

// Returns the number of processors that this process may run on; at least one.
int rwkv_available_processors(void);

// Exchanges two paths, atomically where the file system supports it; returns 0, or -1 with errno. On failure, both paths are left
// as they were, provided that the file system allows the renames to be undone.
int rwkv_exchange(const char *a, const char *b);

// Exchanges two paths with three renames: for a moment, the old `b` is at `a`.replaced and nothing is at `b`.
int rwkv_exchange_by_renames(const char *a, const char *b);

// Extends a file to `count` bytes and reserves disk space for it, or does nothing if the file system cannot reserve space;
// returns 0, or -1 with errno.
int rwkv_reserve(int descriptor, int64_t count);

// Renames `path` to `target`, which must not exist; returns 0, or -1 with errno.
int rwkv_rename_new(const char *path, const char *target);

// Starts writing part of a file to disk, without waiting for completion.
void rwkv_begin_writeback(int descriptor, int64_t offset, int64_t count);

// Maps a file for reading; returns NULL with errno on failure. If the file is truncated while it is mapped, a SIGBUS handler
// makes the lost bytes read as zeros, and rwkv_mapping_is_cut then returns 1.
const void *rwkv_map(int descriptor, size_t length, int *slot);

// Returns 1 if a read has touched bytes that a truncation removed, 0 otherwise.
int rwkv_mapping_is_cut(int slot);

// Unmaps a file that rwkv_map mapped.
void rwkv_unmap(const void *start, size_t length, int slot);

#include "RWKVLayerKernels.h"

#endif
