// RoPE, head repetition and softmax attention.

// Rotates pairs of channels. Pair i of a head consists of channels `step * i` and `step * i + apart`.
ALWAYS_INLINE void NAME(rotate_pairs)(
    const REAL *cosines, const REAL *sines, size_t half, size_t rows, size_t heads, size_t size, const size_t step, size_t apart,
    REAL *x) {
    for (size_t row = 0; row < rows; row++, cosines += half, sines += half)
        for (size_t head = 0; head < heads; head++, x += size)
            for (size_t i = 0; i < half; i++) {
                const REAL a = x[step * i], b = x[step * i + apart];
                x[step * i] = a * cosines[i] - b * sines[i];
                x[step * i + apart] = b * cosines[i] + a * sines[i];
            }
}

ALWAYS_INLINE void NAME(rotate)(
    const REAL *cosines, const REAL *sines, size_t half, size_t rows, size_t heads, size_t size, int is_interleaved, REAL *x) {
    if (is_interleaved)
        NAME(rotate_pairs)(cosines, sines, half, rows, heads, size, 2, 1, x);
    else
        NAME(rotate_pairs)(cosines, sines, half, rows, heads, size, 1, half, x);
}

ALWAYS_INLINE void NAME(repeat_heads)(const REAL *x, size_t rows, size_t heads, size_t size, size_t times, REAL *y) {
    for (size_t head = 0; head < rows * heads; head++, x += size)
        for (size_t time = 0; time < times; time++, y += size) memcpy(y, x, size * sizeof *x);
}

// Replaces each score with exp((score - largest) * scale), where `largest` is the largest score. Returns the sum of the results,
// which is the divisor of the softmax.
ALWAYS_INLINE REAL NAME(exponentials)(REAL *scores, size_t count, REAL scale) {
    const REAL largest = NAME(largest)(scores, count, scores[0]);
    for (size_t i = 0; i < count; i++) scores[i] = NAME(exponential)((scores[i] - largest) * scale);
    return NAME(sum)(scores, count);
}

ALWAYS_INLINE void NAME(attend)(
    const REAL *queries, size_t query_stride, size_t rows, const REAL *keys, const REAL *values, size_t stride, size_t past,
    size_t window, size_t size, double scale, double cap, REAL *scores, REAL *y, size_t y_stride) {
    for (size_t row = 0; row < rows; row++, queries += query_stride, y += y_stride) {
        const size_t end = past + row + 1, start = end > window ? end - window : 0, count = end - start;
        // Sums start at the first key that the row attends to, so earlier keys do not change the bits of the result.
        const REAL *seen_keys = keys + start * stride, *seen_values = values + start * stride;
        for (size_t i = 0; i < count; i++) scores[i] = NAME(dot)(queries, seen_keys + i * stride, size);
        if (cap > 0) NAME(softcap)(count, scale, cap, scores);
        const REAL sum = NAME(exponentials)(scores, count, cap > 0 ? 1 : (REAL)scale);
        for (size_t channel = 0; channel < size; channel++) y[channel] = 0;
        for (size_t i = 0; i < count; i++)
            for (size_t channel = 0; channel < size; channel++) y[channel] += scores[i] * seen_values[i * stride + channel];
        for (size_t channel = 0; channel < size; channel++) y[channel] /= sum;
    }
}

ALWAYS_INLINE void NAME(softmax_block)(
    size_t rows, size_t columns, ptrdiff_t seen, size_t window, double scale, REAL *scores, REAL *largest, REAL *sums, size_t size,
    REAL *y, size_t y_stride) {
    for (size_t row = 0; row < rows; row++, seen++, scores += columns, y += y_stride) {
        const size_t known = seen < 0 ? 0 : (size_t)seen, end = known < columns ? known : columns;
        const size_t start = known > window ? known - window : 0;
        for (size_t i = 0; i < start && i < columns; i++) scores[i] = 0;
        for (size_t i = end; i < columns; i++) scores[i] = 0;
        if (start >= end) continue;
        REAL *own = scores + start;
        const size_t count = end - start;
        const REAL most = NAME(largest)(own, count, largest[row]);
        // If all scores so far are -infinity, subtracting the largest would give NaN, although later scores can be finite.
        const REAL base = most == -(REAL)__builtin_inf() ? 0 : most;
        const REAL factor = NAME(exponential)((largest[row] - base) * (REAL)scale);
        for (size_t i = 0; i < count; i++) own[i] = NAME(exponential)((own[i] - base) * (REAL)scale);
        largest[row] = most;
        sums[row] = sums[row] * factor + NAME(sum)(own, count);
        for (size_t channel = 0; channel < size; channel++) y[channel] *= factor;
    }
}

ALWAYS_INLINE void NAME(divide_rows)(const REAL *sums, size_t rows, size_t size, REAL *y, size_t y_stride) {
    for (size_t row = 0; row < rows; row++, y += y_stride)
        for (size_t channel = 0; channel < size; channel++) y[channel] /= sums[row];
}
