// Declarations of the kernels that table.c collects into one table for each instruction set.

#ifndef CRWKV_KERNELS_PRIVATE_H
#define CRWKV_KERNELS_PRIVATE_H

#include "CRWKVKernels.h"
#include "instruction_sets.h"

#define DECLARE(SUFFIX, TARGET)                                                                              \
    void rwkv_statistics_##SUFFIX(rwkv_element element, const void *elements, size_t count, rwkv_statistics *result); \
    void rwkv_to_doubles_##SUFFIX(rwkv_element element, const void *elements, size_t count, double *values); \
    void rwkv_compare_##SUFFIX(const double *a, const double *b, size_t count, rwkv_comparison *result);     \
    void rwkv_compare_logits_##SUFFIX(const double *a, const double *b, size_t count, rwkv_logits_comparison *result); \
    uint64_t rwkv_cast_##SUFFIX(                                                                             \
        rwkv_element from, const void *source, rwkv_element to, void *target, size_t count, int saturates);  \
    void rwkv_add_scaled_##SUFFIX(float factor, const float *x, float *y, size_t count);                     \
    void rwkv_orthonormalise_##SUFFIX(double *rows, size_t start, size_t end, size_t length);                \
    double rwkv_multiply_add_##SUFFIX(size_t rounds);                                                        \
    void rwkv_read_##SUFFIX(const void *bytes, size_t count);
FOR_EACH_INSTRUCTION_SET(DECLARE)
#undef DECLARE

void rwkv_count_bytes(const uint8_t *bytes, size_t count, uint64_t counts[256]);

#endif
