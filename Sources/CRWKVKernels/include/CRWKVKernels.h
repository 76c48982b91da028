// Performance-critical loops. Each kernel is written once, compiled for every instruction set and called through a table of
// function pointers.
//
// The kernels in this header are strict, except for those that measure speed: the same input gives the same bits on every
// instruction set. Multiplications and additions are not contracted into FMAs, the number of lanes is fixed, and sums are always
// computed in the same order. RWKVLayerKernels.h declares the kernels that run models.

#ifndef CRWKV_KERNELS_H
#define CRWKV_KERNELS_H

#include <stddef.h>
#include <stdint.h>

// The types of elements that the kernels read. Elements are little-endian. Types of 8 bits or fewer are not listed, because their
// statistics are computed from the number of times that each byte value occurs (count_bytes).
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

// Statistics of a tensor's elements. Both sums are over x - shift for every finite element x, where `shift` is the first finite
// element, so that small deviations from a large mean keep their precision. If there are no finite elements, all doubles are 0.
typedef struct {
    uint64_t finite, zeros, nans, infinities;
    double minimum, maximum;
    double shift, sum, sum_of_squares;
} rwkv_statistics;

// The accumulated results of comparing pairs of values, a and b. Two NaNs count as equal. A pair that differs and contains a
// non-finite value counts both as differing and as incomparable. Only pairs of finite values contribute to the sums and to the
// largest difference.
typedef struct {
    uint64_t differing, incomparable;
    double largest_difference, squared_differences, squares_of_a, squares_of_b, products;
} rwkv_comparison;

// The result of comparing two rows of logits, a and b, for the same token position.
typedef struct {
    // log(sum(exp(a))) and log(sum(exp(b))).
    double log_sum_a, log_sum_b;
    // KL(softmax(a) || softmax(b)) in nats.
    double divergence;
    double largest_difference, squared_differences;
    double sum_of_a, squares_of_a;
    // The ids of the five tokens with the largest logits, largest logit first. If there are fewer than five tokens, the remaining
    // ids are -1.
    int64_t top_a[5], top_b[5];
    // The difference between the two largest logits of a; infinity if there is only one token.
    double margin;
} rwkv_logits_comparison;

// The kernels for one instruction set.
typedef struct {
    // Computes the statistics of `count` elements, which must be aligned to their size.
    void (*statistics)(rwkv_element element, const void *elements, size_t count, rwkv_statistics *result);
    // Adds the number of bytes with the value v to counts[v], for every v.
    void (*count_bytes)(const uint8_t *bytes, size_t count, uint64_t counts[256]);
    // Converts elements to doubles. The conversion is exact, except for 64-bit integers whose magnitude exceeds 2^53.
    void (*to_doubles)(rwkv_element element, const void *elements, size_t count, double *values);
    // Compares `count` pairs of values and accumulates the results in *result.
    void (*compare)(const double *a, const double *b, size_t count, rwkv_comparison *result);
    // Compares two rows of `count` finite logits. `count` must be at least 1.
    void (*compare_logits)(const double *a, const double *b, size_t count, rwkv_logits_comparison *result);
    // Casts between F64, F32, F16 and BF16. Each value is rounded once, to nearest, with ties to even. Returns the number of
    // finite values that overflow. These values become infinite or, if `saturates`, the largest finite value of the target type;
    // they keep their sign. `source` and `target` must not overlap.
    uint64_t (*cast)(
        rwkv_element from, const void *source, rwkv_element to, void *target, size_t count, int saturates);
    // Computes y += factor * x.
    void (*add_scaled)(float factor, const float *x, float *y, size_t count);
    // Orthonormalises rows `start` to `end` - 1, of `length` numbers each: makes them orthogonal to each other and to all
    // preceding rows, and scales them to unit norm. The rows before `start` must already be orthonormal, and `end` must not
    // exceed `length`. The bits of non-finite results are unspecified.
    void (*orthonormalise)(double *rows, size_t start, size_t end, size_t length);
    // Runs fp32 multiply-adds in registers at the machine's peak speed. Returns the number of floating-point operations.
    double (*multiply_add)(size_t rounds);
    // Reads bytes at the machine's peak speed and discards them. Skips up to 255 bytes at the end.
    void (*read)(const void *bytes, size_t count);
} rwkv_kernels;

// Instruction sets, from least to most preferred. Every machine supports the baseline.
typedef enum {
    RWKV_INSTRUCTION_SET_BASELINE,
    RWKV_INSTRUCTION_SET_AVX2,
    RWKV_INSTRUCTION_SET_AVX512,
} rwkv_instruction_set;

// Returns the kernels for an instruction set, or NULL if this machine does not support the instruction set.
const rwkv_kernels *rwkv_kernels_for(rwkv_instruction_set instruction_set);

// Returns the most preferred instruction set that this machine supports.
rwkv_instruction_set rwkv_best_instruction_set(void);

// Returns the CRC-32, as used in zip archives, of a sequence of bytes that is passed in one or more calls. `crc` is the result of
// the previous call, or 0 in the first call.
uint32_t rwkv_crc32(uint32_t crc, const void *bytes, size_t count);

// Return e^x and the natural logarithm of x. The results have the same bits on every machine, and their errors are at most two
// units in the last place.
double rwkv_exp(double x);
double rwkv_log(double x);

// Computes sin x and cos x. The results have the same bits on every machine. Their absolute errors are at most 2^-52 for
// |x| <= 2^20, and they are NaN for |x| > 2^62.
void rwkv_sine_cosine(double x, double *sine, double *cosine);

// Runs the RWKV-7 recurrence for one head without vector instructions, as a baseline for benchmarks. The computation is the same
// as in the layer kernel `wkv7`, but the state is [value][key].
void rwkv_plain_wkv7(
    const float *r, const float *w, const float *k, const float *v, const float *kk, const float *a, size_t rows, size_t stride,
    size_t size, float *state, float *y);

// Computes y[output] = sum over inputs of weight[output][input] * x[input] without vector instructions, as a baseline for
// benchmarks.
void rwkv_plain_product(const float *weight, size_t inputs, size_t outputs, const float *x, float *y);

// Tells the processor that this thread is in a spin loop.
static inline void rwkv_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// Features of the processor and the operating system, other than our instruction sets, that the choice of an OpenBLAS core
// depends on.
enum {
    RWKV_FEATURE_AVX = 1,
    RWKV_FEATURE_FMA4 = 2,
    RWKV_FEATURE_3DNOW = 4,
    RWKV_FEATURE_AVX512_BF16 = 8,
    // The processor is a Zen 3 or Zen 4. Zen 4 executes 512-bit operations in two halves and is slightly faster with AVX2
    // kernels.
    RWKV_FEATURE_HALVED_AVX512 = 16,
};
// Returns the features that this machine has, as a combination of RWKV_FEATURE flags.
unsigned rwkv_processor_features(void);

// Makes the process keep up to 64 MiB of freed memory. Otherwise, a forward pass spends a tenth of its time returning memory to
// the system and having pages zeroed and mapped again.
void rwkv_keep_freed_memory(void);

// Returns the number of processors that this process can run on, or 1 if the number is unknown.
int rwkv_available_processors(void);

// Exchanges the files at two paths, atomically if the file system supports it. Returns 0 on success, or -1 with errno set. On
// failure, both paths are unchanged, unless the renames cannot be undone.
int rwkv_exchange(const char *a, const char *b);

// Exchanges the files at two paths with three renames. Meanwhile, the old `b` is at the path `a` with the suffix ".replaced". For
// a moment, there is no file at `b`, and then none at `a`. Returns 0 on success, or -1 with errno set.
int rwkv_exchange_by_renames(const char *a, const char *b);

// Reserves disk space for the first `count` bytes of a file, and extends the file if it is shorter. Does nothing if the file
// system cannot reserve space. Returns 0 on success, or -1 with errno set.
int rwkv_reserve(int descriptor, int64_t count);

// Renames `path` to `target`, and fails if `target` already exists. Returns 0 on success, or -1 with errno set.
int rwkv_rename_new(const char *path, const char *target);

// Starts writing a range of a file to disk without waiting for the write to finish.
void rwkv_begin_writeback(int descriptor, int64_t offset, int64_t count);

// Maps a file for reading. Returns its address and stores the number of its slot in *slot, or returns NULL with errno set. If the
// file is truncated while it is mapped, a SIGBUS handler makes the missing bytes read as zeros.
const void *rwkv_map(int descriptor, size_t length, int *slot);

// Returns 1 if the file was truncated and some of the missing bytes have been read (as zeros), and 0 otherwise.
int rwkv_mapping_is_cut(int slot);

// Unmaps a file that rwkv_map has mapped, and frees its slot.
void rwkv_unmap(const void *start, size_t length, int slot);

#include "RWKVLayerKernels.h"

#endif
