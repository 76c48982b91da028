// Checks of the kernels that the forward pass uses.

#include "driver.h"

#include <math.h>
#include <string.h>

static const size_t WKV_SIZES[] = {8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 112, 128, 160};
static const size_t WKV_ROWS[] = {1, 2, 3, 7, 8, 9, 33, 255, 256, 257, 520};

// Defines a check of a kernel that processes rows of heads. x and z, which the kernel changes, and a, b and c have one number for
// each element of the rows. f and p have one number for each column. s and t have one number for each row and pair of channels.
#define ROWWISE(KERNEL, ARGUMENTS)                                                                           \
    void check_##KERNEL(run *run) {                                                                          \
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
ROWWISE(scale, (count, 0.7, x))
ROWWISE(softcap, (count, 0.5, 3, x))
ROWWISE(add, (a, count, x))
ROWWISE(add_to_rows, (f, rows, width, x))
ROWWISE(swiglu, (a, count, x))
ROWWISE(geglu, (a, count, x))
ROWWISE(sigmoid_gate, (a, count, x))
ROWWISE(relu_squared, (count, x))
ROWWISE(rotate, (s, t, size / 2, rows, heads, size, rows % 2, x))
ROWWISE(repeat_heads, (f, 1, heads, size, rows, x))
// Optional arguments are passed if the number of rows is odd.
ROWWISE(decay, (rows % 2 ? f : NULL, rows, width, x, rows % 2 ? z : NULL))
ROWWISE(mix_residual, (a, b, rows % 2 ? f : NULL, rows, width, x))
ROWWISE(
    head_outputs, (a, b, c, rows % 3 ? f : NULL, rows % 2 ? f : NULL, rows % 2 ? p : NULL, 1e-3, 0.3,
                   heads % 2 ? a : NULL, rows, heads, size, x))
ROWWISE(exponential_decay, (f, rows % 2 ? -5 : -INFINITY, rows, width, x))
ROWWISE(balance, (a, count, x))

void check_token_shifts(run *run) {
    const size_t width = PICK(WIDTHS), rows = PICK(ROWS), count = 1 + pick(run, NULL, 6);
    const void *shares[6];
    void *ys[6];
    EACH(i, count) shares[i] = INPUT(width, -9, 9), ys[i] = RESULT(rows * width, -1, 1);
    run->layers->token_shifts(INPUT(rows * width, -9, 9), INPUT(width, -9, 9), shares, count, rows, width, ys);
}

void check_data_dependent_token_shifts(run *run) {
    const size_t width = PICK(WIDTHS), rows = PICK(ROWS), count = 1 + pick(run, NULL, 6);
    const void *bases[6];
    void *ys[6];
    EACH(i, count) bases[i] = INPUT(width, -9, 9), ys[i] = RESULT(rows * width, -1, 1);
    run->layers->data_dependent_token_shifts(INPUT(rows * width, -9, 9), INPUT(width, -9, 9), bases, count, rows, width, ys);
}

void check_keys(run *run) {
    const size_t size = PICK(WIDTHS), rows = PICK(ROWS), heads = PICK(HEADS), width = heads * size, count = rows * width;
    const int has_base = pick(run, NULL, 2) != 0, has_scale = pick(run, NULL, 2) != 0, has_mix = pick(run, NULL, 2) != 0;
    void *kk = RESULT(count, -1, 1), *a = RESULT(count, -9, 9), *k = RESULT(count, -9, 9);
    const void *base = INPUT(width, -9, 9), *scale = INPUT(width, -9, 9), *mix = INPUT(width, -9, 9);
    const void *omega = INPUT(count, -9, 9);
    run->layers->keys(
        has_base ? base : NULL, has_scale ? scale : NULL, has_mix ? mix : NULL, has_mix ? NULL : omega, rows, heads, size, a, k, kk);
    expect_one(run, rows * heads, size, 2);
}

void check_softmax_block(run *run) {
    const size_t columns = PICK(WIDTHS), rows = PICK(ROWS), size = PICK(WIDTHS), y_stride = size + PICK(PADDINGS);
    void *scores = RESULT(rows * columns, -9, 9), *y = RESULT(span(rows, y_stride, size), -9, 9);
    void *largest = RESULT(rows, -9, 9), *sums = RESULT(rows, 0, 9);
    const ptrdiff_t seen = (ptrdiff_t)pick(run, NULL, 40) - 4;
    run->layers->softmax_block(rows, columns, seen, PICK(WINDOWS), 0.5, scores, largest, sums, size, y, y_stride);
}

void check_divide_rows(run *run) {
    const size_t size = PICK(WIDTHS), rows = PICK(ROWS), y_stride = size + PICK(PADDINGS);
    run->layers->divide_rows(INPUT(rows, 1, 9), rows, size, RESULT(span(rows, y_stride, size), -9, 9), y_stride);
}

void check_all_finite(run *run) {
    const size_t count = PICK(WIDTHS);
    const void *x = INPUT(count, -1, 1);
    int are_finite = 1;
    EACH(i, count) are_finite &= isfinite(number_at(&run->buffers[1], i)) != 0;
    EXPECT(run->layers->all_finite(x, count), are_finite, 0);
}

void check_widen(run *run) {
    const size_t columns = PICK(WIDTHS), element = pick(run, NULL, MODEL_ELEMENTS), rows = PICK(ROWS);
    const size_t stride = columns + PICK(PADDINGS);
    const void *elements = STORED(span(rows, stride, columns), -9, 9);
    run->layers->widen(element, elements, stride, rows, columns, RESULT(rows * columns, -1, 1));
}

void check_product(run *run) {
    const size_t inputs = PICK(WIDTHS), element = pick(run, NULL, MODEL_ELEMENTS), outputs = PICK(WIDTHS), rows = PICK(ROWS);
    const size_t y_stride = outputs + PICK(PADDINGS);
    const void *weight = STORED(inputs * outputs, -1, 1), *x = INPUT(rows * inputs, -1, 1);
    float *y = RESULT(span(rows, y_stride, outputs), -1, 1), *plain = SCRATCH(outputs);
    run->layers->product(element, weight, inputs, outputs, x, rows, y, y_stride);
    if (run->real == RWKV_REAL_F64 || element != RWKV_ELEMENT_F32 || run->has_edges || rows == 0) return;
    rwkv_plain_product(weight, inputs, outputs, x, plain);
    EACH(i, outputs) EXPECT(y[i], plain[i], 1e-4);
}

void check_product_of_columns(run *run) {
    const size_t inputs = PICK(WIDTHS), element = pick(run, NULL, MODEL_ELEMENTS), outputs = PICK(COLUMNS), rows = PICK(ROWS);
    const size_t stride = outputs + PICK(PADDINGS), y_stride = outputs + PICK(PADDINGS);
    const void *weight = STORED(span(inputs, stride, outputs), -1, 1), *x = INPUT(rows * inputs, -1, 1);
    void *y = RESULT(span(rows, y_stride, outputs), -1, 1);
    run->layers->product_of_columns(element, weight, stride, inputs, outputs, x, rows, y, y_stride);
}

void check_attend(run *run) {
    const size_t size = PICK(WIDTHS), rows = PICK(ROWS), past = PICK(WIDTHS), all = past + rows;
    const size_t query_stride = size + PICK(PADDINGS), stride = size + PICK(PADDINGS), y_stride = size + PICK(PADDINGS);
    const size_t window = PICK(WINDOWS);
    const double cap = pick(run, NULL, 2) ? 3 : 0;
    const void *queries = INPUT(span(rows, query_stride, size), -1, 1);
    const void *keys = INPUT(span(all, stride, size), -1, 1), *values = INPUT(span(all, stride, size), -1, 1);
    void *scores = SCRATCH(all < window ? all : window), *y = RESULT(span(rows, y_stride, size), -1, 1);
    run->layers->attend(
        queries, query_stride, rows, keys, values, stride, past, window, size, 0.2, cap, scores, y, y_stride);
}

void check_wkv6(run *run) {
    const size_t size = PICK(WKV_SIZES), heads = PICK(HEADS), stride = heads * size;
    // Many rows of large heads would take too long.
    const size_t rows = pick(run, WKV_ROWS, size <= 64 ? COUNT(WKV_ROWS) : 7), count = rows * stride;
    const int has_bonus = pick(run, NULL, 2) != 0, is_fixed = pick(run, NULL, 2) != 0;
    const size_t width = own_size(run), w_stride = is_fixed ? 0 : stride;
    const char *r = INPUT(count, -1, 1), *w = INPUT(is_fixed ? stride : count, 0.01, 0.99);
    const char *k = INPUT(count, -1, 1), *v = INPUT(count, -1, 1), *bonus = INPUT(stride, -1, 1);
    char *state = RESULT(heads * size * size, -1, 1), *y = RESULT(count, -1, 1);
    void *scratch = SCRATCH(RWKV_WKV6_ROWS + 64 * size);
    const int has_plain = run->real == RWKV_REAL_F32 && !run->has_edges;
    float *plain = SCRATCH(size * size);
    for (size_t head = 0; head < heads; head++) {
        const size_t at = head * size * width;
        void *own = state + at * size;
        if (has_plain) memcpy(plain, own, size * size * sizeof *plain);
        run->layers->wkv6(
            r + at, w + at, k + at, v + at, has_bonus ? bonus + at : NULL, rows, stride, w_stride, size, own, scratch, y + at);
        const float *u = (const void *)(bonus + at);
        EACH(row, has_plain ? rows : 0) {
            const float *r_t = (const float *)(const void *)(r + at) + row * stride, *w_t = (const float *)(const void *)(w + at) + row * w_stride;
            const float *k_t = (const float *)(const void *)(k + at) + row * stride, *v_t = (const float *)(const void *)(v + at) + row * stride;
            EACH(i, size) {
                double sum = 0;
                EACH(j, size) {
                    const double old = plain[j * size + i], new = old * w_t[j] + (double)k_t[j] * v_t[i];
                    sum += r_t[j] * (has_bonus ? old + (double)u[j] * k_t[j] * v_t[i] : new);
                    plain[j * size + i] = (float)new;
                }
                EXPECT(((float *)(void *)(y + at))[row * stride + i], sum, 1e-3);
            }
        }
    }
}

void check_wkv7(run *run) {
    const size_t size = PICK(WKV_SIZES), element = pick(run, NULL, MODEL_ELEMENTS), heads = PICK(HEADS), stride = heads * size;
    // Many rows of large heads would take too long.
    const size_t rows = pick(run, WKV_ROWS, size <= 64 ? COUNT(WKV_ROWS) : 7), count = rows * stride;
    const double length = 1.7 / sqrt((double)size);
    const char *r = STORED(count, -1, 1), *w = STORED(count, 0.55, 0.99);
    const char *k = STORED(count, -1, 1), *v = STORED(count, -1, 1);
    const char *kk = STORED(count, -length, length), *a = STORED(count, 0, 1);
    char *state = RESULT(heads * size * size, -1, 1), *y = RESULT(count, -1, 1);
    const size_t widened = element == own_element(run) ? 0 : rows < RWKV_WKV7_ROWS ? rows : RWKV_WKV7_ROWS;
    void *scratch = SCRATCH(65 * size + 6 * size * widened);
    // The state of rwkv_plain_wkv7 is transposed.
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
