// Converts elements to doubles, and compares two arrays of doubles in one pass.

#include "elements.h"
#include "kernels.h"

#pragma STDC FP_CONTRACT OFF

// The number of lanes. Element i always goes to lane i % LANES, and the lanes are combined in order, so that results have the
// same bits on every instruction set.
#define LANES 16

#define TO_DOUBLES(NAME, BITS)                                                                               \
    ALWAYS_INLINE void NAME##_to_doubles(const BITS *elements, size_t count, double *values) {               \
        for (size_t i = 0; i < count; i++) values[i] = (double)NAME##_value(elements[i]);                    \
    }

// Returns the value of an f16, including infinities and NaNs, which f16_value does not support.
ALWAYS_INLINE double any_f16_value(uint16_t bits) {
    return f16_finite(bits) ? f16_value(bits) : f16_nan(bits) ? __builtin_nan("") : bits >> 15 ? -__builtin_inf() : __builtin_inf();
}

TO_DOUBLES(f64, uint64_t)
TO_DOUBLES(f32, uint32_t)
TO_DOUBLES(any_f16, uint16_t)
TO_DOUBLES(bf16, uint16_t)
TO_DOUBLES(i64, int64_t)
TO_DOUBLES(u64, uint64_t)
TO_DOUBLES(i32, int32_t)
TO_DOUBLES(u32, uint32_t)
TO_DOUBLES(i16, int16_t)
TO_DOUBLES(u16, uint16_t)

ALWAYS_INLINE void to_doubles_body(rwkv_element element, const void *elements, size_t count, double *values) {
    switch (element) {
    case RWKV_ELEMENT_F64: f64_to_doubles(elements, count, values); break;
    case RWKV_ELEMENT_F32: f32_to_doubles(elements, count, values); break;
    case RWKV_ELEMENT_F16: any_f16_to_doubles(elements, count, values); break;
    case RWKV_ELEMENT_BF16: bf16_to_doubles(elements, count, values); break;
    case RWKV_ELEMENT_I64: i64_to_doubles(elements, count, values); break;
    case RWKV_ELEMENT_U64: u64_to_doubles(elements, count, values); break;
    case RWKV_ELEMENT_I32: i32_to_doubles(elements, count, values); break;
    case RWKV_ELEMENT_U32: u32_to_doubles(elements, count, values); break;
    case RWKV_ELEMENT_I16: i16_to_doubles(elements, count, values); break;
    case RWKV_ELEMENT_U16: u16_to_doubles(elements, count, values); break;
    }
}

ALWAYS_INLINE uint64_t bits_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

ALWAYS_INLINE void compare_body(const double *a, const double *b, size_t count, rwkv_comparison *result) {
    double largest[LANES] = {0}, squares[LANES] = {0}, a_squares[LANES] = {0}, b_squares[LANES] = {0}, products[LANES] = {0};
    int64_t differing[LANES] = {0}, incomparable[LANES] = {0};
    for (size_t start = 0; start < count; start += LANES) {
        const size_t lanes = count - start < LANES ? count - start : LANES;
        for (size_t lane = 0; lane < lanes; lane++) {
            const double x = a[start + lane], y = b[start + lane];
            const int both_finite = f64_finite(bits_of(x)) & f64_finite(bits_of(y));
            const int both_nan = (x != x) & (y != y);
            // A pair in which either value is non-finite adds zero to every sum.
            const double p = both_finite ? x : 0, q = both_finite ? y : 0;
            const double difference = p - q;
            const double size = difference < 0 ? -difference : difference;
            differing[lane] += !((x == y) | both_nan);
            incomparable[lane] += !(both_finite | both_nan | (x == y));
            largest[lane] = size > largest[lane] ? size : largest[lane];
            squares[lane] += difference * difference;
            a_squares[lane] += p * p;
            b_squares[lane] += q * q;
            products[lane] += p * q;
        }
    }
    for (int lane = 0; lane < LANES; lane++) {
        result->differing += (uint64_t)differing[lane];
        result->incomparable += (uint64_t)incomparable[lane];
        result->largest_difference = largest[lane] > result->largest_difference ? largest[lane] : result->largest_difference;
        result->squared_differences += squares[lane];
        result->squares_of_a += a_squares[lane];
        result->squares_of_b += b_squares[lane];
        result->products += products[lane];
    }
}

#define KERNEL(SUFFIX, TARGET)                                                                               \
    TARGET void rwkv_to_doubles_##SUFFIX(                                                                    \
        rwkv_element element, const void *elements, size_t count, double *values) {                          \
        to_doubles_body(element, elements, count, values);                                                   \
    }                                                                                                        \
    TARGET void rwkv_compare_##SUFFIX(                                                                       \
        const double *a, const double *b, size_t count, rwkv_comparison *result) {                           \
        compare_body(a, b, count, result);                                                                   \
    }
FOR_EACH_INSTRUCTION_SET(KERNEL)
