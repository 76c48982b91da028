// Helpers that all layer kernels share. This file is included once per real type: REAL is the type, and NAME(x) makes a name
// specific to that type.

// The number of lanes. On every instruction set, element i goes to lane i % LANES, and the lanes are folded in pairs.
#ifndef LANES
#define LANES 16
// Functions that take or return vectors are inlined, so their calling convention does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

// LANES numbers: a vector type, so that compilers keep sums in as many registers as needed.
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

// Loads the last `count` (fewer than LANES) numbers, padded with zeros, which do not change sums.
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

ALWAYS_INLINE REAL NAME(sum)(const REAL *x, size_t count) {
    NAME(lanes) sums = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) sums += *(const NAME(lanes) *)(x + i);
    if (i < count) sums += NAME(last)(x + i, count - i);
    return NAME(total)(sums);
}

// Returns the largest of `start` and the `count` numbers of x.
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

// Returns the square root, which is correctly rounded on every machine. C's sqrt sets errno, which would prevent vectorisation.
ALWAYS_INLINE REAL NAME(root)(REAL x) { return __builtin_elementwise_sqrt(x); }
