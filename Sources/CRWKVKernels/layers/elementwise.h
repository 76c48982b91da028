// Element by element, and row by row with the same vector.

ALWAYS_INLINE void NAME(sigmoid)(size_t count, REAL *x) {
    for (size_t i = 0; i < count; i++) x[i] = NAME(logistic)(x[i]);
}

ALWAYS_INLINE void NAME(tanh)(size_t count, REAL *x) {
    for (size_t i = 0; i < count; i++) x[i] = NAME(hyperbolic_tangent)(x[i]);
}

ALWAYS_INLINE void NAME(add)(const REAL *x, size_t count, REAL *y) {
    for (size_t i = 0; i < count; i++) y[i] += x[i];
}

ALWAYS_INLINE void NAME(multiply)(const REAL *x, size_t count, REAL *y) {
    for (size_t i = 0; i < count; i++) y[i] *= x[i];
}

ALWAYS_INLINE void NAME(scale)(double factor, size_t count, REAL *y) {
    for (size_t i = 0; i < count; i++) y[i] *= (REAL)factor;
}

ALWAYS_INLINE void NAME(add_to_rows)(const REAL *x, size_t rows, size_t width, REAL *y) {
    for (size_t row = 0; row < rows; row++, y += width)
        for (size_t i = 0; i < width; i++) y[i] += x[i];
}

ALWAYS_INLINE void NAME(multiply_rows)(const REAL *x, const REAL *factors, size_t rows, size_t width, REAL *y) {
    for (size_t row = 0; row < rows; row++, x += width, y += width)
        for (size_t i = 0; i < width; i++) y[i] = x[i] * factors[i];
}

ALWAYS_INLINE void NAME(swiglu)(const REAL *up, size_t count, REAL *gate) {
    for (size_t i = 0; i < count; i++) gate[i] = gate[i] * NAME(logistic)(gate[i]) * up[i];
}

ALWAYS_INLINE void NAME(relu_squared)(size_t count, REAL *x) {
    for (size_t i = 0; i < count; i++) {
        const REAL positive = x[i] < 0 ? 0 : x[i];
        x[i] = positive * positive;
    }
}

ALWAYS_INLINE void NAME(lerp_shift)(
    const REAL *x, const REAL *previous, const REAL *share, size_t rows, size_t width, REAL *y) {
    for (size_t row = 0; row < rows; row++, x += width, y += width) {
        for (size_t i = 0; i < width; i++) y[i] = x[i] + (previous[i] - x[i]) * share[i];
        previous = x;
    }
}

ALWAYS_INLINE int NAME(all_finite)(const REAL *x, size_t count) {
    // What is not finite is not zero when it is taken away from itself.
    int are_finite = 1;
    for (size_t i = 0; i < count; i++) are_finite &= x[i] - x[i] == 0;
    return are_finite;
}

ALWAYS_INLINE void NAME(decay)(const REAL *p, size_t count, REAL *omega, REAL *decay) {
    for (size_t i = 0; i < count; i++) {
        omega[i] = -NAME(softplus)(-p[i]) - (REAL)0.5;
        // exp(-softplus(-p)) = sigmoid(p), and e^(-1/2) before it.
        decay[i] = NAME(exponential)((REAL)-0.60653065971263342 * NAME(logistic)(p[i]));
    }
}

ALWAYS_INLINE void NAME(mix_residual)(const REAL *first, const REAL *share, size_t count, REAL *y) {
    for (size_t i = 0; i < count; i++) y[i] += (first[i] - y[i]) * NAME(logistic)(share[i]);
}

ALWAYS_INLINE void NAME(scale_by_iclr)(const REAL *a, const REAL *mix, size_t rows, size_t width, REAL *y) {
    for (size_t row = 0; row < rows; row++, a += width, y += width)
        for (size_t i = 0; i < width; i++) y[i] *= 1 + (a[i] - 1) * mix[i];
}

ALWAYS_INLINE void NAME(scale_by_one_minus_omega)(const REAL *a, const REAL *omega, size_t count, REAL *y) {
    for (size_t i = 0; i < count; i++) y[i] *= 1 - omega[i] + a[i];
}
