/*
 * test_cifar.c - CIFAR files, plain and out of gzip, zstd and xz, and everything that may be wrong
 * with them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "core/err.h"
#include "server/decode/cifar.h"
#include "server/decode/unpack.h"
#include "tests/unit/server/ingest_fixture.h"

enum { RECORDS = 3, RECORD_10 = 3073, RECORD_100 = 3074 };

struct body {
    uint8_t *data;
    size_t bytes;
};

static uint8_t pixel(int record, int y, int x, int channel)
{
    return (uint8_t)(record * 41 + y * 7 + x * 3 + channel * 101);
}

/* RECORDS records; record r has the label r + 2 (and the coarse label 1). */
static struct body cifar_body(enum cifar_format format, int records)
{
    size_t record = format == CIFAR_10 ? RECORD_10 : RECORD_100;
    struct body b = {malloc(record * (size_t)records), record * (size_t)records};
    uint8_t *at = b.data;
    for (int r = 0; r < records; r++) {
        if (format == CIFAR_100)
            *at++ = 1;
        *at++ = (uint8_t)(r % 8 + 2);
        for (int c = 0; c < 3; c++)
            for (int y = 0; y < 32; y++)
                for (int x = 0; x < 32; x++)
                    *at++ = pixel(r, y, x, c);
    }
    return b;
}

static struct body gzipped(struct body plain)
{
    z_stream z = {0};
    struct body b = {malloc(plain.bytes + 1000), plain.bytes + 1000};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = plain.data;
    z.avail_in = (uInt)plain.bytes;
    z.next_out = b.data;
    z.avail_out = (uInt)b.bytes;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    b.bytes = z.total_out;
    deflateEnd(&z);
    return b;
}

static struct body zstded(struct body plain)
{
    struct body b = {malloc(ZSTD_compressBound(plain.bytes)), ZSTD_compressBound(plain.bytes)};
    ZSTD_CCtx *z = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
    b.bytes = ZSTD_compress2(z, b.data, b.bytes, plain.data, plain.bytes);
    assert_false(ZSTD_isError(b.bytes));
    ZSTD_freeCCtx(z);
    return b;
}

static struct body xzed(struct body plain)
{
    size_t room = lzma_stream_buffer_bound(plain.bytes);
    struct body b = {malloc(room), 0};
    assert_int_equal(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC64, NULL, plain.data, plain.bytes,
                                             b.data, &b.bytes, room),
                     LZMA_OK);
    return b;
}

static struct body (*const packings[])(struct body) = {gzipped, zstded, xzed};
enum { PACKINGS = sizeof packings / sizeof packings[0] };

/* Reads all: the number of images, or the error; their values and order are as made. */
static int read_all(enum cifar_format format, struct body b)
{
    struct cifar *c;
    const uint8_t *pixels;
    const char *why = NULL;
    int label, got, count = 0;
    assert_int_equal(cifar_new(&c, format, span_of_memory(b.data, b.bytes)), 0);
    while ((got = cifar_next(c, &pixels, &label, &why)) == 1) {
        assert_int_equal(label, count % 8 + 2);
        for (int y = 0; y < 32; y++)
            for (int x = 0; x < 32; x++)
                for (int k = 0; k < 3; k++)
                    assert_int_equal(pixels[(y * 32 + x) * 3 + k], pixel(count, y, x, k));
        count++;
    }
    if (got < 0)
        assert_true(strlen(why) > 10);
    cifar_free(c);
    return got < 0 ? got : count;
}

static void plain_and_packed(void **state)
{
    (void)state;
    for (enum cifar_format format = CIFAR_10; format <= CIFAR_100; format++) {
        struct body plain = cifar_body(format, RECORDS);
        assert_int_equal(read_all(format, plain), RECORDS);
        for (int i = 0; i < PACKINGS; i++) {
            struct body packed = packings[i](plain);
            bool present[256], ambiguous;
            enum cifar_format found;
            assert_int_equal(read_all(format, packed), RECORDS);
            struct span body = span_of_memory(packed.data, packed.bytes);
            assert_int_equal(cifar_values(format, body, present), 0);
            for (int v = 0; v < 256; v++)
                assert_int_equal(present[v], v >= 2 && v < 2 + RECORDS);
            assert_int_equal(cifar_detect(body, &found, &ambiguous), 0);
            assert_int_equal(found, format);
            assert_false(ambiguous);
            free(packed.data);
        }
        free(plain.data);
    }
}

static void several_streams_are_one(void **state)
{
    (void)state;
    for (int i = 0; i < PACKINGS; i++) {
        struct body plain = cifar_body(CIFAR_10, RECORDS), one = packings[i](plain);
        one.data = realloc(one.data, 2 * one.bytes);
        memcpy(one.data + one.bytes, one.data, one.bytes);
        one.bytes *= 2;
        struct cifar *c;
        const uint8_t *pixels;
        const char *why;
        int label, count = 0;
        assert_int_equal(cifar_new(&c, CIFAR_10, span_of_memory(one.data, one.bytes)), 0);
        while (cifar_next(c, &pixels, &label, &why) == 1)
            count++;
        assert_int_equal(count, 2 * RECORDS);
        cifar_free(c);
        free(plain.data);
        free(one.data);
    }
}

static void labels_must_be_in_range(void **state)
{
    (void)state;
    struct body ten = cifar_body(CIFAR_10, RECORDS), hundred = cifar_body(CIFAR_100, RECORDS);
    ten.data[RECORD_10] = 10;
    assert_int_equal(read_all(CIFAR_10, ten), ERR_FORMAT);
    hundred.data[RECORD_100] = 20;
    assert_int_equal(read_all(CIFAR_100, hundred), ERR_FORMAT);
    hundred.data[RECORD_100] = 19;
    assert_int_equal(read_all(CIFAR_100, hundred), RECORDS);
    hundred.data[RECORD_100 + 1] = 100;
    assert_int_equal(read_all(CIFAR_100, hundred), ERR_FORMAT);
    free(ten.data);
    free(hundred.data);
}

static void packed_must_be_whole(void **state)
{
    (void)state;
    struct body plain = cifar_body(CIFAR_10, RECORDS);
    for (int i = 0; i < PACKINGS; i++) {
        struct body packed = packings[i](plain);
        for (size_t bytes = 12; bytes < packed.bytes; bytes += bytes < packed.bytes - 40 ? 37 : 1)
            assert_int_equal(read_all(CIFAR_10, (struct body){packed.data, bytes}), ERR_FORMAT);
        struct body more = {malloc(packed.bytes + 4), packed.bytes + 4};
        memcpy(more.data, packed.data, packed.bytes);
        memcpy(more.data + packed.bytes, "tail", 4);
        assert_int_equal(read_all(CIFAR_10, more), ERR_FORMAT);
        more.bytes -= 4;
        more.data[more.bytes - 20] ^= 1; /* data or checksum */
        assert_int_equal(read_all(CIFAR_10, more), ERR_FORMAT);
        free(more.data);
        free(packed.data);
    }
    plain.bytes--;
    assert_int_equal(read_all(CIFAR_10, plain), ERR_FORMAT);
    free(plain.data);
}

/* Nothing but zeros, many times more than the ratio allows. */
static void bombs_are_refused(void **state)
{
    (void)state;
    struct body zeros = {calloc(1, 200 << 20), 200 << 20};
    for (int i = 0; i < PACKINGS; i++) {
        struct body packed = packings[i](zeros);
        struct unpack *u;
        uint8_t *block = malloc(1 << 20);
        const char *why = "";
        size_t got, total = 0;
        int err = 0;
        assert_int_equal(unpack_new(&u, span_of_memory(packed.data, packed.bytes)), 0);
        while (err == 0 && (err = unpack_read(u, block, 1 << 20, &got, &why)) == 0 && got > 0)
            total += got;
        assert_int_equal(err, ERR_FORMAT);
        assert_non_null(strstr(why, "200 times"));
        assert_true(total <= UNPACK_FREE_BYTES + UNPACK_MAX_RATIO * packed.bytes);
        unpack_free(u);
        free(block);
        free(packed.data);
    }
    free(zeros.data);
}

/* A dictionary of 256 MiB is more than the memory xz gets. */
static void xz_memory_is_bounded(void **state)
{
    (void)state;
    struct body plain = cifar_body(CIFAR_10, RECORDS), b = {malloc(1 << 20), 0};
    lzma_options_lzma options;
    assert_false(lzma_lzma_preset(&options, 0));
    options.dict_size = 256 << 20;
    lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    assert_int_equal(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, plain.data,
                                               plain.bytes, b.data, &b.bytes, 1 << 20),
                     LZMA_OK);
    assert_int_equal(read_all(CIFAR_10, b), ERR_FORMAT);
    free(plain.data);
    free(b.data);
}

static enum cifar_format detected(struct body b, bool *ambiguous)
{
    enum cifar_format format;
    assert_int_equal(cifar_detect(span_of_memory(b.data, b.bytes), &format, ambiguous), 0);
    return format;
}

static void detected_by_size(void **state)
{
    (void)state;
    bool ambiguous;
    struct body b = cifar_body(CIFAR_10, RECORD_100); /* as many bytes as 3073 of CIFAR-100 */
    detected(b, &ambiguous);
    assert_true(ambiguous);
    b.bytes -= RECORD_10;
    assert_int_equal(detected(b, &ambiguous), CIFAR_10);
    assert_false(ambiguous);
    b.bytes -= 2;
    assert_int_equal(detected(b, &ambiguous), CIFAR_NONE);
    free(b.data);
}

/* A tar archive stays one, though its size be a multiple of a record's. */
static void tar_is_no_cifar(void **state)
{
    struct fixture *f = *state;
    bool ambiguous;
    tar_begin(f, false);
    tar_image(f, "cat/1.png", 1);
    tar_end(f);
    struct body b = {calloc(1, 512 * RECORD_10), 512 * RECORD_10};
    FILE *file = fopen(f->spool, "rb");
    assert_true(fread(b.data, 1, f->req.spool_bytes, file) == f->req.spool_bytes);
    fclose(file);
    assert_int_equal(detected(b, &ambiguous), CIFAR_NONE);
    for (int i = 0; i < PACKINGS; i++) {
        struct body packed = packings[i](b);
        assert_int_equal(detected(packed, &ambiguous), CIFAR_NONE);
        free(packed.data);
    }
    b.data[0] ^= 1; /* its checksum is wrong now */
    assert_int_equal(detected(b, &ambiguous), CIFAR_10);
    free(b.data);
}

/* ---- as an upload ---- */

static void classes_and_names(void **state)
{
    struct fixture *f = *state;
    struct body b = cifar_body(CIFAR_100, 8);
    spool(f, b.data, b.bytes);
    f->req.format = INGEST_SINGLE;
    f->req.classes = "9,2";
    f->req.names = "whale,apple";
    accept_upload(f);
    assert_counts(f, 2, 0, 0, 0);
    assert_string_equal(f->result.batch.classes[0].label, "whale");
    struct pack *pack;
    struct pack_image image;
    assert_int_equal(pack_open(&pack, f->result.train_path), 0);
    assert_int_equal(pack_image(pack, 0, &image), 0); /* record 0, with label 2 */
    assert_string_equal(pack_label(pack, image.label), "apple");
    assert_int_equal(image.channels, 3);
    assert_int_equal(image.size_bytes, 3072);
    assert_int_equal(image.data[(5 * 32 + 6) * 3 + 1], pixel(0, 5, 6, 1));
    pack_close(pack);
    ingest_release(&f->result);
    f->req.classes = f->req.names = NULL;
    f->req.format = INGEST_CIFAR10;
    refuse_upload(f, 422, "bad_cifar");
    f->req.format = INGEST_TAR;
    refuse_upload(f, 415, "bad_archive");
    free(b.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_packed),
        cmocka_unit_test(several_streams_are_one),
        cmocka_unit_test(labels_must_be_in_range),
        cmocka_unit_test(packed_must_be_whole),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(xz_memory_is_bounded),
        cmocka_unit_test(detected_by_size),
        TEST(tar_is_no_cifar),
        TEST(classes_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
