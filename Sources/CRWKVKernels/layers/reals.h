// What all layer kernels have in common. Included once for each real number type: REAL is the type, and NAME(x) makes a name
// specific to it.

// Element i goes to lane i % LANES on every instruction set, and the lanes are folded in pairs.
#ifndef LANES
#define LANES 16
// Functions that take or return vectors are inlined, so their calling convention does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

// LANES numbers: a vector type, so that compilers keep sums in as many registers as they take.
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

// The last `count` numbers, fewer than LANES; zero for missing ones, which changes no sum.
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

// The largest of `start` and `count` numbers.
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

// Square roots are correctly rounded everywhere. C's sqrt sets errno, which would keep loops from being vectorised.
ALWAYS_INLINE REAL NAME(root)(REAL x) { return __builtin_elementwise_sqrt(x); }
