// The fast tables: a multiplication and an addition are contracted to an FMA if the instruction set has it.

#include "layers/tables.h"

#pragma STDC FP_CONTRACT ON

#define TABLE(NAME) PASTE(rwkv_layer_kernels_fast_, NAME)

#define REAL float
#define REAL_IS_DOUBLE 0
#define NAME(x) PASTE(x, _f32)
#include "layers/layers.h"
#undef REAL
#undef REAL_IS_DOUBLE
#undef NAME

#define REAL double
#define REAL_IS_DOUBLE 1
#define NAME(x) PASTE(x, _f64)
#include "layers/layers.h"
