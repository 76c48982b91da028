// The performance-critical loops of inference and training. Each kernel is written once, for a generic real type, and compiled
// for fp32 and fp64 into a strict and a fast table for each instruction set.
//
// The strict tables give the same bits on every x86-64 processor: multiplications and additions are not contracted into FMAs,
// elementary functions are our own, and the order of summation depends neither on the instruction set nor on the number of rows
// that are computed at once. The fast tables are compiled from the same source with contraction.
//
// In fp32, the relative error of exponential, sigmoid, tanh, softplus and functions built from them is at most 3e-7, except that
// results below the smallest normal number can be zero. NaN inputs give NaN.

#ifndef RWKV_LAYER_KERNELS_H
#define RWKV_LAYER_KERNELS_H

#include "CRWKVKernels.h"

// The type that a table computes in. `void *` parameters below point to numbers of this type, except for stored matrices and
// stored inputs, whose type is given by an `rwkv_element` parameter.
typedef enum {
    RWKV_REAL_F32,
    RWKV_REAL_F64,
} rwkv_real;

// The largest number of rows that wkv7 widens and processes at a time.
#define RWKV_WKV7_ROWS 256
// The number of rows that wkv6 processes at a time.
#define RWKV_WKV6_ROWS 256
// The number of rows from one checkpoint to the next. wkv7_backward recomputes the states in between.
#define RWKV_WKV7_CHECKPOINT_ROWS 16

// The block size of the blocked product, in columns and in inner elements, and the size of its scratch memory in numbers.
enum { RWKV_MULTIPLY_BLOCK = 256, RWKV_MULTIPLY_SCRATCH = RWKV_MULTIPLY_BLOCK * (RWKV_MULTIPLY_BLOCK + 16) + 512 };

// A table of kernels for one instruction set and one real type.
typedef struct {
    // MARK: Stored matrices

    // Widens elements: x[row][column] = elements[row * stride + column]. The rows of x are contiguous.
    void (*widen)(rwkv_element element, const void *elements, size_t stride, size_t rows, size_t columns, void *x);
    // Computes y[row][output] = sum over inputs of x[row][input] * weight[output][input]. The rows of y are `y_stride` numbers
    // apart.
    void (*product)(
        rwkv_element element, const void *weight, size_t inputs, size_t outputs, const void *x, size_t rows, void *y,
        size_t y_stride);
    // Computes y[row][output] = sum over inputs of x[row][input] * weight[input][output]. The rows of `weight` are `stride`
    // elements apart, and the rows of y are `y_stride` numbers apart.
    void (*product_of_columns)(
        rwkv_element element, const void *weight, size_t stride, size_t inputs, size_t outputs, const void *x, size_t rows,
        void *y, size_t y_stride);

    // Computes y[row][column] = sum over i of a[row][i] * b[i][column], or adds that sum to y if `adds`. The strides of both
    // dimensions of a and b are parameters, so that either factor can be transposed. `scratch` must have room for
    // RWKV_MULTIPLY_SCRATCH numbers.
    void (*multiply)(
        size_t rows, size_t columns, size_t inner, const void *a, size_t a_row, size_t a_inner, const void *b, size_t b_inner,
        size_t b_column, int adds, void *y, size_t y_stride, void *scratch);

    // MARK: Norms

    // Computes y = weight * x / sqrt(mean(x^2) + epsilon) for each row.
    void (*rms_norm)(const void *x, size_t rows, size_t width, const void *weight, double epsilon, void *y);
    // Computes y = weight * (x - mean) / sqrt(variance + epsilon) + bias for each row.
    void (*layer_norm)(
        const void *x, size_t rows, size_t width, const void *weight, const void *bias, double epsilon, void *y);

    // MARK: Elementwise

    // Replaces x with sigmoid(x).
    void (*sigmoid)(size_t count, void *x);
    // Replaces x with tanh(x).
    void (*tanh)(size_t count, void *x);
    // Multiplies x by `factor`.
    void (*scale)(size_t count, double factor, void *x);
    // Replaces x with cap * tanh(scale * x / cap).
    void (*softcap)(size_t count, double scale, double cap, void *x);
    // Adds x to y.
    void (*add)(const void *x, size_t count, void *y);
    // Adds x to each row of y.
    void (*add_to_rows)(const void *x, size_t rows, size_t width, void *y);
    // Replaces `gate` with silu(gate) * up.
    void (*swiglu)(const void *up, size_t count, void *gate);
    // Replaces `gate` with gelu_tanh(gate) * up, where gelu_tanh(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).
    void (*geglu)(const void *up, size_t count, void *gate);
    // Multiplies y by sigmoid(gate).
    void (*sigmoid_gate)(const void *gate, size_t count, void *y);
    // Replaces x with max(x, 0)^2.
    void (*relu_squared)(size_t count, void *x);
    // Returns 1 if all numbers are finite, and 0 otherwise.
    int (*all_finite)(const void *x, size_t count);

    // MARK: Attention

    // Applies RoPE to the first `2 * half` channels of each head. Channels i and i + half form a pair, or channels 2i and 2i + 1
    // if `is_interleaved`. `cosines` and `sines` are [rows, half].
    void (*rotate)(
        const void *cosines, const void *sines, size_t half, size_t rows, size_t heads, size_t size, int is_interleaved, void *x);
    // Copies each head of x to `times` adjacent heads of y.
    void (*repeat_heads)(const void *x, size_t rows, size_t heads, size_t size, size_t times, void *y);
    // Computes causal softmax attention for one head. Row r attends to the last `window` (at least 1) of the first `past + r + 1`
    // keys and values. Scores are multiplied by `scale` and, if `cap` is above 0, softcapped. `scores` must have room for one
    // score for each key that the last row attends to.
    void (*attend)(
        const void *queries, size_t query_stride, size_t rows, const void *keys, const void *values, size_t stride, size_t past,
        size_t window, size_t size, double scale, double cap, void *scores, void *y, size_t y_stride);
    // Processes one block of `columns` keys in an online softmax. Row r attends to the last `window` of the first `seen + r`
    // keys, counted from the first key of the block. The row's scores for these keys are replaced with
    // exp((score - largest[r]) * scale), where largest[r] is the largest of the row's scores so far, and its other scores are
    // replaced with zero. sums[r] and row r of y are rescaled to match if this block increases largest[r]. The exponentials are
    // then added to sums[r]. Rows of y have `size` numbers and are `y_stride` numbers apart. Before the first block, `largest`
    // must be -infinity, and `sums` and y must be zero.
    void (*softmax_block)(
        size_t rows, size_t columns, ptrdiff_t seen, size_t window, double scale, void *scores, void *largest, void *sums,
        size_t size, void *y, size_t y_stride);
    // Divides row r of y by sums[r].
    void (*divide_rows)(const void *sums, size_t rows, size_t size, void *y, size_t y_stride);

    // MARK: Time mixing

    // Computes the token shift y_i[row] = x[row] + (x[row - 1] - x[row]) * share_i for each of `count` shares. `previous` is the
    // row before the first row of x.
    void (*token_shifts)(
        const void *x, const void *previous, const void *const *shares, size_t count, size_t rows, size_t width, void *const *ys);
    // Replaces y_i[row] with x[row] + (x[row - 1] - x[row]) * (base_i + y_i[row]) for each of `count` bases. `previous` is the row
    // before the first row of x.
    void (*data_dependent_token_shifts)(
        const void *x, const void *previous, const void *const *bases, size_t count, size_t rows, size_t width, void *const *ys);
    // Replaces p with the decay w = exp(max(-exp(p + base), floor)) of RWKV-6 and RAD-RWKV6. `floor` can be -INFINITY.
    void (*exponential_decay)(const void *base, double floor, size_t rows, size_t width, void *p);
    // Replaces k with k * (1 - w).
    void (*balance)(const void *w, size_t count, void *k);
    // Computes omega = -softplus(-(p + base)) - 1/2, and replaces p with the decay w = exp(-exp(omega)). `base` (w0) and `omega`
    // can be NULL.
    void (*decay)(const void *base, size_t rows, size_t width, void *p, void *omega);
    // Adds (first - y) * sigmoid(share + base) to y, where `first` is the first layer's values (v_first) or keys. `base` can be
    // NULL.
    void (*mix_residual)(const void *first, const void *share, const void *base, size_t rows, size_t width, void *y);
    // Prepares the inputs of the recurrence for each head. Replaces a with the in-context learning rate sigmoid(a + base), sets
    // kk to k * scale / max(|k * scale|, 1e-12), where |x| is the L2 norm over the head, and replaces k with
    // k * (1 + (a - 1) * mix), or with k * (1 - omega + a) if `mix` is NULL. `base` (a0), `scale` (k_k) and `mix` (k_a) can be
    // NULL. `omega` can also be the decay w.
    void (*keys)(
        const void *base, const void *scale, const void *mix, const void *omega, size_t rows, size_t heads, size_t size, void *a,
        void *k, void *kk);
    // Replaces y with (norm(y) + s * v) * gate, where s is the sum of r * k * bonus over the head, and `bonus` is r_k. norm(y) is
    // the layer_norm of each head with `weight` and `bias`, [heads, size], or y * scale if `weight` is NULL. If `bonus` is NULL, s
    // is zero, and r, k and v are not read. If `gate` is NULL, it is one.
    void (*head_outputs)(
        const void *r, const void *k, const void *v, const void *bonus, const void *weight, const void *bias, double epsilon,
        double scale, const void *gate, size_t rows, size_t heads, size_t size, void *y);
    // Runs the recurrence y = S^T r + (r . u k) v, S = diag(w) S + k v^T for one head, where u is `bonus`. If `bonus` is NULL, y is
    // S^T r after the update. The rows of r, k, v and y are `stride` numbers apart, and those of w are `w_stride` numbers apart; 0
    // means that all rows have the same decay. `state` is S, [key][value]. `scratch` must have room for
    // RWKV_WKV6_ROWS + 64 * size numbers. On x86-64, denormals count as zero.
    void (*wkv6)(
        const void *r, const void *w, const void *k, const void *v, const void *bonus, size_t rows, size_t stride, size_t w_stride,
        size_t size, void *state, void *scratch, void *y);
    // Runs the recurrence S = S diag(w) - (S kk)(kk a)^T + v k^T, y = S r for one head. The inputs r, w, k, v, kk and a have type
    // `element`. The rows of the inputs and of y are `stride` numbers apart. `state` is the transpose of S, [key][value].
    // `scratch` must have room for 65 * size numbers. If the inputs must be widened, it also needs room for 6 * size numbers for
    // each row, but for no more than RWKV_WKV7_ROWS rows. On x86-64, denormals count as zero.
    void (*wkv7)(
        rwkv_element element, const void *r, const void *w, const void *k, const void *v, const void *kk, const void *a,
        size_t rows, size_t stride, size_t size, void *state, void *scratch, void *y);

    // MARK: Gradients (dx means dL/dx)

    // Adds all rows of x to y. The rows of x are `stride` numbers apart.
    void (*add_rows)(const void *x, size_t rows, size_t width, size_t stride, void *y);
    // Computes the gradient dx of rms_norm. Unless `dweight` is NULL, also computes each row's contribution to the gradient of
    // the weight, [rows, width].
    void (*rms_norm_backward)(
        const void *x, const void *dy, size_t rows, size_t width, const void *weight, double epsilon, void *dx, void *dweight);
    // Compute the gradients of y = sigmoid(x) and y = tanh(x) in place: `dx` contains dy when the kernel is called.
    void (*sigmoid_backward)(const void *y, size_t count, void *dx);
    void (*tanh_backward)(const void *y, size_t count, void *dx);
    // Computes the gradient of y = cap * tanh(scale * x / cap) in place: `dx` contains dy when the kernel is called.
    void (*softcap_backward)(const void *y, size_t count, double scale, double cap, void *dx);
    // Compute the gradients of silu(gate) * up and gelu_tanh(gate) * up, and replace `up` and `gate` with their gradients.
    void (*swiglu_backward)(const void *dy, size_t count, void *up, void *gate);
    void (*geglu_backward)(const void *dy, size_t count, void *up, void *gate);
    // Computes the gradient of repeat_heads, which is the sum of dy over the copies of each head.
    void (*sum_heads)(const void *dy, size_t rows, size_t heads, size_t size, size_t times, void *dx);
    // Applies a causal softmax: in row r, the last `window` (at least 1) of the first `past + r + 1` scores are replaced with
    // softmax(scale * scores), and the other scores with zero.
    void (*causal_softmax)(size_t rows, size_t columns, size_t past, size_t window, double scale, void *scores);
    // Computes the gradient of y = softmax(scale * x) in place: `dx` contains dy when the kernel is called.
    void (*softmax_backward)(const void *y, size_t rows, size_t columns, double scale, void *dx);
    // Computes the gradient of the kernel `decay` and replaces `dw` with dp. p does not include `base`, w is the decay, and
    // `domega`, which can be NULL, is the gradient of omega.
    void (*decay_backward)(
        const void *base, const void *p, const void *w, const void *domega, size_t rows, size_t width, void *dw);
    // Replaces dw with the gradient of the input p of exponential_decay, which is zero where the floor applied.
    void (*exponential_decay_backward)(
        const void *base, const void *p, double floor, size_t rows, size_t width, void *dw);
    // Computes the gradients of `balance`, whose input was k. `dk` is replaced, and the gradient of w is added to `dw`.
    void (*balance_backward)(const void *k, const void *w, size_t count, void *dk, void *dw);
    // Computes the gradients of the token shift y[row] = x[row] + (x[row - 1] - x[row]) * share[row]. The rows of `share` are
    // `share_stride` numbers apart; 0 means that all rows have the same share. `dshare` is set. The gradient of x is added to
    // `dx`, which can be NULL. If `has_next`, the gradient of these rows through the next row of dy and of `share`, which follow
    // the last ones, is added, too.
    void (*token_shift_backward)(
        const void *x, const void *previous, const void *share, size_t share_stride, const void *dy, size_t rows, size_t width,
        int has_next, void *dx, void *dshare);
    // Computes the gradients of mix_residual. y is the input that mix_residual has replaced. `dy` and `share` are replaced with
    // the gradients of y and `share`. The gradient of `first` is added to `dfirst`, which can be NULL.
    void (*mix_residual_backward)(
        const void *first, const void *y, const void *base, size_t rows, size_t width, void *share, void *dfirst, void *dy);
    // Computes the gradients of the kernel `keys`. k is the input k, and a and kk are outputs. `dk` and `da` contain the gradients
    // of the outputs, and are replaced with the gradients of the input k and of the sigmoid's argument. `domega` is set unless
    // there is a mix. `dscale` and `dmix` are set to each row's contribution to the gradients of `scale` and `mix`,
    // [rows, heads, size]. `dscale` can be NULL if `scale` is; `dmix` can be NULL.
    void (*keys_backward)(
        const void *k, const void *a, const void *kk, const void *scale, const void *mix, const void *omega, const void *dkk,
        size_t rows, size_t heads, size_t size, void *dk, void *da, void *domega, void *dscale, void *dmix);
    // Computes the gradients of head_outputs for a call in which `weight` was NULL. y is the input that head_outputs has
    // replaced, and `dy` is replaced with its gradient. Unless `dbonus` is NULL, it is set to each row's contribution to the
    // gradient of the bonus, [rows, heads, size]. If `bonus` is NULL, the gradients of r, k and v are zero. If `gate` is NULL,
    // `dgate` is not set.
    void (*head_outputs_backward)(
        const void *r, const void *k, const void *v, const void *bonus, double scale, const void *gate, const void *y, size_t rows,
        size_t heads, size_t size, void *dy, void *dr, void *dk, void *dv, void *dgate, void *dbonus);
    // Computes the gradients of the layer_norm of each head, whose weight is [heads, size]. x is the input. `dx` contains the
    // gradient of the output, and is replaced with that of x. `dweight` is set to each row's contribution to the gradient of the
    // weight, [rows, heads, size].
    void (*head_norm_backward)(
        const void *x, const void *weight, double epsilon, size_t rows, size_t heads, size_t size, void *dx, void *dweight);
    // Computes the gradients of wkv7 for one head. The loss must not depend on the final state, and no gradient is computed for
    // the initial state. `checkpoints` contains the states before rows 0, RWKV_WKV7_CHECKPOINT_ROWS,
    // 2 * RWKV_WKV7_CHECKPOINT_ROWS and so on, each [key][value]. The gradients of r, k and v are added to `dr`, `dk` and `dv`;
    // `dw`, `dkk` and `da` are overwritten. `scratch` must have room for (31 * RWKV_WKV7_CHECKPOINT_ROWS + 21 + size) * size
    // numbers, where size is rounded up to a multiple of 16. On x86-64, denormals count as zero.
    void (*wkv7_backward)(
        const void *r, const void *w, const void *k, const void *v, const void *kk, const void *a, const void *dy, size_t rows,
        size_t stride, size_t size, const void *checkpoints, void *scratch, void *dr, void *dw, void *dk, void *dv, void *dkk,
        void *da);

    // MARK: Losses

    // Computes the loss KL(p || q) of each row in nats and the gradient (q - p) * factor, where
    // p = softmax(target_scale * target) and q = softmax(scale * logits).
    void (*divergence)(
        const void *target, const void *logits, size_t rows, size_t count, double target_scale, double scale, double factor,
        void *gradient, double *losses);
    // Computes the cross-entropy loss -log(p[next[row]]) of each row in nats, where p = softmax(logits), and adds the gradient of
    // the loss, multiplied by `factor`, to `gradient`. If next[row] is negative, the loss of the row is zero, and its gradient is
    // unchanged.
    void (*cross_entropy)(
        const void *logits, const int64_t *next, size_t rows, size_t count, double factor, void *gradient, double *losses);
    // Computes the sum of (x - target)^2 and the sum of target^2 for each row.
    void (*distances)(
        const void *target, const void *x, size_t rows, size_t width, double *squares, double *target_squares);
    // Replaces each row of x with (x - target) * factors[row].
    void (*scaled_differences)(const void *target, const double *factors, size_t rows, size_t width, void *x);
    // Takes one step of AdamW (Loshchilov and Hutter 2019), where g = scale * gradient, m is `moment` and v is `square`:
    //
    //     m = betas[0] * m + (1 - betas[0]) * g
    //     v = betas[1] * v + (1 - betas[1]) * g^2
    //     x = x * (1 - rate * decay) - rate * (m / corrections[0]) / (sqrt(v / corrections[1]) + epsilon)
    void (*adamw)(
        const void *gradient, size_t count, double scale, double rate, double decay, const double betas[2],
        const double corrections[2], double epsilon, void *moment, void *square, void *x);
} rwkv_layer_kernels;

// Returns the strict or the fast kernels for an instruction set and a real type, or NULL if this machine does not support the
// instruction set.
const rwkv_layer_kernels *rwkv_layer_kernels_for(rwkv_instruction_set instruction_set, rwkv_real real, int is_strict);

#endif
