// Runs every kernel under the address and undefined-behaviour sanitizers, on buffers that end exactly where the headers say, and
// compares the results of the tables with each other. scripts/check-kernels compiles and runs this program.
//
// A check is a function that picks sizes, allocates buffers and calls a kernel. It runs once for each table, with the same sizes
// and numbers, and then the results are compared. A new kernel needs a check, which is either a function or a use of ROWWISE or
// GRADIENT, and an entry in driver.h.

#include "driver.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

// MARK: Comparing

static const char *const SETS[] = {"baseline", "avx2", "avx512"};
static size_t comparisons;

static _Noreturn void fail(const run *run, const char *what, double found, double expected) {
    printf("%s", run->name);
    if (run->layers) printf(", %s f%d", run->is_strict ? "strict" : "fast", run->real == RWKV_REAL_F32 ? 32 : 64);
    if (run->kernels) printf(", %s", SETS[run->set]);
    if (run->has_edges) printf(", numbers near limits");
    EACH(i, run->picks) printf("%s %zu", i ? "" : ", sizes", run->sizes[i]);
    printf(", %s: expected %.17g, found %.17g\n", what, expected, found);
    exit(1);
}

static int are_alike(double found, double expected, double tolerance) {
    return found == expected || fabs(found - expected) <= fmin(tolerance, DBL_MAX) || (isnan(found) && isnan(expected));
}

void expect(const run *run, const char *what, double found, double expected, double tolerance) {
    comparisons++;
    if (!are_alike(found, expected, tolerance)) fail(run, what, found, expected);
}

double number_at(const buffer *buffer, size_t i) {
    const void *at = buffer->start + i * buffer->width;
    return buffer->width == 2 ? *(const uint16_t *)at : buffer->width == 4 ? *(const float *)at : *(const double *)at;
}

// Compares the results of two runs. The tolerance is relative to the largest number in the buffer. If it is 0, all bits must be
// the same, except for NaNs in the results of layer kernels.
static void compare(const run *found, const run *expected, double tolerance) {
    EACH(b, found->used) {
        const buffer *f = &found->buffers[b], *e = &expected->buffers[b];
        const size_t count = f->is_result ? f->count : 0;
        double largest = 0;
        EACH(i, count) largest = fmax(largest, fabs(number_at(e, i)));
        EACH(i, count) {
            const double x = number_at(f, i), y = number_at(e, i);
            char what[80];
            if (tolerance > 0 ? are_alike(x, y, tolerance * largest) : found->layers && isnan(x) && isnan(y)) continue;
            if (f->width == e->width && memcmp(f->start + i * f->width, e->start + i * f->width, f->width) == 0) continue;
            snprintf(what, sizeof what, "buffer %zu at %zu beside the strict baseline's%s", b, i, tolerance > 0 ? " f64" : "");
            fail(found, what, x, y);
        }
        comparisons += count;
    }
}

void expect_one(const run *run, size_t rows, size_t width, int power) {
    EACH(row, run->has_edges || width == 0 ? 0 : rows) {
        double sum = 0;
        EACH(i, width) sum += pow(number_at(&run->buffers[1], row * width + i), power);
        EXPECT(sum, 1, 1e-5);
    }
}

// MARK: Drawing sizes and numbers

// Returns the next random number (SplitMix64).
uint64_t next(run *run) {
    uint64_t z = run->random += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

size_t pick(run *run, const size_t *list, size_t count) {
    const size_t place = (run->picks < 2 ? run->number : next(run)) % count;
    run->number /= count;
    return run->sizes[run->picks++] = list ? list[place] : place;
}

void *allocate(run *run, int is_result, size_t count, size_t width) {
    const size_t offset = next(run) % 4 * width;
    char *allocation = malloc(offset + count * width);
    if (!allocation || run->used == COUNT(run->buffers)) abort();
    run->buffers[run->used++] = (buffer){allocation + offset, allocation, count, width, is_result};
    return memset(allocation + offset, 0xFF, count * width);
}

static void release(run *run) {
    while (run->used) free(run->buffers[--run->used].allocation);
}

double draw(run *run, double low, double high) {
    static const double edges[] = {
        0, -0.0, 1, -1, 20, -20, 88.3, 88.4, -87.3, -87.4, 103.9, 709.3, 709.5, -708.2, -708.4, 0x1p-126, 0x1p-149, -0x1p-140,
        FLT_MAX, -FLT_MAX, 0x1p-1022, 0x1p-1074, DBL_MAX, -DBL_MAX, INFINITY, -INFINITY, NAN, 1e-12, -1e-30, 65504, 65520, 0x1p-24,
    };
    const uint64_t bits = next(run);
    if (run->has_edges && bits % 4 == 0) return edges[bits / 4 % COUNT(edges)];
    return (float)(low + (high - low) * (double)(bits >> 11) * 0x1p-53);
}

void *numbers(run *run, int is_result, rwkv_element element, size_t count, double low, double high) {
    double *values = allocate(run, 0, count, sizeof *values);
    EACH(i, count) values[i] = draw(run, low, high);
    void *elements = allocate(run, is_result, count, ELEMENTS[element].size);
    run->kernels->cast(RWKV_ELEMENT_F64, values, element, elements, count, 0);
    return elements;
}

// MARK: All checks

static const struct check {
    const char *name;
    void (*function)(run *run);
    size_t tables;
} CHECKS[] = {
#define LAYER(NAME) {#NAME, check_##NAME, 12},
#define OF_FILES(NAME) {#NAME, check_##NAME, 3},
#define FUNCTION(NAME) {#NAME, check_##NAME, 1},
    FOR_EACH_LAYER_CHECK(LAYER) FOR_EACH_FILE_CHECK(OF_FILES) FOR_EACH_FUNCTION_CHECK(FUNCTION)
};
_Static_assert(
    COUNT(CHECKS) == (sizeof(rwkv_layer_kernels) + sizeof(rwkv_kernels)) / sizeof(void (*)(void)) + 3, "a kernel has no check");

static void perform(run *run, const struct check *check) {
    run->name = check->name;
    run->random = 2 * run->number + (run->has_edges != 0);
    check->function(run);
    // A kernel that treats denormals as zero must have restored the processor's mode.
    const volatile double smallest = 0x1p-1074, normal = DBL_MIN;
    const int has_denormals = smallest * 2 > 0 && normal / 2 > 0;
    EXPECT(has_denormals, 1, 0);
}

static void check_tables(const struct check *check, size_t number, int has_edges) {
    // The run of the strict baseline table for each real type. These tables come first.
    run first[2] = {0};
    EACH(table, check->tables) {
        run found = {.number = number, .has_edges = has_edges, .real = table < 6 ? RWKV_REAL_F64 : RWKV_REAL_F32};
        found.set = (rwkv_instruction_set)(table % 3), found.is_strict = table / 3 % 2 == 0;
        found.kernels = rwkv_kernels_for(found.set);
        if (check->tables == 12) found.layers = rwkv_layer_kernels_for(found.set, found.real, found.is_strict);
        if (!found.kernels) continue;
        perform(&found, check);
        if (table % 6 == 0) first[found.real] = found;
        if (found.layers && !has_edges) compare(&found, &first[RWKV_REAL_F64], found.real == RWKV_REAL_F32 ? 1e-5 : 1e-12);
        if (found.is_strict) compare(&found, &first[found.real], 0);
        if (table % 6 != 0) release(&found);
    }
    release(&first[0]), release(&first[1]);
}

int main(void) {
    // Checks are repeated often enough to cover all pairs of their first two picks.
    EACH(time, 192) EACH(has_edges, 2) EACH(i, COUNT(CHECKS)) check_tables(&CHECKS[i], time, (int)has_edges);
    printf("kernels up to %s: %zu comparisons, all as expected\n", SETS[rwkv_best_instruction_set()], comparisons);
}
