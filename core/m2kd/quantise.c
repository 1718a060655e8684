#include "core/m2kd/quantise.h"

#include <math.h>
#include <string.h>

/* Below this a channel's scale might not be a normal float. */
#define SMALLEST_LARGEST 1e-30f

static float largest_code(int bits)
{
    return (float)((1 << (bits - 1)) - 1);
}

/* The upper half, ties to even. */
uint16_t quantise_pack_scale(float scale)
{
    uint32_t word;
    memcpy(&word, &scale, sizeof word);
    return (uint16_t)((word + 0x7fffu + (word >> 16 & 1u)) >> 16);
}

float quantise_unpack_scale(uint16_t stored)
{
    uint32_t word = (uint32_t)stored << 16;
    float scale;
    memcpy(&scale, &word, sizeof scale);
    return scale;
}

void quantise_scales(int bits, size_t count, int channels, const float *weights,
                     const uint8_t *mask, float *scales)
{
    memset(scales, 0, (size_t)channels * sizeof *scales);
    for (size_t i = 0; i < count; i++) {
        float *largest = &scales[i % (size_t)channels];
        if (mask[i] == 1 && fabsf(weights[i]) > *largest)
            *largest = fabsf(weights[i]);
    }
    for (int c = 0; c < channels; c++)
        scales[c] = scales[c] < SMALLEST_LARGEST
                        ? 0.0f
                        : quantise_unpack_scale(quantise_pack_scale(scales[c] / largest_code(bits)));
}

float quantise_code(int bits, float weight, float scale)
{
    float most = largest_code(bits);
    if (scale == 0.0f)
        return 0.0f;
    float code = rintf(weight / scale);
    return code > most ? most : code < -most ? -most : code;
}
