// Computes statistics of a tensor's elements: the number of zeros, NaNs and infinities, the minimum and maximum, and the sums
// from which the mean and the standard deviation are computed. The sums are doubles for every element type.

#include "elements.h"
#include "kernels.h"

#include <string.h>

#pragma STDC FP_CONTRACT OFF

// The number of lanes. Element i always goes to lane i % LANES, and the lanes are combined in order, so that results have the
// same bits on every instruction set.
#define LANES 16

// Defines the statistics function for one element type. VALUE represents every element exactly, except that 64-bit integers are
// rounded to doubles. COUNT is as wide as BITS, so that counters and comparisons use vectors of the same shape. Counters are
// added to 64-bit totals before they can overflow.
#define STATISTICS(NAME, BITS, VALUE, COUNT)                                                                 \
    ALWAYS_INLINE void NAME##_statistics(const BITS *elements, size_t count, rwkv_statistics *result) {      \
        size_t first = 0;                                                                                    \
        while (first < count && !NAME##_finite(elements[first])) first++;                                    \
        const VALUE shift = first < count ? NAME##_value(elements[first]) : 0;                               \
        VALUE minimum[LANES], maximum[LANES];                                                                \
        double sum[LANES] = {0}, sum_of_squares[LANES] = {0};                                                \
        for (int lane = 0; lane < LANES; lane++) minimum[lane] = maximum[lane] = shift;                      \
        uint64_t zeros = 0, finite = 0, nans = 0;                                                            \
        for (size_t start = 0; start < count;) {                                                             \
            const size_t end = count - start > LANES * 32767 ? start + LANES * 32767 : count;                \
            const size_t whole = start + (end - start) / LANES * LANES;                                      \
            COUNT zero_lanes[LANES] = {0}, finite_lanes[LANES] = {0};                                        \
            for (size_t i = start; i < whole; i += LANES) {                                                  \
                for (int lane = 0; lane < LANES; lane++) {                                                   \
                    STATISTICS_STEP(NAME, BITS, VALUE, elements[i + lane], lane)                             \
                }                                                                                            \
            }                                                                                                \
            for (size_t i = whole; i < end; i++) {                                                           \
                STATISTICS_STEP(NAME, BITS, VALUE, elements[i], i - whole)                                   \
            }                                                                                                \
            uint64_t finite_here = 0;                                                                        \
            for (int lane = 0; lane < LANES; lane++) {                                                       \
                zeros += (uint64_t)zero_lanes[lane];                                                         \
                finite_here += (uint64_t)finite_lanes[lane];                                                 \
            }                                                                                                \
            if (finite_here < end - start) {                                                                 \
                for (size_t i = start; i < end; i++) nans += (uint64_t)NAME##_nan(elements[i]);              \
            }                                                                                                \
            finite += finite_here;                                                                           \
            start = end;                                                                                     \
        }                                                                                                    \
        for (int lane = 1; lane < LANES; lane++) {                                                           \
            minimum[0] = minimum[lane] < minimum[0] ? minimum[lane] : minimum[0];                            \
            maximum[0] = maximum[lane] > maximum[0] ? maximum[lane] : maximum[0];                            \
            sum[0] += sum[lane];                                                                             \
            sum_of_squares[0] += sum_of_squares[lane];                                                       \
        }                                                                                                    \
        *result = (rwkv_statistics){                                                                         \
            .finite = finite,                                                                                \
            .zeros = zeros,                                                                                  \
            .nans = nans,                                                                                    \
            .infinities = count - finite - nans,                                                             \
            .minimum = (double)minimum[0],                                                                   \
            .maximum = (double)maximum[0],                                                                   \
            .shift = (double)shift,                                                                          \
            .sum = sum[0],                                                                                   \
            .sum_of_squares = sum_of_squares[0],                                                             \
        };                                                                                                   \
    }

// Adds one element to the statistics. A non-finite element is replaced with the shift, which leaves the sums, the minimum and the
// maximum unchanged.
#define STATISTICS_STEP(NAME, BITS, VALUE, ELEMENT, LANE)                                                    \
    const BITS bits = ELEMENT;                                                                               \
    const int is_finite = NAME##_finite(bits);                                                               \
    const VALUE value = is_finite ? NAME##_value(bits) : shift;                                              \
    zero_lanes[LANE] += NAME##_zero(bits);                                                                   \
    finite_lanes[LANE] += is_finite;                                                                         \
    minimum[LANE] = value < minimum[LANE] ? value : minimum[LANE];                                           \
    maximum[LANE] = value > maximum[LANE] ? value : maximum[LANE];                                           \
    const double deviation = (double)value - (double)shift;                                                  \
    sum[LANE] += deviation;                                                                                  \
    sum_of_squares[LANE] += deviation * deviation;

STATISTICS(f64, uint64_t, double, int64_t)
STATISTICS(f32, uint32_t, float, int32_t)
STATISTICS(f16, uint16_t, float, int16_t)
STATISTICS(bf16, uint16_t, float, int16_t)
STATISTICS(i64, int64_t, double, int64_t)
STATISTICS(u64, uint64_t, double, int64_t)
STATISTICS(i32, int32_t, double, int32_t)
STATISTICS(u32, uint32_t, double, int32_t)
STATISTICS(i16, int16_t, double, int16_t)
STATISTICS(u16, uint16_t, double, int16_t)

ALWAYS_INLINE void statistics_body(
    rwkv_element element, const void *elements, size_t count, rwkv_statistics *result) {
    switch (element) {
    case RWKV_ELEMENT_F64: f64_statistics(elements, count, result); break;
    case RWKV_ELEMENT_F32: f32_statistics(elements, count, result); break;
    case RWKV_ELEMENT_F16: f16_statistics(elements, count, result); break;
    case RWKV_ELEMENT_BF16: bf16_statistics(elements, count, result); break;
    case RWKV_ELEMENT_I64: i64_statistics(elements, count, result); break;
    case RWKV_ELEMENT_U64: u64_statistics(elements, count, result); break;
    case RWKV_ELEMENT_I32: i32_statistics(elements, count, result); break;
    case RWKV_ELEMENT_U32: u32_statistics(elements, count, result); break;
    case RWKV_ELEMENT_I16: i16_statistics(elements, count, result); break;
    case RWKV_ELEMENT_U16: u16_statistics(elements, count, result); break;
    }
}

#define KERNEL(SUFFIX, TARGET)                                                                               \
    TARGET void rwkv_statistics_##SUFFIX(                                                                    \
        rwkv_element element, const void *elements, size_t count, rwkv_statistics *result) {                 \
        statistics_body(element, elements, count, result);                                                   \
    }
FOR_EACH_INSTRUCTION_SET(KERNEL)

// Counts how often each byte value occurs. All instruction sets use the same scalar code. Adjacent bytes are counted in different
// tables, so that runs of equal bytes do not stall on a single counter.
void rwkv_count_bytes(const uint8_t *bytes, size_t count, uint64_t counts[256]) {
    uint64_t tables[4][256] = {{0}};
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, sizeof word);
        for (int byte = 0; byte < 8; byte++) tables[byte % 4][(word >> (8 * byte)) & 0xFF]++;
    }
    for (; i < count; i++) tables[0][bytes[i]]++;
    for (int value = 0; value < 256; value++) {
        counts[value] += tables[0][value] + tables[1][value] + tables[2][value] + tables[3][value];
    }
}
