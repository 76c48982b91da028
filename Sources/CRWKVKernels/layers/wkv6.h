// The recurrence of RWKV-5 and RWKV-6 (RWKV-LM, RWKV-v5): y = S^T r + (r . u k) v, S = diag(w) S + k v^T. The state is
// [key][value], and its values do not depend on each other.

// Runs the recurrence for `parts` parts of the state, which do not depend on the other parts. Each row takes one pass over the
// parts. If `has_bonus`, currents[row] is r . u k of the row; otherwise, y is computed from the updated state. If `values` < LANES,
// the rest of the only part is padding. The keys of the state are `pitch` numbers apart.
ALWAYS_INLINE void NAME(wkv6_values)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *v, const REAL *currents, size_t rows, size_t stride, size_t w_stride,
    size_t size, REAL *state, size_t pitch, REAL *y, const int has_bonus, const int parts, const size_t values) {
    for (size_t row = 0; row < rows; row++) {
        const size_t ahead = row + ROWS_AHEAD < rows ? ROWS_AHEAD * stride : 0;
        NAME(lanes) value[MOST_PARTS], sums[MOST_PARTS];
        for (int part = 0; part < parts; part++) {
            __builtin_prefetch(v + ahead + part * LANES);
            __builtin_prefetch(y + ahead + part * LANES, 1);
            value[part] = values < LANES ? NAME(last)(v, values) : *(const NAME(lanes) *)(v + part * LANES);
            sums[part] = has_bonus ? value[part] * currents[row] : (NAME(lanes)){0};
        }
        REAL *own = state;
        for (size_t j = 0; j < size; j++, own += pitch) {
            __builtin_prefetch(r + ahead + j);
            __builtin_prefetch(w + (w_stride ? ahead : 0) + j);
            __builtin_prefetch(k + ahead + j);
            const REAL w_j = w[j], k_j = k[j], r_j = r[j];
            for (int part = 0; part < parts; part++) {
                NAME(lanes) *place = (NAME(lanes) *)(own + part * LANES);
                const NAME(lanes) old = *place, new = old * w_j + value[part] * k_j;
                *place = new;
                sums[part] += (has_bonus ? old : new) * r_j;
            }
        }
        for (int part = 0; part < parts; part++)
            memcpy(y + part * LANES, &sums[part], (values < LANES ? values : LANES) * sizeof *y);
        r += stride, w += w_stride, k += stride, v += stride, y += stride;
    }
}

// Runs wkv6_values on a contiguous copy of the parts, or in place if there are only a few rows.
ALWAYS_INLINE void NAME(wkv6_block)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *v, const REAL *currents, size_t rows, size_t stride, size_t w_stride,
    size_t size, REAL *state, REAL *together, REAL *y, const int has_bonus, const int parts, const size_t values) {
    const size_t width = (size_t)parts * LANES;
    if (rows < FEW_ROWS && values >= LANES) {
        NAME(wkv6_values)(r, w, k, v, currents, rows, stride, w_stride, size, state, size, y, has_bonus, parts, values);
        return;
    }
    for (size_t j = 0; j < size; j++) {
        if (values < LANES) memset(together + j * width, 0, width * sizeof *state);
        memcpy(together + j * width, state + j * size, values * sizeof *state);
    }
    NAME(wkv6_values)(r, w, k, v, currents, rows, stride, w_stride, size, together, width, y, has_bonus, parts, values);
    for (size_t j = 0; j < size; j++) memcpy(state + j * size, together + j * width, values * sizeof *state);
}

// Runs the recurrence for all values of the state, up to `most` parts at a time. The sums for `most` parts fit in registers.
ALWAYS_INLINE void NAME(wkv6_rows)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *v, const REAL *bonus, size_t rows, size_t stride, size_t w_stride,
    size_t size, REAL *state, REAL *scratch, REAL *y, const int has_bonus, const int most) {
    REAL *currents = scratch, *together = scratch + RWKV_WKV6_ROWS;
    for (size_t first = 0; first < rows; first += RWKV_WKV6_ROWS) {
        const size_t count = rows - first < RWKV_WKV6_ROWS ? rows - first : RWKV_WKV6_ROWS;
        const REAL *own_r = r + first * stride, *own_w = w + first * w_stride, *own_k = k + first * stride;
        for (size_t row = 0; has_bonus && row < count; row++)
            currents[row] = NAME(dot_of_three)(own_r + row * stride, own_k + row * stride, bonus, size);
        size_t start = 0;
#define BLOCK(PARTS, VALUES)                                                                                 \
    NAME(wkv6_block)(                                                                                        \
        own_r, own_w, own_k, v + first * stride + start, currents, count, stride, w_stride, size, state + start, together, \
        y + first * stride + start, has_bonus, PARTS, VALUES)
#define BLOCKS(PARTS)                                                                                        \
    for (; most >= (PARTS) && start + (PARTS)*LANES <= size; start += (PARTS)*LANES) BLOCK(PARTS, (PARTS)*LANES);
        BLOCKS(4)
        BLOCKS(2)
        BLOCKS(1)
        if (start < size) BLOCK(1, size - start);
#undef BLOCKS
#undef BLOCK
    }
}

ALWAYS_INLINE void NAME(wkv6)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *v, const REAL *bonus, size_t rows, size_t stride, size_t w_stride,
    size_t size, REAL *state, REAL *scratch, REAL *y, const int most) {
    const unsigned mode = flush_denormals();
    // has_bonus is a constant, so that loops do not test it.
    if (bonus)
        NAME(wkv6_rows)(r, w, k, v, bonus, rows, stride, w_stride, size, state, scratch, y, 1, most);
    else
        NAME(wkv6_rows)(r, w, k, v, bonus, rows, stride, w_stride, size, state, scratch, y, 0, most);
    restore_denormals(mode);
}
