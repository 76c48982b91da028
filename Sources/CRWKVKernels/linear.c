// Scaled vector addition, used to merge adapters, and orthonormalisation, used to generate orthogonal matrices.

#include "kernels.h"

#include <math.h>

#pragma STDC FP_CONTRACT OFF

// The number of lanes. Element i always goes to lane i % LANES, and the lanes are combined in order, so that results have the
// same bits on every instruction set.
#define LANES 16

#define ADD_SCALED(NAME, REAL)                                                                               \
    ALWAYS_INLINE void NAME(REAL factor, const REAL *x, REAL *y, size_t count) {                             \
        for (size_t i = 0; i < count; i++) y[i] += factor * x[i];                                            \
    }
ADD_SCALED(add_scaled_floats, float)
ADD_SCALED(add_scaled_doubles, double)

ALWAYS_INLINE double dot(const double *x, const double *y, size_t count) {
    double sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += x[i + lane] * y[i + lane];
    for (; i < count; i++) sums[i % LANES] += x[i] * y[i];
    double sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    return sum;
}

// Orthonormalises rows with the modified Gram-Schmidt process.
ALWAYS_INLINE void orthonormalise_body(double *rows, size_t start, size_t end, size_t length) {
    for (size_t row = start; row < end; row++) {
        double *x = rows + row * length;
        for (size_t other = 0; other < row; other++) {
            const double *y = rows + other * length;
            add_scaled_doubles(-dot(x, y, length), y, x, length);
        }
        const double size = sqrt(dot(x, x, length));
        for (size_t i = 0; i < length; i++) x[i] /= size;
    }
}

#define KERNEL(SUFFIX, TARGET)                                                                               \
    TARGET void rwkv_add_scaled_##SUFFIX(float factor, const float *x, float *y, size_t count) {             \
        add_scaled_floats(factor, x, y, count);                                                              \
    }                                                                                                        \
    TARGET void rwkv_orthonormalise_##SUFFIX(double *rows, size_t start, size_t end, size_t length) {        \
        orthonormalise_body(rows, start, end, length);                                                       \
    }
FOR_EACH_INSTRUCTION_SET(KERNEL)
