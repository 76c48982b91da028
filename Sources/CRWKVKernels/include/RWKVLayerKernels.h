// The hot loops of a model's forward pass, each written once over a real number type and compiled for fp32 and fp64, in two tables.
//
// The strict table gives the same bits on every x86-64 processor: no contraction to FMA, own elementary functions, sums in an order
// that depends neither on the instruction set nor on how many rows are computed at once. The fast table is the same source with
// contraction.
//
// Exponential, sigmoid, tanh, softplus and what is made of them are within 3e-7 of the exact value, relatively, in fp32; what is smaller
// than the smallest normal number may be zero. What is not a number in comes out as not a number.

#ifndef RWKV_LAYER_KERNELS_H
#define RWKV_LAYER_KERNELS_H

#include "CRWKVKernels.h"

// What a table computes in: `void *` below are its numbers.
typedef enum {
    RWKV_REAL_F32,
    RWKV_REAL_F64,
} rwkv_real;

// Rows that wkv7 widens, and goes through value by value, at a time.
#define RWKV_WKV7_ROWS 256
// Rows between the states from which wkv7_backward computes others again.
#define RWKV_WKV7_CHECKPOINT_ROWS 16

// Inner elements, and columns, that a product goes through at a time, and the numbers of its scratch memory.
enum { RWKV_MULTIPLY_BLOCK = 256, RWKV_MULTIPLY_SCRATCH = RWKV_MULTIPLY_BLOCK * (RWKV_MULTIPLY_BLOCK + 16) + 512 };

typedef struct {
    // MARK: Matrices as they stand in a file

    // x[row][column] of `rows` rows, `stride` elements apart, behind each other
    void (*widen)(rwkv_element element, const void *elements, size_t stride, size_t rows, size_t columns, void *x);
    // y[row][output] = sum over inputs of x[row][input] weight[output][input]; `y_stride` numbers between rows of y
    void (*product)(
        rwkv_element element, const void *weight, size_t inputs, size_t outputs, const void *x, size_t rows, void *y,
        size_t y_stride);
    // y[row][output] = sum over inputs of x[row][input] weight[input][output], with `stride` elements between inputs
    void (*product_of_columns)(
        rwkv_element element, const void *weight, size_t stride, size_t inputs, size_t outputs, const void *x, size_t rows,
        void *y, size_t y_stride);

    // y[row][column] = sum over inner of a[row][inner] b[inner][column], or y += that if `adds`. Strides between rows, columns and inner
    // elements are given, so either factor may be transposed. Scratch: RWKV_MULTIPLY_SCRATCH numbers.
    void (*multiply)(
        size_t rows, size_t columns, size_t inner, const void *a, size_t a_row, size_t a_inner, const void *b, size_t b_inner,
        size_t b_column, int adds, void *y, size_t y_stride, void *scratch);

    // MARK: Norms

    // y = x / sqrt(mean(x^2) + epsilon) weight
    void (*rms_norm)(const void *x, size_t rows, size_t width, const void *weight, double epsilon, void *y);
    // y = (x - mean) / sqrt(variance + epsilon) weight + bias
    void (*layer_norm)(
        const void *x, size_t rows, size_t width, const void *weight, const void *bias, double epsilon, void *y);

    // MARK: Element by element

    void (*sigmoid)(size_t count, void *x);
    void (*tanh)(size_t count, void *x);
    // x factor
    void (*scale)(size_t count, double factor, void *x);
    // cap tanh(scale x / cap)
    void (*softcap)(size_t count, double scale, double cap, void *x);
    // y += x
    void (*add)(const void *x, size_t count, void *y);
    // y[row] += x
    void (*add_to_rows)(const void *x, size_t rows, size_t width, void *y);
    // y = silu(gate) up, in the place of gate
    void (*swiglu)(const void *up, size_t count, void *gate);
    // y = gelu_tanh(gate) up, in the place of gate: gelu_tanh(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
    void (*geglu)(const void *up, size_t count, void *gate);
    // max(x, 0)^2
    void (*relu_squared)(size_t count, void *x);
    // 1 where all are finite
    int (*all_finite)(const void *x, size_t count);

    // MARK: Attention

    // turns the first `2 * half` channels of each head, i with i + half, or 2 i with 2 i + 1 if interleaved, by an angle of each row:
    // cosines and sines are [rows, half]
    void (*rotate)(
        const void *cosines, const void *sines, size_t half, size_t rows, size_t heads, size_t size, int is_interleaved, void *x);
    // each head as often as `times` says
    void (*repeat_heads)(const void *x, size_t rows, size_t heads, size_t size, size_t times, void *y);
    // causal softmax attention of one head: of the first `past + r + 1` keys and values, row r sees the last `window`, 1 or more.
    // Scores are multiplied by scale, or go through softcap if cap is above 0. Scores: room for as many as the last row sees.
    void (*attend)(
        const void *queries, size_t query_stride, size_t rows, const void *keys, const void *values, size_t stride, size_t past,
        size_t window, size_t size, double scale, double cap, void *scores, void *y, size_t y_stride);
    // attention a block of keys at a time: of the first `seen + r` of `columns` keys, row r sees the last `window`. Their scores
    // become exponentials over the largest so far, the others zero; with a larger one, sums and rows of y, `size` of each
    // `y_stride`, shrink; sums grow by the exponentials. In the beginning largest is -infinity, sums and y are zero.
    void (*softmax_block)(
        size_t rows, size_t columns, ptrdiff_t seen, size_t window, double scale, void *scores, void *largest, void *sums,
        size_t size, void *y, size_t y_stride);
    // y[row] /= sums[row]
    void (*divide_rows)(const void *sums, size_t rows, size_t size, void *y, size_t y_stride);

    // MARK: Time mixing of RWKV-7

    // y_i[row] = x[row] + (x[row - 1] - x[row]) share_i for `count` shares, with `previous` before the first row
    void (*token_shifts)(
        const void *x, const void *previous, const void *const *shares, size_t count, size_t rows, size_t width, void *const *ys);
    // omega = -softplus(-(p + base)) - 1/2, and p becomes exp(-exp(omega)); base and omega may be NULL
    void (*decay)(const void *base, size_t rows, size_t width, void *p, void *omega);
    // y += (first - y) sigmoid(share + base); base may be NULL
    void (*mix_residual)(const void *first, const void *share, const void *base, size_t rows, size_t width, void *y);
    // a becomes sigmoid(a + base), kk is k scale over its length, or over 1e-12 where that is more, for each head, and k becomes
    // k (1 + (a - 1) mix), or k (1 - omega + a) where mix is NULL; base and scale may be NULL
    void (*keys)(
        const void *base, const void *scale, const void *mix, const void *omega, size_t rows, size_t heads, size_t size, void *a,
        void *k, void *kk);
    // y becomes (norm(y) + (sum over the head of r k bonus) v) gate, norm being layer_norm of each head, with a weight and a bias for
    // all heads, or 1 / sqrt(size) where weight is NULL
    void (*head_outputs)(
        const void *r, const void *k, const void *v, const void *bonus, const void *weight, const void *bias, double epsilon,
        const void *gate, size_t rows, size_t heads, size_t size, void *y);
    // S = S diag(w) - (S kk)(kk a)^T + v k^T, y = S r, for one head. Inputs are of `element`; their rows, and those of y, are `stride`
    // numbers apart. The state is S^T: [key][value]. Scratch: room for 65 `size` numbers, and for 6 `size` more for each of up to
    // RWKV_WKV7_ROWS rows where the inputs are to be widened. Denormals count as zero.
    void (*wkv7)(
        rwkv_element element, const void *r, const void *w, const void *k, const void *v, const void *kk, const void *a,
        size_t rows, size_t stride, size_t size, void *state, void *scratch, void *y);

    // MARK: Gradients: dx stands for dL/dx

    // y += x[row] for all rows, which are `stride` apart
    void (*add_rows)(const void *x, size_t rows, size_t width, size_t stride, void *y);
    // of rms_norm: dx, and where it is not NULL what each row adds to dweight, [rows, width]
    void (*rms_norm_backward)(
        const void *x, const void *dy, size_t rows, size_t width, const void *weight, double epsilon, void *dx, void *dweight);
    // dx, which holds dy, of y = sigmoid(x), and of y = tanh(x)
    void (*sigmoid_backward)(const void *y, size_t count, void *dx);
    void (*tanh_backward)(const void *y, size_t count, void *dx);
    // dx, which holds dy, of y = cap tanh(scale x / cap)
    void (*softcap_backward)(const void *y, size_t count, double scale, double cap, void *dx);
    // of silu(gate) up, and of gelu_tanh(gate) up; the gradients of both factors take their places
    void (*swiglu_backward)(const void *dy, size_t count, void *up, void *gate);
    void (*geglu_backward)(const void *dy, size_t count, void *up, void *gate);
    // of repeat_heads
    void (*sum_heads)(const void *dy, size_t rows, size_t heads, size_t size, size_t times, void *dx);
    // of the first `past + r + 1` scores of row r the last `window`, 1 or more, times scale, become their softmax, the others zero
    void (*causal_softmax)(size_t rows, size_t columns, size_t past, size_t window, double scale, void *scores);
    // dx, which holds dy, of y = softmax(scale x)
    void (*softmax_backward)(const void *y, size_t rows, size_t columns, double scale, void *dx);
    // of decay with p in front of base and w, omega behind it: dp takes the place of dw
    void (*decay_backward)(
        const void *base, const void *p, const void *w, const void *domega, size_t rows, size_t width, void *dw);
    // of mix_residual with y in front of it: the gradient of share takes its place, that of y the place of what was handed in, and
    // that of first is added to dfirst, which may be NULL
    void (*mix_residual_backward)(
        const void *first, const void *y, const void *base, size_t rows, size_t width, void *share, void *dfirst, void *dy);
    // of keys with neither scale nor mix; k is in front, a behind it. dk and da hold the gradients of what k and a became, and become
    // those of k and of what the sigmoid was of.
    void (*keys_backward)(
        const void *k, const void *a, const void *kk, const void *omega, const void *dkk, size_t rows, size_t heads, size_t size,
        void *dk, void *da, void *domega);
    // of head_outputs with no weight and y in front of it: dy in its place, and what each row adds to dbonus, which may be NULL
    void (*head_outputs_backward)(
        const void *r, const void *k, const void *v, const void *bonus, const void *gate, const void *y, size_t rows, size_t heads,
        size_t size, void *dy, void *dr, void *dk, void *dv, void *dgate, void *dbonus);
    // of wkv7 of one head, from no state on and with no use made of the last one. Checkpoints are the states in front of every
    // RWKV_WKV7_CHECKPOINT_ROWS-th row, [key][value] each. Gradients are added to dr, dk and dv, and take the places of the others. Scratch:
    // room for 31 RWKV_WKV7_CHECKPOINT_ROWS + 21 + size times size numbers, size rounded up to 16. Denormals count as zero.
    void (*wkv7_backward)(
        const void *r, const void *w, const void *k, const void *v, const void *kk, const void *a, const void *dy, size_t rows,
        size_t stride, size_t size, const void *checkpoints, void *scratch, void *dr, void *dw, void *dk, void *dv, void *dkk,
        void *da);

    // MARK: Losses

    // KL(softmax(target_scale target) || softmax(scale logits)) of each row in nats, and (p - p of target) factor
    void (*divergence)(
        const void *target, const void *logits, size_t rows, size_t count, double target_scale, double scale, double factor,
        void *gradient, double *losses);
    // -log p of the next number in each row, and p factor added to the gradient, where that is less by factor; rows whose next
    // is negative have none
    void (*cross_entropy)(
        const void *logits, const int64_t *next, size_t rows, size_t count, double factor, void *gradient, double *losses);
    // of each row, the sums of (x - target)^2 and of target^2
    void (*distances)(
        const void *target, const void *x, size_t rows, size_t width, double *squares, double *target_squares);
    // (x - target) factors[row], in the place of x
    void (*scaled_differences)(const void *target, const double *factors, size_t rows, size_t width, void *x);
    // AdamW (Loshchilov and Hutter 2019) with gradients times scale: moments become beta m + (1 - beta) g and beta v + (1 - beta) g^2,
    // and x becomes x (1 - rate decay) - rate (m / correction) / (sqrt(v / correction) + epsilon)
    void (*adamw)(
        const void *gradient, size_t count, double scale, double rate, double decay, const double betas[2],
        const double corrections[2], double epsilon, void *moment, void *square, void *x);
} rwkv_layer_kernels;

// The kernels for an instruction set; NULL where this machine lacks it.
const rwkv_layer_kernels *rwkv_layer_kernels_for(rwkv_instruction_set instruction_set, rwkv_real real, int is_strict);

#endif
