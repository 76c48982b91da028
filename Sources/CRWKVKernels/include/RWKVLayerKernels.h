// The hot loops of inference and training, each written once for a generic real type and compiled for fp32 and fp64, in two
// tables.
//
// The strict table gives the same bits on every x86-64 processor: no contraction to FMA, our own elementary functions, and sums
// in an order that depends neither on the instruction set nor on how many rows are computed at once. The fast table is the same
// source with contraction.
//
// Exponential, sigmoid, tanh, softplus and functions made of them have a relative error of at most 3e-7 in fp32; results below
// the smallest normal number may be zero. NaN in gives NaN out.

#ifndef RWKV_LAYER_KERNELS_H
#define RWKV_LAYER_KERNELS_H

#include "CRWKVKernels.h"

// The type that a table computes in: `void *` below points to numbers of this type.
typedef enum {
    RWKV_REAL_F32,
    RWKV_REAL_F64,
} rwkv_real;

// Rows that wkv7 widens and processes at a time.
#define RWKV_WKV7_ROWS 256
// Rows between the checkpoints from which wkv7_backward recomputes the other states.
#define RWKV_WKV7_CHECKPOINT_ROWS 16

// Inner elements, and columns, per block of the blocked product, and the size of its scratch memory in numbers.
enum { RWKV_MULTIPLY_BLOCK = 256, RWKV_MULTIPLY_SCRATCH = RWKV_MULTIPLY_BLOCK * (RWKV_MULTIPLY_BLOCK + 16) + 512 };

typedef struct {
    // MARK: Stored matrices

    // x[row][column] = elements[row * stride + column], with the rows of x adjacent
    void (*widen)(rwkv_element element, const void *elements, size_t stride, size_t rows, size_t columns, void *x);
    // y[row][output] = sum over inputs of x[row][input] weight[output][input]; `y_stride` numbers between rows of y
    void (*product)(
        rwkv_element element, const void *weight, size_t inputs, size_t outputs, const void *x, size_t rows, void *y,
        size_t y_stride);
    // y[row][output] = sum over inputs of x[row][input] weight[input][output], with `stride` elements between inputs
    void (*product_of_columns)(
        rwkv_element element, const void *weight, size_t stride, size_t inputs, size_t outputs, const void *x, size_t rows,
        void *y, size_t y_stride);

    // y[row][column] = sum over inner of a[row][inner] b[inner][column], or y += that if `adds`. Strides between rows, columns
    // and inner elements are parameters, so either factor may be transposed. `scratch` has room for RWKV_MULTIPLY_SCRATCH
    // numbers.
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
    // x *= factor
    void (*scale)(size_t count, double factor, void *x);
    // x becomes cap tanh(scale x / cap)
    void (*softcap)(size_t count, double scale, double cap, void *x);
    // y += x
    void (*add)(const void *x, size_t count, void *y);
    // y[row] += x
    void (*add_to_rows)(const void *x, size_t rows, size_t width, void *y);
    // gate becomes silu(gate) up
    void (*swiglu)(const void *up, size_t count, void *gate);
    // gate becomes gelu_tanh(gate) up: gelu_tanh(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
    void (*geglu)(const void *up, size_t count, void *gate);
    // x becomes max(x, 0)^2
    void (*relu_squared)(size_t count, void *x);
    // 1 if all are finite, or 0
    int (*all_finite)(const void *x, size_t count);

    // MARK: Attention

    // RoPE: rotates the first `2 * half` channels of each head, in pairs of i and i + half, or 2 i and 2 i + 1 if interleaved;
    // cosines and sines are [rows, half]
    void (*rotate)(
        const void *cosines, const void *sines, size_t half, size_t rows, size_t heads, size_t size, int is_interleaved, void *x);
    // y has each head of x `times` times in a row
    void (*repeat_heads)(const void *x, size_t rows, size_t heads, size_t size, size_t times, void *y);
    // causal softmax attention of one head: of the first `past + r + 1` keys and values, row r sees the last `window`, 1 or more.
    // Scores are multiplied by scale, and softcapped if cap is above 0. `scores` has room for as many as the last row sees.
    void (*attend)(
        const void *queries, size_t query_stride, size_t rows, const void *keys, const void *values, size_t stride, size_t past,
        size_t window, size_t size, double scale, double cap, void *scores, void *y, size_t y_stride);
    // one block of `columns` keys in online softmax: counted from the block's first key, row r sees the last `window` of the
    // first `seen + r` keys. Scores that it sees become exp((score - largest) scale), where largest is the row's largest so far,
    // the others zero. If largest grew, sums and rows of y (`size` numbers, `y_stride` apart) are rescaled; then the exponentials
    // are added to sums. Initially largest is -infinity, and sums and y are zero.
    void (*softmax_block)(
        size_t rows, size_t columns, ptrdiff_t seen, size_t window, double scale, void *scores, void *largest, void *sums,
        size_t size, void *y, size_t y_stride);
    // y[row] /= sums[row]
    void (*divide_rows)(const void *sums, size_t rows, size_t size, void *y, size_t y_stride);

    // MARK: Time mixing of RWKV-7

    // y_i[row] = x[row] + (x[row - 1] - x[row]) share_i for `count` shares, with `previous` as the row before the first
    void (*token_shifts)(
        const void *x, const void *previous, const void *const *shares, size_t count, size_t rows, size_t width, void *const *ys);
    // omega = -softplus(-(p + base)) - 1/2, and p becomes the decay w = exp(-exp(omega)); base (w0) and omega may be NULL
    void (*decay)(const void *base, size_t rows, size_t width, void *p, void *omega);
    // y += (first - y) sigmoid(share + base), first being v_first or its like for keys; base may be NULL
    void (*mix_residual)(const void *first, const void *share, const void *base, size_t rows, size_t width, void *y);
    // for each head, a becomes sigmoid(a + base), kk = k scale / max(|k scale|, 1e-12), and k becomes k (1 + (a - 1) mix), or
    // k (1 - omega + a) if mix is NULL; base (a0) and scale (k_k) may be NULL; mix is k_a
    void (*keys)(
        const void *base, const void *scale, const void *mix, const void *omega, size_t rows, size_t heads, size_t size, void *a,
        void *k, void *kk);
    // y becomes (norm(y) + (sum over the head of r k bonus) v) gate, where norm is layer_norm of each head, with weight and bias
    // [heads, size], or 1 / sqrt(size) if weight is NULL; bonus is r_k
    void (*head_outputs)(
        const void *r, const void *k, const void *v, const void *bonus, const void *weight, const void *bias, double epsilon,
        const void *gate, size_t rows, size_t heads, size_t size, void *y);
    // S = S diag(w) - (S kk)(kk a)^T + v k^T, y = S r, for one head. Inputs have type `element`; their rows, and those of y, are
    // `stride` numbers apart. The state is S^T: [key][value]. `scratch` has room for 65 `size` numbers, plus 6 `size` for each of
    // up to RWKV_WKV7_ROWS rows if inputs must be widened. Denormals count as zero.
    void (*wkv7)(
        rwkv_element element, const void *r, const void *w, const void *k, const void *v, const void *kk, const void *a,
        size_t rows, size_t stride, size_t size, void *state, void *scratch, void *y);

    // MARK: Gradients: dx means dL/dx

    // y += x[row] for all rows, which are `stride` apart
    void (*add_rows)(const void *x, size_t rows, size_t width, size_t stride, void *y);
    // of rms_norm: dx, and unless dweight is NULL each row's part of it, [rows, width]
    void (*rms_norm_backward)(
        const void *x, const void *dy, size_t rows, size_t width, const void *weight, double epsilon, void *dx, void *dweight);
    // of y = sigmoid(x), and of y = tanh(x): dx holds dy, and becomes dx
    void (*sigmoid_backward)(const void *y, size_t count, void *dx);
    void (*tanh_backward)(const void *y, size_t count, void *dx);
    // of y = cap tanh(scale x / cap): dx holds dy, and becomes dx
    void (*softcap_backward)(const void *y, size_t count, double scale, double cap, void *dx);
    // of silu(gate) up, and of gelu_tanh(gate) up: up and gate become their gradients
    void (*swiglu_backward)(const void *dy, size_t count, void *up, void *gate);
    void (*geglu_backward)(const void *dy, size_t count, void *up, void *gate);
    // of repeat_heads: the sum over the copies of each head
    void (*sum_heads)(const void *dy, size_t rows, size_t heads, size_t size, size_t times, void *dx);
    // of the first `past + r + 1` scores of row r, the last `window`, 1 or more, become softmax(scale scores), the others zero
    void (*causal_softmax)(size_t rows, size_t columns, size_t past, size_t window, double scale, void *scores);
    // of y = softmax(scale x): dx holds dy, and becomes dx
    void (*softmax_backward)(const void *y, size_t rows, size_t columns, double scale, void *dx);
    // of decay, with p without base, and w the decay; domega is the gradient of omega, and dw becomes dp
    void (*decay_backward)(
        const void *base, const void *p, const void *w, const void *domega, size_t rows, size_t width, void *dw);
    // of mix_residual, with y its input: share becomes its gradient, dy becomes that of the input, and the gradient of first is
    // added to dfirst, which may be NULL
    void (*mix_residual_backward)(
        const void *first, const void *y, const void *base, size_t rows, size_t width, void *share, void *dfirst, void *dy);
    // of keys without scale and mix, with k its input and a its output: dk and da hold the gradients of its outputs, and become
    // those of k and of the sigmoid's argument
    void (*keys_backward)(
        const void *k, const void *a, const void *kk, const void *omega, const void *dkk, size_t rows, size_t heads, size_t size,
        void *dk, void *da, void *domega);
    // of head_outputs without weight, with y its input: dy becomes that of y; dbonus, unless NULL, gets each row's part
    void (*head_outputs_backward)(
        const void *r, const void *k, const void *v, const void *bonus, const void *gate, const void *y, size_t rows, size_t heads,
        size_t size, void *dy, void *dr, void *dk, void *dv, void *dgate, void *dbonus);
    // of wkv7 of one head, from a zero state and with the last state unused. Checkpoints are the states before rows 0,
    // RWKV_WKV7_CHECKPOINT_ROWS and so on, [key][value] each. Gradients are added to dr, dk and dv, and overwrite dw, dkk and da.
    // `scratch` has room for (31 RWKV_WKV7_CHECKPOINT_ROWS + 21 + size) size numbers, with size rounded up to a multiple of 16.
    // Denormals count as zero.
    void (*wkv7_backward)(
        const void *r, const void *w, const void *k, const void *v, const void *kk, const void *a, const void *dy, size_t rows,
        size_t stride, size_t size, const void *checkpoints, void *scratch, void *dr, void *dw, void *dk, void *dv, void *dkk,
        void *da);

    // MARK: Losses

    // KL(softmax(target_scale target) || softmax(scale logits)) of each row in nats; the gradient is (q - p) factor, with p of
    // the target and q of the logits
    void (*divergence)(
        const void *target, const void *logits, size_t rows, size_t count, double target_scale, double scale, double factor,
        void *gradient, double *losses);
    // -log p of token next[row] in each row; adds p factor to the gradient, less factor at that token; a row whose next is
    // negative has zero loss and no gradient
    void (*cross_entropy)(
        const void *logits, const int64_t *next, size_t rows, size_t count, double factor, void *gradient, double *losses);
    // the sums of (x - target)^2 and of target^2 over each row
    void (*distances)(
        const void *target, const void *x, size_t rows, size_t width, double *squares, double *target_squares);
    // x becomes (x - target) factors[row]
    void (*scaled_differences)(const void *target, const double *factors, size_t rows, size_t width, void *x);
    // AdamW (Loshchilov and Hutter 2019) with g = scale gradient: m and v become beta m + (1 - beta) g and
    // beta v + (1 - beta) g^2, each with its own beta and correction, and x becomes
    // x (1 - rate decay) - rate (m / correction) / (sqrt(v / correction) + epsilon)
    void (*adamw)(
        const void *gradient, size_t count, double scale, double rate, double decay, const double betas[2],
        const double corrections[2], double epsilon, void *moment, void *square, void *x);
} rwkv_layer_kernels;

// The kernels for an instruction set; NULL if this machine does not support it.
const rwkv_layer_kernels *rwkv_layer_kernels_for(rwkv_instruction_set instruction_set, rwkv_real real, int is_strict);

#endif
