// RMSNorm, LayerNorm and L2 normalisation.

ALWAYS_INLINE void NAME(rms_norm)(const REAL *x, size_t rows, size_t width, const REAL *weight, double epsilon, REAL *y) {
    for (size_t row = 0; row < rows; row++, x += width, y += width) {
        const REAL size = NAME(root)(NAME(dot)(x, x, width) / (REAL)width + (REAL)epsilon);
        for (size_t i = 0; i < width; i++) y[i] = x[i] / size * weight[i];
    }
}

ALWAYS_INLINE void NAME(layer_norm)(
    const REAL *x, size_t rows, size_t width, const REAL *weight, const REAL *bias, double epsilon, REAL *y) {
    for (size_t row = 0; row < rows; row++, x += width, y += width) {
        const REAL mean = NAME(sum)(x, width) / (REAL)width;
        for (size_t i = 0; i < width; i++) y[i] = x[i] - mean;
        const REAL size = NAME(root)(NAME(dot)(y, y, width) / (REAL)width + (REAL)epsilon);
        for (size_t i = 0; i < width; i++) y[i] = y[i] / size * weight[i] + bias[i];
    }
}

ALWAYS_INLINE void NAME(l2_normalise)(size_t width, REAL *x) {
    const REAL length = NAME(root)(NAME(dot)(x, x, width));
    const REAL size = length < (REAL)1e-12 ? (REAL)1e-12 : length;
    for (size_t i = 0; i < width; i++) x[i] /= size;
}
