// Times our own blocked product against OpenBLAS, for Benchmarks/bench_products.py. Arguments: ISA CORE BITS ROUNDS.

#include "CRWKVKernels.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum { MOST_ROUNDS = 101 };
static const int SIZES[][3] = {{512, 768, 768}, {1024, 3072, 1024}, {1024, 256, 256}};

#define MEASURE(REAL, SYMBOL)                                                                                \
    static void measure_##REAL(const rwkv_layer_kernels *kernels, void *library, int rounds) {               \
        void (*gemm)(int, int, int, int, int, int, REAL, const REAL *, int, const REAL *, int, REAL, REAL *, int); \
        *(void **)&gemm = dlsym(library, SYMBOL);                                                            \
        REAL *scratch = aligned_alloc(64, RWKV_MULTIPLY_SCRATCH * sizeof(REAL));                             \
        for (int test = 0; test < 12; test++) {                                                              \
            const int rows = SIZES[test / 4][0], columns = SIZES[test / 4][1], inner = SIZES[test / 4][2];   \
            const int a_turned = test / 2 % 2, b_turned = test % 2;                                          \
            const size_t lda = (size_t)(a_turned ? rows : inner), ldb = (size_t)(b_turned ? inner : columns); \
            REAL *a = malloc(sizeof(REAL) * (size_t)(rows * inner)), *b = malloc(sizeof(REAL) * (size_t)(inner * columns)); \
            REAL *y = malloc(sizeof(REAL) * (size_t)(rows * columns));                                       \
            for (int i = 0; i < rows * inner; i++) a[i] = (REAL)(drand48() - 0.5);                           \
            for (int i = 0; i < inner * columns; i++) b[i] = (REAL)(drand48() - 0.5);                        \
            double ours[MOST_ROUNDS], theirs[MOST_ROUNDS];                                                   \
            for (int round = 0; round < rounds; round++) {                                                   \
                double start = now();                                                                        \
                gemm(101, a_turned ? 112 : 111, b_turned ? 112 : 111, rows, columns, inner, 1, a, (int)lda, b, (int)ldb, 0, y, columns); \
                theirs[round] = now() - start, start = now();                                                \
                kernels->multiply(                                                                           \
                    (size_t)rows, (size_t)columns, (size_t)inner, a, a_turned ? 1 : lda, a_turned ? lda : 1, b, b_turned ? 1 : ldb, \
                    b_turned ? ldb : 1, 0, y, (size_t)columns, scratch);                                     \
                ours[round] = now() - start;                                                                 \
            }                                                                                                \
            qsort(ours, (size_t)rounds, sizeof *ours, compare), qsort(theirs, (size_t)rounds, sizeof *theirs, compare); \
            const double flop = 2e-9 * rows * columns * inner;                                               \
            printf(                                                                                          \
                "%4d x %4d x %4d  a%s b%s  %6.1f  %6.1f GFLOP/s  x%.2f\n", rows, columns, inner, a_turned ? "T" : " ", \
                b_turned ? "T" : " ", flop / theirs[rounds / 2], flop / ours[rounds / 2], theirs[rounds / 2] / ours[rounds / 2]); \
            free(a), free(b), free(y);                                                                       \
        }                                                                                                    \
        free(scratch);                                                                                       \
    }
MEASURE(float, "cblas_sgemm")
MEASURE(double, "cblas_dgemm")

int main(int argc, char **argv) {
    if (argc != 5) return 64;
    const rwkv_instruction_set set = strcmp(argv[1], "avx512") == 0 ? RWKV_INSTRUCTION_SET_AVX512
                                     : strcmp(argv[1], "avx2") == 0 ? RWKV_INSTRUCTION_SET_AVX2
                                                                    : RWKV_INSTRUCTION_SET_BASELINE;
    const int is_float = strcmp(argv[3], "32") == 0, rounds = atoi(argv[4]);
    const rwkv_layer_kernels *kernels = rwkv_layer_kernels_for(set, is_float ? RWKV_REAL_F32 : RWKV_REAL_F64, 0);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    setenv("OPENBLAS_CORETYPE", argv[2], 1);
    void *library = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!kernels || !library || rounds < 1 || rounds > MOST_ROUNDS) return 69;
    printf("%s against OpenBLAS %s, F%s\n", argv[1], ((const char *(*)(void))dlsym(library, "openblas_get_corename"))(), argv[3]);
    (is_float ? measure_float : measure_double)(kernels, library, rounds);
    return 0;
}
