/*
 * test_idx.c - IDX data sets, plain and gzipped, and everything that may not agree in them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>

#include "core/err.h"
#include "server/decode/idx.h"

enum {
    COUNT = 3,
    HEIGHT = 2,
    WIDTH = 3,
    IMAGES_BYTES = 16 + COUNT * HEIGHT * WIDTH,
    LABELS_BYTES = 8 + COUNT
};

struct range {
    uint8_t data[256];
    size_t bytes;
};

static struct range images_file(void)
{
    struct range r = {{0, 0, 8, 3, 0, 0, 0, COUNT, 0, 0, 0, HEIGHT, 0, 0, 0, WIDTH}, IMAGES_BYTES};
    for (int i = 16; i < IMAGES_BYTES; i++)
        r.data[i] = (uint8_t)(i * 7);
    return r;
}

static struct range labels_file(void)
{
    return (struct range){{0, 0, 8, 1, 0, 0, 0, COUNT, 5, 0, 255}, LABELS_BYTES};
}

static struct range gzipped(struct range plain)
{
    struct range r = {.bytes = 0};
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    archive_write_add_filter_gzip(a);
    archive_write_set_format_raw(a);
    archive_write_set_bytes_in_last_block(a, 1);
    assert_int_equal(archive_write_open_memory(a, r.data, sizeof r.data, &r.bytes), ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, plain.data, plain.bytes), plain.bytes);
    archive_entry_free(entry);
    archive_write_close(a);
    archive_write_free(a);
    return r;
}

/* Reads all; the number of images, or the error. */
static int read_all(struct range images, struct range labels)
{
    struct idx *x = NULL;
    const uint8_t *pixels;
    const char *why = NULL;
    int label, got, count = 0;
    int err = idx_new(&x, span_of_memory(images.data, images.bytes),
                      span_of_memory(labels.data, labels.bytes), &why);
    if (err == 0) {
        while ((got = idx_next(x, &pixels, &label, &why)) == 1)
            count++;
        err = got;
    }
    idx_free(x);
    assert_non_null(why);
    return err < 0 ? err : count;
}

static void assert_read(struct range images, struct range labels)
{
    struct range plain = images_file();
    struct idx *x;
    const uint8_t *pixels;
    const char *why;
    int label;
    static const int expected[COUNT] = {5, 0, 255};
    assert_int_equal(idx_new(&x, span_of_memory(images.data, images.bytes),
                      span_of_memory(labels.data, labels.bytes), &why),
                     0);
    assert_int_equal(idx_height(x), HEIGHT);
    assert_int_equal(idx_width(x), WIDTH);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(idx_next(x, &pixels, &label, &why), 1);
        assert_int_equal(label, expected[i]);
        assert_memory_equal(pixels, plain.data + 16 + i * HEIGHT * WIDTH, HEIGHT * WIDTH);
    }
    assert_int_equal(idx_next(x, &pixels, &label, &why), 0);
    idx_free(x);
}

static void plain_and_gzipped(void **state)
{
    (void)state;
    assert_read(images_file(), labels_file());
    assert_read(gzipped(images_file()), gzipped(labels_file()));
    assert_read(gzipped(images_file()), labels_file());
}

static void every_header_byte_counts(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++) {
        struct range images = images_file();
        images.data[i] ^= 0x41;
        assert_int_equal(read_all(images, labels_file()), ERR_FORMAT);
    }
    for (int i = 0; i < 8; i++) {
        struct range labels = labels_file();
        labels.data[i] ^= 0x41;
        assert_int_equal(read_all(images_file(), labels), ERR_FORMAT);
    }
    assert_int_equal(read_all(labels_file(), images_file()), ERR_FORMAT);
}

static void lengths_must_be_exact(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes < IMAGES_BYTES; bytes++) {
        struct range images = images_file();
        images.bytes = bytes;
        assert_int_equal(read_all(images, labels_file()), ERR_FORMAT);
    }
    for (size_t bytes = 0; bytes < LABELS_BYTES; bytes++) {
        struct range labels = labels_file();
        labels.bytes = bytes;
        assert_int_equal(read_all(images_file(), labels), ERR_FORMAT);
    }
    struct range images = images_file(), labels = labels_file();
    images.bytes++;
    assert_int_equal(read_all(images, labels_file()), ERR_FORMAT);
    labels.bytes++;
    assert_int_equal(read_all(images_file(), labels), ERR_FORMAT);
}

static void gzip_must_be_whole(void **state)
{
    (void)state;
    struct range whole = gzipped(images_file());
    assert_int_equal(read_all(whole, labels_file()), COUNT);
    for (size_t bytes = 0; bytes < whole.bytes; bytes++) {
        struct range cut = whole;
        cut.bytes = bytes;
        assert_int_equal(read_all(cut, labels_file()), ERR_FORMAT);
    }
    struct range more = whole;
    memcpy(more.data + more.bytes, "tail", 4);
    more.bytes += 4;
    assert_int_equal(read_all(more, labels_file()), ERR_FORMAT);
    /* One image more inside than the header says. */
    struct range longer = images_file();
    longer.bytes += HEIGHT * WIDTH;
    assert_int_equal(read_all(gzipped(longer), labels_file()), ERR_FORMAT);
}

/* A header that promises a million images of a megabyte, and has three of six bytes. */
static void promises_are_held_against_the_size(void **state)
{
    (void)state;
    struct range images = images_file(), labels = labels_file();
    static const uint8_t huge[12] = {0, 15, 66, 64, 0, 0,
                                     4, 0,  0,  0,  4, 0}; /* 1,000,000 of 1024 x 1024 */
    memcpy(images.data + 4, huge, 12);
    memcpy(labels.data + 4, huge, 4);
    assert_int_equal(read_all(images, labels), ERR_FORMAT);
    assert_int_equal(read_all(gzipped(images), gzipped(labels)), ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_gzipped),
        cmocka_unit_test(every_header_byte_counts),
        cmocka_unit_test(lengths_must_be_exact),
        cmocka_unit_test(gzip_must_be_whole),
        cmocka_unit_test(promises_are_held_against_the_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
