// What the kernels' files offer to the table.

#ifndef CRWKV_KERNELS_PRIVATE_H
#define CRWKV_KERNELS_PRIVATE_H

#include "CRWKVKernels.h"
#include "instruction_sets.h"

#define DECLARE(SUFFIX, TARGET)                                                                              \
    void rwkv_statistics_##SUFFIX(rwkv_element element, const void *elements, size_t count, rwkv_statistics *result); \
    void rwkv_to_doubles_##SUFFIX(rwkv_element element, const void *elements, size_t count, double *values); \
    void rwkv_compare_##SUFFIX(const double *a, const double *b, size_t count, rwkv_comparison *result);
FOR_EACH_INSTRUCTION_SET(DECLARE)
#undef DECLARE

void rwkv_count_bytes(const uint8_t *bytes, size_t count, uint64_t counts[256]);

#endif
