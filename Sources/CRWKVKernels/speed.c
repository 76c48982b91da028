// Reference points for benchmarks: loops that run at the machine's peak speed, and plain scalar loops.

#include "kernels.h"

#define BYTES_baseline 16
#define BYTES_avx2 32
#define BYTES_avx512 64
// The number of independent sums. There are enough of them to hide the latency of a multiply-add, but few enough that they fit in
// registers together with `factor` and `term`.
#define SUMS 12

// Defines the peak-speed kernels for one instruction set. The volatile sinks keep the compiler from removing the computation.
#define PEAKS(SUFFIX, TARGET)                                                                                \
    typedef float floats_##SUFFIX __attribute__((vector_size(BYTES_##SUFFIX)));                              \
    TARGET double rwkv_multiply_add_##SUFFIX(size_t rounds) {                                                \
        floats_##SUFFIX sums[SUMS];                                                                          \
        const floats_##SUFFIX factor = (floats_##SUFFIX){0} + 0.999f, term = (floats_##SUFFIX){0} + 0.001f;  \
        for (int i = 0; i < SUMS; i++) sums[i] = (floats_##SUFFIX){0} + (float)i;                            \
        for (size_t round = 0; round < rounds; round++)                                                      \
            for (int i = 0; i < SUMS; i++) sums[i] = sums[i] * factor + term;                                \
        volatile float sink;                                                                                 \
        for (int i = 0; i < SUMS; i++) sink = sums[i][0];                                                    \
        (void)sink;                                                                                          \
        return 2.0 * SUMS * (BYTES_##SUFFIX / 4) * (double)rounds;                                           \
    }                                                                                                        \
    TARGET void rwkv_read_##SUFFIX(const void *bytes, size_t count) {                                        \
        typedef uint32_t words __attribute__((vector_size(BYTES_##SUFFIX), aligned(1)));                     \
        words found[4] = {{0}, {0}, {0}, {0}};                                                               \
        const char *at = bytes;                                                                              \
        for (; count >= sizeof found; count -= sizeof found, at += sizeof found)                             \
            for (int i = 0; i < 4; i++) found[i] |= ((const words *)at)[i];                                  \
        volatile uint32_t sink = (found[0] | found[1] | found[2] | found[3])[0];                             \
        (void)sink;                                                                                          \
    }
#pragma STDC FP_CONTRACT ON
FOR_EACH_INSTRUCTION_SET(PEAKS)

#define ONE_BY_ONE _Pragma("clang loop vectorize(disable) interleave(disable)")

void rwkv_plain_wkv7(
    const float *r, const float *w, const float *k, const float *v, const float *kk, const float *a, size_t rows, size_t stride,
    size_t size, float *state, float *y) {
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < size; i++) {
            float *own = state + i * size, removed = 0, sum = 0;
            ONE_BY_ONE for (size_t j = 0; j < size; j++) removed += own[j] * kk[j];
            ONE_BY_ONE for (size_t j = 0; j < size; j++) {
                own[j] = own[j] * w[j] - removed * kk[j] * a[j] + v[i] * k[j];
                sum += own[j] * r[j];
            }
            y[i] = sum;
        }
        r += stride, w += stride, k += stride, v += stride, kk += stride, a += stride, y += stride;
    }
}

void rwkv_plain_product(const float *weight, size_t inputs, size_t outputs, const float *x, float *y) {
    for (size_t output = 0; output < outputs; output++) {
        float sum = 0;
        ONE_BY_ONE for (size_t input = 0; input < inputs; input++) sum += weight[output * inputs + input] * x[input];
        y[output] = sum;
    }
}
