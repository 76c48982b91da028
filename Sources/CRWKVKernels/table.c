#include "layers/tables.h"

#define TABLE(SUFFIX, TARGET)                                                                                \
    static const rwkv_kernels kernels_##SUFFIX = {                                                           \
        .statistics = rwkv_statistics_##SUFFIX,                                                              \
        .count_bytes = rwkv_count_bytes,                                                                     \
        .to_doubles = rwkv_to_doubles_##SUFFIX,                                                              \
        .compare = rwkv_compare_##SUFFIX,                                                                    \
        .compare_logits = rwkv_compare_logits_##SUFFIX,                                                      \
        .cast = rwkv_cast_##SUFFIX,                                                                          \
        .add_scaled = rwkv_add_scaled_##SUFFIX,                                                              \
        .orthonormalise = rwkv_orthonormalise_##SUFFIX,                                                      \
        .multiply_add = rwkv_multiply_add_##SUFFIX,                                                          \
        .read = rwkv_read_##SUFFIX,                                                                          \
    };
FOR_EACH_INSTRUCTION_SET(TABLE)

const rwkv_kernels *rwkv_kernels_for(rwkv_instruction_set instruction_set) {
    switch (instruction_set) {
    case RWKV_INSTRUCTION_SET_BASELINE:
        return &kernels_baseline;
#if defined(__x86_64__)
    case RWKV_INSTRUCTION_SET_AVX2:
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")
                   ? &kernels_avx2
                   : NULL;
    case RWKV_INSTRUCTION_SET_AVX512:
        __builtin_cpu_init();
        return rwkv_kernels_for(RWKV_INSTRUCTION_SET_AVX2) && __builtin_cpu_supports("avx512f") &&
                       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512vl")
                   ? &kernels_avx512
                   : NULL;
#endif
    default:
        return NULL;
    }
}

rwkv_instruction_set rwkv_best_instruction_set(void) {
    rwkv_instruction_set best = RWKV_INSTRUCTION_SET_AVX512;
    while (!rwkv_kernels_for(best)) best--;
    return best;
}

#define CHOOSE(SUFFIX)                                                                                       \
    if (real == RWKV_REAL_F64)                                                                               \
        return is_strict ? &rwkv_layer_kernels_strict_##SUFFIX##_f64 : &rwkv_layer_kernels_fast_##SUFFIX##_f64; \
    return is_strict ? &rwkv_layer_kernels_strict_##SUFFIX##_f32 : &rwkv_layer_kernels_fast_##SUFFIX##_f32;

const rwkv_layer_kernels *rwkv_layer_kernels_for(rwkv_instruction_set instruction_set, rwkv_real real, int is_strict) {
    if (!rwkv_kernels_for(instruction_set)) return NULL;
    switch (instruction_set) {
#if defined(__x86_64__)
    case RWKV_INSTRUCTION_SET_AVX512: CHOOSE(avx512)
    case RWKV_INSTRUCTION_SET_AVX2: CHOOSE(avx2)
#endif
    default: CHOOSE(baseline)
    }
}
