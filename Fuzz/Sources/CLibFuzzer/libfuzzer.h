/* The entry point of libFuzzer for programs with their own main; the toolchain has the library but no header for it. */

#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*test)(const uint8_t *data, size_t count));
