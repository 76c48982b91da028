// The hot loops of inference and training. Each is written once for a generic real type and compiled for fp32 and fp64 into two
// tables.
//
// The strict table gives the same bits on every x86-64 processor: no contraction to FMA, our own elementary functions, and sums
// whose order depends neither on the instruction set nor on how many rows are computed at once. The fast table is the same source
// compiled with contraction.
//
// Exponential, sigmoid, tanh, softplus and functions built from them have a relative error of at most 3e-7 in fp32; results below
// the smallest normal number may be zero. NaN inputs give NaN.

#ifndef RWKV_LAYER_KERNELS_H
#define RWKV_LAYER_KERNELS_H

#include "CRWKVKernels.h"

// The type that a table computes in: `void *` below points to numbers of this type.
typedef enum {
    RWKV_REAL_F32,
    RWKV_REAL_F64,
} rwkv_real;

// The number of rows that wkv7 widens and processes at a time.
#define RWKV_WKV7_ROWS 256
// The number of rows between checkpoints, from which wkv7_backward recomputes the other states.
#define RWKV_WKV7_CHECKPOINT_ROWS 16

// The number of inner elements and of columns per block of the blocked product, and its scratch size in numbers.
enum { RWKV_MULTIPLY_BLOCK = 256, RWKV_MULTIPLY_SCRATCH = RWKV_MULTIPLY_BLOCK * (RWKV_MULTIPLY_BLOCK + 16) + 512 };

typedef struct {
    // MARK: Stored matrices

    // Widens elements: x[row][column] = elements[row * stride + column], with the rows of x adjacent.
    void (*widen)(rwkv_element element, const void *elements, size_t stride, size_t rows, size_t columns, void *x);
    // Computes y[row][output] = sum over inputs of x[row][input] weight[output][input]; the rows of y are `y_stride` numbers
    // apart.
    void (*product)(
        rwkv_element element, const void *weight, size_t inputs, size_t outputs, const void *x, size_t rows, void *y,
        size_t y_stride);
    // Computes y[row][output] = sum over inputs of x[row][input] weight[input][output]; the weights of adjacent inputs are
    // `stride` elements apart.
    void (*product_of_columns)(
        rwkv_element element, const void *weight, size_t stride, size_t inputs, size_t outputs, const void *x, size_t rows,
        void *y, size_t y_stride);

    // Computes y[row][column] = sum over inner of a[row][inner] b[inner][column], or adds that sum to y if `adds`. The strides
    // between rows, columns and inner elements are parameters, so either factor may be transposed. `scratch` has room for
    // RWKV_MULTIPLY_SCRATCH numbers.
    void (*multiply)(
        size_t rows, size_t columns, size_t inner, const void *a, size_t a_row, size_t a_inner, const void *b, size_t b_inner,
        size_t b_column, int adds, void *y, size_t y_stride, void *scratch);

    // MARK: Norms

    // Computes y = x / sqrt(mean(x^2) + epsilon) weight.
    void (*rms_norm)(const void *x, size_t rows, size_t width, const void *weight, double epsilon, void *y);
    // Computes y = (x - mean) / sqrt(variance + epsilon) weight + bias.
    void (*layer_norm)(
        const void *x, size_t rows, size_t width, const void *weight, const void *bias, double epsilon, void *y);

    // MARK: Elementwise

    void (*sigmoid)(size_t count, void *x);
    void (*tanh)(size_t count, void *x);
    // Multiplies x by factor.
    void (*scale)(size_t count, double factor, void *x);
    // Replaces x with cap tanh(scale x / cap).
    void (*softcap)(size_t count, double scale, double cap, void *x);
    // Adds x to y.
    void (*add)(const void *x, size_t count, void *y);
    // Adds x to each row of y.
    void (*add_to_rows)(const void *x, size_t rows, size_t width, void *y);
    // Replaces gate with silu(gate) up.
    void (*swiglu)(const void *up, size_t count, void *gate);
    // Replaces gate with gelu_tanh(gate) up, where gelu_tanh(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    void (*geglu)(const void *up, size_t count, void *gate);
    // Replaces x with max(x, 0)^2.
    void (*relu_squared)(size_t count, void *x);
    // Returns 1 if all numbers are finite, 0 otherwise.
    int (*all_finite)(const void *x, size_t count);

    // MARK: Attention

    // Applies RoPE: rotates the first `2 * half` channels of each head in pairs (i, i + half), or (2 i, 2 i + 1) if interleaved.
    // cosines and sines are [rows, half].
    void (*rotate)(
        const void *cosines, const void *sines, size_t half, size_t rows, size_t heads, size_t size, int is_interleaved, void *x);
    // Copies each head of x to `times` adjacent heads of y.
    void (*repeat_heads)(const void *x, size_t rows, size_t heads, size_t size, size_t times, void *y);
    // Computes causal softmax attention for one head: of the first `past + r + 1` keys and values, row r sees the last `window`
    // (at least 1). Scores are multiplied by scale, and softcapped if cap is above 0. `scores` has room for one score per key
    // that the last row sees.
    void (*attend)(
        const void *queries, size_t query_stride, size_t rows, const void *keys, const void *values, size_t stride, size_t past,
        size_t window, size_t size, double scale, double cap, void *scores, void *y, size_t y_stride);
    // Processes one block of `columns` keys in online softmax. Counted from the block's first key, row r sees the last `window`
    // of the first `seen + r` keys. The scores of these keys become exp((score - largest) scale), where largest is the row's
    // largest score so far; other scores become zero. If largest grew, the row's sum and its row of y (`size` numbers; rows are
    // `y_stride` apart) are rescaled. Then the exponentials are added to the sum. Initially, largest is -infinity, and sums and
    // y are zero.
    void (*softmax_block)(
        size_t rows, size_t columns, ptrdiff_t seen, size_t window, double scale, void *scores, void *largest, void *sums,
        size_t size, void *y, size_t y_stride);
    // Divides each row of y by its sum.
    void (*divide_rows)(const void *sums, size_t rows, size_t size, void *y, size_t y_stride);

    // MARK: RWKV-7 time mixing

    // Computes y_i[row] = x[row] + (x[row - 1] - x[row]) share_i for `count` shares; `previous` is the row before the first.
    void (*token_shifts)(
        const void *x, const void *previous, const void *const *shares, size_t count, size_t rows, size_t width, void *const *ys);
    // Computes omega = -softplus(-(p + base)) - 1/2 and replaces p with the decay w = exp(-exp(omega)); base (w0) and omega may
    // be NULL.
    void (*decay)(const void *base, size_t rows, size_t width, void *p, void *omega);
    // Adds (first - y) sigmoid(share + base) to y, where first is v_first or the first layer's keys; base may be NULL.
    void (*mix_residual)(const void *first, const void *share, const void *base, size_t rows, size_t width, void *y);
    // For each head, replaces a with sigmoid(a + base), computes kk = k scale / max(|k scale|, 1e-12), and replaces k with
    // k (1 + (a - 1) mix), or k (1 - omega + a) if mix is NULL. base (a0) and scale (k_k) may be NULL; mix is k_a.
    void (*keys)(
        const void *base, const void *scale, const void *mix, const void *omega, size_t rows, size_t heads, size_t size, void *a,
        void *k, void *kk);
    // Replaces y with (norm(y) + (sum over the head of r k bonus) v) gate, where norm is the layer_norm of each head, with weight
    // and bias [heads, size], or multiplies by 1 / sqrt(size) if weight is NULL; bonus is r_k.
    void (*head_outputs)(
        const void *r, const void *k, const void *v, const void *bonus, const void *weight, const void *bias, double epsilon,
        const void *gate, size_t rows, size_t heads, size_t size, void *y);
    // Computes S = S diag(w) - (S kk)(kk a)^T + v k^T, y = S r for one head. Inputs have type `element`; rows of inputs and of y
    // are `stride` numbers apart. The state is S^T: [key][value]. `scratch` has room for 65 `size` numbers, plus 6 `size` for
    // each of up to RWKV_WKV7_ROWS rows if inputs must be widened. Denormals count as zero.
    void (*wkv7)(
        rwkv_element element, const void *r, const void *w, const void *k, const void *v, const void *kk, const void *a,
        size_t rows, size_t stride, size_t size, void *state, void *scratch, void *y);

    // MARK: Gradients (dx means dL/dx)

    // Adds all rows of x, which are `stride` numbers apart, to y.
    void (*add_rows)(const void *x, size_t rows, size_t width, size_t stride, void *y);
    // Computes dx of rms_norm and, unless dweight is NULL, each row's contribution to dweight, [rows, width].
    void (*rms_norm_backward)(
        const void *x, const void *dy, size_t rows, size_t width, const void *weight, double epsilon, void *dx, void *dweight);
    // Compute the gradients of y = sigmoid(x) and of y = tanh(x): dx holds dy and becomes dx.
    void (*sigmoid_backward)(const void *y, size_t count, void *dx);
    void (*tanh_backward)(const void *y, size_t count, void *dx);
    // Computes the gradient of y = cap tanh(scale x / cap): dx holds dy and becomes dx.
    void (*softcap_backward)(const void *y, size_t count, double scale, double cap, void *dx);
    // Compute the gradients of silu(gate) up and of gelu_tanh(gate) up: up and gate become their gradients.
    void (*swiglu_backward)(const void *dy, size_t count, void *up, void *gate);
    void (*geglu_backward)(const void *dy, size_t count, void *up, void *gate);
    // Computes the gradient of repeat_heads: the sum over the copies of each head.
    void (*sum_heads)(const void *dy, size_t rows, size_t heads, size_t size, size_t times, void *dx);
    // Replaces the last `window` (at least 1) of the first `past + r + 1` scores of row r with softmax(scale scores), and all
    // other scores with zero.
    void (*causal_softmax)(size_t rows, size_t columns, size_t past, size_t window, double scale, void *scores);
    // Computes the gradient of y = softmax(scale x): dx holds dy and becomes dx.
    void (*softmax_backward)(const void *y, size_t rows, size_t columns, double scale, void *dx);
    // Computes the gradient of decay, given p without base, the decay w and the gradient of omega; dw becomes dp.
    void (*decay_backward)(
        const void *base, const void *p, const void *w, const void *domega, size_t rows, size_t width, void *dw);
    // Computes the gradients of mix_residual, whose input was y: share becomes its gradient, dy becomes the input's gradient, and
    // the gradient of first is added to dfirst, which may be NULL.
    void (*mix_residual_backward)(
        const void *first, const void *y, const void *base, size_t rows, size_t width, void *share, void *dfirst, void *dy);
    // Computes the gradients of keys without scale and mix, given the input k and the output a. dk and da hold the gradients of
    // the outputs, and become the gradients of the input k and of the sigmoid's argument.
    void (*keys_backward)(
        const void *k, const void *a, const void *kk, const void *omega, const void *dkk, size_t rows, size_t heads, size_t size,
        void *dk, void *da, void *domega);
    // Computes the gradients of head_outputs without weight, whose input was y: dy becomes the gradient of that input; dbonus,
    // unless NULL, receives each row's contribution.
    void (*head_outputs_backward)(
        const void *r, const void *k, const void *v, const void *bonus, const void *gate, const void *y, size_t rows, size_t heads,
        size_t size, void *dy, void *dr, void *dk, void *dv, void *dgate, void *dbonus);
    // Computes the gradients of wkv7 for one head whose initial state is zero and whose final state is unused. Checkpoints are
    // the states before rows 0, RWKV_WKV7_CHECKPOINT_ROWS and so on, each [key][value]. Gradients are added to dr, dk and dv, and
    // overwrite dw, dkk and da. `scratch` has room for (31 RWKV_WKV7_CHECKPOINT_ROWS + 21 + size) size numbers, with size rounded
    // up to a multiple of 16.
    // Denormals count as zero.
    void (*wkv7_backward)(
        const void *r, const void *w, const void *k, const void *v, const void *kk, const void *a, const void *dy, size_t rows,
        size_t stride, size_t size, const void *checkpoints, void *scratch, void *dr, void *dw, void *dk, void *dv, void *dkk,
        void *da);

    // MARK: Losses

    // Computes KL(softmax(target_scale target) || softmax(scale logits)) of each row in nats, and the gradient (q - p) factor,
    // where p is the target's softmax and q is the logits'.
    void (*divergence)(
        const void *target, const void *logits, size_t rows, size_t count, double target_scale, double scale, double factor,
        void *gradient, double *losses);
    // Computes -log p of token next[row] in each row; adds p factor to the gradient and subtracts factor at that token. A row
    // whose next token is negative has zero loss and no gradient.
    void (*cross_entropy)(
        const void *logits, const int64_t *next, size_t rows, size_t count, double factor, void *gradient, double *losses);
    // Computes the sums of (x - target)^2 and of target^2 over each row.
    void (*distances)(
        const void *target, const void *x, size_t rows, size_t width, double *squares, double *target_squares);
    // Replaces x with (x - target) factors[row].
    void (*scaled_differences)(const void *target, const double *factors, size_t rows, size_t width, void *x);
    // Takes one step of AdamW (Loshchilov and Hutter 2019) with g = scale gradient: m and v become beta m + (1 - beta) g and
    // beta v + (1 - beta) g^2, each with its own beta and correction, and x becomes
    // x (1 - rate decay) - rate (m / correction) / (sqrt(v / correction) + epsilon). m is `moment` and v is `square`.
    void (*adamw)(
        const void *gradient, size_t count, double scale, double rate, double decay, const double betas[2],
        const double corrections[2], double epsilon, void *moment, void *square, void *x);
} rwkv_layer_kernels;

// Returns the kernels for an instruction set, or NULL if this machine does not support it.
const rwkv_layer_kernels *rwkv_layer_kernels_for(rwkv_instruction_set instruction_set, rwkv_real real, int is_strict);

#endif
