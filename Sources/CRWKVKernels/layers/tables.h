// Declarations of the tables of layer kernels, and the headers that their source files need.

#ifndef CRWKV_LAYER_TABLES_H
#define CRWKV_LAYER_TABLES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../elements.h"
#include "../kernels.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)

#define DECLARE(SUFFIX, TARGET)                                                                  \
    extern const rwkv_layer_kernels rwkv_layer_kernels_strict_##SUFFIX##_f32;                    \
    extern const rwkv_layer_kernels rwkv_layer_kernels_strict_##SUFFIX##_f64;                    \
    extern const rwkv_layer_kernels rwkv_layer_kernels_fast_##SUFFIX##_f32;                      \
    extern const rwkv_layer_kernels rwkv_layer_kernels_fast_##SUFFIX##_f64;
FOR_EACH_INSTRUCTION_SET(DECLARE)
#undef DECLARE

#endif
