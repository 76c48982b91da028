// Gradients of the kernels in norms.h, elementwise.h, mixing.h and time_mix.h. dx stands for dL/dx.

ALWAYS_INLINE void NAME(add_rows)(const REAL *x, size_t rows, size_t width, size_t stride, REAL *y) {
    for (size_t row = 0; row < rows; row++, x += stride)
        for (size_t i = 0; i < width; i++) y[i] += x[i];
}

ALWAYS_INLINE void NAME(rms_norm_backward)(
    const REAL *x, const REAL *dy, size_t rows, size_t width, const REAL *weight, double epsilon, REAL *dx, REAL *dweight) {
    for (size_t row = 0; row < rows; row++, x += width, dy += width, dx += width) {
        const REAL size = NAME(root)(NAME(dot)(x, x, width) / (REAL)width + (REAL)epsilon);
        for (size_t i = 0; i < width; i++) dx[i] = dy[i] * weight[i];
        const REAL along = NAME(dot)(x, dx, width) / ((REAL)width * size * size);
        for (size_t i = 0; i < width; i++) dx[i] = (dx[i] - x[i] * along) / size;
        if (dweight)
            for (size_t i = 0; i < width; i++) *dweight++ = dy[i] * x[i] / size;
    }
}

ALWAYS_INLINE void NAME(sigmoid_backward)(const REAL *y, size_t count, REAL *dx) {
    for (size_t i = 0; i < count; i++) dx[i] *= y[i] * (1 - y[i]);
}

ALWAYS_INLINE void NAME(tanh_backward)(const REAL *y, size_t count, REAL *dx) {
    for (size_t i = 0; i < count; i++) dx[i] *= 1 - y[i] * y[i];
}

ALWAYS_INLINE void NAME(softcap_backward)(const REAL *y, size_t count, double scale, double cap, REAL *dx) {
    for (size_t i = 0; i < count; i++) {
        const REAL t = y[i] / (REAL)cap;
        dx[i] *= (1 - t * t) * (REAL)scale;
    }
}

ALWAYS_INLINE void NAME(swiglu_backward)(const REAL *dy, size_t count, REAL *up, REAL *gate) {
    for (size_t i = 0; i < count; i++) {
        const REAL s = NAME(logistic)(gate[i]), silu = gate[i] * s;
        gate[i] = dy[i] * up[i] * (s + silu * (1 - s));
        up[i] = dy[i] * silu;
    }
}

ALWAYS_INLINE void NAME(geglu_backward)(const REAL *dy, size_t count, REAL *up, REAL *gate) {
    for (size_t i = 0; i < count; i++) {
        const REAL x = gate[i], s = NAME(logistic)(NAME(gelu_argument)(x)), gelu = x * s;
        const REAL slope = (REAL)1.5957691216057308 * (1 + (REAL)0.134145 * x * x);
        gate[i] = dy[i] * up[i] * (s + gelu * (1 - s) * slope);
        up[i] = dy[i] * gelu;
    }
}

ALWAYS_INLINE void NAME(sum_heads)(const REAL *dy, size_t rows, size_t heads, size_t size, size_t times, REAL *dx) {
    for (size_t head = 0; head < rows * heads; head++, dx += size) {
        for (size_t i = 0; i < size; i++) dx[i] = 0;
        for (size_t time = 0; time < times; time++, dy += size)
            for (size_t i = 0; i < size; i++) dx[i] += dy[i];
    }
}

ALWAYS_INLINE void NAME(causal_softmax)(size_t rows, size_t columns, size_t past, size_t window, double scale, REAL *scores) {
    for (size_t row = 0; row < rows; row++, scores += columns) {
        const size_t end = past + row + 1, start = end > window ? end - window : 0, count = end - start;
        REAL *seen = scores + start;
        const REAL sum = NAME(exponentials)(seen, count, (REAL)scale);
        for (size_t i = 0; i < count; i++) seen[i] /= sum;
        for (size_t i = 0; i < start; i++) scores[i] = 0;
        for (size_t i = end; i < columns; i++) scores[i] = 0;
    }
}

ALWAYS_INLINE void NAME(softmax_backward)(const REAL *y, size_t rows, size_t columns, double scale, REAL *dx) {
    for (size_t row = 0; row < rows; row++, y += columns, dx += columns) {
        const REAL along = NAME(dot)(y, dx, columns);
        for (size_t i = 0; i < columns; i++) dx[i] = (dx[i] - along) * y[i] * (REAL)scale;
    }
}

// Replaces dw with dp. p does not include `base`. With s = sigmoid(p + base), w = exp(-e^(-1/2) s) and omega = log(s) - 1/2.
ALWAYS_INLINE void NAME(decay_backward)(
    const REAL *base, const REAL *p, const REAL *w, const REAL *domega, size_t rows, size_t width, REAL *dw) {
    for (size_t row = 0; row < rows; row++, p += width, w += width, dw += width) {
        for (size_t i = 0; i < width; i++) dw[i] *= (REAL)-0.60653065971263342 * NAME(logistic)(p[i] + base[i]) * w[i];
        if (domega) {
            for (size_t i = 0; i < width; i++) dw[i] += domega[i];
            domega += width;
        }
        // 1 - s, where s = sigmoid(x), is computed as sigmoid(-x), because the subtraction would lose precision if s is close
        // to 1.
        for (size_t i = 0; i < width; i++) dw[i] *= NAME(logistic)(-(p[i] + base[i]));
    }
}

ALWAYS_INLINE void NAME(exponential_decay_backward)(
    const REAL *base, const REAL *p, double floor, size_t rows, size_t width, REAL *dw) {
    const REAL least = (REAL)floor;
    for (size_t row = 0; row < rows; row++, p += width, dw += width)
        for (size_t i = 0; i < width; i++) {
            const REAL log_w = -NAME(exponential)(p[i] + base[i]);
            dw[i] = log_w < least ? 0 : dw[i] * NAME(exponential)(log_w) * log_w;
        }
}

ALWAYS_INLINE void NAME(balance_backward)(const REAL *k, const REAL *w, size_t count, REAL *dk, REAL *dw) {
    for (size_t i = 0; i < count; i++) {
        dw[i] -= dk[i] * k[i];
        dk[i] *= 1 - w[i];
    }
}

ALWAYS_INLINE void NAME(token_shift_backward)(
    const REAL *x, const REAL *previous, const REAL *share, size_t share_stride, const REAL *dy, size_t rows, size_t width,
    int has_next, REAL *dx, REAL *dshare) {
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < width; i++) dshare[i] = dy[i] * (previous[i] - x[i]);
        if (dx) {
            for (size_t i = 0; i < width; i++) dx[i] += dy[i] * (1 - share[i]);
            if (row + 1 < rows || has_next)
                for (size_t i = 0; i < width; i++) dx[i] += dy[width + i] * share[share_stride + i];
            dx += width;
        }
        previous = x;
        x += width, dy += width, share += share_stride, dshare += width;
    }
}

ALWAYS_INLINE void NAME(mix_residual_backward)(
    const REAL *first, const REAL *y, const REAL *base, size_t rows, size_t width, REAL *share, REAL *dfirst, REAL *dy) {
    for (size_t row = 0; row < rows; row++, first += width, y += width, share += width, dy += width) {
        // This test is outside the loop. Inside it, the compiler would use masked stores to addresses near null, which are slow
        // even if all lanes are masked off.
        if (dfirst) {
            for (size_t i = 0; i < width; i++) dfirst[i] += dy[i] * NAME(logistic)(share[i] + base[i]);
            dfirst += width;
        }
        for (size_t i = 0; i < width; i++) {
            const REAL x = share[i] + base[i], s = NAME(logistic)(x), rest = NAME(logistic)(-x);
            share[i] = dy[i] * (first[i] - y[i]) * s * rest;
            dy[i] *= rest;
        }
    }
}

ALWAYS_INLINE void NAME(keys_backward)(
    const REAL *k, const REAL *a, const REAL *kk, const REAL *scale, const REAL *mix, const REAL *omega, const REAL *dkk, size_t rows,
    size_t heads, size_t size, REAL *dk, REAL *da, REAL *domega, REAL *dscale, REAL *dmix) {
    for (size_t head = 0; head < rows * heads; head++, k += size, a += size, kk += size, dkk += size, dk += size, da += size) {
        const size_t own = head % heads * size;
        if (scale)
            for (size_t i = 0; i < size; i++) dscale[i] = k[i] * scale[own + i];
        const REAL *source = scale ? dscale : k;
        const REAL length = NAME(root)(NAME(dot)(source, source, size));
        const int is_short = length < (REAL)1e-12;
        const REAL divisor = is_short ? (REAL)1e-12 : length, along = is_short ? 0 : NAME(dot)(kk, dkk, size);
        if (scale) {
            for (size_t i = 0; i < size; i++) dscale[i] = (dkk[i] - kk[i] * along) / divisor * k[i];
            dscale += size;
        }
        if (dmix) {
            for (size_t i = 0; i < size; i++) dmix[i] = dk[i] * k[i] * (a[i] - 1);
            dmix += size;
        }
        for (size_t i = 0; i < size; i++) {
            const REAL scaled = dk[i], change = scaled * k[i], removal = (dkk[i] - kk[i] * along) / divisor;
            const REAL share = mix ? mix[own + i] : 1, factor = mix ? 1 + (a[i] - 1) * share : 1 - omega[i] + a[i];
            dk[i] = scaled * factor + (scale ? removal * scale[own + i] : removal);
            if (!mix) domega[i] = -change;
            da[i] = (da[i] + change * share) * a[i] * (1 - a[i]);
        }
        if (!mix) omega += size, domega += size;
    }
}

ALWAYS_INLINE void NAME(head_outputs_backward)(
    const REAL *r, const REAL *k, const REAL *v, const REAL *bonus, double factor, const REAL *gate, const REAL *y, size_t rows,
    size_t heads, size_t size, REAL *dy, REAL *dr, REAL *dk, REAL *dv, REAL *dgate, REAL *dbonus) {
    const REAL scale = (REAL)factor;
    for (size_t head = 0; head < rows * heads; head++, r += size, k += size, v += size, y += size, dy += size, dr += size, dk += size,
                dv += size) {
        const REAL *own = bonus ? bonus + head % heads * size : NULL;
        REAL sum = 0, dsum = 0;
        if (own) {
            for (size_t i = 0; i < size; i++) dr[i] = r[i] * own[i];
            sum = NAME(dot)(dr, k, size);
        }
        if (gate) {
            if (own)
                for (size_t i = 0; i < size; i++) dgate[i] = dy[i] * (y[i] * scale + sum * v[i]);
            else
                for (size_t i = 0; i < size; i++) dgate[i] = dy[i] * (y[i] * scale);
            for (size_t i = 0; i < size; i++) dy[i] *= gate[i];
            gate += size, dgate += size;
        }
        if (own) {
            dsum = NAME(dot)(dy, v, size);
            for (size_t i = 0; i < size; i++) {
                dv[i] = dy[i] * sum;
                dk[i] = dsum * dr[i];
                dr[i] = dsum * k[i] * own[i];
            }
            if (dbonus)
                for (size_t i = 0; i < size; i++) *dbonus++ = dsum * r[i] * k[i];
        } else {
            for (size_t i = 0; i < size; i++) dr[i] = dk[i] = dv[i] = 0;
        }
        for (size_t i = 0; i < size; i++) dy[i] *= scale;
    }
}

ALWAYS_INLINE void NAME(head_norm_backward)(
    const REAL *x, const REAL *weight, double epsilon, size_t rows, size_t heads, size_t size, REAL *dx, REAL *dweight) {
    for (size_t head = 0; head < rows * heads; head++, x += size, dx += size, dweight += size) {
        const REAL *own = weight + head % heads * size;
        const REAL mean = NAME(sum)(x, size) / (REAL)size;
        for (size_t i = 0; i < size; i++) dweight[i] = x[i] - mean;
        const REAL deviation = NAME(root)(NAME(dot)(dweight, dweight, size) / (REAL)size + (REAL)epsilon);
        for (size_t i = 0; i < size; i++) dweight[i] *= dx[i] / deviation;
        for (size_t i = 0; i < size; i++) dx[i] *= own[i];
        const REAL along = NAME(dot)(dweight, own, size) / (REAL)size, dmean = NAME(sum)(dx, size) / (REAL)size;
        for (size_t i = 0; i < size; i++) dx[i] = (dx[i] - dmean - (x[i] - mean) / deviation * along) / deviation;
    }
}
