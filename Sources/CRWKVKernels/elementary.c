// Exponential and logarithm to the last bits of a double, the same on every machine: a C library's are not.

#include "CRWKVKernels.h"

#include <math.h>

#pragma STDC FP_CONTRACT OFF

// ln 2 in two parts, the first with zeros enough at its end that small multiples are exact.
static const double LN2_HIGH = 0x1.62e42fee00000p-1, LN2_LOW = 0x1.a39ef35793c76p-33;

double rwkv_exp(double x) {
    if (x != x) return x;
    if (x > 709.782712893384) return HUGE_VAL;
    if (x < -745.2) return 0;
    const double k = nearbyint(x * 0x1.71547652b82fep+0);
    const double r = (x - k * LN2_HIGH) - k * LN2_LOW;
    // The series, from its smallest term: 1 + r (1 + r/2 (1 + r/3 (...))).
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
    // 2 artanh(s), with s = (m - 1) / (m + 1): 2 s (1 + s^2/3 + s^4/5 + ...).
    const double s = (m - 1) / (m + 1), square = s * s;
    double sum = 0;
    for (int n = 25; n > 1; n -= 2) sum = (sum + 1.0 / n) * square;
    return k * LN2_HIGH + (k * LN2_LOW + (2 * s * sum + 2 * s));
}
