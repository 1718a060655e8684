/*
 * half.h - IEEE 754 binary16 for storage: portable, bit-exact conversions. Pure functions.
 */
#ifndef ACCRETED_CORE_NN_HALF_H
#define ACCRETED_CORE_NN_HALF_H

#include <stdint.h>

/* Nearest half, ties to even. Values beyond the largest half (65504) and infinities saturate to
 * it, keeping their sign; not-a-number stays not-a-number. */
uint16_t half_from_float(float x);
/* Exact. */
float half_to_float(uint16_t h);

#endif
