// A stub of OpenBLAS, which tests use to check what happens if OpenBLAS is old, runs slow kernels or computes wrong products.
//
//     cc -shared -fPIC -DVERSION='"0.3.21"' -DCORE='"Prescott"' -DFAULT=1 stub.c -o libopenblas.so.0

#include <stdlib.h>

// The core that the stub reports. By default, it is the core that OPENBLAS_CORETYPE names.
#ifndef CORE
#define CORE getenv("OPENBLAS_CORETYPE")
#endif
// The fault of the stub:
//
// 0: none.
// 1: the last number of a product is wrong if the product has more than 1,000,000 multiplications.
// 2: the last number of a product in doubles is wrong if b is transposed.
// 3: the strides of the factors are ignored.
// 4: an illegal instruction is executed.
#ifndef FAULT
#define FAULT 0
#endif

const char *openblas_get_config(void) { return "OpenBLAS " VERSION " DYNAMIC_ARCH"; }
#ifndef LACKS_CORENAME
const char *openblas_get_corename(void) { return CORE; }
#endif

#define GEMM(NAME, REAL)                                                                                     \
    void NAME(                                                                                               \
        int order, int a_order, int b_order, int m, int n, int k, REAL alpha, const REAL *a, int lda, const REAL *b, int ldb, \
        REAL beta, REAL *c, int ldc) {                                                                       \
        (void)order;                                                                                         \
        if (FAULT == 4) __builtin_trap();                                                                    \
        if (FAULT == 3) lda = a_order == 111 ? k : m, ldb = b_order == 111 ? n : k;                           \
        for (int i = 0; i < m; i++)                                                                          \
            for (int j = 0; j < n; j++) {                                                                    \
                REAL sum = 0;                                                                                \
                for (int l = 0; l < k; l++)                                                                  \
                    sum += (a_order == 111 ? a[i * lda + l] : a[l * lda + i]) * (b_order == 111 ? b[l * ldb + j] : b[j * ldb + l]); \
                c[i * ldc + j] = alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);                      \
            }                                                                                                \
        const int is_wrong = FAULT == 1 ? (double)m * n * k > 1e6 : FAULT == 2 && sizeof(REAL) == 8 && b_order == 112; \
        if (is_wrong) c[(m - 1) * ldc + n - 1] += (REAL)0.25;                                                \
    }
GEMM(cblas_sgemm, float)
GEMM(cblas_dgemm, double)
