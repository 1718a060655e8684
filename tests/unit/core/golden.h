/*
 * golden.h - reads the stored golden values: lines of "name value value ...".
 */
#ifndef ACCRETED_TESTS_GOLDEN_H
#define ACCRETED_TESTS_GOLDEN_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The formula golden inputs and weights follow: sin(speed * i + phase), i = 1..count. */
static inline void golden_wave(int count, double speed, double phase, float *out)
{
    for (int i = 0; i < count; i++)
        out[i] = (float)sin(speed * (i + 1) + phase);
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
