/* What libFuzzer offers a program that keeps its own main; the toolchain has the library but no header for it. */

#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*test)(const uint8_t *data, size_t count));
