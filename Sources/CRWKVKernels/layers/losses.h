// Loss functions, their gradients and the optimiser step.

// Returns the sum of exp((x[i] - largest) * scale) over all i.
ALWAYS_INLINE REAL NAME(sum_of_exponentials)(const REAL *x, size_t count, REAL largest, REAL scale) {
    NAME(lanes) sums = {0};
    REAL parts[LANES];
    for (size_t i = 0; i < count; i += LANES) {
        const size_t width = count - i < LANES ? count - i : LANES;
        for (size_t lane = 0; lane < LANES; lane++) parts[lane] = 0;
        for (size_t lane = 0; lane < width; lane++) parts[lane] = NAME(exponential)((x[i + lane] - largest) * scale);
        sums += *(const NAME(lanes) *)parts;
    }
    return NAME(total)(sums);
}

ALWAYS_INLINE void NAME(divergence)(
    const REAL *target, const REAL *logits, size_t rows, size_t count, double target_scale, double scale, double factor,
    REAL *gradient, double *losses) {
    const REAL wide = (REAL)target_scale, own = (REAL)scale;
    for (size_t row = 0; row < rows; row++, target += count, logits += count, gradient += count) {
        const REAL target_largest = NAME(largest)(target, count, target[0]);
        const REAL largest = NAME(largest)(logits, count, logits[0]);
        const REAL target_sum = NAME(sum_of_exponentials)(target, count, target_largest, wide);
        const REAL sum = NAME(sum_of_exponentials)(logits, count, largest, own);
        // Sums of 256 terms are added as doubles, because a single sum of all terms in REAL would lose precision.
        double loss = rwkv_log((double)sum) - rwkv_log((double)target_sum);
        for (size_t start = 0; start < count; start += 256) {
            const size_t end = count - start < 256 ? count : start + 256;
            REAL parts[256];
            for (size_t i = start; i < end; i++) {
                const REAL x = (target[i] - target_largest) * wide, y = (logits[i] - largest) * own;
                const REAL p = NAME(exponential)(x) / target_sum;
                gradient[i] = (NAME(exponential)(y) / sum - p) * (REAL)factor;
                // A token whose probability is zero in the target does not contribute to the loss, even if x is -infinity.
                parts[i - start] = p == 0 ? 0 : p * (x - y);
            }
            loss += (double)NAME(sum)(parts, end - start);
        }
        losses[row] = loss;
    }
}

ALWAYS_INLINE void NAME(cross_entropy)(
    const REAL *logits, const int64_t *next, size_t rows, size_t count, double factor, REAL *gradient, double *losses) {
    for (size_t row = 0; row < rows; row++, logits += count, gradient += count) {
        losses[row] = 0;
        if (next[row] < 0) continue;
        const REAL largest = NAME(largest)(logits, count, logits[0]);
        const REAL sum = NAME(sum_of_exponentials)(logits, count, largest, 1);
        losses[row] = rwkv_log((double)sum) - (double)(logits[next[row]] - largest);
        for (size_t i = 0; i < count; i++) gradient[i] += NAME(exponential)(logits[i] - largest) / sum * (REAL)factor;
        gradient[next[row]] -= (REAL)factor;
    }
}

// A vector of LANES doubles.
typedef double NAME(doubles) __attribute__((vector_size(LANES * sizeof(double)), aligned(sizeof(double))));

ALWAYS_INLINE double NAME(total_of_doubles)(NAME(doubles) sums) {
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++) sums[lane] += sums[lane + half];
    return sums[0];
}

ALWAYS_INLINE void NAME(distances)(
    const REAL *target, const REAL *x, size_t rows, size_t width, double *squares, double *target_squares) {
    for (size_t row = 0; row < rows; row++, target += width, x += width) {
        NAME(doubles) sums = {0}, target_sums = {0};
        for (size_t i = 0; i < width; i += LANES) {
            const int is_whole = i + LANES <= width;
            const NAME(lanes) own = is_whole ? *(const NAME(lanes) *)(x + i) : NAME(last)(x + i, width - i);
            const NAME(lanes) other = is_whole ? *(const NAME(lanes) *)(target + i) : NAME(last)(target + i, width - i);
            const NAME(doubles) aim = __builtin_convertvector(other, NAME(doubles));
            const NAME(doubles) difference = __builtin_convertvector(own, NAME(doubles)) - aim;
            sums += difference * difference;
            target_sums += aim * aim;
        }
        squares[row] = NAME(total_of_doubles)(sums);
        target_squares[row] = NAME(total_of_doubles)(target_sums);
    }
}

ALWAYS_INLINE void NAME(scaled_differences)(
    const REAL *target, const double *factors, size_t rows, size_t width, REAL *x) {
    for (size_t row = 0; row < rows; row++, target += width, x += width)
        for (size_t i = 0; i < width; i++) x[i] = (x[i] - target[i]) * (REAL)factors[row];
}

ALWAYS_INLINE void NAME(adamw)(
    const REAL *gradient, size_t count, double scale, double rate, double decay, const double betas[2],
    const double corrections[2], double epsilon, REAL *moment, REAL *square, REAL *x) {
    const REAL beta1 = (REAL)betas[0], beta2 = (REAL)betas[1], step = (REAL)(rate / corrections[0]);
    const REAL correction = (REAL)(1 / corrections[1]), kept = (REAL)(1 - rate * decay);
    for (size_t i = 0; i < count; i++) {
        const REAL g = gradient[i] * (REAL)scale;
        moment[i] = beta1 * moment[i] + (1 - beta1) * g;
        square[i] = beta2 * square[i] + (1 - beta2) * g * g;
        x[i] = x[i] * kept - step * moment[i] / (NAME(root)(square[i] * correction) + (REAL)epsilon);
    }
}
