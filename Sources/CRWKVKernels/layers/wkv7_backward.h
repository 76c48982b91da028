// The gradients of the recurrence of RWKV-7. States are computed again from checkpoints, as dividing by decays loses what they forget.

#ifndef RWKV_WKV7_BACKWARD
#define RWKV_WKV7_BACKWARD
// Values whose part of the state is gone through together: their sums stay in registers.
#define VALUES_TOGETHER 4
#endif

// What belongs to the keys of a row, and the sums for its gradients: `pitch` numbers each, zero behind `size`.
typedef struct {
    REAL *r, *w, *k, *kk, *replaced;
    REAL *state_output, *key, *decay, *replacing, *removing;
} NAME(wkv7_row);

ALWAYS_INLINE void NAME(wkv7_load)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *kk, const REAL *a, size_t size, NAME(wkv7_row) row) {
    memcpy(row.r, r, size * sizeof *r);
    memcpy(row.w, w, size * sizeof *w);
    memcpy(row.k, k, size * sizeof *k);
    memcpy(row.kk, kk, size * sizeof *kk);
    for (size_t i = 0; i < size; i++) row.replaced[i] = kk[i] * a[i];
}

// One row's part of `values` values: with G = dL/dS behind the row and S in front of it, adds dy r^T to G, and of that the sums that
// the gradients of r, k, w and kk a are made of; then takes G and the gradient of what was removed to what is in front of the row.
ALWAYS_INLINE void NAME(wkv7_backward_values)(
    NAME(wkv7_row) row, size_t pitch, const REAL *state, REAL *gradient, const REAL *v, const REAL *dy, const REAL *removed,
    REAL *dv, const int values) {
    NAME(lanes) value_sums[VALUES_TOGETHER], removal_sums[VALUES_TOGETHER];
    for (int j = 0; j < values; j++) value_sums[j] = removal_sums[j] = (NAME(lanes)){0};
#define KEYS(PART) (*(NAME(lanes) *)(row.PART + i))
    for (size_t i = 0; i < pitch; i += LANES) {
        const NAME(lanes) r = KEYS(r), k = KEYS(k), replaced = KEYS(replaced);
        NAME(lanes) state_output = KEYS(state_output), key = KEYS(key), decay = KEYS(decay), replacing = KEYS(replacing);
        for (int j = 0; j < values; j++) {
            const NAME(lanes) s = *(const NAME(lanes) *)(state + j * pitch + i);
            NAME(lanes) *place = (NAME(lanes) *)(gradient + j * pitch + i);
            const NAME(lanes) g = *place + r * dy[j];
            *place = g;
            state_output += s * dy[j];
            key += g * v[j];
            replacing -= g * removed[j];
            decay += s * g;
            value_sums[j] += g * k;
            removal_sums[j] += g * replaced;
        }
        KEYS(state_output) = state_output, KEYS(key) = key, KEYS(decay) = decay, KEYS(replacing) = replacing;
    }
    REAL removing[VALUES_TOGETHER];
    for (int j = 0; j < values; j++) {
        dv[j] += NAME(total)(value_sums[j]);
        removing[j] = -NAME(total)(removal_sums[j]);
    }
    for (size_t i = 0; i < pitch; i += LANES) {
        const NAME(lanes) w = KEYS(w), kk = KEYS(kk);
        NAME(lanes) sum = KEYS(removing);
        for (int j = 0; j < values; j++) {
            NAME(lanes) *place = (NAME(lanes) *)(gradient + j * pitch + i);
            *place = *place * w + kk * removing[j];
            sum += *(const NAME(lanes) *)(state + j * pitch + i) * removing[j];
        }
        KEYS(removing) = sum;
    }
#undef KEYS
}

ALWAYS_INLINE void NAME(wkv7_backward)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *v, const REAL *kk, const REAL *a, const REAL *dy, size_t rows,
    size_t stride, size_t size, const REAL *checkpoints, REAL *scratch, REAL *dr, REAL *dw, REAL *dk, REAL *dv, REAL *dkk,
    REAL *da) {
    const unsigned mode = flush_denormals();
    const size_t pitch = (size + LANES - 1) / LANES * LANES, state_size = size * pitch;
    REAL *gradient = scratch, *states = gradient + state_size, *removed = states + RWKV_WKV7_CHECKPOINT_ROWS * state_size;
    REAL *keys = removed + RWKV_WKV7_CHECKPOINT_ROWS * size;
    const NAME(wkv7_row) row = {
        keys, keys + pitch, keys + 2 * pitch, keys + 3 * pitch, keys + 4 * pitch,
        keys + 5 * pitch, keys + 6 * pitch, keys + 7 * pitch, keys + 8 * pitch, keys + 9 * pitch};
    memset(scratch, 0, (size_t)(keys + 10 * pitch - scratch) * sizeof *scratch);
    for (size_t end = rows; end > 0;) {
        const size_t start = (end - 1) / RWKV_WKV7_CHECKPOINT_ROWS * RWKV_WKV7_CHECKPOINT_ROWS;
        const REAL *checkpoint = checkpoints + start / RWKV_WKV7_CHECKPOINT_ROWS * size * size;
        for (size_t j = 0; j < size; j++)
            for (size_t i = 0; i < size; i++) states[j * pitch + i] = checkpoint[i * size + j];
        for (size_t t = start; t < end; t++) {
            const size_t at = t * stride;
            NAME(wkv7_load)(r + at, w + at, k + at, kk + at, a + at, size, row);
            REAL *state = states + (t - start) * state_size, *own = removed + (t - start) * size;
            for (size_t j = 0; j < size; j++, state += pitch) {
                own[j] = NAME(dot)(state, row.kk, pitch);
                if (t + 1 < end)
                    for (size_t i = 0; i < pitch; i++)
                        state[state_size + i] = state[i] * row.w[i] - own[j] * row.replaced[i] + v[at + j] * row.k[i];
            }
        }
        for (size_t t = end; t-- > start;) {
            const size_t at = t * stride;
            NAME(wkv7_load)(r + at, w + at, k + at, kk + at, a + at, size, row);
            memset(row.state_output, 0, 5 * pitch * sizeof *keys);
            const REAL *state = states + (t - start) * state_size, *own = removed + (t - start) * size;
            size_t j = 0;
#define VALUES(COUNT)                                                                                        \
    for (; j + (COUNT) <= size; j += (COUNT))                                                                \
        NAME(wkv7_backward_values)(                                                                          \
            row, pitch, state + j * pitch, gradient + j * pitch, v + at + j, dy + at + j, own + j, dv + at + j, COUNT);
            VALUES(VALUES_TOGETHER)
            VALUES(1)
#undef VALUES
            // S r behind the row is made of what is in front of it.
            const REAL replaced_output = NAME(dot)(own, dy + at, size), value_output = NAME(dot)(v + at, dy + at, size);
            for (size_t i = 0; i < size; i++) {
                dr[at + i] += row.state_output[i] * row.w[i] - replaced_output * row.replaced[i] + value_output * row.k[i];
                dw[at + i] = row.decay[i];
                dk[at + i] += row.key[i];
                dkk[at + i] = row.removing[i] + row.replacing[i] * a[at + i];
                da[at + i] = row.replacing[i] * kk[at + i];
            }
        }
        end = start;
    }
    restore_denormals(mode);
}
