// Compiles all layer kernels for the type REAL, and defines a table of them for each instruction set. TABLE(x) is the name of a
// table.

#include "reals.h"
#include "elementary.h"
#include "norms.h"
#include "elementwise.h"
#include "products.h"
#include "multiply.h"
#include "mixing.h"
#include "time_mix.h"
#include "wkv7.h"
#include "wkv6.h"
#include "backward.h"
#include "wkv7_backward.h"
#include "losses.h"

// Lists the kernels with their parameters and the names of the parameters. all_finite, multiply, wkv6 and wkv7 are added to the
// table below.
#define FOR_EACH_LAYER_KERNEL(DO)                                                                            \
    DO(widen, (rwkv_element element, const void *elements, size_t stride, size_t rows, size_t columns, void *x), \
       (element, elements, stride, rows, columns, x))                                                        \
    DO(product, (rwkv_element element, const void *weight, size_t inputs, size_t outputs, const void *x, size_t rows, void *y, \
                 size_t y_stride), (element, weight, inputs, outputs, x, rows, y, y_stride))                 \
    DO(product_of_columns, (rwkv_element element, const void *weight, size_t stride, size_t inputs, size_t outputs, const void *x, \
                            size_t rows, void *y, size_t y_stride),                                          \
       (element, weight, stride, inputs, outputs, x, rows, y, y_stride))                                     \
    DO(rms_norm, (const void *x, size_t rows, size_t width, const void *weight, double epsilon, void *y),    \
       (x, rows, width, weight, epsilon, y))                                                                 \
    DO(layer_norm, (const void *x, size_t rows, size_t width, const void *weight, const void *bias, double epsilon, void *y), \
       (x, rows, width, weight, bias, epsilon, y))                                                           \
    DO(sigmoid, (size_t count, void *x), (count, x))                                                         \
    DO(tanh, (size_t count, void *x), (count, x))                                                            \
    DO(scale, (size_t count, double factor, void *x), (count, factor, x))                                    \
    DO(softcap, (size_t count, double scale, double cap, void *x), (count, scale, cap, x))                   \
    DO(add, (const void *x, size_t count, void *y), (x, count, y))                                           \
    DO(add_to_rows, (const void *x, size_t rows, size_t width, void *y), (x, rows, width, y))                \
    DO(swiglu, (const void *up, size_t count, void *gate), (up, count, gate))                                \
    DO(geglu, (const void *up, size_t count, void *gate), (up, count, gate))                                 \
    DO(sigmoid_gate, (const void *gate, size_t count, void *y), (gate, count, y))                            \
    DO(relu_squared, (size_t count, void *x), (count, x))                                                    \
    DO(rotate, (const void *cosines, const void *sines, size_t half, size_t rows, size_t heads, size_t size, int is_interleaved, \
                void *x), (cosines, sines, half, rows, heads, size, is_interleaved, x))                      \
    DO(repeat_heads, (const void *x, size_t rows, size_t heads, size_t size, size_t times, void *y), (x, rows, heads, size, times, y)) \
    DO(attend, (const void *queries, size_t query_stride, size_t rows, const void *keys, const void *values, size_t stride, \
                size_t past, size_t window, size_t size, double scale, double cap, void *scores, void *y, size_t y_stride), \
       (queries, query_stride, rows, keys, values, stride, past, window, size, scale, cap, scores, y, y_stride)) \
    DO(softmax_block, (size_t rows, size_t columns, ptrdiff_t seen, size_t window, double scale, void *scores, void *largest, \
                       void *sums, size_t size, void *y, size_t y_stride),                                   \
       (rows, columns, seen, window, scale, scores, largest, sums, size, y, y_stride))                       \
    DO(divide_rows, (const void *sums, size_t rows, size_t size, void *y, size_t y_stride), (sums, rows, size, y, y_stride)) \
    DO(token_shifts, (const void *x, const void *previous, const void *const *shares, size_t count, size_t rows, size_t width, \
                      void *const *ys), (x, previous, shares, count, rows, width, ys))                       \
    DO(data_dependent_token_shifts, (const void *x, const void *previous, const void *const *bases, size_t count, size_t rows, \
                                     size_t width, void *const *ys), (x, previous, bases, count, rows, width, ys)) \
    DO(exponential_decay, (const void *base, double floor, size_t rows, size_t width, void *p), (base, floor, rows, width, p)) \
    DO(balance, (const void *w, size_t count, void *k), (w, count, k))                                       \
    DO(decay, (const void *base, size_t rows, size_t width, void *p, void *omega), (base, rows, width, p, omega)) \
    DO(mix_residual, (const void *first, const void *share, const void *base, size_t rows, size_t width, void *y), \
       (first, share, base, rows, width, y))                                                                 \
    DO(keys, (const void *base, const void *scale, const void *mix, const void *omega, size_t rows, size_t heads, size_t size, \
              void *a, void *k, void *kk), (base, scale, mix, omega, rows, heads, size, a, k, kk))           \
    DO(head_outputs, (const void *r, const void *k, const void *v, const void *bonus, const void *weight, const void *bias, \
                      double epsilon, double scale, const void *gate, size_t rows, size_t heads, size_t size, void *y), \
       (r, k, v, bonus, weight, bias, epsilon, scale, gate, rows, heads, size, y))                           \
    DO(add_rows, (const void *x, size_t rows, size_t width, size_t stride, void *y), (x, rows, width, stride, y)) \
    DO(rms_norm_backward, (const void *x, const void *dy, size_t rows, size_t width, const void *weight, double epsilon, void *dx, \
                           void *dweight), (x, dy, rows, width, weight, epsilon, dx, dweight))               \
    DO(sigmoid_backward, (const void *y, size_t count, void *dx), (y, count, dx))                            \
    DO(tanh_backward, (const void *y, size_t count, void *dx), (y, count, dx))                               \
    DO(softcap_backward, (const void *y, size_t count, double scale, double cap, void *dx), (y, count, scale, cap, dx)) \
    DO(swiglu_backward, (const void *dy, size_t count, void *up, void *gate), (dy, count, up, gate))         \
    DO(geglu_backward, (const void *dy, size_t count, void *up, void *gate), (dy, count, up, gate))          \
    DO(sum_heads, (const void *dy, size_t rows, size_t heads, size_t size, size_t times, void *dx), (dy, rows, heads, size, times, dx)) \
    DO(causal_softmax, (size_t rows, size_t columns, size_t past, size_t window, double scale, void *scores), \
       (rows, columns, past, window, scale, scores))                                                         \
    DO(softmax_backward, (const void *y, size_t rows, size_t columns, double scale, void *dx), (y, rows, columns, scale, dx)) \
    DO(decay_backward, (const void *base, const void *p, const void *w, const void *domega, size_t rows, size_t width, void *dw), \
       (base, p, w, domega, rows, width, dw))                                                                \
    DO(exponential_decay_backward, (const void *base, const void *p, double floor, size_t rows, size_t width, void *dw), \
       (base, p, floor, rows, width, dw))                                                                    \
    DO(balance_backward, (const void *k, const void *w, size_t count, void *dk, void *dw), (k, w, count, dk, dw)) \
    DO(token_shift_backward, (const void *x, const void *previous, const void *share, size_t share_stride, const void *dy, \
                              size_t rows, size_t width, int has_next, void *dx, void *dshare),              \
       (x, previous, share, share_stride, dy, rows, width, has_next, dx, dshare))                            \
    DO(mix_residual_backward, (const void *first, const void *y, const void *base, size_t rows, size_t width, void *share, \
                               void *dfirst, void *dy), (first, y, base, rows, width, share, dfirst, dy))    \
    DO(keys_backward, (const void *k, const void *a, const void *kk, const void *scale, const void *mix, const void *omega, \
                       const void *dkk, size_t rows, size_t heads, size_t size, void *dk, void *da, void *domega, void *dscale, \
                       void *dmix),                                                                          \
       (k, a, kk, scale, mix, omega, dkk, rows, heads, size, dk, da, domega, dscale, dmix))                  \
    DO(head_outputs_backward, (const void *r, const void *k, const void *v, const void *bonus, double scale, const void *gate, \
                               const void *y, size_t rows, size_t heads, size_t size, void *dy, void *dr, void *dk, void *dv, \
                               void *dgate, void *dbonus),                                                   \
       (r, k, v, bonus, scale, gate, y, rows, heads, size, dy, dr, dk, dv, dgate, dbonus))                   \
    DO(head_norm_backward, (const void *x, const void *weight, double epsilon, size_t rows, size_t heads, size_t size, void *dx, \
                            void *dweight), (x, weight, epsilon, rows, heads, size, dx, dweight))            \
    DO(wkv7_backward, (const void *r, const void *w, const void *k, const void *v, const void *kk, const void *a, const void *dy, \
                       size_t rows, size_t stride, size_t size, const void *checkpoints, void *scratch, void *dr, void *dw, \
                       void *dk, void *dv, void *dkk, void *da),                                             \
       (r, w, k, v, kk, a, dy, rows, stride, size, checkpoints, scratch, dr, dw, dk, dv, dkk, da))           \
    DO(divergence, (const void *target, const void *logits, size_t rows, size_t count, double target_scale, double scale, \
                    double factor, void *gradient, double *losses),                                          \
       (target, logits, rows, count, target_scale, scale, factor, gradient, losses))                         \
    DO(cross_entropy, (const void *logits, const int64_t *next, size_t rows, size_t count, double factor, void *gradient, \
                       double *losses), (logits, next, rows, count, factor, gradient, losses))               \
    DO(distances, (const void *target, const void *x, size_t rows, size_t width, double *squares, double *target_squares), \
       (target, x, rows, width, squares, target_squares))                                                    \
    DO(scaled_differences, (const void *target, const double *factors, size_t rows, size_t width, void *x),  \
       (target, factors, rows, width, x))                                                                    \
    DO(adamw, (const void *gradient, size_t count, double scale, double rate, double decay, const double betas[2], \
               const double corrections[2], double epsilon, void *moment, void *square, void *x),            \
       (gradient, count, scale, rate, decay, betas, corrections, epsilon, moment, square, x))

// The number of bytes of a state row that wkv6 and wkv7 process at a time. Together with the sums for these bytes, they fill the
// registers.
#define STATE_BYTES_baseline 128
#define STATE_BYTES_avx2 128
#define STATE_BYTES_avx512 256
#define FUNCTION(KERNEL, SUFFIX) NAME(KERNEL##_##SUFFIX)
#define ENTRY_baseline(KERNEL, PARAMETERS, NAMES) static void FUNCTION(KERNEL, baseline) PARAMETERS { NAME(KERNEL) NAMES; }
#define ENTRY_avx2(KERNEL, PARAMETERS, NAMES) TARGET_AVX2 static void FUNCTION(KERNEL, avx2) PARAMETERS { NAME(KERNEL) NAMES; }
#define ENTRY_avx512(KERNEL, PARAMETERS, NAMES) TARGET_AVX512 static void FUNCTION(KERNEL, avx512) PARAMETERS { NAME(KERNEL) NAMES; }
#define FIELD_baseline(KERNEL, PARAMETERS, NAMES) .KERNEL = FUNCTION(KERNEL, baseline),
#define FIELD_avx2(KERNEL, PARAMETERS, NAMES) .KERNEL = FUNCTION(KERNEL, avx2),
#define FIELD_avx512(KERNEL, PARAMETERS, NAMES) .KERNEL = FUNCTION(KERNEL, avx512),
#define KERNELS(SUFFIX, TARGET)                                                                              \
    FOR_EACH_LAYER_KERNEL(ENTRY_##SUFFIX)                                                                    \
    TARGET static int FUNCTION(all_finite, SUFFIX)(const void *x, size_t count) { return NAME(all_finite)(x, count); } \
    TARGET static void FUNCTION(wkv7, SUFFIX)(                                                               \
        rwkv_element element, const void *r, const void *w, const void *k, const void *v, const void *kk, const void *a, \
        size_t rows, size_t stride, size_t size, void *state, void *scratch, void *y) {                      \
        NAME(wkv7)(element, r, w, k, v, kk, a, rows, stride, size, state, scratch, y, STATE_BYTES_##SUFFIX / (int)(LANES * sizeof(REAL))); \
    }                                                                                                        \
    TARGET static void FUNCTION(wkv6, SUFFIX)(                                                               \
        const void *r, const void *w, const void *k, const void *v, const void *bonus, size_t rows, size_t stride, size_t w_stride, \
        size_t size, void *state, void *scratch, void *y) {                                                  \
        NAME(wkv6)(r, w, k, v, bonus, rows, stride, w_stride, size, state, scratch, y, STATE_BYTES_##SUFFIX / (int)(LANES * sizeof(REAL))); \
    }                                                                                                        \
    const rwkv_layer_kernels TABLE(NAME(SUFFIX)) = {                                                         \
        FOR_EACH_LAYER_KERNEL(FIELD_##SUFFIX).all_finite = FUNCTION(all_finite, SUFFIX),                     \
        .multiply = FUNCTION(multiply, SUFFIX),                                                              \
        .wkv6 = FUNCTION(wkv6, SUFFIX),                                                                      \
        .wkv7 = FUNCTION(wkv7, SUFFIX)};
FOR_EACH_INSTRUCTION_SET(KERNELS)

#undef FOR_EACH_LAYER_KERNEL
#undef FUNCTION
#undef STATE_BYTES_baseline
#undef STATE_BYTES_avx2
#undef STATE_BYTES_avx512
#undef ENTRY_baseline
#undef ENTRY_avx2
#undef ENTRY_avx512
#undef FIELD_baseline
#undef FIELD_avx2
#undef FIELD_avx512
#undef KERNELS
