// Kernels that process each element separately, a kernel that adds a vector to each row, and a check that all elements are
// finite.

ALWAYS_INLINE void NAME(sigmoid)(size_t count, REAL *x) {
    for (size_t i = 0; i < count; i++) x[i] = NAME(logistic)(x[i]);
}

ALWAYS_INLINE void NAME(tanh)(size_t count, REAL *x) {
    for (size_t i = 0; i < count; i++) x[i] = NAME(hyperbolic_tangent)(x[i]);
}

ALWAYS_INLINE void NAME(scale)(size_t count, double factor, REAL *x) {
    for (size_t i = 0; i < count; i++) x[i] *= (REAL)factor;
}

ALWAYS_INLINE void NAME(softcap)(size_t count, double scale, double cap, REAL *x) {
    const REAL share = (REAL)(scale / cap);
    for (size_t i = 0; i < count; i++) x[i] = (REAL)cap * NAME(hyperbolic_tangent)(x[i] * share);
}

ALWAYS_INLINE void NAME(add)(const REAL *x, size_t count, REAL *y) {
    for (size_t i = 0; i < count; i++) y[i] += x[i];
}

ALWAYS_INLINE void NAME(add_to_rows)(const REAL *x, size_t rows, size_t width, REAL *y) {
    for (size_t row = 0; row < rows; row++, y += width)
        for (size_t i = 0; i < width; i++) y[i] += x[i];
}

ALWAYS_INLINE void NAME(swiglu)(const REAL *up, size_t count, REAL *gate) {
    for (size_t i = 0; i < count; i++) gate[i] = gate[i] * NAME(logistic)(gate[i]) * up[i];
}

ALWAYS_INLINE void NAME(sigmoid_gate)(const REAL *gate, size_t count, REAL *y) {
    for (size_t i = 0; i < count; i++) y[i] *= NAME(logistic)(gate[i]);
}

ALWAYS_INLINE void NAME(geglu)(const REAL *up, size_t count, REAL *gate) {
    for (size_t i = 0; i < count; i++) gate[i] = gate[i] * NAME(logistic)(NAME(gelu_argument)(gate[i])) * up[i];
}

ALWAYS_INLINE void NAME(relu_squared)(size_t count, REAL *x) {
    for (size_t i = 0; i < count; i++) {
        const REAL positive = x[i] < 0 ? 0 : x[i];
        x[i] = positive * positive;
    }
}

ALWAYS_INLINE int NAME(all_finite)(const REAL *x, size_t count) {
    // x - x is zero if x is finite, and NaN otherwise.
    int are_finite = 1;
    for (size_t i = 0; i < count; i++) are_finite &= x[i] - x[i] == 0;
    return are_finite;
}
