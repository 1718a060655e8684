/*
 * test_pack.c - pack files: what is written is read, and no damage goes unseen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/err.h"
#include "server/store/pack.h"

struct fixture {
    char dir[64], path[96];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/test_pack.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/pack", f->dir);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    unlink(f->path);
    rmdir(f->dir);
    free(f);
    return 0;
}

static const uint8_t raw[6] = {1, 2, 3, 4, 5, 6};

static struct pack_image raw_image(int label)
{
    return (struct pack_image){.label = label,
                               .encoding = PACK_RAW,
                               .width = 3,
                               .height = 2,
                               .channels = 1,
                               .data = raw,
                               .size_bytes = 6};
}

static void write_two(const char *path)
{
    struct pack_writer *w;
    int cat, dog, again;
    uint64_t bytes;
    struct stat st;
    assert_int_equal(pack_writer_new(&w, path), 0);
    assert_int_equal(pack_writer_label(w, "cat", &cat), 0);
    assert_int_equal(pack_writer_label(w, "dog", &dog), 0);
    assert_int_equal(pack_writer_label(w, "cat", &again), 0);
    assert_int_equal(cat, again);
    struct pack_image image = raw_image(dog);
    assert_int_equal(pack_writer_add(w, &image), 0);
    image = (struct pack_image){.label = cat,
                                .encoding = PACK_JPEG,
                                .width = 640,
                                .height = 480,
                                .channels = 3,
                                .data = (const uint8_t *)"not looked into",
                                .size_bytes = 15};
    assert_int_equal(pack_writer_add(w, &image), 0);
    assert_int_equal(pack_writer_finish(w, &bytes), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(bytes, st.st_size);
}

static void round_trip(void **state)
{
    struct fixture *f = *state;
    struct pack *p;
    struct pack_image image;
    write_two(f->path);
    assert_int_equal(pack_open(&p, f->path), 0);
    assert_int_equal(pack_image_count(p), 2);
    assert_int_equal(pack_label_count(p), 2);
    assert_string_equal(pack_label(p, 0), "cat");
    assert_string_equal(pack_label(p, 1), "dog");
    assert_int_equal(pack_image(p, 0, &image), 0);
    assert_int_equal(image.label, 1);
    assert_int_equal(image.encoding, PACK_RAW);
    assert_int_equal(image.size_bytes, 6);
    assert_memory_equal(image.data, raw, 6);
    assert_int_equal(pack_image(p, 1, &image), 0);
    assert_int_equal(image.label, 0);
    assert_int_equal(image.encoding, PACK_JPEG);
    assert_int_equal(image.width, 640);
    assert_int_equal(image.height, 480);
    assert_int_equal(image.channels, 3);
    assert_memory_equal(image.data, "not looked into", 15);
    assert_int_equal(pack_image(p, 2, &image), ERR_INVALID);
    assert_int_equal(pack_image(p, -1, &image), ERR_INVALID);
    pack_close(p);
}

static void empty_pack(void **state)
{
    struct fixture *f = *state;
    struct pack_writer *w;
    struct pack *p;
    assert_int_equal(pack_writer_new(&w, f->path), 0);
    assert_int_equal(pack_writer_finish(w, NULL), 0);
    assert_int_equal(pack_open(&p, f->path), 0);
    assert_int_equal(pack_image_count(p), 0);
    pack_close(p);
}

/* Opens the pack and reads all; the first error, or 0. */
static int read_all(const char *path)
{
    struct pack *p;
    struct pack_image image;
    int err = pack_open(&p, path);
    if (err != 0)
        return err;
    for (int i = 0; i < pack_image_count(p) && err == 0; i++)
        err = pack_image(p, i, &image);
    pack_close(p);
    return err;
}

static size_t load(const char *path, uint8_t *to, size_t most)
{
    FILE *file = fopen(path, "rb");
    size_t bytes = fread(to, 1, most, file);
    fclose(file);
    return bytes;
}

static void save(const char *path, const uint8_t *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

static void every_flipped_bit_is_detected(void **state)
{
    struct fixture *f = *state;
    uint8_t data[1024];
    write_two(f->path);
    size_t bytes = load(f->path, data, sizeof data);
    assert_int_equal(read_all(f->path), 0);
    for (size_t i = 0; i < bytes * 8; i++) {
        data[i / 8] ^= (uint8_t)(1 << i % 8);
        save(f->path, data, bytes);
        int err = read_all(f->path);
        assert_true(err == ERR_CORRUPT || (err == ERR_FORMAT && i < 16 * 8));
        data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}

static void every_truncation_and_a_longer_file_are_detected(void **state)
{
    struct fixture *f = *state;
    uint8_t data[1024] = {0};
    write_two(f->path);
    size_t bytes = load(f->path, data, sizeof data);
    for (size_t cut = 0; cut < bytes; cut++) {
        save(f->path, data, cut);
        assert_int_equal(read_all(f->path), ERR_CORRUPT);
    }
    save(f->path, data, bytes + 1);
    assert_int_equal(read_all(f->path), ERR_CORRUPT);
}

static void files_that_are_none(void **state)
{
    struct fixture *f = *state;
    struct pack *p;
    uint8_t other[200] = "something else";
    assert_int_equal(pack_open(&p, f->path), ERR_MISSING);
    assert_int_equal(pack_open(&p, f->dir), ERR_FORMAT);
    save(f->path, other, sizeof other);
    assert_int_equal(pack_open(&p, f->path), ERR_FORMAT);
}

static void the_writer_refuses_what_the_reader_would(void **state)
{
    struct fixture *f = *state;
    struct pack_writer *w;
    int label;
    assert_int_equal(pack_writer_new(&w, f->path), 0);
    assert_int_equal(pack_writer_label(w, "", &label), ERR_INVALID);
    assert_int_equal(pack_writer_label(w, "cat", &label), 0);
    struct pack_image image = raw_image(1);
    assert_int_equal(pack_writer_add(w, &image), ERR_INVALID);
    image = raw_image(label);
    image.width = 4; /* raw bytes that do not fit the shape */
    assert_int_equal(pack_writer_add(w, &image), ERR_INVALID);
    image = raw_image(label);
    image.channels = 2;
    assert_int_equal(pack_writer_add(w, &image), ERR_INVALID);
    image = raw_image(label);
    image.encoding = 0;
    assert_int_equal(pack_writer_add(w, &image), ERR_INVALID);
    pack_writer_abort(w);
}

static void abort_leaves_nothing_and_new_overwrites_nothing(void **state)
{
    struct fixture *f = *state;
    struct pack_writer *w, *second;
    assert_int_equal(pack_writer_new(&w, f->path), 0);
    assert_int_equal(pack_writer_new(&second, f->path), ERR_IO);
    pack_writer_abort(w);
    assert_int_equal(access(f->path, F_OK), -1);
    pack_writer_abort(NULL);
}

/* /dev/full: what is written is lost when it leaves the buffer. */
static void a_full_disk_is_told(void **state)
{
    struct fixture *f = *state;
    struct pack_writer *w;
    int label;
    assert_int_equal(pack_writer_new(&w, f->path), 0);
    assert_int_equal(pack_writer_label(w, "cat", &label), 0);
    struct pack_image image = raw_image(label);
    assert_int_equal(pack_writer_add(w, &image), 0);
    FILE *full = fopen("/dev/full", "wb");
    assert_non_null(full);
    for (int fd = 3; fd < 64; fd++) { /* the writer's descriptor is the one that is this file */
        struct stat here, there;
        if (fd != fileno(full) && fstat(fd, &here) == 0 && stat(f->path, &there) == 0 &&
            here.st_ino == there.st_ino && here.st_dev == there.st_dev)
            assert_int_equal(dup2(fileno(full), fd), fd);
    }
    fclose(full);
    assert_int_equal(pack_writer_finish(w, NULL), ERR_NOSPACE);
    assert_int_equal(access(f->path, F_OK), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(round_trip),
        TEST(empty_pack),
        TEST(every_flipped_bit_is_detected),
        TEST(every_truncation_and_a_longer_file_are_detected),
        TEST(files_that_are_none),
        TEST(the_writer_refuses_what_the_reader_would),
        TEST(abort_leaves_nothing_and_new_overwrites_nothing),
        TEST(a_full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
