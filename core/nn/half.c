/*
 * half.c - see half.h. A half is sign, 5 bits of exponent (bias 15) and 10 of fraction; a float
 * has 8 (bias 127) and 23.
 */
#include "core/nn/half.h"

#include <math.h>
#include <string.h>

enum { FRACTION_SHIFT = 23 - 10, HALF_MAX = 0x7bff, HALF_NAN = 0x7e00, HALF_SIGN = 0x8000 };

#define EXPONENT_REBIAS ((uint32_t)(127 - 15) << 23)
#define FLOAT_INFINITY 0x7f800000u
#define FLOAT_SATURATES 0x477ff000u /* 65520: from here on rounding would leave the range */
#define FLOAT_NORMAL 0x38800000u    /* 2^-14, the least normal half */

uint16_t half_from_float(float x)
{
    uint32_t bits, magnitude;
    memcpy(&bits, &x, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & HALF_SIGN);
    magnitude = bits & 0x7fffffffu;

    if (magnitude > FLOAT_INFINITY)
        return (uint16_t)(sign | HALF_NAN);
    if (magnitude >= FLOAT_SATURATES)
        return (uint16_t)(sign | HALF_MAX);
    if (magnitude < FLOAT_NORMAL) /* subnormal: a whole number of 2^-24, by itself the bits */
        return (uint16_t)(sign | (uint16_t)lrintf(fabsf(x) * 0x1p24f));
    /* Round to even at the cut: a carry runs over into the exponent, as it should. */
    magnitude += (1u << (FRACTION_SHIFT - 1)) - 1 + (magnitude >> FRACTION_SHIFT & 1);
    return (uint16_t)(sign | (uint16_t)((magnitude - EXPONENT_REBIAS) >> FRACTION_SHIFT));
}

float half_to_float(uint16_t h)
{
    uint32_t exponent = h >> 10 & 0x1f, fraction = h & 0x3ff;
    float magnitude;
    if (exponent == 0) {
        magnitude = (float)fraction * 0x1p-24f;
    } else {
        uint32_t bits = fraction << FRACTION_SHIFT;
        bits |= exponent == 0x1f ? FLOAT_INFINITY : (exponent << 23) + EXPONENT_REBIAS;
        memcpy(&magnitude, &bits, sizeof magnitude);
    }
    return h & HALF_SIGN ? -magnitude : magnitude;
}
