// The elementwise steps of time mixing, fused into one pass each.

ALWAYS_INLINE void NAME(token_shifts)(
    const REAL *x, const REAL *previous, const void *const *shares, size_t count, size_t rows, size_t width, void *const *ys) {
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < count; i++) {
            const REAL *share = shares[i];
            REAL *y = (REAL *)ys[i] + row * width;
            for (size_t c = 0; c < width; c++) y[c] = x[c] + (previous[c] - x[c]) * share[c];
        }
        previous = x;
        x += width;
    }
}

ALWAYS_INLINE void NAME(data_dependent_token_shifts)(
    const REAL *x, const REAL *previous, const void *const *bases, size_t count, size_t rows, size_t width, void *const *ys) {
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < count; i++) {
            const REAL *base = bases[i];
            REAL *y = (REAL *)ys[i] + row * width;
            for (size_t c = 0; c < width; c++) y[c] = x[c] + (previous[c] - x[c]) * (base[c] + y[c]);
        }
        previous = x;
        x += width;
    }
}

// Returns exp(-exp(omega)) for omega = -softplus(-p) - 1/2. This is exp(-e^(-1/2) sigmoid(p)), because
// exp(-softplus(-p)) = sigmoid(p).
ALWAYS_INLINE REAL NAME(decay_of)(REAL p) {
    return NAME(exponential)((REAL)-0.60653065971263342 * NAME(logistic)(p));
}

ALWAYS_INLINE void NAME(decay)(const REAL *base, size_t rows, size_t width, REAL *p, REAL *omega) {
    for (size_t row = 0; row < rows; row++, p += width) {
        if (base)
            for (size_t i = 0; i < width; i++) p[i] += base[i];
        if (omega) {
            for (size_t i = 0; i < width; i++) omega[i] = -NAME(softplus)(-p[i]) - (REAL)0.5;
            omega += width;
        }
        for (size_t i = 0; i < width; i++) p[i] = NAME(decay_of)(p[i]);
    }
}

ALWAYS_INLINE void NAME(exponential_decay)(const REAL *base, double floor, size_t rows, size_t width, REAL *p) {
    const REAL least = (REAL)floor;
    for (size_t row = 0; row < rows; row++, p += width)
        for (size_t i = 0; i < width; i++) {
            const REAL log_w = -NAME(exponential)(p[i] + base[i]);
            p[i] = NAME(exponential)(log_w < least ? least : log_w);
        }
}

ALWAYS_INLINE void NAME(balance)(const REAL *w, size_t count, REAL *k) {
    for (size_t i = 0; i < count; i++) k[i] *= 1 - w[i];
}

ALWAYS_INLINE void NAME(mix_residual)(
    const REAL *first, const REAL *share, const REAL *base, size_t rows, size_t width, REAL *y) {
    for (size_t row = 0; row < rows; row++, first += width, share += width, y += width)
        if (base)
            for (size_t i = 0; i < width; i++) y[i] += (first[i] - y[i]) * NAME(logistic)(share[i] + base[i]);
        else
            for (size_t i = 0; i < width; i++) y[i] += (first[i] - y[i]) * NAME(logistic)(share[i]);
}

ALWAYS_INLINE void NAME(keys)(
    const REAL *base, const REAL *scale, const REAL *mix, const REAL *omega, size_t rows, size_t heads, size_t size, REAL *a,
    REAL *k, REAL *kk) {
    for (size_t head = 0; head < rows * heads; head++, a += size, k += size, kk += size) {
        const size_t own = head % heads * size;
        if (base)
            for (size_t i = 0; i < size; i++) a[i] += base[own + i];
        for (size_t i = 0; i < size; i++) a[i] = NAME(logistic)(a[i]);
        if (scale)
            for (size_t i = 0; i < size; i++) kk[i] = k[i] * scale[own + i];
        else
            memcpy(kk, k, size * sizeof *k);
        NAME(l2_normalise)(size, kk);
        if (mix) {
            for (size_t i = 0; i < size; i++) k[i] *= 1 + (a[i] - 1) * mix[own + i];
        } else {
            for (size_t i = 0; i < size; i++) k[i] *= 1 - omega[i] + a[i];
            omega += size;
        }
    }
}

ALWAYS_INLINE void NAME(head_outputs)(
    const REAL *r, const REAL *k, const REAL *v, const REAL *bonus, const REAL *weight, const REAL *bias, double epsilon,
    double scale, const REAL *gate, size_t rows, size_t heads, size_t size, REAL *y) {
    for (size_t head = 0; head < rows * heads; head++, y += size) {
        const size_t own = head % heads * size, at = head * size;
        if (weight)
            NAME(layer_norm)(y, 1, size, weight + own, bias + own, epsilon, y);
        else
            for (size_t i = 0; i < size; i++) y[i] *= (REAL)scale;
        if (bonus) {
            const REAL sum = NAME(dot_of_three)(r + at, k + at, bonus + own, size);
            for (size_t i = 0; i < size; i++) y[i] += sum * v[at + i];
        }
        if (gate)
            for (size_t i = 0; i < size; i++) y[i] *= gate[at + i];
    }
}
