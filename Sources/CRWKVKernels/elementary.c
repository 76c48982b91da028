// Exponential, logarithm, sine and cosine in double precision. Unlike the C library's functions, they return the same bits on
// every machine.

#include "CRWKVKernels.h"

#include <math.h>

#pragma STDC FP_CONTRACT OFF

// ln 2 as the sum of two parts. LN2_HIGH ends in enough zero bits that multiplying it by a small integer is exact.
static const double LN2_HIGH = 0x1.62e42fee00000p-1, LN2_LOW = 0x1.a39ef35793c76p-33;

double rwkv_exp(double x) {
    if (x != x) return x;
    if (x > 709.782712893384) return HUGE_VAL;
    if (x < -745.2) return 0;
    const double k = nearbyint(x * 0x1.71547652b82fep+0);
    const double r = (x - k * LN2_HIGH) - k * LN2_LOW;
    // Evaluates the Taylor series 1 + r (1 + r/2 (1 + r/3 (...))), starting with the smallest term.
    double sum = 1;
    for (int n = 14; n > 0; n--) sum = 1 + sum * r / n;
    return ldexp(sum, (int)k);
}

double rwkv_log(double x) {
    if (x != x || x < 0) return NAN;
    if (x == 0) return -HUGE_VAL;
    if (x == HUGE_VAL) return x;
    int k;
    double m = frexp(x, &k);
    if (m < 0x1.6a09e667f3bcdp-1) {
        m *= 2;
        k--;
    }
    // log m = 2 artanh(s) = 2 s (1 + s^2/3 + s^4/5 + ...), where s = (m - 1) / (m + 1).
    const double s = (m - 1) / (m + 1), square = s * s;
    double sum = 0;
    for (int n = 25; n > 1; n -= 2) sum = (sum + 1.0 / n) * square;
    return k * LN2_HIGH + (k * LN2_LOW + (2 * s * sum + 2 * s));
}

// The Taylor series of sine and cosine for |r| <= pi/4, evaluated from the smallest term.
static double sine_series(double r) {
    const double square = r * r;
    double sum = 1;
    for (int n = 18; n > 0; n -= 2) sum = 1 - sum * square / (n * (n + 1));
    return r * sum;
}

static double cosine_series(double r) {
    const double square = r * r;
    double sum = 1;
    for (int n = 19; n > 0; n -= 2) sum = 1 - sum * square / (n * (n + 1));
    return sum;
}

void rwkv_sine_cosine(double x, double *sine, double *cosine) {
    if (!(__builtin_fabs(x) <= 0x1p62)) {
        // x is NaN, infinite, or so large that the number of quarter turns could overflow an int64_t. Adjacent doubles of that
        // size are many turns apart.
        *sine = *cosine = NAN;
        return;
    }
    // Subtracts k pi/2, with pi/2 split into three parts. The first two parts end in enough zero bits that their products with k
    // are exact for |x| <= 2^20.
    const double k = nearbyint(x * 0x1.45f306dc9c883p-1);
    const double r = ((x - k * 0x1.921fb54400000p+0) - k * 0x1.0b4611a600000p-34) - k * 0x1.3198a2e037073p-69;
    const double s = sine_series(r), c = cosine_series(r);
    const int quarter = (int)((int64_t)k & 3);
    *sine = quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c;
    *cosine = quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s;
}
