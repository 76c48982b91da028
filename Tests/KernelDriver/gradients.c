// Checks of the kernels that training uses.

#include "driver.h"

#include <math.h>
#include <string.h>

// Defines a check of a kernel that processes rows of heads. Each y, which the kernel changes, and each x have one number for each
// element of the rows, and f has one number for each column. Few numbers are negative, so that sums do not cancel.
#define GRADIENT(KERNEL, ARGUMENTS)                                                                          \
    void check_##KERNEL(run *run) {                                                                          \
        const size_t size = PICK(WIDTHS), rows = PICK(ROWS), heads = PICK(HEADS), width = heads * size, count = rows * width; \
        const void *f = INPUT(width, -1, 9), *x[6];                                                          \
        void *y[6];                                                                                          \
        EACH(i, COUNT(x)) x[i] = INPUT(count, -1, 9), y[i] = RESULT(count, -1, 9);                           \
        (void)f;                                                                                             \
        run->layers->KERNEL ARGUMENTS;                                                                       \
    }

// Optional arguments are passed if the number of rows is odd.
GRADIENT(sigmoid_backward, (x[0], count, y[0]))
GRADIENT(tanh_backward, (x[0], count, y[0]))
GRADIENT(softcap_backward, (x[0], count, 0.5, 10, y[0]))
GRADIENT(swiglu_backward, (x[0], count, y[0], y[1]))
GRADIENT(geglu_backward, (x[0], count, y[0], y[1]))
GRADIENT(rms_norm_backward, (x[0], x[1], rows, width, f, 9, y[0], rows % 2 ? y[1] : NULL))
GRADIENT(softmax_backward, (x[0], rows, width, 0.5, y[0]))
GRADIENT(decay_backward, (f, x[0], x[1], rows % 2 ? x[2] : NULL, rows, width, y[0]))
GRADIENT(exponential_decay_backward, (f, x[0], rows % 2 ? -5 : -INFINITY, rows, width, y[0]))
GRADIENT(balance_backward, (x[0], x[1], count, y[0], y[1]))
// An even number of rows includes the next row.
GRADIENT(
    token_shift_backward, (x[0], f, size % 2 ? f : x[1], size % 2 ? 0 : width, x[2], rows && rows % 2 == 0 ? rows - 1 : rows,
                           width, rows && rows % 2 == 0, rows % 3 ? y[0] : NULL, y[1]))
GRADIENT(mix_residual_backward, (x[0], x[1], f, rows, width, y[0], rows % 2 ? y[1] : NULL, y[2]))
GRADIENT(
    keys_backward, (x[0], x[1], x[2], rows % 3 ? f : NULL, rows % 2 ? f : NULL, rows % 2 ? NULL : x[3], x[4], rows, heads, size, y[0],
                    y[1], y[2], rows % 3 ? y[3] : NULL, rows % 2 ? y[4] : NULL))
GRADIENT(
    head_outputs_backward,
    (x[0], x[1], x[2], rows % 3 ? f : NULL, 0.3, size % 2 ? x[3] : NULL, x[4], rows, heads, size, y[0], y[1], y[2], y[3], y[4],
     rows % 3 && rows % 2 ? y[5] : NULL))
// The gradient with respect to x vanishes with epsilon if a head has two channels.
GRADIENT(head_norm_backward, (x[0], f, 0.3, rows, heads, size, y[0], y[1]))

static const size_t BLOCKED_WIDTHS[] = {1, 7, 16, 31, 32, 33, 100, 255, 256, 257, 300, 520}, BLOCKED_ROWS[] = {1, 4, 6, 11, 12, 13, 40, 0};

void check_multiply(run *run) {
    const size_t columns = PICK(BLOCKED_WIDTHS), inner = PICK(BLOCKED_WIDTHS), rows = PICK(BLOCKED_ROWS);
    const int a_turned = pick(run, NULL, 2) != 0, b_turned = pick(run, NULL, 2) != 0, adds = pick(run, NULL, 2) != 0;
    const size_t a_stride = (a_turned ? rows : inner) + PICK(PADDINGS), b_stride = (b_turned ? inner : columns) + PICK(PADDINGS);
    const size_t y_stride = columns + PICK(PADDINGS);
    const void *a = INPUT(a_turned ? span(inner, a_stride, rows) : span(rows, a_stride, inner), -1, 9);
    const void *b = INPUT(b_turned ? span(columns, b_stride, inner) : span(inner, b_stride, columns), -1, 9);
    void *y = RESULT(span(rows, y_stride, columns), -1, 9);
    run->layers->multiply(
        rows, columns, inner, a, a_turned ? 1 : a_stride, a_turned ? a_stride : 1, b, b_turned ? 1 : b_stride,
        b_turned ? b_stride : 1, adds, y, y_stride, SCRATCH(RWKV_MULTIPLY_SCRATCH));
}

void check_add_rows(run *run) {
    const size_t width = PICK(WIDTHS), rows = PICK(ROWS), stride = width + PICK(PADDINGS);
    const void *x = INPUT(span(rows, stride, width), -1, 9);
    run->layers->add_rows(x, rows, width, stride, RESULT(width, -1, 9));
}

void check_sum_heads(run *run) {
    const size_t size = PICK(WIDTHS), rows = PICK(ROWS), heads = PICK(HEADS), times = PICK(HEADS), count = rows * heads * size;
    const void *dy = INPUT(count * times, -1, 9);
    run->layers->sum_heads(dy, rows, heads, size, times, RESULT(count, -1, 1));
}

void check_causal_softmax(run *run) {
    const size_t past = PICK(WIDTHS), rows = PICK(ROWS), columns = past + rows + PICK(PADDINGS);
    void *scores = RESULT(rows * columns, -9, 9);
    run->layers->causal_softmax(rows, columns, past, PICK(WINDOWS), 0.5, scores);
    expect_one(run, rows, columns, 1);
}

static double at(const run *run, const void *x, size_t i) {
    return run->real == RWKV_REAL_F32 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

static void put(const run *run, void *x, size_t i, double value) {
    if (run->real == RWKV_REAL_F32)
        ((float *)x)[i] = (float)value;
    else
        ((double *)x)[i] = value;
}

static double dot(const run *run, const void *x, const void *y, size_t count) {
    double sum = 0;
    EACH(i, count) sum += at(run, x, i) * at(run, y, i);
    return sum;
}

void check_wkv7_backward(run *run) {
    static const size_t SIZES[] = {1, 5, 8, 15, 16, 18, 40, 64, 67}, LENGTHS[] = {1, 2, 15, 16, 17, 33, 0};
    const size_t size = PICK(SIZES), rows = PICK(LENGTHS), heads = PICK(HEADS), stride = heads * size, count = rows * stride;
    const size_t together = RWKV_WKV7_CHECKPOINT_ROWS, segments = (rows + together - 1) / together, bytes = own_size(run);
    const double length = 1.7 / sqrt((double)size);
    const char *r = INPUT(count, -1, 1), *w = INPUT(count, 0.55, 0.99), *k = INPUT(count, -1, 1), *v = INPUT(count, -1, 1);
    const char *kk = INPUT(count, -length, length), *a = INPUT(count, 0, 1), *dy = INPUT(count, -1, 1);
    char *y = RESULT(count, -1, 1), *dr = RESULT(count, -1, 1), *dk = RESULT(count, -1, 1), *dv = RESULT(count, -1, 1);
    char *dw = RESULT(count, -1, 1), *dkk = RESULT(count, -1, 1), *da = RESULT(count, -1, 1);
    char *checkpoints = SCRATCH(segments * size * size);
    const double added[] = {dot(run, r, dr, count), dot(run, k, dk, count), dot(run, v, dv, count)};
    const size_t pitch = (size + 15) / 16 * 16;
    void *forward = SCRATCH(65 * size), *scratch = SCRATCH((31 * together + 21 + pitch) * pitch);
    for (size_t head = 0; head < heads * size * bytes; head += size * bytes) {
        char *state = memset(SCRATCH(size * size), 0, size * size * bytes);
        EACH(segment, segments) {
            const size_t start = segment * together, own = rows - start < together ? rows - start : together;
            const size_t from = head + start * stride * bytes;
            memcpy(checkpoints + segment * size * size * bytes, state, size * size * bytes);
            run->layers->wkv7(
                own_element(run), r + from, w + from, k + from, v + from, kk + from, a + from, own, stride, size, state, forward,
                y + from);
        }
        run->layers->wkv7_backward(
            r + head, w + head, k + head, v + head, kk + head, a + head, dy + head, rows, stride, size, checkpoints, scratch,
            dr + head, dw + head, dk + head, dv + head, dkk + head, da + head);
    }
    if (run->has_edges) return;
    // The loss dot(y, dy) is linear in r, in k and in v, so it is the dot product of each of them with its gradient. The term
    // that removes S kk is linear in a and quadratic in kk, so dot(kk, dkk) is twice dot(a, da).
    const double loss = dot(run, y, dy, count), removed = dot(run, a, da, count), tolerance = 1e-6 * (double)(count * size);
    EXPECT(dot(run, r, dr, count), loss + added[0], tolerance), EXPECT(dot(run, k, dk, count), loss + added[1], tolerance);
    EXPECT(dot(run, v, dv, count), loss + added[2], tolerance), EXPECT(dot(run, kk, dkk, count), 2 * removed, tolerance);
}

// Returns log(sum(exp(scale * x))).
static double log_sum(const run *run, const void *x, size_t start, size_t count, double scale) {
    double sum = 0;
    EACH(i, count) sum += exp(scale * at(run, x, start + i));
    return log(sum);
}

void check_divergence(run *run) {
    const size_t count = PICK(COLUMNS), rows = PICK(ROWS);
    const double target_scale = 0.5, scale = pick(run, NULL, 2) ? 1 : 0.5;
    void *target = INPUT(rows * count, -9, 9), *logits = INPUT(rows * count, -9, 9);
    // In some runs, the probability of the last token is zero, in the target only or in both.
    const size_t masked = count > 1 ? pick(run, NULL, 3) : 0;
    EACH(row, rows) {
        if (masked > 0) put(run, target, (row + 1) * count - 1, -INFINITY);
        if (masked > 1) put(run, logits, (row + 1) * count - 1, -INFINITY);
    }
    double *losses = allocate(run, 1, rows, sizeof *losses);
    run->layers->divergence(target, logits, rows, count, target_scale, scale, 0.3, RESULT(rows * count, -1, 1), losses);
    EACH(row, run->has_edges ? 0 : rows) {
        const double target_sum = log_sum(run, target, row * count, count, target_scale);
        const double sum = log_sum(run, logits, row * count, count, scale);
        double loss = 0;
        EACH(i, count) {
            const double x = at(run, target, row * count + i) * target_scale - target_sum;
            if (exp(x) > 0) loss += exp(x) * (x - (at(run, logits, row * count + i) * scale - sum));
        }
        EXPECT(losses[row], loss, 1e-5);
    }
}

void check_cross_entropy(run *run) {
    const size_t count = PICK(COLUMNS), rows = PICK(ROWS);
    const void *logits = INPUT(rows * count, -9, 9);
    int64_t *behind = allocate(run, 0, rows, sizeof *behind);
    EACH(row, rows) behind[row] = (int64_t)(next(run) % (count + 1)) - 1;
    double *losses = allocate(run, 1, rows, sizeof *losses);
    run->layers->cross_entropy(logits, behind, rows, count, 0.3, RESULT(rows * count, -1, 1), losses);
    EACH(row, run->has_edges ? 0 : rows) {
        const double p = behind[row] < 0 ? 0 : at(run, logits, row * count + (size_t)behind[row]);
        EXPECT(losses[row], behind[row] < 0 ? 0 : log_sum(run, logits, row * count, count, 1) - p, 1e-5);
    }
}

void check_distances(run *run) {
    const size_t width = PICK(WIDTHS), rows = PICK(ROWS);
    const void *target = INPUT(rows * width, -9, 9), *x = INPUT(rows * width, -9, 9);
    double *squares = allocate(run, 1, rows, sizeof *squares), *target_squares = allocate(run, 1, rows, sizeof *squares);
    run->layers->distances(target, x, rows, width, squares, target_squares);
}

void check_scaled_differences(run *run) {
    const size_t width = PICK(WIDTHS), rows = PICK(ROWS);
    const void *target = INPUT(rows * width, -9, 9);
    const double *factors = numbers(run, 0, RWKV_ELEMENT_F64, rows, -9, 9);
    run->layers->scaled_differences(target, factors, rows, width, RESULT(rows * width, -9, 9));
}

void check_adamw(run *run) {
    const size_t count = PICK(WIDTHS) * PICK(ROWS);
    const double betas[] = {0.9, 0.95}, corrections[] = {0.19, 0.0975};
    const void *gradient = INPUT(count, -1, 1);
    void *moment = RESULT(count, -1, 1), *square = RESULT(count, 0, 1);
    run->layers->adamw(
        gradient, count, 0.5, 1e-2, 1e-1, betas, corrections, 1e-8, moment, square, RESULT(count, -1, 1));
}
