// The exponential function, softplus and related functions. They are written without branches, so that the compiler can vectorise
// loops that call them.

#if REAL_IS_DOUBLE
#define INTEGER int64_t
#define EXPONENT_BIAS 1023
#define FRACTION_BITS 52
#define ROUNDING 0x1.8p52
#define EXP_LOWEST -708.3
#define EXP_HIGHEST 709.4
#define EXP_TERMS 13
#define LOG_TERMS 17
// ln 2 as the sum of two parts. LN2_HIGH ends in enough zero bits that multiplying it by a small integer is exact.
#define LN2_HIGH 0x1.62e42fee00000p-1
#define LN2_LOW 0x1.a39ef35793c76p-33
#else
#define INTEGER int32_t
#define EXPONENT_BIAS 127
#define FRACTION_BITS 23
#define ROUNDING 0x1.8p23f
#define EXP_LOWEST -87.3f
#define EXP_HIGHEST 88.3f
#define EXP_TERMS 7
#define LOG_TERMS 8
#define LN2_HIGH 0x1.62e400p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#endif

// Computes `part` and `scale` such that exp(x) - 1 = scale * part + (scale - 1), where `scale` is a power of two. x must be
// between EXP_LOWEST and EXP_HIGHEST.
ALWAYS_INLINE void NAME(exp_parts)(REAL x, REAL *part, REAL *scale) {
    // Adding and then subtracting ROUNDING, whose ulp is 1, rounds to an integer.
    const REAL shifted = x * (REAL)0x1.71547652b82fep+0 + ROUNDING;
    const REAL k = shifted - ROUNDING;
    const REAL r = (x - k * LN2_HIGH) - k * LN2_LOW;
    // exp(r) - 1 = r (1 + r/2 (1 + r/3 (...)))
    REAL sum = 1;
    for (int n = EXP_TERMS; n > 1; n--) sum = 1 + sum * r * ((REAL)1 / n);
    const INTEGER exponent = ((INTEGER)k + EXPONENT_BIAS) << FRACTION_BITS;
    memcpy(scale, &exponent, sizeof *scale);
    *part = sum * r;
}

// Returns exp(x). The result is zero below EXP_LOWEST, where exp(x) is denormal or nearly so, and infinity above EXP_HIGHEST,
// where `scale` would overflow.
ALWAYS_INLINE REAL NAME(exponential)(REAL x) {
    const REAL low = x < EXP_LOWEST ? EXP_LOWEST : x;
    const REAL within = low > EXP_HIGHEST ? EXP_HIGHEST : low;
    const REAL safe = x != x ? 0 : within;
    REAL part, scale;
    NAME(exp_parts)(safe, &part, &scale);
    const REAL value = scale * part + scale;
    const REAL bounded = x < EXP_LOWEST ? 0 : x > EXP_HIGHEST ? (REAL)__builtin_inf() : value;
    return x != x ? x : bounded;
}

ALWAYS_INLINE REAL NAME(logistic)(REAL x) { return 1 / (1 + NAME(exponential)(-x)); }

// Returns 2 u, where u = sqrt(2 / pi) (x + 0.044715 x^3). Because 1 + tanh(u) = 2 logistic(2 u),
// gelu_tanh(x) = x logistic(2 u).
ALWAYS_INLINE REAL NAME(gelu_argument)(REAL x) {
    return (REAL)1.5957691216057308 * (x + (REAL)0.044715 * x * x * x);
}

// Returns tanh(x). tanh(|x|) is computed as -m / (2 + m), where m = exp(-2 |x|) - 1, which keeps its precision near zero. The
// sign of x is then restored.
ALWAYS_INLINE REAL NAME(hyperbolic_tangent)(REAL x) {
    const REAL size = x < 0 ? -x : x;
    const REAL within = size > 20 ? 20 : size;
    REAL part, scale;
    NAME(exp_parts)(x != x ? 0 : -2 * within, &part, &scale);
    const REAL m = scale * part + (scale - 1);
    const REAL value = -m / (2 + m);
    const REAL with_sign = x < 0 ? -value : value;
    return x != x ? x : with_sign;
}

// Returns log(1 + exp(x)), computed as max(x, 0) + log(1 + e), where e = exp(-|x|) and log(1 + e) = 2 artanh(e / (2 + e)).
ALWAYS_INLINE REAL NAME(softplus)(REAL x) {
    const REAL e = NAME(exponential)(x < 0 ? x : -x);
    const REAL s = e / (2 + e), square = s * s;
    REAL sum = 0;
    for (int n = 2 * LOG_TERMS + 1; n > 1; n -= 2) sum = (sum + (REAL)1 / n) * square;
    const REAL logarithm = 2 * (s * sum + s);
    return (x < 0 ? 0 : x) + logarithm;
}

#undef INTEGER
#undef EXPONENT_BIAS
#undef FRACTION_BITS
#undef ROUNDING
#undef EXP_LOWEST
#undef EXP_HIGHEST
#undef EXP_TERMS
#undef LOG_TERMS
#undef LN2_HIGH
#undef LN2_LOW
