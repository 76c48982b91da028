// Checks of the kernels that process stored elements, of the kernels that measure speed, and of other functions.

#define _GNU_SOURCE
#include "driver.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// Allocates elements with random bits. Infinity, NaN, denormals, zero and the largest number are frequent.
static void *patterns(run *run, int is_result, rwkv_element element, size_t count) {
    const size_t size = ELEMENTS[element].size;
    const uint64_t infinity = ELEMENTS[element].infinity, sign = (uint64_t)1 << (8 * size - 1);
    char *elements = allocate(run, is_result, count, size);
    EACH(i, count) {
        const uint64_t any = next(run), kind = next(run) % 16;
        const uint64_t special[] = {0, infinity, infinity | any >> 40, any & ~infinity & ~sign, infinity - 1};
        const uint64_t bits = kind < COUNT(special) ? special[kind] ^ (any & sign) : any;
        memcpy(elements + i * size, &bits, size);
    }
    return elements;
}

void check_statistics(run *run) {
    const size_t width = PICK(WIDTHS), element = pick(run, NULL, COUNT(ELEMENTS));
    // One of the counts is so large that the kernel must add its counters to the totals before the end.
    const size_t count = width + (width == 100 ? 16 * 32767 : 0);
    const void *elements = patterns(run, 0, element, count);
    double *values = allocate(run, 0, count, sizeof *values), sum = 0, size = 0;
    rwkv_statistics *found = allocate(run, 1, sizeof *found / 8, 8);
    uint64_t finite = 0, zeros = 0, nans = 0;
    run->kernels->statistics(element, elements, count, found);
    run->kernels->to_doubles(element, elements, count, values);
    EACH(i, count) {
        finite += isfinite(values[i]) != 0, zeros += values[i] == 0, nans += isnan(values[i]) != 0;
        const double deviation = isfinite(values[i]) ? values[i] - found->shift : 0;
        sum += deviation, size += fabs(deviation);
    }
    EXPECT(found->finite, finite, 0), EXPECT(found->zeros, zeros, 0), EXPECT(found->nans, nans, 0);
    if (isfinite(size)) EXPECT(found->sum, sum, 1e-10 * size);
}

void check_to_doubles(run *run) {
    const size_t count = PICK(WIDTHS), element = pick(run, NULL, COUNT(ELEMENTS));
    const void *elements = patterns(run, 0, element, count);
    run->kernels->to_doubles(element, elements, count, allocate(run, 1, count, sizeof(double)));
}

void check_count_bytes(run *run) {
    const size_t count = PICK(WIDTHS);
    uint64_t *counts = memset(allocate(run, 1, 256, sizeof *counts), 0, 256 * sizeof *counts), sum = 0;
    uint8_t *bytes = allocate(run, 0, count, 1);
    EACH(i, count) bytes[i] = (uint8_t)(next(run) % 300);
    // The kernel is called twice, because it adds to the counts.
    EACH(time, 2) run->kernels->count_bytes(bytes, count, counts);
    EACH(i, 256) sum += counts[i];
    EXPECT(sum, 2 * count, 0);
}

void check_compare(run *run) {
    const size_t count = PICK(WIDTHS);
    double *a = INPUT(count, -9, 9), *b = INPUT(count, -9, 9), sum = 0;
    rwkv_comparison *found = memset(allocate(run, 1, sizeof *found / 8, 8), 0, sizeof *found);
    EACH(i, count) b[i] = next(run) % 4 ? b[i] : a[i], sum += a[i] * b[i];
    EACH(time, 2) run->kernels->compare(a, b, count, found);
    if (!run->has_edges) EXPECT(found->products, 2 * sum, 1e-9);
}

void check_compare_logits(run *run) {
    const size_t count = PICK(WIDTHS) + 1;
    double *a = INPUT(count, -9, 9), *b = INPUT(count, -9, 9), sum = 0;
    rwkv_logits_comparison *found = allocate(run, 1, sizeof *found / 8, 8);
    EACH(i, count) a[i] = isfinite(a[i]) ? a[i] : 0, b[i] = isfinite(b[i]) ? b[i] : 0, sum += exp(a[i]);
    run->kernels->compare_logits(a, b, count, found);
    if (!run->has_edges) EXPECT(found->log_sum_a, log(sum), 1e-12);
}

void check_cast(run *run) {
    const size_t from = pick(run, NULL, MODEL_ELEMENTS), to = pick(run, NULL, MODEL_ELEMENTS), saturates = pick(run, NULL, 2);
    // The kernel processes blocks of 512 elements.
    const size_t count = PICK(WIDTHS) + 511 * pick(run, NULL, 3);
    const void *source = patterns(run, 0, from, count);
    uint64_t *overflows = allocate(run, 1, 1, sizeof *overflows);
    *overflows = run->kernels->cast(from, source, to, allocate(run, 1, count, ELEMENTS[to].size), count, (int)saturates);
}

void check_add_scaled(run *run) {
    const size_t count = PICK(WIDTHS);
    const float *x = patterns(run, 0, RWKV_ELEMENT_F32, count);
    run->kernels->add_scaled(0.3f, x, patterns(run, 1, RWKV_ELEMENT_F32, count), count);
}

void check_orthonormalise(run *run) {
    // Edge cases are not used, because the sign of a NaN result depends on the instruction set.
    run->has_edges = 0;
    const size_t length = PICK(WIDTHS), end = length < 9 ? length : length / 2 + 1, start = end / 2;
    double *rows = RESULT(end * length, -1, 1);
    run->kernels->orthonormalise(rows, 0, start, length);
    run->kernels->orthonormalise(rows, start, end, length);
    expect_one(run, end, length, 2);
}

void check_multiply_add(run *run) {
    const size_t rounds = PICK(ROWS), lanes = (size_t)4 << run->set;
    EXPECT(run->kernels->multiply_add(rounds), 24.0 * (double)(lanes * rounds), 0);
}

void check_read(run *run) {
    const size_t count = PICK(WIDTHS) * PICK(ROWS);
    run->kernels->read(allocate(run, 0, count, 1), count);
}

// MARK: Functions outside the tables

void check_crc32(run *run) {
    EXPECT(rwkv_crc32(0, "123456789", 9), 0xCBF43926, 0);
    const size_t count = PICK(WIDTHS), front = count / 3;
    uint8_t *bytes = allocate(run, 0, count, 1);
    EACH(i, count) bytes[i] = (uint8_t)next(run);
    EXPECT(rwkv_crc32(rwkv_crc32(0, bytes, front), bytes + front, count - front), rwkv_crc32(0, bytes, count), 0);
}

void check_elementary(run *run) {
    run->has_edges = 1;
    EACH(i, 1000) {
        double sine, cosine;
        const double x = draw(run, -750, 750), size = fabs(x);
        EXPECT(rwkv_exp(x), exp(x), 5e-16 * exp(x) + 0x1p-1073);
        EXPECT(rwkv_log(x), log(x), 5e-16 * fabs(log(x)));
        rwkv_sine_cosine(x, &sine, &cosine);
        if (size <= 0x1p20) EXPECT(sine, sin(x), 0x1.8p-52), EXPECT(cosine, cos(x), 0x1.8p-52);
    }
}

// Checks that a file can be truncated while it is mapped.
void check_mapping(run *run) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), length = 2 * page + 100;
    const char *bytes = memset(allocate(run, 0, length, 1), 7, length);
    int slot;
    FILE *file = tmpfile();
    EXPECT(file && fwrite(bytes, 1, length, file) == length && fflush(file) == 0, 1, 0);
    const char *mapped = rwkv_map(fileno(file), length, &slot);
    EXPECT(mapped && memcmp(mapped, bytes, length) == 0 && ftruncate(fileno(file), (off_t)page) == 0, 1, 0);
    EXPECT(mapped[page - 1] == 7 && !rwkv_mapping_is_cut(slot), 1, 0);
    EXPECT(mapped[length - 1] == 0 && rwkv_mapping_is_cut(slot), 1, 0);
    rwkv_unmap(mapped, length, slot);
    EXPECT(fclose(file) == 0 && rwkv_map(-1, length, &slot) == NULL, 1, 0);
}
