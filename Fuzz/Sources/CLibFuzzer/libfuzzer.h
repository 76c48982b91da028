/* libFuzzer's entry point for programs with their own main function. The toolchain includes the library but not this header. */

#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*test)(const uint8_t *data, size_t count));
