// What every kernel of a layer has in common. Included once for each real number type, with REAL its name and NAME(x) what makes a
// name that type's own.

// Element i goes to lane i % LANES on every instruction set, and the lanes are folded in pairs.
#ifndef LANES
#define LANES 16
#endif

ALWAYS_INLINE REAL NAME(fold)(REAL sums[LANES]) {
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
    return sums[0];
}

ALWAYS_INLINE REAL NAME(dot)(const REAL *x, const REAL *y, size_t count) {
    REAL sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += x[i + lane] * y[i + lane];
    for (; i < count; i++) sums[i % LANES] += x[i] * y[i];
    return NAME(fold)(sums);
}

ALWAYS_INLINE REAL NAME(sum)(const REAL *x, size_t count) {
    REAL sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += x[i + lane];
    for (; i < count; i++) sums[i % LANES] += x[i];
    return NAME(fold)(sums);
}

// Square roots are rounded exactly everywhere.
ALWAYS_INLINE REAL NAME(root)(REAL x) { return sizeof(REAL) == 4 ? (REAL)__builtin_sqrtf((float)x) : (REAL)__builtin_sqrt((double)x); }
