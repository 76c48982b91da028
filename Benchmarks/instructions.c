// Calls one kernel once, for Benchmarks/count_instructions. Arguments: names of the kernel and the instruction set.

#include "CRWKVKernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Tokens, channels, channels per head, and outputs of a matrix.
enum { ROWS = 64, WIDTH = 768, SIZE = 64, OUTPUTS = 256, COUNT = ROWS * WIDTH };

static float *numbers(float value) {
    float *x = aligned_alloc(64, sizeof(float) * WIDTH * WIDTH);
    for (int i = 0; i < WIDTH * WIDTH; i++) x[i] = value + (float)(i % 7) / 100;
    return x;
}

int main(int argc, char **argv) {
    if (argc != 3) return 64;
    const rwkv_instruction_set set = strcmp(argv[2], "avx2") == 0 ? RWKV_INSTRUCTION_SET_AVX2 : RWKV_INSTRUCTION_SET_BASELINE;
    const rwkv_layer_kernels *k = rwkv_layer_kernels_for(set, RWKV_REAL_F32, 0);
    if (!k) return 69;
    float *a = numbers(0.1f), *b = numbers(0.2f), *c = numbers(0.3f), *d = numbers(0.55f), *e = numbers(0.05f);
    float *x = numbers(0.5f), *y = numbers(0), *scratch = numbers(0), *state = numbers(0);
    const void *shares[] = {a, b, c, d, e, a};
    void *shifted[] = {numbers(0), numbers(0), numbers(0), numbers(0), numbers(0), numbers(0)};
    double count = 0;
    const char *unit = "";
#define KERNEL(NAME, UNIT, HOW_MANY, CALL) \
    if (strcmp(argv[1], NAME) == 0) { CALL; count = HOW_MANY; unit = UNIT; }
#define WKV7(N) \
    KERNEL("wkv7 " #N, "state element and token", (double)ROWS *N *N, \
           k->wkv7(RWKV_ELEMENT_F32, a, d, b, c, e, x, ROWS, WIDTH, N, state, scratch, y))
#define PRODUCT(NAME, ELEMENT) \
    KERNEL("product " NAME, "weight", (double)OUTPUTS *WIDTH, k->product(ELEMENT, a, WIDTH, OUTPUTS, b, 1, y, OUTPUTS))
    KERNEL("wkv6 64", "state element and token", (double)ROWS *64 *64,
           k->wkv6(a, d, b, c, e, ROWS, WIDTH, WIDTH, 64, state, scratch, y))
    WKV7(64)
    WKV7(96)
    WKV7(128)
    PRODUCT("F32", RWKV_ELEMENT_F32)
    PRODUCT("BF16", RWKV_ELEMENT_BF16)
    PRODUCT("F16", RWKV_ELEMENT_F16)
    KERNEL("product_of_columns F32", "weight", (double)OUTPUTS * WIDTH,
           k->product_of_columns(RWKV_ELEMENT_F32, a, OUTPUTS, WIDTH, OUTPUTS, b, 1, y, OUTPUTS))
    KERNEL("token_shifts", "element", 6.0 * COUNT, k->token_shifts(x, a, shares, 6, ROWS, WIDTH, shifted))
    KERNEL("decay", "element", COUNT, k->decay(a, ROWS, WIDTH, x, NULL))
    KERNEL("keys", "element", COUNT, k->keys(a, b, c, NULL, ROWS, WIDTH / SIZE, SIZE, x, d, y))
    KERNEL("head_outputs", "element", COUNT, k->head_outputs(a, b, c, d, a, b, 1e-3, 1, e, ROWS, WIDTH / SIZE, SIZE, x))
    KERNEL("layer_norm", "element", COUNT, k->layer_norm(x, ROWS, WIDTH, a, b, 1e-5, y))
    KERNEL("rms_norm", "element", COUNT, k->rms_norm(x, ROWS, WIDTH, a, 1e-6, y))
    KERNEL("swiglu", "element", COUNT, k->swiglu(a, COUNT, x))
    KERNEL("swiglu_backward", "element", COUNT, k->swiglu_backward(a, COUNT, x, y))
    KERNEL("geglu", "element", COUNT, k->geglu(a, COUNT, x))
    KERNEL("geglu_backward", "element", COUNT, k->geglu_backward(a, COUNT, x, y))
    KERNEL("softcap", "element", COUNT, k->softcap(COUNT, 0.1, 30, x))
    KERNEL("softcap_backward", "element", COUNT, k->softcap_backward(a, COUNT, 0.1, 30, x))
    KERNEL("scale", "element", COUNT, k->scale(COUNT, 0.9, x))
    KERNEL("rotate", "element", COUNT, k->rotate(a, b, SIZE / 2, ROWS, WIDTH / SIZE, SIZE, 0, x))
    KERNEL("rotate interleaved", "element", COUNT, k->rotate(a, b, SIZE / 2, ROWS, WIDTH / SIZE, SIZE, 1, x))
    // Scores of 512 keys for 64 queries, or for 4.
    KERNEL("softmax_block", "score", 64.0 * 512, k->softmax_block(64, 512, 512, 1024, 0.1, x, a, b, SIZE, y, WIDTH))
    KERNEL("attend", "score", 4.0 * 512, k->attend(a, WIDTH, 4, b, c, WIDTH, 508, 512, SIZE, 0.1, 0, scratch, y, WIDTH))
    KERNEL("causal_softmax", "score", 64.0 * 512, k->causal_softmax(64, 512, 448, 512, 0.1, x))
    KERNEL("softmax_backward", "score", 64.0 * 512, k->softmax_backward(a, 64, 512, 0.1, x))
    if (count == 0) return 64;
    printf("%.0f %s\n", count, unit);
    return 0;
}
