/*
 * golden.h - reads the stored golden values: lines of "name value value ...".
 */
#ifndef ACCRETED_TESTS_GOLDEN_H
#define ACCRETED_TESTS_GOLDEN_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One formula golden inputs and weights follow: sin(speed * i + phase), i = 1..count. */
static inline void golden_wave(int count, double speed, double phase, float *out)
{
    for (int i = 0; i < count; i++)
        out[i] = (float)sin(speed * (i + 1) + phase);
}

/* The other one: uniform in [-1, 1), a hash of the index, without the wave's low rank. */
static inline void golden_noise(int count, uint32_t seed, float *out)
{
    for (int i = 0; i < count; i++) {
        uint32_t x = (uint32_t)i + 1 + seed * 0x9E3779B9u;
        x = (x ^ x >> 16) * 0x7FEB352Du;
        x = (x ^ x >> 15) * 0x846CA68Bu;
        x ^= x >> 16;
        out[i] = (float)(x >> 8) / 8388608.0f - 1.0f;
    }
}

/* Values on the line called `name`; returns how many were read into out[0..max-1], 0 when there is no such line. */
static inline int golden_read(const char *path, const char *name, double *out, int max)
{
    static char line[1 << 16];
    int count = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    while (!count && fgets(line, sizeof line, f)) {
        char *save = NULL, *word = strtok_r(line, " \n", &save);
        if (!word || strcmp(word, name))
            continue;
        while (count < max && (word = strtok_r(NULL, " \n", &save)))
            out[count++] = strtod(word, NULL);
    }
    fclose(f);
    return count;
}

#endif
