// Products with matrices in a stored type, which are widened as they are read.

#ifndef RWKV_STORED_VALUES
#define RWKV_STORED_VALUES
// Returns the value of an f16. Infinities stay infinite, and NaNs keep their sign and payload.
ALWAYS_INLINE float stored_f16(uint16_t bits) {
    const uint32_t beyond = (uint32_t)(bits & 0x8000) << 16 | 0x7F800000 | (uint32_t)(bits & 0x3FF) << 13;
    return f16_finite(bits) ? f16_value(bits) : f32_value(beyond);
}
ALWAYS_INLINE float stored_bf16(uint16_t bits) { return bf16_value(bits); }
ALWAYS_INLINE float stored_f32(float value) { return value; }
ALWAYS_INLINE double stored_f64(double value) { return value; }

#define LANES_OF(TYPE) __attribute__((vector_size(LANES * sizeof(TYPE)), aligned(sizeof(TYPE)))) TYPE
typedef LANES_OF(double) f64_lanes;
typedef LANES_OF(float) f32_lanes;
typedef LANES_OF(uint16_t) u16_lanes;
typedef LANES_OF(uint32_t) u32_lanes;
typedef f64_lanes stored_f64_lanes, widened_f64_lanes;
typedef f32_lanes stored_f32_lanes, widened_f32_lanes, widened_f16_lanes, widened_bf16_lanes;
typedef u16_lanes stored_f16_lanes, stored_bf16_lanes;

ALWAYS_INLINE void widen_f64_lanes(const f64_lanes *stored, f64_lanes *widened) { *widened = *stored; }
ALWAYS_INLINE void widen_f32_lanes(const f32_lanes *stored, f32_lanes *widened) { *widened = *stored; }
ALWAYS_INLINE void widen_bf16_lanes(const u16_lanes *stored, f32_lanes *widened) {
    const u32_lanes bits = __builtin_convertvector(*stored, u32_lanes) << 16;
    memcpy(widened, &bits, sizeof bits);
}
ALWAYS_INLINE void widen_f16_lanes(const u16_lanes *stored, f32_lanes *widened) {
    const u32_lanes bits = __builtin_convertvector(*stored, u32_lanes);
    const u32_lanes sign = (bits & 0x8000) << 16, magnitude = (bits & 0x7FFF) << 13;
    // The same computation as in f16_value and stored_f16, for vectors.
    u32_lanes value = sign | magnitude;
    f32_lanes scaled;
    memcpy(&scaled, &value, sizeof scaled);
    scaled *= 0x1p112f;
    const u32_lanes is_beyond = (u32_lanes)(magnitude >= 0x7C00u << 13);
    memcpy(&value, &scaled, sizeof value);
    value = (value & ~is_beyond) | ((sign | 0x7F800000 | (magnitude & 0x7FFFFF)) & is_beyond);
    memcpy(widened, &value, sizeof value);
}

// The number of rows of x that are multiplied by a row of weights each time the row is loaded.
#define ROWS 4
// The number of rows of weights that are multiplied by a single row of x at a time. The rows are far apart in memory, because two
// streams load faster than one.
#define FAR 2
_Static_assert(FAR <= ROWS, "the array of sums has room for FAR sums");
// The number of outputs that are computed at a time. Their sums stay in the L1 cache.
#define COLUMNS_AT_ONCE 256
// The prefetch distance for weights in bytes, which is divided among the streams. Hardware prefetchers stop at page boundaries.
#define BYTES_AHEAD 12288
#endif

#define FOR_EACH_STORED(DO) DO(f64, double) DO(f32, float) DO(f16, uint16_t) DO(bf16, uint16_t)

#define WIDEN(ELEMENT, TYPE)                                                                                              \
    ALWAYS_INLINE void NAME(widen_##ELEMENT)(const TYPE *elements, size_t stride, size_t rows, size_t columns, REAL *x) { \
        for (size_t row = 0; row < rows; row++, elements += stride, x += columns)                                         \
            for (size_t i = 0; i < columns; i++) x[i] = (REAL)stored_##ELEMENT(elements[i]);                              \
    }
FOR_EACH_STORED(WIDEN)
#undef WIDEN

// Loads and widens up to LANES stored numbers. If there are fewer, the rest of the vector is zero.
#define LOAD(ELEMENT, TYPE)                                                                                  \
    ALWAYS_INLINE NAME(lanes) NAME(load_##ELEMENT)(const TYPE *elements, size_t count) {                     \
        stored_##ELEMENT##_lanes stored = {0};                                                               \
        memcpy(&stored, elements, count * sizeof *elements);                                                 \
        widened_##ELEMENT##_lanes widened;                                                                   \
        widen_##ELEMENT##_lanes(&stored, &widened);                                                          \
        return __builtin_convertvector(widened, NAME(lanes));                                                \
    }
FOR_EACH_STORED(LOAD)
#undef LOAD

// Multiplies `rows` rows of x by `outputs` rows of weights, which are `apart` rows apart. Each sum adds its terms in the same
// order as `dot`.
#define DOTS(ELEMENT, TYPE)                                                                                  \
    ALWAYS_INLINE void NAME(dots_##ELEMENT)(                                                                 \
        const TYPE *weight, size_t inputs, size_t apart, const REAL *x, REAL *y, size_t y_stride, const int rows, \
        const int outputs) {                                                                                 \
        NAME(lanes) sums[ROWS];                                                                              \
        for (int sum = 0; sum < rows * outputs; sum++) sums[sum] = (NAME(lanes)){0};                                \
        size_t i = 0;                                                                                        \
        for (; i + LANES <= inputs; i += LANES)                                                              \
            for (int output = 0; output < outputs; output++) {                                               \
                __builtin_prefetch((const char *)(weight + output * apart * inputs + i) + BYTES_AHEAD / FAR); \
                const NAME(lanes) weights = NAME(load_##ELEMENT)(weight + output * apart * inputs + i, LANES); \
                for (int row = 0; row < rows; row++)                                                         \
                    sums[row * outputs + output] += *(const NAME(lanes) *)(x + row * inputs + i) * weights;  \
            }                                                                                                \
        if (i < inputs)                                                                                      \
            for (int output = 0; output < outputs; output++) {                                               \
                const NAME(lanes) weights = NAME(load_##ELEMENT)(weight + output * apart * inputs + i, inputs - i); \
                for (int row = 0; row < rows; row++)                                                         \
                    sums[row * outputs + output] += NAME(last)(x + row * inputs + i, inputs - i) * weights;  \
            }                                                                                                \
        for (int row = 0; row < rows; row++)                                                                 \
            for (int output = 0; output < outputs; output++)                                                 \
                y[row * y_stride + output * apart] = NAME(total)(sums[row * outputs + output]);              \
    }                                                                                                        \
    ALWAYS_INLINE void NAME(product_##ELEMENT)(                                                              \
        const TYPE *weight, size_t inputs, size_t outputs, const REAL *x, size_t rows, REAL *y, size_t y_stride) { \
        size_t row = 0;                                                                                      \
        for (; row + ROWS <= rows; row += ROWS)                                                        \
            for (size_t output = 0; output < outputs; output++)                                              \
                NAME(dots_##ELEMENT)(                                                                        \
                    weight + output * inputs, inputs, 0, x + row * inputs, y + row * y_stride + output, y_stride, ROWS, 1); \
        for (; row < rows; row++) {                                                                          \
            const REAL *own = x + row * inputs;                                                              \
            REAL *target = y + row * y_stride;                                                               \
            const size_t apart = outputs / FAR;                                                          \
            for (size_t output = 0; output < apart; output++)                                                \
                NAME(dots_##ELEMENT)(weight + output * inputs, inputs, apart, own, target + output, 0, 1, FAR); \
            for (size_t output = apart * FAR; output < outputs; output++)                                \
                NAME(dots_##ELEMENT)(weight + output * inputs, inputs, 0, own, target + output, 0, 1, 1);    \
        }                                                                                                    \
    }
FOR_EACH_STORED(DOTS)
#undef DOTS

// Computes up to COLUMNS_AT_ONCE outputs of one row of x, reading one row of weights at a time. Each sum adds its terms in the
// same order as `dot`, so results do not depend on the order in which a matrix is stored.
#define COLUMNS(ELEMENT, TYPE)                                                                               \
    ALWAYS_INLINE void NAME(columns_##ELEMENT)(                                                              \
        const TYPE *weight, size_t stride, size_t inputs, size_t outputs, const REAL *x, REAL *y) {          \
        REAL sums[LANES][COLUMNS_AT_ONCE];                                                                   \
        for (int lane = 0; lane < LANES; lane++)                                                             \
            for (size_t output = 0; output < outputs; output++) sums[lane][output] = 0;                      \
        for (size_t input = 0; input < inputs; input++, weight += stride) {                                  \
            REAL *own = sums[input % LANES];                                                                 \
            for (size_t output = 0; output < outputs; output += 64 / sizeof *weight)                         \
                __builtin_prefetch((const char *)(weight + output) + BYTES_AHEAD);                           \
            const REAL factor = x[input];                                                                    \
            for (size_t output = 0; output < outputs; output++) own[output] += factor * (REAL)stored_##ELEMENT(weight[output]); \
        }                                                                                                    \
        for (int half = LANES / 2; half > 0; half /= 2)                                                      \
            for (int lane = 0; lane < half; lane++)                                                          \
                for (size_t output = 0; output < outputs; output++) sums[lane][output] += sums[lane + half][output]; \
        memcpy(y, sums[0], outputs * sizeof *y);                                                             \
    }                                                                                                        \
    ALWAYS_INLINE void NAME(product_of_columns_##ELEMENT)(                                                   \
        const TYPE *weight, size_t stride, size_t inputs, size_t outputs, const REAL *x, size_t rows, REAL *y, \
        size_t y_stride) {                                                                                   \
        for (size_t row = 0; row < rows; row++, x += inputs, y += y_stride)                                  \
            for (size_t start = 0; start < outputs; start += COLUMNS_AT_ONCE) {                              \
                const size_t width = outputs - start < COLUMNS_AT_ONCE ? outputs - start : COLUMNS_AT_ONCE;  \
                NAME(columns_##ELEMENT)(weight + start, stride, inputs, width, x, y + start);                \
            }                                                                                                \
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
