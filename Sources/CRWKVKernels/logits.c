// Compares two rows of logits for the same token position, in double precision.

#include <math.h>

#include "elements.h"
#include "kernels.h"

#pragma STDC FP_CONTRACT OFF

#define REAL double
#define REAL_IS_DOUBLE 1
#define NAME(x) x##_of_doubles
#include "layers/reals.h"
#include "layers/elementary.h"

#define TOP 5

// Finds the indices of the TOP largest numbers, largest number first. If numbers are equal, the lower index comes first. If there
// are fewer than TOP numbers, the remaining indices are -1.
ALWAYS_INLINE void find_top(const double *x, size_t count, int64_t top[TOP]) {
    for (int place = 0; place < TOP; place++) top[place] = -1;
    for (size_t i = 0; i < count; i++) {
        if (top[TOP - 1] >= 0 && !(x[i] > x[top[TOP - 1]])) continue;
        int place = TOP - 1;
        for (; place > 0 && (top[place - 1] < 0 || x[i] > x[top[place - 1]]); place--) top[place] = top[place - 1];
        top[place] = (int64_t)i;
    }
}

ALWAYS_INLINE double log_sum(const double *x, size_t count, double largest) {
    double sums[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += exponential_of_doubles(x[i + lane] - largest);
    for (; i < count; i++) sums[i % LANES] += exponential_of_doubles(x[i] - largest);
    return largest + rwkv_log(fold_of_doubles(sums));
}

ALWAYS_INLINE void compare_logits_body(const double *a, const double *b, size_t count, rwkv_logits_comparison *result) {
    find_top(a, count, result->top_a);
    find_top(b, count, result->top_b);
    const double largest = a[result->top_a[0]];
    result->margin = result->top_a[1] < 0 ? INFINITY : largest - a[result->top_a[1]];
    const double log_sum_a = log_sum(a, count, largest), log_sum_b = log_sum(b, count, b[result->top_b[0]]);
    double divergence[LANES] = {0}, squares[LANES] = {0}, sum[LANES] = {0}, a_squares[LANES] = {0}, most[LANES] = {0};
    for (size_t start = 0; start < count; start += LANES) {
        const size_t lanes = count - start < LANES ? count - start : LANES;
        for (size_t lane = 0; lane < lanes; lane++) {
            const double x = a[start + lane], y = b[start + lane], difference = x - y;
            const double size = difference < 0 ? -difference : difference;
            divergence[lane] += exponential_of_doubles(x - log_sum_a) * ((x - log_sum_a) - (y - log_sum_b));
            squares[lane] += difference * difference;
            sum[lane] += x;
            a_squares[lane] += x * x;
            most[lane] = size <= most[lane] ? most[lane] : size;
        }
    }
    result->log_sum_a = log_sum_a;
    result->log_sum_b = log_sum_b;
    result->divergence = fold_of_doubles(divergence);
    result->squared_differences = fold_of_doubles(squares);
    result->sum_of_a = fold_of_doubles(sum);
    result->squares_of_a = fold_of_doubles(a_squares);
    result->largest_difference = 0;
    for (int lane = 0; lane < LANES; lane++)
        result->largest_difference = most[lane] <= result->largest_difference ? result->largest_difference : most[lane];
}

#define KERNEL(SUFFIX, TARGET)                                                                               \
    TARGET void rwkv_compare_logits_##SUFFIX(                                                                \
        const double *a, const double *b, size_t count, rwkv_logits_comparison *result) {                    \
        compare_logits_body(a, b, count, result);                                                            \
    }
FOR_EACH_INSTRUCTION_SET(KERNEL)
