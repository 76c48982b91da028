// Hot loops in C. Every kernel has one body, compiled for each instruction set and reached through a table of functions.
//
// All kernels of this header are strict: the same bytes give the same bits on every instruction set (no contraction to FMA, a fixed
// number of lanes, one order of summation). Those that models run on are in RWKVLayerKernels.h.

#ifndef CRWKV_KERNELS_H
#define CRWKV_KERNELS_H

#include <stddef.h>
#include <stdint.h>

// Little-endian elements as they stand in a file. Those of 8 bits and fewer are counted by value instead.
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
// that a large mean does not swallow a small deviation. With finite == 0 the doubles say nothing.
typedef struct {
    uint64_t finite, zeros, nans, infinities;
    double minimum, maximum;
    double shift, sum, sum_of_squares;
} rwkv_statistics;

// What passes over two rows of values have found. Values that are the same, two that are not a number included, differ in
// nothing; where one is not finite and the other is another, they are counted as incomparable and add to no sum.
typedef struct {
    uint64_t differing, incomparable;
    double largest_difference, squared_differences, squares_of_a, squares_of_b, products;
} rwkv_comparison;

// What one token's logits say, side by side with another's for the same token.
typedef struct {
    // log of the sum of exp
    double log_sum_a, log_sum_b;
    // sum of p_a (log p_a - log p_b), in nats
    double divergence;
    double largest_difference, squared_differences;
    double sum_of_a, squares_of_a;
    // the largest, the largest first: numbers of tokens; of the second, -1 where there are not so many
    int64_t top_a[5], top_b[5];
    // how far the second of a is below the first
    double margin;
} rwkv_logits_comparison;

typedef struct {
    // elements: any alignment that suits the element's size
    void (*statistics)(rwkv_element element, const void *elements, size_t count, rwkv_statistics *result);
    // adds to counts[v] how often the byte v occurs
    void (*count_bytes)(const uint8_t *bytes, size_t count, uint64_t counts[256]);
    // exact but for 64-bit integers beyond 2^53
    void (*to_doubles)(rwkv_element element, const void *elements, size_t count, double *values);
    // adds to what *result holds
    void (*compare)(const double *a, const double *b, size_t count, rwkv_comparison *result);
    // of finite numbers; count > 0
    void (*compare_logits)(const double *a, const double *b, size_t count, rwkv_logits_comparison *result);
    // between F64, F32, F16 and BF16, rounded once, to nearest with ties to even; gives how many finite values are beyond the
    // target's largest, which become infinite, or that largest where it saturates; source and target do not overlap
    uint64_t (*cast)(
        rwkv_element from, const void *source, rwkv_element to, void *target, size_t count, int saturates);
    // y += factor x
    void (*add_scaled)(float factor, const float *x, float *y, size_t count);
    // makes the rows of `length` from number `start` to before `end` orthogonal to all in front of them and of length one, those in
    // front of `start` being so already; end <= length; the bits of what is not finite are anybody's
    void (*orthonormalise)(double *rows, size_t start, size_t end, size_t length);
    // multiplies and adds fp32 numbers in registers, as fast as it goes; gives how many operations that were
    double (*multiply_add)(size_t rounds);
    // reads bytes, and does nothing with them
    void (*read)(const void *bytes, size_t count);
} rwkv_kernels;

// In order of preference, the last the best; a baseline is there on every machine.
typedef enum {
    RWKV_INSTRUCTION_SET_BASELINE,
    RWKV_INSTRUCTION_SET_AVX2,
    RWKV_INSTRUCTION_SET_AVX512,
} rwkv_instruction_set;

// The kernels for an instruction set; NULL where this machine lacks it.
const rwkv_kernels *rwkv_kernels_for(rwkv_instruction_set instruction_set);

// The best instruction set of this machine.
rwkv_instruction_set rwkv_best_instruction_set(void);

// The CRC-32 of zip archives; `crc` is that of the bytes in front, 0 where there are none.
uint32_t rwkv_crc32(uint32_t crc, const void *bytes, size_t count);

// The same bits on every machine; within two units in the last place.
double rwkv_exp(double x);
double rwkv_log(double x);

// The same bits on every machine; within 2^-52 for |x| <= 2^20, and not a number beyond 2^62.
void rwkv_sine_cosine(double x, double *sine, double *cosine);

// The recurrence of RWKV-7 one number at a time, for one head: as wkv7 of a layer's kernels, but for the state, which is [value][key].
// Made for comparison: compiled so that it stays as it is written.
void rwkv_plain_wkv7(
    const float *r, const float *w, const float *k, const float *v, const float *kk, const float *a, size_t rows, size_t stride,
    size_t size, float *state, float *y);

// y[output] = sum over inputs of weight[output][input] x[input], one number at a time; for comparison.
void rwkv_plain_product(const float *weight, size_t inputs, size_t outputs, const float *x, float *y);

// Tells the processor that this is one of many looks at what another thread will change.
static inline void rwkv_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// What the processor and the system offer beside our instruction sets, and OpenBLAS has cores for.
enum {
    RWKV_FEATURE_AVX = 1,
    RWKV_FEATURE_FMA4 = 2,
    RWKV_FEATURE_3DNOW = 4,
    RWKV_FEATURE_AVX512_BF16 = 8,
    // Zen 3 and Zen 4: the latter computes 512 bits in two halves, and is a little faster with kernels for AVX2.
    RWKV_FEATURE_HALVED_AVX512 = 16,
};
unsigned rwkv_processor_features(void);

// Has the process keep up to 64 MiB that it frees: to give them back and to ask for them again, page by page and zeroed, costs a model's
// forward pass a tenth of its time.
void rwkv_keep_freed_memory(void);

// How many processors this process may run on; at least one.
int rwkv_available_processors(void);

// Lets two paths change places, at one stroke where the file system can; 0, or -1 with errno, and both are what they were, if the file
// system lets what was done be taken back.
int rwkv_exchange(const char *a, const char *b);

// The same one after the other: what is at `b` is for a moment at `a`.replaced, and nothing at `b`.
int rwkv_exchange_by_renames(const char *a, const char *b);

// Makes a file as long as this, with room for all of it on its disk where the file system can promise that; 0, or -1 with errno.
int rwkv_reserve(int descriptor, int64_t count);

// Gives what is at `path` the name `target`, where nothing is; 0, or -1 with errno.
int rwkv_rename_new(const char *path, const char *target);

// Has a part of a file written to its disk soon, without waiting for it.
void rwkv_begin_writeback(int descriptor, int64_t offset, int64_t count);

// Maps a file to be read; NULL where that cannot be done. What the file loses while it is mapped is zero from then on, which
// rwkv_mapping_is_cut tells; a handler of SIGBUS sees to that.
const void *rwkv_map(int descriptor, size_t length, int *slot);

// Whether bytes of a mapping were found to be there no longer.
int rwkv_mapping_is_cut(int slot);

// Ends a mapping.
void rwkv_unmap(const void *start, size_t length, int slot);

#include "RWKVLayerKernels.h"

#endif
