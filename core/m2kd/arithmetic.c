/*
 * arithmetic.c - see arithmetic.h.
 */
#include "core/m2kd/arithmetic.h"

#include <stdlib.h>
#include <string.h>

#include "core/err.h"

enum {
    BIT_MODEL_MEMORY = 250,
    ONES_MIN = 32, /* of 65536: no bit is impossible */
    ONES_MAX = 65536 - ONES_MIN,
    ONES_HALF = 32768,
    TAIL_BYTES = 4, /* that end the code: the decoder reads as many ahead */
};

void arithmetic_encoder(struct arithmetic *a)
{
    *a = (struct arithmetic){.high = UINT32_MAX};
}

static uint32_t next_byte(struct arithmetic *a)
{
    size_t at = a->at++;
    return at < a->size_bytes ? a->bytes[at] : 0;
}

void arithmetic_decoder(struct arithmetic *a, const void *bytes, size_t size_bytes)
{
    *a = (struct arithmetic){.decodes = true,
                             .high = UINT32_MAX,
                             .bytes = (uint8_t *)bytes, /* only read */
                             .size_bytes = size_bytes};
    for (int i = 0; i < TAIL_BYTES; i++)
        a->code = a->code << 8 | next_byte(a);
}

static void put_byte(struct arithmetic *a, uint8_t byte)
{
    if (a->size_bytes == a->room_bytes && !a->no_room) {
        size_t room = a->room_bytes ? 2 * a->room_bytes : 4096;
        uint8_t *grown = realloc(a->bytes, room);
        a->no_room = !grown;
        if (grown) {
            a->bytes = grown;
            a->room_bytes = room;
        }
    }
    if (!a->no_room)
        a->bytes[a->size_bytes++] = byte;
}

/* Bytes that both ends of the interval begin with are decided. */
static void shift(struct arithmetic *a)
{
    while ((a->low ^ a->high) >> 24 == 0) {
        if (a->decodes)
            a->code = a->code << 8 | next_byte(a);
        else
            put_byte(a, (uint8_t)(a->high >> 24));
        a->low <<= 8;
        a->high = a->high << 8 | 0xff;
    }
}

static void learn(struct bit_model *m, unsigned bit)
{
    int ones = m->ones ? m->ones : ONES_HALF;
    if (m->seen < BIT_MODEL_MEMORY)
        m->seen++;
    ones += ((bit ? 65536 : 0) - ones) * 2 / (2 * m->seen + 1);
    m->ones = (uint16_t)(ones < ONES_MIN ? ONES_MIN : ones > ONES_MAX ? ONES_MAX : ones);
}

unsigned arithmetic_bit(struct arithmetic *a, struct bit_model *model, unsigned bit)
{
    uint32_t ones = model && model->ones ? model->ones : ONES_HALF;
    uint32_t middle = a->low + (uint32_t)(((uint64_t)(a->high - a->low) * ones) >> 16);
    if (a->decodes)
        bit = a->code <= middle;
    if (bit)
        a->high = middle;
    else
        a->low = middle + 1;
    shift(a);
    if (model)
        learn(model, bit);
    return bit;
}

int arithmetic_number(struct arithmetic *a, struct number_model *m, int number)
{
    unsigned magnitude = (unsigned)abs(number), length = 0, prefix = 1;
    while (length < NUMBER_LENGTHS - 1 &&
           arithmetic_bit(a, &m->longer[length], magnitude >> length != 0))
        length++;
    if (length == 0)
        return 0;
    for (int place = (int)length - 2; place >= 0; place--) {
        struct bit_model *known = prefix < NUMBER_PREFIXES ? &m->bits[length][prefix] : NULL;
        prefix = prefix << 1 | arithmetic_bit(a, known, magnitude >> place & 1);
    }
    return arithmetic_bit(a, NULL, number < 0) ? -(int)prefix : (int)prefix;
}

int arithmetic_finish(struct arithmetic *a, void **bytes, size_t *size_bytes)
{
    for (int i = 0; i < TAIL_BYTES; i++) {
        put_byte(a, (uint8_t)(a->low >> 24));
        a->low <<= 8;
    }
    if (a->no_room) {
        free(a->bytes);
        return ERR_NOMEM;
    }
    *bytes = a->bytes;
    *size_bytes = a->size_bytes;
    return 0;
}

int arithmetic_end(const struct arithmetic *a)
{
    return a->at == a->size_bytes ? 0 : ERR_FORMAT;
}
