// The CRC-32 that zip archives use (CRC-32/ISO-HDLC, reflected polynomial 0xEDB88320).
//
// Processes 16 bytes at a time with the slicing algorithm of Kounavis and Berry, "A Systematic Approach to Building High
// Performance Software-based CRC Generators" (2005).

#include "kernels.h"

#include <string.h>
#include <threads.h>

enum { SLICES = 16 };

static uint32_t table[SLICES][256];
static once_flag once = ONCE_FLAG_INIT;

static void fill_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
        table[0][byte] = crc;
    }
    for (int slice = 1; slice < SLICES; slice++)
        for (int byte = 0; byte < 256; byte++)
            table[slice][byte] = table[slice - 1][byte] >> 8 ^ table[0][table[slice - 1][byte] & 255];
}

uint32_t rwkv_crc32(uint32_t crc, const void *bytes, size_t count) {
    call_once(&once, fill_table);
    const uint8_t *p = bytes;
    crc = ~crc;
    for (; count >= SLICES; count -= SLICES, p += SLICES) {
        uint32_t words[SLICES / 4];
        memcpy(words, p, sizeof words);
        words[0] ^= crc;
        crc = 0;
        for (int word = 0; word < SLICES / 4; word++)
            for (int byte = 0; byte < 4; byte++)
                crc ^= table[SLICES - 1 - 4 * word - byte][words[word] >> 8 * byte & 255];
    }
    for (; count > 0; count--, p++) crc = crc >> 8 ^ table[0][(crc ^ *p) & 255];
    return ~crc;
}
