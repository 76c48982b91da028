// Products with matrices as they stand in a file.

#ifndef RWKV_STORED_VALUES
#define RWKV_STORED_VALUES
// Any half: what is beyond the largest finite one is infinite or not a number, bits and all.
ALWAYS_INLINE float stored_f16(uint16_t bits) {
    const uint32_t beyond = (uint32_t)(bits & 0x8000) << 16 | 0x7F800000 | (uint32_t)(bits & 0x3FF) << 13;
    return f16_finite(bits) ? f16_value(bits) : f32_value(beyond);
}
ALWAYS_INLINE float stored_bf16(uint16_t bits) { return bf16_value(bits); }
ALWAYS_INLINE float stored_f32(float value) { return value; }
ALWAYS_INLINE double stored_f64(double value) { return value; }
// Rows of x that are multiplied with a row of weights while it is at hand.
#define ROWS 4
#endif

#define FOR_EACH_STORED(DO) DO(f64, double) DO(f32, float) DO(f16, uint16_t) DO(bf16, uint16_t)

#define WIDEN(ELEMENT, TYPE)                                                                                              \
    ALWAYS_INLINE void NAME(widen_##ELEMENT)(const TYPE *elements, size_t stride, size_t rows, size_t columns, REAL *x) { \
        for (size_t row = 0; row < rows; row++, elements += stride, x += columns)                                         \
            for (size_t i = 0; i < columns; i++) x[i] = (REAL)stored_##ELEMENT(elements[i]);                              \
    }
FOR_EACH_STORED(WIDEN)
#undef WIDEN

// A row of weights with up to ROWS rows of x; each sum is made as dot makes it.
#define DOTS(ELEMENT, TYPE)                                                                                  \
    ALWAYS_INLINE void NAME(dots_##ELEMENT)(                                                                 \
        const TYPE *weight, size_t inputs, const REAL *x, const int rows, REAL *y, size_t y_stride) {        \
        REAL sums[ROWS][LANES] = {0};                                                                        \
        size_t i = 0;                                                                                        \
        for (; i + LANES <= inputs; i += LANES)                                                              \
            for (int row = 0; row < rows; row++)                                                             \
                for (int lane = 0; lane < LANES; lane++)                                                     \
                    sums[row][lane] += x[row * inputs + i + lane] * (REAL)stored_##ELEMENT(weight[i + lane]); \
        for (; i < inputs; i++)                                                                              \
            for (int row = 0; row < rows; row++)                                                             \
                sums[row][i % LANES] += x[row * inputs + i] * (REAL)stored_##ELEMENT(weight[i]);             \
        for (int row = 0; row < rows; row++) y[row * y_stride] = NAME(fold)(sums[row]);                      \
    }                                                                                                        \
    ALWAYS_INLINE void NAME(product_##ELEMENT)(                                                              \
        const TYPE *weight, size_t inputs, size_t outputs, const REAL *x, size_t rows, REAL *y, size_t y_stride) { \
        for (size_t output = 0; output < outputs; output++, weight += inputs) {                              \
            size_t row = 0;                                                                                  \
            for (; row + ROWS <= rows; row += ROWS)                                                          \
                NAME(dots_##ELEMENT)(weight, inputs, x + row * inputs, ROWS, y + row * y_stride + output, y_stride); \
            for (; row < rows; row++)                                                                        \
                NAME(dots_##ELEMENT)(weight, inputs, x + row * inputs, 1, y + row * y_stride + output, y_stride); \
        }                                                                                                    \
    }
FOR_EACH_STORED(DOTS)
#undef DOTS

// Up to LANES outputs; their sums are made as dot makes them, so that it does not show how a matrix is stored.
#define COLUMNS(ELEMENT, TYPE)                                                                               \
    ALWAYS_INLINE void NAME(columns_##ELEMENT)(                                                              \
        const TYPE *weight, size_t stride, size_t inputs, const REAL *x, REAL *y, const int width) {         \
        REAL sums[LANES][LANES] = {0};                                                                       \
        for (size_t input = 0; input < inputs; input++, weight += stride)                                    \
            for (int output = 0; output < width; output++)                                                   \
                sums[input % LANES][output] += x[input] * (REAL)stored_##ELEMENT(weight[output]);            \
        for (int half = LANES / 2; half > 0; half /= 2)                                                      \
            for (int lane = 0; lane < half; lane++)                                                          \
                for (int output = 0; output < width; output++) sums[lane][output] += sums[lane + half][output]; \
        for (int output = 0; output < width; output++) y[output] = sums[0][output];                          \
    }                                                                                                        \
    ALWAYS_INLINE void NAME(product_of_columns_##ELEMENT)(                                                   \
        const TYPE *weight, size_t stride, size_t inputs, size_t outputs, const REAL *x, size_t rows, REAL *y, \
        size_t y_stride) {                                                                                   \
        for (size_t row = 0; row < rows; row++, x += inputs, y += y_stride) {                                \
            size_t start = 0;                                                                                \
            for (; start + LANES <= outputs; start += LANES)                                                 \
                NAME(columns_##ELEMENT)(weight + start, stride, inputs, x, y + start, LANES);                \
            if (start < outputs)                                                                             \
                NAME(columns_##ELEMENT)(weight + start, stride, inputs, x, y + start, (int)(outputs - start)); \
        }                                                                                                    \
    }
FOR_EACH_STORED(COLUMNS)
#undef COLUMNS

#define BY_ELEMENT(CALL)                         \
    switch (element) {                           \
    case RWKV_ELEMENT_F64: CALL(f64); break;     \
    case RWKV_ELEMENT_F32: CALL(f32); break;     \
    case RWKV_ELEMENT_F16: CALL(f16); break;     \
    case RWKV_ELEMENT_BF16: CALL(bf16); break;   \
    default: break;                              \
    }

ALWAYS_INLINE void NAME(widen)(
    rwkv_element element, const void *elements, size_t stride, size_t rows, size_t columns, REAL *x) {
#define CALL(ELEMENT) NAME(widen_##ELEMENT)(elements, stride, rows, columns, x)
    BY_ELEMENT(CALL)
#undef CALL
}

ALWAYS_INLINE void NAME(product)(
    rwkv_element element, const void *weight, size_t inputs, size_t outputs, const REAL *x, size_t rows, REAL *y,
    size_t y_stride) {
#define CALL(ELEMENT) NAME(product_##ELEMENT)(weight, inputs, outputs, x, rows, y, y_stride)
    BY_ELEMENT(CALL)
#undef CALL
}

ALWAYS_INLINE void NAME(product_of_columns)(
    rwkv_element element, const void *weight, size_t stride, size_t inputs, size_t outputs, const REAL *x, size_t rows, REAL *y,
    size_t y_stride) {
#define CALL(ELEMENT) NAME(product_of_columns_##ELEMENT)(weight, stride, inputs, outputs, x, rows, y, y_stride)
    BY_ELEMENT(CALL)
#undef CALL
}

#undef BY_ELEMENT
#undef FOR_EACH_STORED
