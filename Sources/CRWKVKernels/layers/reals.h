// Helper functions for the layer kernels. This file is included once for each real type. REAL is the type, and NAME(x) adds a
// suffix for that type to the name x.

// The number of lanes. In a sum, element i always goes to lane i % LANES, and the lanes are combined in pairs, in a fixed order.
#ifndef LANES
#define LANES 16
// Functions that take or return vectors are always inlined, so warnings about their calling convention do not apply.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

// A vector of LANES numbers. Because the type is a vector, the compiler keeps sums in registers, using as many as it needs.
typedef REAL NAME(lanes) __attribute__((vector_size(LANES * sizeof(REAL)), aligned(sizeof(REAL))));

ALWAYS_INLINE REAL NAME(fold)(REAL sums[LANES]) {
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
    return sums[0];
}

ALWAYS_INLINE REAL NAME(total)(NAME(lanes) lanes) {
    REAL sums[LANES];
    memcpy(sums, &lanes, sizeof sums);
    return NAME(fold)(sums);
}

// Loads the last `count` numbers of an array, where `count` < LANES, and pads them with zeros, which do not change sums.
ALWAYS_INLINE NAME(lanes) NAME(last)(const REAL *x, size_t count) {
    NAME(lanes) lanes = {0};
    memcpy(&lanes, x, count * sizeof *x);
    return lanes;
}

ALWAYS_INLINE REAL NAME(dot)(const REAL *x, const REAL *y, size_t count) {
    NAME(lanes) sums = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) sums += *(const NAME(lanes) *)(x + i) * *(const NAME(lanes) *)(y + i);
    if (i < count) sums += NAME(last)(x + i, count - i) * NAME(last)(y + i, count - i);
    return NAME(total)(sums);
}

// Returns the sum of x[i] * y[i] * z[i].
ALWAYS_INLINE REAL NAME(dot_of_three)(const REAL *x, const REAL *y, const REAL *z, size_t count) {
    NAME(lanes) sums = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        sums += *(const NAME(lanes) *)(x + i) * *(const NAME(lanes) *)(y + i) * *(const NAME(lanes) *)(z + i);
    if (i < count) sums += NAME(last)(x + i, count - i) * NAME(last)(y + i, count - i) * NAME(last)(z + i, count - i);
    return NAME(total)(sums);
}

ALWAYS_INLINE REAL NAME(sum)(const REAL *x, size_t count) {
    NAME(lanes) sums = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) sums += *(const NAME(lanes) *)(x + i);
    if (i < count) sums += NAME(last)(x + i, count - i);
    return NAME(total)(sums);
}

// Returns the maximum of `start` and the `count` numbers of x.
ALWAYS_INLINE REAL NAME(largest)(const REAL *x, size_t count, REAL start) {
    REAL lanes[LANES];
    for (int lane = 0; lane < LANES; lane++) lanes[lane] = start;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
    for (; i < count; i++) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++)
            lanes[lane] = lanes[lane + width] > lanes[lane] ? lanes[lane + width] : lanes[lane];
    return lanes[0];
}

// Returns the correctly rounded square root, which has the same bits on every machine. C's sqrt sets errno, which would prevent
// vectorisation.
ALWAYS_INLINE REAL NAME(root)(REAL x) { return __builtin_elementwise_sqrt(x); }
