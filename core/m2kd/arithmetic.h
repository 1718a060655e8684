/*
 * arithmetic.h - adaptive binary arithmetic coding: every bit costs what it was not expected to be. Not thread-safe; no locks.
 *
 * A bit is coded with the probability that its model has learned from the bits before it (Rissanen and Langdon 1979; Witten, Neal and
 * Cleary 1987). Coding and decoding are the same walk: each function takes what is to be coded, which decoding ignores, and returns
 * what was coded or decoded; so one function in the caller describes a format both ways. All in whole numbers: the same bytes on every
 * machine. SNAPSHOT_FORMAT.md has the arithmetic.
 */
#ifndef ACCRETED_CORE_M2KD_ARITHMETIC_H
#define ACCRETED_CORE_M2KD_ARITHMETIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arithmetic {
    bool decodes;
    uint32_t low, high; /* of the interval that is left */
    uint32_t code;      /* the number in it, while decoding */
    uint8_t *bytes;     /* coded; the decoder borrows them */
    size_t size_bytes, room_bytes;
    size_t at;    /* the next byte to read */
    bool no_room; /* memory ran out: what is coded from then on is lost */
};

/* What is known of a bit. Zeros: nothing yet. */
struct bit_model {
    uint16_t ones; /* 65536 times the probability of a one, 0: a half */
    uint16_t seen; /* bits, at most BIT_MODEL_MEMORY */
};

/* Magnitudes by their length in bits, whose most bits a model knows. */
enum { NUMBER_LENGTHS = 16, NUMBER_PREFIXES = 8, NUMBER_MAX = INT16_MAX };

/* What is known of a whole number. Zeros: nothing yet. */
struct number_model {
    struct bit_model longer[NUMBER_LENGTHS];                  /* than so many bits */
    struct bit_model bits[NUMBER_LENGTHS][NUMBER_PREFIXES]; /* below the first one, by those above it */
};

void arithmetic_encoder(struct arithmetic *a);
/* `bytes` must outlive *a. */
void arithmetic_decoder(struct arithmetic *a, const void *bytes, size_t size_bytes);

/* `model` NULL: ones and zeros are alike. */
unsigned arithmetic_bit(struct arithmetic *a, struct bit_model *model, unsigned bit);
/* -NUMBER_MAX..NUMBER_MAX. */
int arithmetic_number(struct arithmetic *a, struct number_model *model, int number);

/* The encoder's bytes, the caller's to free; *a is done with. Errors: ERR_NOMEM. */
int arithmetic_finish(struct arithmetic *a, void **bytes, size_t *size_bytes);
/* The decoder's word: 0 when it has used all bytes it was given and no more, else ERR_FORMAT. */
int arithmetic_end(const struct arithmetic *a);

#endif
