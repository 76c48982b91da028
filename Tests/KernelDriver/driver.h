// Functions with which checks pick sizes, draw numbers, allocate buffers and compare numbers with expected ones.

#ifndef KERNEL_DRIVER_H
#define KERNEL_DRIVER_H

#include "CRWKVKernels.h"

#include <stdlib.h>

#define EACH(i, count) for (size_t i = 0; i < (count); i++)
#define COUNT(array) (sizeof(array) / sizeof *(array))

// A buffer that a check has allocated. Only results are compared.
typedef struct {
    char *start;
    void *allocation;
    size_t count, width;
    int is_result;
} buffer;

// A run of one check with one table.
typedef struct {
    const char *name;
    const rwkv_kernels *kernels;
    const rwkv_layer_kernels *layers;
    rwkv_instruction_set set;
    rwkv_real real;
    // If `has_edges`, some of the numbers are edge cases, such as infinities, NaNs and the limits of functions.
    int is_strict, has_edges;
    size_t number, picks, sizes[12], used;
    uint64_t random;
    buffer buffers[48];
} run;

static const size_t WIDTHS[] = {1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 96, 100, 128, 129, 0}, ROWS[] = {1, 2, 3, 4, 9, 0};
static const size_t COLUMNS[] = {1, 17, 100, 255, 256, 257, 600}, HEADS[] = {1, 3}, PADDINGS[] = {0, 1, 5};
static const size_t WINDOWS[] = {1, 2, 7, 64, 1000};

// The size of each element type, and the bits of its infinity or, for an integer type, of its largest integer. Models are stored
// in the first MODEL_ELEMENTS types.
enum { MODEL_ELEMENTS = 4 };
static const struct {
    size_t size;
    uint64_t infinity;
} ELEMENTS[] = {
    [RWKV_ELEMENT_F64] = {8, 0x7FF0000000000000}, [RWKV_ELEMENT_F32] = {4, 0x7F800000}, [RWKV_ELEMENT_F16] = {2, 0x7C00},
    [RWKV_ELEMENT_BF16] = {2, 0x7F80}, [RWKV_ELEMENT_I64] = {8, INT64_MAX}, [RWKV_ELEMENT_U64] = {8, UINT64_MAX},
    [RWKV_ELEMENT_I32] = {4, INT32_MAX}, [RWKV_ELEMENT_U32] = {4, UINT32_MAX}, [RWKV_ELEMENT_I16] = {2, INT16_MAX},
    [RWKV_ELEMENT_U16] = {2, UINT16_MAX},
};

// Exits with an error unless `found` is within `tolerance` of `expected`. A NaN is equal to any NaN, and an infinity only to
// itself.
void expect(const run *run, const char *what, double found, double expected, double tolerance);
#define EXPECT(found, expected, tolerance) expect(run, #found, (double)(found), (double)(expected), tolerance)

// Expects the numbers in each row of the first result, raised to `power`, to sum to 1. `power` is 1 for softmax, and 2 for unit
// vectors.
void expect_one(const run *run, size_t rows, size_t width, int power);
double number_at(const buffer *buffer, size_t i);

uint64_t next(run *run);
// Returns an entry of `list`, or a number below `count` if `list` is NULL. When a check is repeated, its first two picks go
// through all pairs.
size_t pick(run *run, const size_t *list, size_t count);
#define PICK(list) pick(run, list, COUNT(list))

// Returns the number of elements from the start of the first row to the end of the last row, where the buffer ends.
static inline size_t span(size_t rows, size_t stride, size_t width) { return rows ? (rows - 1) * stride + width : 0; }

// Allocates a buffer of `count` elements of `width` bytes each. The buffer ends where its allocation ends, and starts up to three
// elements after the start of the allocation. All bytes are 0xFF, which is a NaN in every floating-point type.
void *allocate(run *run, int is_result, size_t count, size_t width);
// Returns a random number between `low` and `high`, rounded to float so that all tables compute with the same numbers, or an edge
// case if the run has edge cases.
double draw(run *run, double low, double high);
// Allocates a buffer of random numbers with the type `element`.
void *numbers(run *run, int is_result, rwkv_element element, size_t count, double low, double high);

static inline rwkv_element own_element(const run *run) {
    return run->real == RWKV_REAL_F32 ? RWKV_ELEMENT_F32 : RWKV_ELEMENT_F64;
}
static inline size_t own_size(const run *run) { return ELEMENTS[own_element(run)].size; }

#define STORED(count, low, high) numbers(run, 0, element, count, low, high)
#define INPUT(count, low, high) numbers(run, 0, own_element(run), count, low, high)
// Outputs are results, too. Because they initially contain random numbers, a comparison shows which numbers a kernel has not
// written.
#define RESULT(count, low, high) numbers(run, 1, own_element(run), count, low, high)
#define SCRATCH(count) allocate(run, 0, count, own_size(run))

// The checks, which are named after the kernels and functions that they check.
#define FOR_EACH_LAYER_CHECK(DO)                                                                             \
    DO(widen) DO(product) DO(product_of_columns) DO(rms_norm) DO(layer_norm) DO(sigmoid) DO(tanh) DO(scale) DO(softcap) \
    DO(add) DO(add_to_rows) DO(swiglu) DO(geglu) DO(sigmoid_gate) DO(relu_squared) DO(all_finite) DO(rotate) DO(repeat_heads) DO(attend) \
    DO(softmax_block) DO(divide_rows) DO(token_shifts) DO(data_dependent_token_shifts) DO(decay) \
    DO(exponential_decay) DO(balance) DO(mix_residual) DO(keys) DO(head_outputs) DO(wkv6) DO(wkv7) \
    DO(multiply) DO(add_rows) DO(rms_norm_backward) DO(sigmoid_backward) DO(tanh_backward) DO(softcap_backward) \
    DO(swiglu_backward) DO(geglu_backward) DO(sum_heads) DO(causal_softmax) DO(softmax_backward) DO(decay_backward) \
    DO(exponential_decay_backward) DO(balance_backward) DO(token_shift_backward) DO(mix_residual_backward) DO(keys_backward) DO(head_outputs_backward) DO(head_norm_backward) DO(wkv7_backward) DO(divergence) DO(cross_entropy) \
    DO(distances) DO(scaled_differences) DO(adamw)
#define FOR_EACH_FILE_CHECK(DO)                                                                              \
    DO(statistics) DO(count_bytes) DO(to_doubles) DO(compare) DO(compare_logits) DO(cast) DO(add_scaled) DO(orthonormalise) \
    DO(multiply_add) DO(read)
#define FOR_EACH_FUNCTION_CHECK(DO) DO(crc32) DO(elementary) DO(mapping)
#define DECLARE(NAME) void check_##NAME(run *run);
FOR_EACH_LAYER_CHECK(DECLARE)
FOR_EACH_FILE_CHECK(DECLARE)
FOR_EACH_FUNCTION_CHECK(DECLARE)
#undef DECLARE

#endif
