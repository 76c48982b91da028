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

#if MAY_GROUP_ROWS
// The number of rows that the fast kernels process together.
#ifndef ROWS_TOGETHER
#define ROWS_TOGETHER 4
#endif

// Runs the recurrence for ROWS_TOGETHER rows in one pass over the state:
//
//     y_t = S^T (r_t before_t) + sum over s <= t of (r_t . k_s between_ts) v_s
//     S = diag(all) S + sum over s of (k_s after_s) v_s^T
//
// The factors are products of decays: of the rows that y_t comes after, of those between s and t, of those after s, and of all. Nothing
// is divided by a decay, because decays can be arbitrarily small. `size` is a multiple of `parts` * LANES, and `scratch` has room for
// (2 * ROWS_TOGETHER + 1) * size numbers. The rows that are `ahead` numbers further on are prefetched.
ALWAYS_INLINE void NAME(wkv6_together)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *v, const REAL *bonus, size_t stride, size_t w_stride, size_t size,
    REAL *state, REAL *scratch, REAL *y, size_t ahead, const int has_bonus, const int parts) {
    REAL *decayed_r = scratch, *decayed_k = scratch + ROWS_TOGETHER * size, *decay = scratch + 2 * ROWS_TOGETHER * size;
    NAME(lanes) products[ROWS_TOGETHER][ROWS_TOGETHER];
    for (int t = 0; t < ROWS_TOGETHER; t++)
        for (int s = 0; s <= t; s++) products[t][s] = (NAME(lanes)){0};
    for (size_t i = 0; i < size; i += LANES) {
        NAME(lanes) ws[ROWS_TOGETHER], rs[ROWS_TOGETHER], before = (NAME(lanes)){0} + 1, after = before;
#pragma clang loop unroll(full)
        for (int t = 0; t < ROWS_TOGETHER; t++) {
            ws[t] = *(const NAME(lanes) *)(w + (size_t)t * w_stride + i);
            rs[t] = *(const NAME(lanes) *)(r + (size_t)t * stride + i);
            if (!has_bonus) before *= ws[t];
            *(NAME(lanes) *)(decayed_r + (size_t)t * size + i) = rs[t] * before;
            if (has_bonus) before *= ws[t];
        }
        *(NAME(lanes) *)(decay + i) = before;
#pragma clang loop unroll(full)
        for (int s = ROWS_TOGETHER - 1; s >= 0; s--) {
            NAME(lanes) own = *(const NAME(lanes) *)(k + (size_t)s * stride + i);
            *(NAME(lanes) *)(decayed_k + (size_t)s * size + i) = own * after;
            after *= ws[s];
            products[s][s] += has_bonus ? rs[s] * own * *(const NAME(lanes) *)(bonus + i) : rs[s] * own;
#pragma clang loop unroll(full)
            for (int t = s + 1; t < ROWS_TOGETHER; t++) {
                if (!has_bonus) own *= ws[t];
                products[t][s] += rs[t] * own;
                if (has_bonus) own *= ws[t];
            }
        }
    }
    REAL shares[ROWS_TOGETHER][ROWS_TOGETHER];
    for (int t = 0; t < ROWS_TOGETHER; t++)
        for (int s = 0; s <= t; s++) shares[t][s] = NAME(total)(products[t][s]);
    const REAL *next[] = {r + ahead, w_stride ? w + ahead : r, k + ahead, v + ahead, y + ahead};
    const size_t blocks = size / (LANES * (size_t)parts);
    for (size_t block = 0; block < blocks; block++) {
        const size_t start = block * LANES * (size_t)parts;
        NAME(lanes) values[ROWS_TOGETHER][MOST_PARTS], sums[ROWS_TOGETHER][MOST_PARTS];
        for (int t = 0; t < ROWS_TOGETHER; t++)
            for (int part = 0; part < parts; part++) {
                values[t][part] = *(const NAME(lanes) *)(v + (size_t)t * stride + start + (size_t)part * LANES);
                sums[t][part] = (NAME(lanes)){0};
                for (int s = 0; s <= t; s++) sums[t][part] += values[s][part] * shares[t][s];
            }
        REAL *own = state + start;
        size_t line = 0, column = 0;
        for (size_t j = 0; j < size; j++, own += size) {
            // While the keys of the state are passed, the lines of the next rows are prefetched, spread over the blocks.
            if (j % ROWS_TOGETHER == 0) {
                for (size_t x = block; x < sizeof next / sizeof *next; x += blocks) __builtin_prefetch(next[x] + line + column);
                column += LANES;
                if (column == size) column = 0, line += stride;
            }
            NAME(lanes) numbers[MOST_PARTS];
            for (int part = 0; part < parts; part++) numbers[part] = *(const NAME(lanes) *)(own + part * LANES);
            for (int t = 0; t < ROWS_TOGETHER; t++)
                for (int part = 0; part < parts; part++) sums[t][part] += numbers[part] * decayed_r[(size_t)t * size + j];
            for (int part = 0; part < parts; part++) numbers[part] *= decay[j];
            for (int t = 0; t < ROWS_TOGETHER; t++)
                for (int part = 0; part < parts; part++) numbers[part] += values[t][part] * decayed_k[(size_t)t * size + j];
            for (int part = 0; part < parts; part++) *(NAME(lanes) *)(own + part * LANES) = numbers[part];
        }
        for (int t = 0; t < ROWS_TOGETHER; t++)
            for (int part = 0; part < parts; part++)
                *(NAME(lanes) *)(y + (size_t)t * stride + start + (size_t)part * LANES) = sums[t][part];
    }
}
#endif

// Runs the recurrence for all values of the state, up to `most` parts at a time. The sums for `most` parts fit in registers.
ALWAYS_INLINE void NAME(wkv6_rows)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *v, const REAL *bonus, size_t rows, size_t stride, size_t w_stride,
    size_t size, REAL *state, REAL *scratch, REAL *y, const int has_bonus, const int most) {
#if MAY_GROUP_ROWS
    // The sums and the values of ROWS_TOGETHER rows fill the registers if there are half as many parts as for one row.
    const int parts = most < 4 ? 1 : 2;
    if (size % (LANES * (size_t)parts) == 0)
        for (; rows >= ROWS_TOGETHER; rows -= ROWS_TOGETHER) {
            const size_t ahead = rows >= 2 * ROWS_TOGETHER ? ROWS_TOGETHER * stride : 0;
            NAME(wkv6_together)(r, w, k, v, bonus, stride, w_stride, size, state, scratch, y, ahead, has_bonus, parts);
            r += ROWS_TOGETHER * stride, w += ROWS_TOGETHER * w_stride, k += ROWS_TOGETHER * stride;
            v += ROWS_TOGETHER * stride, y += ROWS_TOGETHER * stride;
        }
#endif
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
