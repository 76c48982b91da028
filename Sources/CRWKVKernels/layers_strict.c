// The strict kernel tables. Contraction is disabled, so that results have the same bits on every instruction set.

#include "layers/tables.h"

#pragma STDC FP_CONTRACT OFF

// Whether results can depend on how rows are grouped into calls.
#define MAY_GROUP_ROWS 0
#define TABLE(NAME) PASTE(rwkv_layer_kernels_strict_, NAME)

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
