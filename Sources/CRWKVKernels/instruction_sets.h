// Macros that compile a kernel, which is written once, for every instruction set:
//
//     #define KERNEL(SUFFIX, TARGET) TARGET void name_##SUFFIX(...) { name_body(...); }
//     FOR_EACH_INSTRUCTION_SET(KERNEL)

#ifndef CRWKV_INSTRUCTION_SETS_H
#define CRWKV_INSTRUCTION_SETS_H

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
#define TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))
#define TARGET_AVX512 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"), min_vector_width(512)))
#define FOR_EACH_INSTRUCTION_SET(KERNEL) KERNEL(baseline, ) KERNEL(avx2, TARGET_AVX2) KERNEL(avx512, TARGET_AVX512)
#else
#define FOR_EACH_INSTRUCTION_SET(KERNEL) KERNEL(baseline, )
#endif

#endif
