// Functions that decode stored elements and classify them as finite, NaN or zero.

#ifndef CRWKV_ELEMENTS_H
#define CRWKV_ELEMENTS_H

#include <stdint.h>
#include <string.h>

#include "CRWKVKernels.h"
#include "instruction_sets.h"

ALWAYS_INLINE size_t element_size(rwkv_element element) {
    switch (element) {
    case RWKV_ELEMENT_F64:
    case RWKV_ELEMENT_I64:
    case RWKV_ELEMENT_U64: return 8;
    case RWKV_ELEMENT_F32:
    case RWKV_ELEMENT_I32:
    case RWKV_ELEMENT_U32: return 4;
    default: return 2;
    }
}

ALWAYS_INLINE double f64_value(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

ALWAYS_INLINE float f32_value(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

ALWAYS_INLINE float bf16_value(uint16_t bits) {
    return f32_value((uint32_t)bits << 16);
}

// Returns the exact value of a finite f16. Multiplying by 2^112 corrects the exponent's bias and also normalises subnormals.
ALWAYS_INLINE float f16_value(uint16_t bits) {
    uint32_t magnitude = (uint32_t)(bits & 0x7FFF) << 13;
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    return f32_value(magnitude | sign) * 0x1p112f;
}

#define FLOAT_CLASS(NAME, BITS, MAGNITUDE, INFINITY_BITS)                                                    \
    ALWAYS_INLINE int NAME##_finite(BITS bits) { return (bits & MAGNITUDE) < INFINITY_BITS; }                \
    ALWAYS_INLINE int NAME##_nan(BITS bits) { return (bits & MAGNITUDE) > INFINITY_BITS; }                   \
    ALWAYS_INLINE int NAME##_zero(BITS bits) { return (bits & MAGNITUDE) == 0; }

FLOAT_CLASS(f64, uint64_t, 0x7FFFFFFFFFFFFFFF, 0x7FF0000000000000)
FLOAT_CLASS(f32, uint32_t, 0x7FFFFFFF, 0x7F800000)
FLOAT_CLASS(f16, uint16_t, 0x7FFF, 0x7C00)
FLOAT_CLASS(bf16, uint16_t, 0x7FFF, 0x7F80)

#define INTEGER_CLASS(NAME, BITS)                                                                            \
    ALWAYS_INLINE double NAME##_value(BITS bits) { return (double)bits; }                                    \
    ALWAYS_INLINE int NAME##_finite(BITS bits) { (void)bits; return 1; }                                     \
    ALWAYS_INLINE int NAME##_nan(BITS bits) { (void)bits; return 0; }                                        \
    ALWAYS_INLINE int NAME##_zero(BITS bits) { return bits == 0; }

INTEGER_CLASS(i64, int64_t)
INTEGER_CLASS(u64, uint64_t)
INTEGER_CLASS(i32, int32_t)
INTEGER_CLASS(u32, uint32_t)
INTEGER_CLASS(i16, int16_t)
INTEGER_CLASS(u16, uint16_t)

#endif
