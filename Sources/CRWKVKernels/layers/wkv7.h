// The RWKV-7 recurrence (RWKV-LM, RWKV-v7): S = S diag(w) - (S kk)(kk a)^T + v k^T, y = S r.

#ifndef RWKV_WKV7
#define RWKV_WKV7
// The largest number of parts of the state that are updated at a time. A part is LANES values.
#define MOST_PARTS 4
// If there are fewer rows than this, parts of the state are updated in place rather than in a contiguous copy.
#define FEW_ROWS 8
// The prefetch distance in rows. Rows are pages apart, so hardware prefetchers do not load them ahead of time.
#define ROWS_AHEAD 3

// Makes the processor treat denormals as zero, and returns the previous mode for restore_denormals. States decay into denormals,
// which slow some processors down a hundredfold. Does nothing on processors other than x86-64.
ALWAYS_INLINE unsigned flush_denormals(void) {
#if defined(__x86_64__)
    const unsigned mode = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(mode | 0x8040);
    return mode;
#else
    return 0;
#endif
}

ALWAYS_INLINE void restore_denormals(unsigned mode) {
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr(mode);
#else
    (void)mode;
#endif
}
#endif

// Runs the recurrence for `parts` parts of the state, which do not depend on the other parts. Each row takes one pass over the
// parts, which also computes the S kk that the next row removes. If `values` < LANES, the rest of the only part is padding. The
// keys of the state are `pitch` numbers apart, and `replaced` has room for `size` numbers.
ALWAYS_INLINE void NAME(wkv7_values)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *v, const REAL *kk, const REAL *a, size_t rows, size_t stride,
    size_t size, REAL *state, size_t pitch, REAL *replaced, REAL *y, size_t y_stride, const int parts, const size_t values) {
    NAME(lanes) removed[MOST_PARTS];
    for (int part = 0; part < parts; part++) removed[part] = (NAME(lanes)){0};
    for (size_t j = 0; j < size; j++)
        for (int part = 0; part < parts; part++)
            removed[part] += *(const NAME(lanes) *)(state + j * pitch + part * LANES) * kk[j];
    for (size_t row = 0; row < rows; row++) {
        const size_t rows_ahead = row + ROWS_AHEAD < rows ? ROWS_AHEAD : 0, ahead = rows_ahead * stride;
        const REAL *next = row + 1 < rows ? kk + stride : kk;
        for (size_t j = 0; j < size; j++) replaced[j] = kk[j] * a[j];
        NAME(lanes) value[MOST_PARTS], sums[MOST_PARTS], removed_next[MOST_PARTS];
        for (int part = 0; part < parts; part++) {
            __builtin_prefetch(v + ahead + part * LANES);
            __builtin_prefetch(y + rows_ahead * y_stride + part * LANES, 1);
            value[part] = values < LANES ? NAME(last)(v, values) : *(const NAME(lanes) *)(v + part * LANES);
            sums[part] = removed_next[part] = (NAME(lanes)){0};
        }
        REAL *own = state;
        for (size_t j = 0; j < size; j++, own += pitch) {
            __builtin_prefetch(r + ahead + j);
            __builtin_prefetch(w + ahead + j);
            __builtin_prefetch(k + ahead + j);
            __builtin_prefetch(kk + ahead + j);
            __builtin_prefetch(a + ahead + j);
            const REAL w_j = w[j], replaced_j = replaced[j], k_j = k[j], r_j = r[j], next_j = next[j];
            for (int part = 0; part < parts; part++) {
                NAME(lanes) *place = (NAME(lanes) *)(own + part * LANES);
                const NAME(lanes) new = *place * w_j - removed[part] * replaced_j + value[part] * k_j;
                *place = new;
                sums[part] += new * r_j;
                removed_next[part] += new * next_j;
            }
        }
        for (int part = 0; part < parts; part++) {
            memcpy(y + part * LANES, &sums[part], (values < LANES ? values : LANES) * sizeof *y);
            removed[part] = removed_next[part];
        }
        r += stride, w += stride, k += stride, v += stride, kk += stride, a += stride, y += y_stride;
    }
}

// Runs wkv7_values on a contiguous copy of the parts, or in place if there are only a few rows. A contiguous copy is distributed
// evenly over the sets of an L1 cache.
ALWAYS_INLINE void NAME(wkv7_block)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *v, const REAL *kk, const REAL *a, size_t rows, size_t stride,
    size_t size, REAL *state, REAL *scratch, REAL *y, size_t y_stride, const int parts, const size_t values) {
    REAL *replaced = scratch, *together = scratch + size;
    const size_t width = (size_t)parts * LANES;
    if (rows < FEW_ROWS && values >= LANES) {
        NAME(wkv7_values)(r, w, k, v, kk, a, rows, stride, size, state, size, replaced, y, y_stride, parts, values);
        return;
    }
    for (size_t j = 0; j < size; j++) {
        if (values < LANES) memset(together + j * width, 0, width * sizeof *state);
        memcpy(together + j * width, state + j * size, values * sizeof *state);
    }
    NAME(wkv7_values)(r, w, k, v, kk, a, rows, stride, size, together, width, replaced, y, y_stride, parts, values);
    for (size_t j = 0; j < size; j++) memcpy(state + j * size, together + j * width, values * sizeof *state);
}

// Runs the recurrence for all values of the state, up to `most` parts at a time. The sums for `most` parts fit in registers.
ALWAYS_INLINE void NAME(wkv7_rows)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *v, const REAL *kk, const REAL *a, size_t rows, size_t stride,
    size_t size, REAL *state, REAL *scratch, REAL *y, size_t y_stride, const int most) {
    size_t start = 0;
#define BLOCK(PARTS, VALUES)                                                                                 \
    NAME(wkv7_block)(r, w, k, v + start, kk, a, rows, stride, size, state + start, scratch, y + start, y_stride, PARTS, VALUES)
#define BLOCKS(PARTS)                                                                                        \
    for (; most >= (PARTS) && start + (PARTS)*LANES <= size; start += (PARTS)*LANES) BLOCK(PARTS, (PARTS)*LANES);
    BLOCKS(4)
    BLOCKS(2)
    BLOCKS(1)
    if (start < size) BLOCK(1, size - start);
#undef BLOCKS
#undef BLOCK
}

ALWAYS_INLINE void NAME(wkv7)(
    rwkv_element element, const void *r, const void *w, const void *k, const void *v, const void *kk, const void *a, size_t rows,
    size_t stride, size_t size, REAL *state, REAL *scratch, REAL *y, const int most) {
    const int is_real = element == (REAL_IS_DOUBLE ? RWKV_ELEMENT_F64 : RWKV_ELEMENT_F32);
    const void *const inputs[] = {r, w, k, v, kk, a};
    for (size_t start = 0; start < rows; start += RWKV_WKV7_ROWS) {
        const size_t count = rows - start < RWKV_WKV7_ROWS ? rows - start : RWKV_WKV7_ROWS;
        const REAL *parts[6];
        REAL *room = scratch;
        for (int i = 0; i < 6; i++) {
            const void *rows_of_input = (const char *)inputs[i] + start * stride * element_size(element);
            parts[i] = rows_of_input;
            if (is_real) continue;
            NAME(widen)(element, rows_of_input, stride, count, size, room);
            parts[i] = room;
            room += count * size;
        }
        // Denormals are flushed only after widening, because widening computes with denormals to convert denormal f16 inputs.
        const unsigned mode = flush_denormals();
        NAME(wkv7_rows)(
            parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], count, is_real ? stride : size, size, state, room,
            y + start * stride, stride, most);
        restore_denormals(mode);
    }
}
