// Casts between floating-point types. Each value is rounded only once, to nearest, with ties to even.

#include "elements.h"
#include "kernels.h"

#pragma STDC FP_CONTRACT OFF

// The number of values that are converted at a time. Their f32 bits (2 KiB) stay in the L1 cache.
#define BLOCK 512

#define F32_MAGNITUDE 0x7FFFFFFFu
#define F32_INFINITY 0x7F800000u

ALWAYS_INLINE uint32_t f32_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Converts a double to f32 with round-to-odd and returns the bits: the value is truncated towards zero, and the last bit is set
// if the result is inexact. Rounding the result again to f16 or bf16 then gives the same bits as rounding the double once.
ALWAYS_INLINE uint32_t f32_odd_bits(double value) {
    const float nearest = (float)value;
    const double size = value < 0 ? -value : value;
    const float nearest_size = nearest < 0 ? -nearest : nearest;
    uint32_t bits = f32_bits(nearest);
    bits -= (double)nearest_size > size;
    return bits | ((double)nearest != value);
}

// Converts elements to f32 bits. Only f64 values are rounded: to odd if `is_rounded_again`, otherwise to nearest.
ALWAYS_INLINE void load(rwkv_element from, const void *elements, size_t start, size_t count, int is_rounded_again, uint32_t *bits) {
    switch (from) {
    case RWKV_ELEMENT_F64: {
        const double *values = (const double *)elements + start;
        if (is_rounded_again) {
            for (size_t i = 0; i < count; i++) bits[i] = f32_odd_bits(values[i]);
        } else {
            for (size_t i = 0; i < count; i++) bits[i] = f32_bits((float)values[i]);
        }
        break;
    }
    case RWKV_ELEMENT_F32:
        memcpy(bits, (const uint32_t *)elements + start, count * sizeof *bits);
        break;
    case RWKV_ELEMENT_F16: {
        const uint16_t *halves = (const uint16_t *)elements + start;
        for (size_t i = 0; i < count; i++) {
            const uint32_t finite = f32_bits(f16_value(halves[i]));
            const uint32_t beyond = (uint32_t)(halves[i] & 0x8000) << 16 | F32_INFINITY | (uint32_t)(halves[i] & 0x3FF) << 13;
            bits[i] = f16_finite(halves[i]) ? finite : beyond;
        }
        break;
    }
    default: {
        const uint16_t *halves = (const uint16_t *)elements + start;
        for (size_t i = 0; i < count; i++) bits[i] = (uint32_t)halves[i] << 16;
    }
    }
}

// Rounds an f32 to an f16. The argument and the result are bit patterns.
ALWAYS_INLINE uint32_t f16_rounded(uint32_t bits) {
    const uint32_t size = bits & F32_MAGNITUDE, sign = bits >> 16 & 0x8000;
    const uint32_t normal = (size - 0x38000000 + 0xFFF + (size >> 13 & 1)) >> 13;
    // In [0.5, 1), one ulp of an f32 is 2^-24, which is also one ulp of a subnormal f16, so adding 0.5 rounds the value
    // correctly.
    const uint32_t subnormal = f32_bits(f32_value(size) + 0.5f) - 0x3F000000;
    const uint32_t beyond = size > F32_INFINITY ? 0x7E00 | (size >> 13 & 0x3FF) : 0x7C00;
    return sign | (size >= 0x47800000 ? beyond : size >= 0x38800000 ? normal : subnormal);
}

ALWAYS_INLINE uint32_t bf16_rounded(uint32_t bits) {
    const uint32_t nan = bits >> 16 | 0x40;
    return (bits & F32_MAGNITUDE) > F32_INFINITY ? nan : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

#define STORE_HALVES(ROUNDED, MAGNITUDE_INFINITY)                                                            \
    for (size_t i = 0; i < count; i++) {                                                                     \
        const uint32_t rounded = ROUNDED(bits[i]);                                                           \
        const uint32_t is_overflow =                                                                         \
            ((rounded & 0x7FFF) == MAGNITUDE_INFINITY) & ((bits[i] & F32_MAGNITUDE) < F32_INFINITY);         \
        overflows += is_overflow;                                                                            \
        halves[i] = (uint16_t)(rounded - (is_overflow & saturate));                                          \
    }

// Converts f32 bits to elements. Returns the number of finite values that overflow to infinity, or that would overflow if
// `saturate` were 0.
ALWAYS_INLINE uint32_t store(
    rwkv_element to, const uint32_t *bits, size_t start, size_t count, uint32_t saturate, void *elements) {
    uint32_t overflows = 0;
    switch (to) {
    case RWKV_ELEMENT_F64: {
        double *values = (double *)elements + start;
        for (size_t i = 0; i < count; i++) values[i] = f32_value(bits[i]);
        break;
    }
    case RWKV_ELEMENT_F32: memcpy((uint32_t *)elements + start, bits, count * sizeof *bits); break;
    case RWKV_ELEMENT_F16: {
        uint16_t *halves = (uint16_t *)elements + start;
        STORE_HALVES(f16_rounded, 0x7C00)
        break;
    }
    default: {
        uint16_t *halves = (uint16_t *)elements + start;
        STORE_HALVES(bf16_rounded, 0x7F80)
    }
    }
    return overflows;
}

// Counts the finite doubles that `load` has rounded to an f32 infinity, and replaces them with the largest finite f32 if
// `saturate` is 1. If values are rounded again, `load` has left these doubles just below infinity, and `store` counts them
// instead.
ALWAYS_INLINE uint32_t overflows_of_doubles(const double *values, size_t count, uint32_t saturate, uint32_t *bits) {
    uint32_t overflows = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t wide;
        memcpy(&wide, &values[i], sizeof wide);
        const uint32_t is_overflow = ((bits[i] & F32_MAGNITUDE) == F32_INFINITY) & (uint32_t)f64_finite(wide);
        overflows += is_overflow;
        bits[i] -= is_overflow & saturate;
    }
    return overflows;
}

ALWAYS_INLINE uint64_t cast_body(
    rwkv_element from, const void *source, rwkv_element to, void *target, size_t count, int saturates) {
    if (from == to) {
        memcpy(target, source, count * (from == RWKV_ELEMENT_F64 ? 8 : from == RWKV_ELEMENT_F32 ? 4 : 2));
        return 0;
    }
    const uint32_t saturate = saturates ? 1 : 0;
    const int is_rounded_again = to == RWKV_ELEMENT_F16 || to == RWKV_ELEMENT_BF16;
    uint64_t overflows = 0;
    uint32_t bits[BLOCK];
    for (size_t start = 0; start < count; start += BLOCK) {
        const size_t size = count - start < BLOCK ? count - start : BLOCK;
        load(from, source, start, size, is_rounded_again, bits);
        if (from == RWKV_ELEMENT_F64) {
            overflows += overflows_of_doubles((const double *)source + start, size, saturate, bits);
        }
        overflows += store(to, bits, start, size, saturate, target);
    }
    return overflows;
}

#define CASES(FROM, TO)                                                                                      \
    if (from == FROM && to == TO) return cast_body(FROM, source, TO, target, count, saturates);
#define CASES_FROM(FROM)                                                                                     \
    CASES(FROM, RWKV_ELEMENT_F64)                                                                            \
    CASES(FROM, RWKV_ELEMENT_F32)                                                                            \
    CASES(FROM, RWKV_ELEMENT_F16)                                                                            \
    CASES(FROM, RWKV_ELEMENT_BF16)

#define KERNEL(SUFFIX, TARGET)                                                                               \
    TARGET uint64_t rwkv_cast_##SUFFIX(                                                                      \
        rwkv_element from, const void *source, rwkv_element to, void *target, size_t count, int saturates) { \
        CASES_FROM(RWKV_ELEMENT_F64)                                                                         \
        CASES_FROM(RWKV_ELEMENT_F32)                                                                         \
        CASES_FROM(RWKV_ELEMENT_F16)                                                                         \
        CASES_FROM(RWKV_ELEMENT_BF16)                                                                        \
        return 0;                                                                                            \
    }
FOR_EACH_INSTRUCTION_SET(KERNEL)
