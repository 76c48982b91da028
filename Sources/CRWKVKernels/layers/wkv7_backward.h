// Gradients of the RWKV-7 recurrence.
//
// The states are recomputed from checkpoints, because dividing a state by the decay cannot recover information that has been
// lost. The value channels of a state interact only where gradients are summed over them. Therefore, LANES values are processed at a time,
// first forwards from one checkpoint to the next and then backwards, so that their states stay in the L2 cache. The values are
// split into groups: the sums of one group stay in registers while the sums of another are folded.

#ifndef RWKV_WKV7_BACKWARD
#define RWKV_WKV7_BACKWARD
#define GROUP_VALUES 8
#define GROUPS (LANES / GROUP_VALUES)
// Shuffle indices that interleave the first halves (LOW) or the second halves (HIGH) of two vectors.
#define LOW_LANES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_LANES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif

// LANES keys of a row, and the sums over values from which their gradients are computed.
typedef struct {
    NAME(lanes) r, w, k, kk, replaced, dr, dw, dk, removing, replacing;
} NAME(wkv7_keys);

// LANES values of a row. For each group, `sums` contains the gradients of v, followed by the gradients of the S kk that the row
// removes.
typedef struct {
    REAL v[LANES], dy[LANES], removed[LANES], sums[GROUPS][2 * GROUP_VALUES];
} NAME(wkv7_row_values);

// A tile of a state, or of the gradient of a state: LANES keys for each value of a group.
typedef struct {
    NAME(lanes) values[GROUP_VALUES];
} NAME(wkv7_state);

ALWAYS_INLINE NAME(lanes) NAME(some)(const REAL *x, size_t count) {
    return count < LANES ? NAME(last)(x, count) : *(const NAME(lanes) *)x;
}

ALWAYS_INLINE void NAME(put)(NAME(lanes) x, size_t count, REAL *y) {
    if (count < LANES) memcpy(y, &x, count * sizeof *y);
    else *(NAME(lanes) *)y = x;
}

// Computes y[i] = total(x[i]), adding the lanes in the same order as `total`.
ALWAYS_INLINE void NAME(totals)(NAME(lanes) *x, const int count, REAL *y) {
    for (int width = count / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            x[i] = __builtin_shufflevector(x[i], x[i + width], LOW_LANES) +
                   __builtin_shufflevector(x[i], x[i + width], HIGH_LANES);
    REAL sums[LANES];
    memcpy(sums, x, sizeof sums);
    for (int width = LANES / 2; width >= count; width /= 2)
        for (int lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
    memcpy(y, sums, (size_t)count * sizeof *y);
}

ALWAYS_INLINE void NAME(transpose)(NAME(lanes) x[LANES]) {
    for (int width = 1; width < LANES; width *= 2) {
        NAME(lanes) y[LANES];
        for (int i = 0; i < LANES / 2; i++) {
            y[2 * i] = __builtin_shufflevector(x[i], x[i + LANES / 2], LOW_LANES);
            y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + LANES / 2], HIGH_LANES);
        }
        memcpy(x, y, sizeof y);
    }
}

// Reads LANES values of the state from a checkpoint, and transposes them. If `values` is less than LANES, only that many exist,
// and the others are zero.
ALWAYS_INLINE void NAME(wkv7_read_state)(
    const REAL *checkpoint, size_t size, size_t values, size_t parts, NAME(wkv7_state) *state) {
    for (size_t i = 0; i < parts; i++) {
        NAME(lanes) tile[LANES] = {0};
        for (size_t key = i * LANES; key < size && key < (i + 1) * LANES; key++)
            tile[key % LANES] = NAME(some)(checkpoint + key * size, values);
        NAME(transpose)(tile);
        for (int group = 0; group < GROUPS; group++)
            memcpy(state + group * parts + i, tile + group * GROUP_VALUES, sizeof *state);
    }
}

// Computes the S kk that a row removes, for one group. `state` is the state of the group before the row.
ALWAYS_INLINE void NAME(wkv7_removed)(const NAME(wkv7_keys) *keys, size_t parts, const NAME(wkv7_state) *state, REAL *removed) {
    NAME(lanes) sums[GROUP_VALUES] = {0};
    for (size_t i = 0; i < parts; i++)
        for (int j = 0; j < GROUP_VALUES; j++) sums[j] += state[i].values[j] * keys[i].kk;
    NAME(totals)(sums, GROUP_VALUES, removed);
}

// Computes the state of a group after a row, and the S kk that the next row removes. Adds S^T dy to dr.
ALWAYS_INLINE void NAME(wkv7_forward)(
    NAME(wkv7_keys) *keys, const NAME(wkv7_keys) *next, size_t parts, const REAL *v, const REAL *dy, const REAL *removed,
    const NAME(wkv7_state) *before, NAME(wkv7_state) *after, REAL *removed_next) {
    NAME(lanes) sums[GROUP_VALUES] = {0};
    for (size_t i = 0; i < parts; i++) {
        const NAME(lanes) w = keys[i].w, k = keys[i].k, replaced = keys[i].replaced, kk_next = next[i].kk;
        NAME(lanes) dr = keys[i].dr;
        for (int j = 0; j < GROUP_VALUES; j++) {
            const NAME(lanes) s = before[i].values[j] * w - replaced * removed[j] + k * v[j];
            after[i].values[j] = s;
            dr += s * dy[j];
            sums[j] += s * kk_next;
        }
        keys[i].dr = dr;
    }
    NAME(totals)(sums, GROUP_VALUES, removed_next);
}

// Runs two steps of the backward pass on G = dL/dS of a group, in a single pass over G:
//
// - If `is_late`, propagates G back across the row of `late`. `between` is S before that row.
// - If `is_row`, adds to G the term dy r^T of the preceding row (the row of `keys`), and accumulates the sums from which the gradients of
//   that row are computed. `before` is S before that row.
//
// For the first and the last call between two checkpoints, only one of the steps runs.
ALWAYS_INLINE void NAME(wkv7_back)(
    NAME(wkv7_keys) *late, NAME(wkv7_keys) *keys, size_t parts, const REAL *removing_late, const REAL *v, const REAL *dy,
    const REAL *removed, const NAME(wkv7_state) *between, const NAME(wkv7_state) *before, NAME(wkv7_state) *gradient,
    REAL *row_sums, const int is_late, const int is_row) {
    const NAME(lanes) zero = {0};
    NAME(lanes) sums[2 * GROUP_VALUES] = {0};
    for (size_t i = 0; i < parts; i++) {
        const NAME(lanes) w = is_late ? late[i].w : zero, kk = is_late ? late[i].kk : zero;
        const NAME(lanes) r = is_row ? keys[i].r : zero, k = is_row ? keys[i].k : zero, replaced = is_row ? keys[i].replaced : zero;
        NAME(lanes) removing = is_late ? late[i].removing : zero, replacing = is_row ? keys[i].replacing : zero;
        NAME(lanes) dw = is_row ? keys[i].dw : zero, dk = is_row ? keys[i].dk : zero;
// The loop is fully unrolled, because otherwise the sums would not stay in registers.
#pragma clang loop unroll(full)
        for (int j = 0; j < GROUP_VALUES; j++) {
            NAME(lanes) g = gradient[i].values[j];
            if (is_late) {
                g = g * w + kk * removing_late[j];
                removing += between[i].values[j] * removing_late[j];
            }
            if (is_row) {
                g += r * dy[j];
                dw += g * before[i].values[j];
                dk += g * v[j];
                replacing -= g * removed[j];
                sums[j] += g * k;
                sums[GROUP_VALUES + j] -= g * replaced;
            }
            gradient[i].values[j] = g;
        }
        if (is_late) late[i].removing = removing;
        if (is_row) keys[i].dw = dw, keys[i].dk = dk, keys[i].replacing = replacing;
    }
    if (is_row) NAME(totals)(sums, 2 * GROUP_VALUES, row_sums);
}

ALWAYS_INLINE void NAME(wkv7_backward)(
    const REAL *r, const REAL *w, const REAL *k, const REAL *v, const REAL *kk, const REAL *a, const REAL *dy, size_t rows,
    size_t stride, size_t size, const REAL *checkpoints, void *scratch, REAL *dr, REAL *dw, REAL *dk, REAL *dv, REAL *dkk,
    REAL *da) {
    const unsigned mode = flush_denormals();
    const REAL *const used[] = {r, w, k, v, kk, a, dy, dr, dw, dk, dv, dkk, da};
    const size_t parts = (size + LANES - 1) / LANES, part_states = GROUPS * parts;
    NAME(wkv7_state) *const gradients = scratch, *const states = gradients + parts * part_states;
    NAME(wkv7_keys) *const all_keys = (void *)(states + (RWKV_WKV7_CHECKPOINT_ROWS + 1) * part_states);
    NAME(wkv7_row_values) *const all_values = (void *)(all_keys + RWKV_WKV7_CHECKPOINT_ROWS * parts);
    memset(gradients, 0, parts * part_states * sizeof *gradients);
    for (size_t end = rows, start; end > 0; end = start) {
        start = (end - 1) / RWKV_WKV7_CHECKPOINT_ROWS * RWKV_WKV7_CHECKPOINT_ROWS;
        const size_t count = end - start;
        const REAL *checkpoint = checkpoints + start / RWKV_WKV7_CHECKPOINT_ROWS * size * size;
        for (size_t part = 0; part < count * parts; part++) {
            const size_t i = part % parts * LANES, at = (start + part / parts) * stride + i;
            const NAME(lanes) removal = NAME(some)(kk + at, size - i);
            all_keys[part] = (NAME(wkv7_keys)){
                .r = NAME(some)(r + at, size - i), .w = NAME(some)(w + at, size - i), .k = NAME(some)(k + at, size - i),
                .kk = removal, .replaced = removal * NAME(some)(a + at, size - i)};
            *(NAME(lanes) *)all_values[part].v = NAME(some)(v + at, size - i);
            *(NAME(lanes) *)all_values[part].dy = NAME(some)(dy + at, size - i);
        }
        for (size_t part = 0; part < parts; part++) {
            NAME(wkv7_state) *const gradient = gradients + part * part_states;
            NAME(wkv7_row_values) *const values = all_values + part;
            NAME(wkv7_read_state)(checkpoint + part * LANES, size, size - part * LANES, parts, states);
            for (size_t group = 0; group < GROUPS; group++)
                NAME(wkv7_removed)(all_keys, parts, states + group * parts, values->removed + group * GROUP_VALUES);
            for (size_t row = 0; row < count; row++) {
                NAME(wkv7_keys) *keys = all_keys + row * parts, *next = row + 1 < count ? keys + parts : keys;
                NAME(wkv7_row_values) *own = values + row * parts;
                for (size_t group = 0; group < GROUPS; group++) {
                    NAME(wkv7_state) *before = states + row * part_states + group * parts;
                    const size_t j = group * GROUP_VALUES;
                    NAME(wkv7_forward)(
                        keys, next, parts, own->v + j, own->dy + j, own->removed + j, before, before + part_states,
                        own[parts].removed + j);
                }
            }
            for (size_t row = count + 1; row-- > 0;) {
                const size_t own_row = row > 0 ? row - 1 : 0;
                NAME(wkv7_keys) *late = all_keys + row * parts, *keys = all_keys + own_row * parts;
                NAME(wkv7_row_values) *late_values = values + row * parts, *own = values + own_row * parts;
                for (size_t group = 0; group < GROUPS; group++) {
                    const NAME(wkv7_state) *between = states + row * part_states + group * parts;
                    const NAME(wkv7_state) *before = states + own_row * part_states + group * parts;
                    const size_t j = group * GROUP_VALUES;
#define BACK(IS_LATE, IS_ROW)                                                                                \
    NAME(wkv7_back)(                                                                                         \
        late, keys, parts, late_values->sums[group] + GROUP_VALUES, own->v + j, own->dy + j, own->removed + j, between, \
        before, gradient + group * parts, own->sums[group], IS_LATE, IS_ROW)
                    if (row == count) BACK(0, 1);
                    else if (row > 0) BACK(1, 1);
                    else BACK(1, 0);
#undef BACK
                }
                if (start == 0) continue;
                // Prefetch the rows and the checkpoint that are needed next, because rows are pages apart.
                const size_t ahead = (start - RWKV_WKV7_CHECKPOINT_ROWS + row) * stride + part * LANES;
                for (size_t i = 0; row < count && i < sizeof used / sizeof *used; i++) __builtin_prefetch(used[i] + ahead);
                for (size_t key = row; key < size; key += count + 1)
                    __builtin_prefetch(checkpoint - (size - key) * size + part * LANES);
            }
        }
        for (size_t part = 0; part < count * parts; part++) {
            const size_t i = part % parts * LANES, at = (start + part / parts) * stride + i;
            const NAME(wkv7_keys) keys = all_keys[part];
            REAL value[LANES];
            for (int group = 0; group < GROUPS; group++)
                memcpy(value + group * GROUP_VALUES, all_values[part].sums[group], GROUP_VALUES * sizeof *value);
            NAME(put)(NAME(some)(dr + at, size - i) + keys.dr, size - i, dr + at);
            NAME(put)(keys.dw, size - i, dw + at);
            NAME(put)(NAME(some)(dk + at, size - i) + keys.dk, size - i, dk + at);
            NAME(put)(NAME(some)(dv + at, size - i) + *(NAME(lanes) *)value, size - i, dv + at);
            NAME(put)(keys.removing + keys.replacing * NAME(some)(a + at, size - i), size - i, dkk + at);
            NAME(put)(keys.replacing * keys.kk, size - i, da + at);
        }
    }
    restore_denormals(mode);
}
