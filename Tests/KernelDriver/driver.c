// Runs every kernel on memory that ends where the headers say, under the address and the undefined behaviour sanitizer, and holds
// the tables against each other. scripts/check-kernels compiles and starts it.
//
// A check is a function that draws sizes, asks for buffers and calls a kernel. It runs for each table with the same sizes and the
// same numbers; then the buffers are compared. A new kernel takes such a function, or a ROWWISE, and its place in CHECKS.

#define _GNU_SOURCE
#include "CRWKVKernels.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EACH(i, count) for (size_t i = 0; i < (count); i++)
#define COUNT(array) (sizeof(array) / sizeof *(array))

// Only results are compared.
typedef struct {
    char *start;
    void *allocation;
    size_t count, width;
    int is_result;
} buffer;

typedef struct {
    const char *name;
    const rwkv_kernels *kernels;
    const rwkv_layer_kernels *layers;
    rwkv_instruction_set set;
    rwkv_real real;
    // Whether numbers near limits are drawn among the others.
    int is_strict, has_edges;
    size_t number, picks, sizes[8], used;
    uint64_t random;
    buffer buffers[32];
} run;

static const size_t WIDTHS[] = {1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 96, 100, 128, 129, 0}, ROWS[] = {1, 2, 3, 4, 9, 0};
static const size_t COLUMNS[] = {1, 17, 100, 255, 256, 257, 600}, HEADS[] = {1, 3}, PADDINGS[] = {0, 1, 5};
static const size_t WKV7_SIZES[] = {8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 112, 128, 160};
static const size_t WKV7_ROWS[] = {1, 2, 3, 7, 8, 9, 33, 255, 256, 257, 520};

// Those that models are of come first. What is infinite, or the largest integer.
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

// MARK: Comparing

static const char *const SETS[] = {"baseline", "avx2", "avx512"};
static size_t comparisons;

static _Noreturn void fail(const run *run, const char *what, double found, double expected) {
    printf("%s", run->name);
    if (run->layers) printf(", %s f%d", run->is_strict ? "strict" : "fast", run->real == RWKV_REAL_F32 ? 32 : 64);
    if (run->kernels) printf(", %s", SETS[run->set]);
    if (run->has_edges) printf(", numbers near limits");
    EACH(i, run->picks) printf("%s %zu", i ? "" : ", sizes", run->sizes[i]);
    printf(", %s: expected %.17g, found %.17g\n", what, expected, found);
    exit(1);
}

// What is not a number is like any other such, what is infinite only like itself.
static int are_alike(double found, double expected, double tolerance) {
    return found == expected || fabs(found - expected) <= fmin(tolerance, DBL_MAX) || (isnan(found) && isnan(expected));
}

static void expect(const run *run, const char *what, double found, double expected, double tolerance) {
    comparisons++;
    if (!are_alike(found, expected, tolerance)) fail(run, what, found, expected);
}

#define EXPECT(found, expected, tolerance) expect(run, #found, (double)(found), (double)(expected), tolerance)

static double number_at(const buffer *buffer, size_t i) {
    const void *at = buffer->start + i * buffer->width;
    return buffer->width == 2 ? *(const uint16_t *)at : buffer->width == 4 ? *(const float *)at : *(const double *)at;
}

// The tolerance is relative to the largest number of a buffer; without one all bits count, but for those of what a layer's kernel
// gives that is not a number.
static void compare(const run *found, const run *expected, double tolerance) {
    EACH(b, found->used) {
        const buffer *f = &found->buffers[b], *e = &expected->buffers[b];
        const size_t count = f->is_result ? f->count : 0;
        double largest = 0;
        EACH(i, count) largest = fmax(largest, fabs(number_at(e, i)));
        EACH(i, count) {
            const double x = number_at(f, i), y = number_at(e, i);
            char what[80];
            if (tolerance > 0 ? are_alike(x, y, tolerance * largest) : found->layers && isnan(x) && isnan(y)) continue;
            if (f->width == e->width && memcmp(f->start + i * f->width, e->start + i * f->width, f->width) == 0) continue;
            snprintf(what, sizeof what, "buffer %zu at %zu beside the strict baseline's%s", b, i, tolerance > 0 ? " f64" : "");
            fail(found, what, x, y);
        }
        comparisons += count;
    }
}

// MARK: Drawing sizes and numbers

// SplitMix64
static uint64_t next(run *run) {
    uint64_t z = run->random += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

// One of a list, or a number below `count`. The first two that a check picks go through all pairs from one time to the next.
static size_t pick(run *run, const size_t *list, size_t count) {
    const size_t place = (run->picks < 2 ? run->number : next(run)) % count;
    run->number /= count;
    return run->sizes[run->picks++] = list ? list[place] : place;
}

#define PICK(list) pick(run, list, COUNT(list))

// From the first number of the first row to the last one of the last row, behind which nothing is.
static size_t span(size_t rows, size_t stride, size_t width) { return rows ? (rows - 1) * stride + width : 0; }

// Ends where the allocation ends, begins where it begins or a little behind, and holds what is not a number until that is written.
static void *allocate(run *run, int is_result, size_t count, size_t width) {
    const size_t offset = next(run) % 4 * width;
    char *allocation = malloc(offset + count * width);
    if (!allocation || run->used == COUNT(run->buffers)) abort();
    run->buffers[run->used++] = (buffer){allocation + offset, allocation, count, width, is_result};
    return memset(allocation + offset, 0xFF, count * width);
}

static void release(run *run) {
    while (run->used) free(run->buffers[--run->used].allocation);
}

// As precise as a float, so that all tables compute with the same.
static double draw(run *run, double low, double high) {
    static const double edges[] = {
        0, -0.0, 1, -1, 20, -20, 88.3, 88.4, -87.3, -87.4, 103.9, 709.3, 709.5, -708.2, -708.4, 0x1p-126, 0x1p-149, -0x1p-140,
        FLT_MAX, -FLT_MAX, 0x1p-1022, 0x1p-1074, DBL_MAX, -DBL_MAX, INFINITY, -INFINITY, NAN, 1e-12, -1e-30, 65504, 65520, 0x1p-24,
    };
    const uint64_t bits = next(run);
    if (run->has_edges && bits % 4 == 0) return edges[bits / 4 % COUNT(edges)];
    return (float)(low + (high - low) * (double)(bits >> 11) * 0x1p-53);
}

static rwkv_element own_element(const run *run) { return run->real == RWKV_REAL_F32 ? RWKV_ELEMENT_F32 : RWKV_ELEMENT_F64; }
static size_t own_size(const run *run) { return ELEMENTS[own_element(run)].size; }

static void *numbers(run *run, int is_result, rwkv_element element, size_t count, double low, double high) {
    double *values = allocate(run, 0, count, sizeof *values);
    EACH(i, count) values[i] = draw(run, low, high);
    void *elements = allocate(run, is_result, count, ELEMENTS[element].size);
    run->kernels->cast(RWKV_ELEMENT_F64, values, element, elements, count, 0);
    return elements;
}

#define STORED(count, low, high) numbers(run, 0, element, count, low, high)
#define INPUT(count, low, high) numbers(run, 0, own_element(run), count, low, high)
// An output too: what it holds before shows what is not written.
#define RESULT(count, low, high) numbers(run, 1, own_element(run), count, low, high)
#define SCRATCH(count) allocate(run, 0, count, own_size(run))

// Elements of any bits, of which what is infinite, not a number, denormal, zero and largest are not rare.
static void *patterns(run *run, int is_result, rwkv_element element, size_t count) {
    const size_t size = ELEMENTS[element].size;
    const uint64_t infinity = ELEMENTS[element].infinity, sign = (uint64_t)1 << (8 * size - 1);
    char *elements = allocate(run, is_result, count, size);
    EACH(i, count) {
        const uint64_t any = next(run), kind = next(run) % 16;
        const uint64_t special[] = {0, infinity, infinity | any >> 40, any & ~infinity & ~sign, infinity - 1};
        const uint64_t bits = kind < COUNT(special) ? special[kind] ^ (any & sign) : any;
        memcpy(elements + i * size, &bits, size);
    }
    return elements;
}

// MARK: Layers' kernels

// The sum of each row of the first result, or of its squares: 1 of a softmax and of what is normalised.
static void expect_one(const run *run, size_t rows, size_t width, int power) {
    EACH(row, run->has_edges || width == 0 ? 0 : rows) {
        double sum = 0;
        EACH(i, width) sum += pow(number_at(&run->buffers[1], row * width + i), power);
        EXPECT(sum, 1, 1e-5);
    }
}

// A kernel of rows that are made of heads. Of x and z, which it changes, there are as many numbers as of a, b and c; of f and p
// there is one for each number of a row, and of s and t one for each row and pair of a head.
#define ROWWISE(KERNEL, ARGUMENTS)                                                                           \
    static void check_##KERNEL(run *run) {                                                                   \
        const size_t size = PICK(WIDTHS), rows = PICK(ROWS), heads = PICK(HEADS), width = heads * size, count = rows * width; \
        void *x = RESULT(count, -9, 9), *z = RESULT(count, -1, 1);                                           \
        const void *a = INPUT(count, -9, 9), *b = INPUT(count, -9, 9), *c = INPUT(count, -9, 9);             \
        const void *f = INPUT(width, -9, 9), *p = INPUT(width, -9, 9);                                       \
        const void *s = INPUT(rows * (size / 2), -1, 1), *t = INPUT(rows * (size / 2), -1, 1);               \
        (void)z, (void)a, (void)b, (void)c, (void)f, (void)p, (void)s, (void)t;                              \
        run->layers->KERNEL ARGUMENTS;                                                                       \
    }

ROWWISE(rms_norm, (a, rows, width, f, 1e-3, x))
ROWWISE(layer_norm, (a, rows, width, f, p, 1e-3, x))
ROWWISE(sigmoid, (count, x))
ROWWISE(tanh, (count, x))
ROWWISE(add, (a, count, x))
ROWWISE(add_to_rows, (f, rows, width, x))
ROWWISE(swiglu, (a, count, x))
ROWWISE(relu_squared, (count, x))
ROWWISE(rotate, (s, t, size / 2, rows, heads, size, x))
ROWWISE(repeat_heads, (f, 1, heads, size, rows, x))
// What may be missing is there with an odd number of rows.
ROWWISE(decay, (rows % 2 ? f : NULL, rows, width, x, rows % 2 ? z : NULL))
ROWWISE(mix_residual, (a, b, rows % 2 ? f : NULL, rows, width, x))
ROWWISE(head_outputs, (a, b, c, f, rows % 2 ? f : NULL, rows % 2 ? p : NULL, 1e-3, a, rows, heads, size, x))

static void check_token_shifts(run *run) {
    const size_t width = PICK(WIDTHS), rows = PICK(ROWS), count = 1 + pick(run, NULL, 6);
    const void *shares[6];
    void *ys[6];
    EACH(i, count) shares[i] = INPUT(width, -9, 9), ys[i] = RESULT(rows * width, -1, 1);
    run->layers->token_shifts(INPUT(rows * width, -9, 9), INPUT(width, -9, 9), shares, count, rows, width, ys);
}

static void check_keys(run *run) {
    const size_t size = PICK(WIDTHS), rows = PICK(ROWS), heads = PICK(HEADS), width = heads * size, count = rows * width;
    const int has_base = pick(run, NULL, 2) != 0, has_scale = pick(run, NULL, 2) != 0, has_mix = pick(run, NULL, 2) != 0;
    void *kk = RESULT(count, -1, 1), *a = RESULT(count, -9, 9), *k = RESULT(count, -9, 9);
    const void *base = INPUT(width, -9, 9), *scale = INPUT(width, -9, 9), *mix = INPUT(width, -9, 9);
    const void *omega = INPUT(count, -9, 9);
    run->layers->keys(
        has_base ? base : NULL, has_scale ? scale : NULL, has_mix ? mix : NULL, has_mix ? NULL : omega, rows, heads, size, a, k, kk);
    expect_one(run, rows * heads, size, 2);
}

static void check_softmax_block(run *run) {
    const size_t columns = PICK(WIDTHS), rows = PICK(ROWS), size = PICK(WIDTHS), y_stride = size + PICK(PADDINGS);
    void *scores = RESULT(rows * columns, -9, 9), *y = RESULT(span(rows, y_stride, size), -9, 9);
    void *largest = RESULT(rows, -9, 9), *sums = RESULT(rows, 0, 9);
    const ptrdiff_t seen = (ptrdiff_t)pick(run, NULL, 9) - 4;
    run->layers->softmax_block(rows, columns, seen, 0.5, scores, largest, sums, size, y, y_stride);
}

static void check_divide_rows(run *run) {
    const size_t size = PICK(WIDTHS), rows = PICK(ROWS), y_stride = size + PICK(PADDINGS);
    run->layers->divide_rows(INPUT(rows, 1, 9), rows, size, RESULT(span(rows, y_stride, size), -9, 9), y_stride);
}

static void check_all_finite(run *run) {
    const size_t count = PICK(WIDTHS);
    const void *x = INPUT(count, -1, 1);
    int are_finite = 1;
    EACH(i, count) are_finite &= isfinite(number_at(&run->buffers[1], i)) != 0;
    EXPECT(run->layers->all_finite(x, count), are_finite, 0);
}

static void check_widen(run *run) {
    const size_t columns = PICK(WIDTHS), element = pick(run, NULL, MODEL_ELEMENTS), rows = PICK(ROWS);
    const size_t stride = columns + PICK(PADDINGS);
    const void *elements = STORED(span(rows, stride, columns), -9, 9);
    run->layers->widen(element, elements, stride, rows, columns, RESULT(rows * columns, -1, 1));
}

static void check_product(run *run) {
    const size_t inputs = PICK(WIDTHS), element = pick(run, NULL, MODEL_ELEMENTS), outputs = PICK(WIDTHS), rows = PICK(ROWS);
    const size_t y_stride = outputs + PICK(PADDINGS);
    const void *weight = STORED(inputs * outputs, -1, 1), *x = INPUT(rows * inputs, -1, 1);
    float *y = RESULT(span(rows, y_stride, outputs), -1, 1), *plain = SCRATCH(outputs);
    run->layers->product(element, weight, inputs, outputs, x, rows, y, y_stride);
    if (run->real == RWKV_REAL_F64 || element != RWKV_ELEMENT_F32 || run->has_edges || rows == 0) return;
    rwkv_plain_product(weight, inputs, outputs, x, plain);
    EACH(i, outputs) EXPECT(y[i], plain[i], 1e-4);
}

static void check_product_of_columns(run *run) {
    const size_t inputs = PICK(WIDTHS), element = pick(run, NULL, MODEL_ELEMENTS), outputs = PICK(COLUMNS), rows = PICK(ROWS);
    const size_t stride = outputs + PICK(PADDINGS), y_stride = outputs + PICK(PADDINGS);
    const void *weight = STORED(span(inputs, stride, outputs), -1, 1), *x = INPUT(rows * inputs, -1, 1);
    void *y = RESULT(span(rows, y_stride, outputs), -1, 1);
    run->layers->product_of_columns(element, weight, stride, inputs, outputs, x, rows, y, y_stride);
}

static void check_attend(run *run) {
    const size_t size = PICK(WIDTHS), rows = PICK(ROWS), past = PICK(WIDTHS), all = past + rows;
    const size_t query_stride = size + PICK(PADDINGS), stride = size + PICK(PADDINGS), y_stride = size + PICK(PADDINGS);
    const void *queries = INPUT(span(rows, query_stride, size), -1, 1);
    const void *keys = INPUT(span(all, stride, size), -1, 1), *values = INPUT(span(all, stride, size), -1, 1);
    void *scores = SCRATCH(all), *y = RESULT(span(rows, y_stride, size), -1, 1);
    run->layers->attend(queries, query_stride, rows, keys, values, stride, past, size, 0.2, scores, y, y_stride);
}

static void check_wkv7(run *run) {
    const size_t size = PICK(WKV7_SIZES), element = pick(run, NULL, MODEL_ELEMENTS), heads = PICK(HEADS), stride = heads * size;
    // Many rows of large heads take long.
    const size_t rows = pick(run, WKV7_ROWS, size <= 64 ? COUNT(WKV7_ROWS) : 7), count = rows * stride;
    const double length = 1.7 / sqrt((double)size);
    const char *r = STORED(count, -1, 1), *w = STORED(count, 0.55, 0.99);
    const char *k = STORED(count, -1, 1), *v = STORED(count, -1, 1);
    const char *kk = STORED(count, -length, length), *a = STORED(count, 0, 1);
    char *state = RESULT(heads * size * size, -1, 1), *y = RESULT(count, -1, 1);
    const size_t widened = element == own_element(run) ? 0 : rows < RWKV_WKV7_ROWS ? rows : RWKV_WKV7_ROWS;
    void *scratch = SCRATCH(65 * size + 6 * size * widened);
    // The plain loop's state is the other way round.
    float *turned = SCRATCH(size * size), *plain = SCRATCH(span(rows, stride, size));
    const int has_plain = run->real == RWKV_REAL_F32 && element == RWKV_ELEMENT_F32 && !run->has_edges;
    for (size_t head = 0; head < heads; head++, state += size * size * own_size(run), y += size * own_size(run)) {
        const size_t at = head * size * ELEMENTS[element].size;
        EACH(i, has_plain ? size * size : 0) turned[i] = ((float *)state)[i % size * size + i / size];
#define INPUTS (const void *)(r + at), (const void *)(w + at), (const void *)(k + at), (const void *)(v + at), \
        (const void *)(kk + at), (const void *)(a + at), rows, stride, size
        run->layers->wkv7(element, INPUTS, state, scratch, y);
        if (!has_plain) continue;
        rwkv_plain_wkv7(INPUTS, turned, plain);
        EACH(row, rows) EACH(i, size) EXPECT(((float *)y)[row * stride + i], plain[row * stride + i], 1e-3);
    }
}

// MARK: The other kernels

static void check_statistics(run *run) {
    const size_t width = PICK(WIDTHS), element = pick(run, NULL, COUNT(ELEMENTS));
    // Now and then so many that counters are emptied on the way.
    const size_t count = width + (width == 100 ? 16 * 32767 : 0);
    const void *elements = patterns(run, 0, element, count);
    double *values = allocate(run, 0, count, sizeof *values), sum = 0, size = 0;
    rwkv_statistics *found = allocate(run, 1, sizeof *found / 8, 8);
    uint64_t finite = 0, zeros = 0, nans = 0;
    run->kernels->statistics(element, elements, count, found);
    run->kernels->to_doubles(element, elements, count, values);
    EACH(i, count) {
        finite += isfinite(values[i]) != 0, zeros += values[i] == 0, nans += isnan(values[i]) != 0;
        const double deviation = isfinite(values[i]) ? values[i] - found->shift : 0;
        sum += deviation, size += fabs(deviation);
    }
    EXPECT(found->finite, finite, 0), EXPECT(found->zeros, zeros, 0), EXPECT(found->nans, nans, 0);
    if (isfinite(size)) EXPECT(found->sum, sum, 1e-10 * size);
}

static void check_to_doubles(run *run) {
    const size_t count = PICK(WIDTHS), element = pick(run, NULL, COUNT(ELEMENTS));
    const void *elements = patterns(run, 0, element, count);
    run->kernels->to_doubles(element, elements, count, allocate(run, 1, count, sizeof(double)));
}

static void check_count_bytes(run *run) {
    const size_t count = PICK(WIDTHS);
    uint64_t *counts = memset(allocate(run, 1, 256, sizeof *counts), 0, 256 * sizeof *counts), sum = 0;
    uint8_t *bytes = allocate(run, 0, count, 1);
    EACH(i, count) bytes[i] = (uint8_t)(next(run) % 300);
    // Adds to what is there.
    EACH(time, 2) run->kernels->count_bytes(bytes, count, counts);
    EACH(i, 256) sum += counts[i];
    EXPECT(sum, 2 * count, 0);
}

static void check_compare(run *run) {
    const size_t count = PICK(WIDTHS);
    double *a = INPUT(count, -9, 9), *b = INPUT(count, -9, 9), sum = 0;
    rwkv_comparison *found = memset(allocate(run, 1, sizeof *found / 8, 8), 0, sizeof *found);
    EACH(i, count) b[i] = next(run) % 4 ? b[i] : a[i], sum += a[i] * b[i];
    EACH(time, 2) run->kernels->compare(a, b, count, found);
    if (!run->has_edges) EXPECT(found->products, 2 * sum, 1e-9);
}

static void check_compare_logits(run *run) {
    const size_t count = PICK(WIDTHS) + 1;
    double *a = INPUT(count, -9, 9), *b = INPUT(count, -9, 9), sum = 0;
    rwkv_logits_comparison *found = allocate(run, 1, sizeof *found / 8, 8);
    EACH(i, count) a[i] = isfinite(a[i]) ? a[i] : 0, b[i] = isfinite(b[i]) ? b[i] : 0, sum += exp(a[i]);
    run->kernels->compare_logits(a, b, count, found);
    if (!run->has_edges) EXPECT(found->log_sum_a, log(sum), 1e-12);
}

static void check_cast(run *run) {
    const size_t from = pick(run, NULL, MODEL_ELEMENTS), to = pick(run, NULL, MODEL_ELEMENTS), saturates = pick(run, NULL, 2);
    // Blocks are of 512.
    const size_t count = PICK(WIDTHS) + 511 * pick(run, NULL, 3);
    const void *source = patterns(run, 0, from, count);
    uint64_t *overflows = allocate(run, 1, 1, sizeof *overflows);
    *overflows = run->kernels->cast(from, source, to, allocate(run, 1, count, ELEMENTS[to].size), count, (int)saturates);
}

static void check_add_scaled(run *run) {
    const size_t count = PICK(WIDTHS);
    const float *x = patterns(run, 0, RWKV_ELEMENT_F32, count);
    run->kernels->add_scaled(0.3f, x, patterns(run, 1, RWKV_ELEMENT_F32, count), count);
}

static void check_orthonormalise(run *run) {
    // The sign of what is not a number is not the same on all instruction sets.
    run->has_edges = 0;
    const size_t length = PICK(WIDTHS), end = length < 9 ? length : length / 2 + 1, start = end / 2;
    double *rows = RESULT(end * length, -1, 1);
    run->kernels->orthonormalise(rows, 0, start, length);
    run->kernels->orthonormalise(rows, start, end, length);
    expect_one(run, end, length, 2);
}

static void check_multiply_add(run *run) {
    const size_t rounds = PICK(ROWS), lanes = (size_t)4 << run->set;
    EXPECT(run->kernels->multiply_add(rounds), 24.0 * (double)(lanes * rounds), 0);
}

static void check_read(run *run) {
    const size_t count = PICK(WIDTHS) * PICK(ROWS);
    run->kernels->read(allocate(run, 0, count, 1), count);
}

// MARK: Functions by themselves

static void check_crc32(run *run) {
    EXPECT(rwkv_crc32(0, "123456789", 9), 0xCBF43926, 0);
    const size_t count = PICK(WIDTHS), front = count / 3;
    uint8_t *bytes = allocate(run, 0, count, 1);
    EACH(i, count) bytes[i] = (uint8_t)next(run);
    EXPECT(rwkv_crc32(rwkv_crc32(0, bytes, front), bytes + front, count - front), rwkv_crc32(0, bytes, count), 0);
}

static void check_elementary(run *run) {
    run->has_edges = 1;
    EACH(i, 1000) {
        double sine, cosine;
        const double x = draw(run, -750, 750), size = fabs(x);
        EXPECT(rwkv_exp(x), exp(x), 5e-16 * exp(x) + 0x1p-1073);
        EXPECT(rwkv_log(x), log(x), 5e-16 * fabs(log(x)));
        rwkv_sine_cosine(x, &sine, &cosine);
        if (size <= 0x1p20) EXPECT(sine, sin(x), 0x1.8p-52), EXPECT(cosine, cos(x), 0x1.8p-52);
    }
}

// A file that becomes shorter while it is mapped.
static void check_mapping(run *run) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), length = 2 * page + 100;
    const char *bytes = memset(allocate(run, 0, length, 1), 7, length);
    int slot;
    FILE *file = tmpfile();
    EXPECT(file && fwrite(bytes, 1, length, file) == length && fflush(file) == 0, 1, 0);
    const char *mapped = rwkv_map(fileno(file), length, &slot);
    EXPECT(mapped && memcmp(mapped, bytes, length) == 0 && ftruncate(fileno(file), (off_t)page) == 0, 1, 0);
    EXPECT(mapped[page - 1] == 7 && !rwkv_mapping_is_cut(slot), 1, 0);
    EXPECT(mapped[length - 1] == 0 && rwkv_mapping_is_cut(slot), 1, 0);
    rwkv_unmap(mapped, length, slot);
    EXPECT(fclose(file) == 0 && rwkv_map(-1, length, &slot) == NULL, 1, 0);
}

// MARK: All of them

static const struct check {
    const char *name;
    void (*function)(run *run);
    size_t tables;
} CHECKS[] = {
#define LAYER(KERNEL) {#KERNEL, check_##KERNEL, 12}
#define OTHER(KERNEL) {#KERNEL, check_##KERNEL, 3}
#define FUNCTION(NAME) {#NAME, check_##NAME, 1}
    LAYER(widen), LAYER(product), LAYER(product_of_columns), LAYER(rms_norm), LAYER(layer_norm), LAYER(sigmoid), LAYER(tanh),
    LAYER(add), LAYER(add_to_rows), LAYER(swiglu), LAYER(relu_squared), LAYER(all_finite), LAYER(rotate), LAYER(repeat_heads),
    LAYER(attend), LAYER(softmax_block), LAYER(divide_rows), LAYER(token_shifts), LAYER(decay), LAYER(mix_residual), LAYER(keys),
    LAYER(head_outputs), LAYER(wkv7), OTHER(statistics), OTHER(count_bytes), OTHER(to_doubles), OTHER(compare),
    OTHER(compare_logits), OTHER(cast), OTHER(add_scaled), OTHER(orthonormalise), OTHER(multiply_add), OTHER(read),
    FUNCTION(crc32), FUNCTION(elementary), FUNCTION(mapping),
};
_Static_assert(
    COUNT(CHECKS) == (sizeof(rwkv_layer_kernels) + sizeof(rwkv_kernels)) / sizeof(void (*)(void)) + 3, "a kernel has no check");

static void perform(run *run, const struct check *check) {
    run->name = check->name;
    run->random = 2 * run->number + (run->has_edges != 0);
    check->function(run);
    // Where a kernel has denormals be zero, that ends with it.
    const volatile double smallest = 0x1p-1074, normal = DBL_MIN;
    const int has_denormals = smallest * 2 > 0 && normal / 2 > 0;
    EXPECT(has_denormals, 1, 0);
}

static void check_tables(const struct check *check, size_t number, int has_edges) {
    // Of each number type the strict baseline, which comes first.
    run first[2] = {0};
    EACH(table, check->tables) {
        run found = {.number = number, .has_edges = has_edges, .real = table < 6 ? RWKV_REAL_F64 : RWKV_REAL_F32};
        found.set = (rwkv_instruction_set)(table % 3), found.is_strict = table / 3 % 2 == 0;
        found.kernels = rwkv_kernels_for(found.set);
        if (check->tables == 12) found.layers = rwkv_layer_kernels_for(found.set, found.real, found.is_strict);
        if (!found.kernels) continue;
        perform(&found, check);
        if (table % 6 == 0) first[found.real] = found;
        if (found.layers && !has_edges) compare(&found, &first[RWKV_REAL_F64], found.real == RWKV_REAL_F32 ? 1e-5 : 1e-12);
        if (found.is_strict) compare(&found, &first[found.real], 0);
        if (table % 6 != 0) release(&found);
    }
    release(&first[0]), release(&first[1]);
}

int main(void) {
    // Often enough for all pairs of sizes.
    EACH(time, 192) EACH(has_edges, 2) EACH(i, COUNT(CHECKS)) check_tables(&CHECKS[i], time, (int)has_edges);
    printf("kernels up to %s: %zu comparisons, all as expected\n", SETS[rwkv_best_instruction_set()], comparisons);
}
