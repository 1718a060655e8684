/*
 * test_container.c - the file format refuses every damage, and writing leaves no debris.
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/storage/container.h"

enum { ID_A = CONTAINER_ID('A', 'A', 'A', 'A'), ID_B = CONTAINER_ID('B', 'B', 'B', 'B'),
       ID_C = CONTAINER_ID('C', 'C', 'C', 'C'), PATH_BYTES = 300 };

static char folder[] = "/tmp/accreted-container-XXXXXX";
static char path[PATH_BYTES];

static const char contents_a[] = "hello", contents_c[70] = {1, 2, 3};
static const struct container_section sections[3] = {
    {ID_A, sizeof contents_a, contents_a}, {ID_B, 0, NULL}, {ID_C, sizeof contents_c, contents_c}};

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/file", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails when a test left anything behind */
}

static int files_in_folder(void)
{
    int count = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static size_t slurp(unsigned char *bytes, size_t room)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, room, f);
    fclose(f);
    return n;
}

static void spit(const unsigned char *bytes, size_t count)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, count, f), count);
    assert_int_equal(fclose(f), 0);
}

static int try_read(enum container_kind kind)
{
    struct container *c = NULL;
    int err = container_read(&c, path, kind);
    assert_true((err == 0) == (c != NULL));
    container_free(c);
    return err;
}

static void test_round_trip(void **state)
{
    (void)state;
    uint64_t size = 0;
    assert_int_equal(container_write(path, CONTAINER_MODEL, sections, 3, &size), 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, size);
    assert_int_equal(files_in_folder(), 1);

    struct container *c;
    struct container_section s;
    const void *data;
    assert_int_equal(container_read(&c, path, CONTAINER_MODEL), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(container_find(c, sections[i].id, &s), 0);
        assert_int_equal(s.id, sections[i].id);
        assert_int_equal(s.size_bytes, sections[i].size_bytes);
        assert_int_equal((uintptr_t)s.data % 64, 0);
        if (s.size_bytes)
            assert_memory_equal(s.data, sections[i].data, s.size_bytes);
    }
    assert_int_equal(container_find(c, CONTAINER_ID('N', 'O', 'N', 'E'), &s), ERR_FORMAT);
    assert_int_equal(container_find_sized(c, ID_C, 70, &data), 0);
    assert_memory_equal(data, contents_c, 70);
    assert_int_equal(container_find_sized(c, ID_C, 71, &data), ERR_FORMAT);
    assert_int_equal(container_find_sized(c, CONTAINER_ID('N', 'O', 'N', 'E'), 0, &data),
                     ERR_FORMAT);
    container_free(c);
}

/* The layout itself, as SNAPSHOT_FORMAT.md gives it: files outlive this code. */
static void test_layout_on_disk(void **state)
{
    (void)state;
    static const unsigned char head[32] = {'A', 'C', 'C', 'R', 'E', 'T', 'E', 'D', 1, 0, 0, 0,
                                           2,   0,   0,   0,   1,   0,   0,   0,   0, 0, 0, 0,
                                           134, 0,   0,   0,   0,   0,   0,   0};
    static const unsigned char row[24] = {'A', 'A', 'A', 'A', 0, 0, 0, 0, 128, 0, 0, 0,
                                          0,   0,   0,   0,   6, 0, 0, 0, 0,   0, 0, 0};
    unsigned char bytes[200];
    assert_int_equal(container_write(path, CONTAINER_SNAPSHOT, sections, 1, NULL), 0);
    assert_int_equal(slurp(bytes, sizeof bytes), 134);
    assert_memory_equal(bytes, head, sizeof head);
    assert_memory_equal(bytes + 32, row, sizeof row);
    assert_memory_equal(bytes + 128, contents_a, 6);
}

static void test_every_flipped_byte_is_detected(void **state)
{
    (void)state;
    unsigned char bytes[1000];
    assert_int_equal(container_write(path, CONTAINER_MODEL, sections, 3, NULL), 0);
    size_t size = slurp(bytes, sizeof bytes);
    assert_true(size > 300 && size < sizeof bytes);
    static const unsigned char flips[] = {0x01, 0x80, 0xff};
    for (size_t i = 0; i < size; i++)
        for (size_t k = 0; k < sizeof flips; k++) {
            bytes[i] ^= flips[k];
            spit(bytes, size);
            int err = try_read(CONTAINER_MODEL);
            assert_true(err == ERR_CORRUPT || (err == ERR_FORMAT && i < 24));
            bytes[i] ^= flips[k];
        }
    spit(bytes, size);
    assert_int_equal(try_read(CONTAINER_MODEL), 0);
}

static void test_every_truncation_is_detected(void **state)
{
    (void)state;
    unsigned char bytes[1000];
    assert_int_equal(container_write(path, CONTAINER_MODEL, sections, 3, NULL), 0);
    size_t size = slurp(bytes, sizeof bytes - 1);
    for (size_t cut = 0; cut < size; cut++) {
        spit(bytes, cut);
        assert_int_equal(try_read(CONTAINER_MODEL), ERR_CORRUPT);
    }
    bytes[size] = 0;
    spit(bytes, size + 1);
    assert_int_equal(try_read(CONTAINER_MODEL), ERR_CORRUPT);
}

/* Makes the file of `sections` anew, replaces the 64-bit word at byte `at`, appends `extra` zeros
 * and sets the checksum of the table right. Returns what reading it says. */
static int read_forged(size_t at, uint64_t word, size_t extra)
{
    enum { HASHED = 32 + 3 * 32 };
    unsigned char bytes[1000] = {0};
    assert_int_equal(container_write(path, CONTAINER_MODEL, sections, 3, NULL), 0);
    size_t size = slurp(bytes, sizeof bytes);
    memset(bytes + size, 0, sizeof bytes - size);
    memcpy(bytes + at, &word, sizeof word);
    uint64_t hash = XXH3_64bits(bytes, HASHED);
    memcpy(bytes + HASHED, &hash, sizeof hash);
    spit(bytes, size + extra);
    return try_read(CONTAINER_MODEL);
}

/* Numbers that contradict each other though every checksum is right. The file: header, three
 * rows, checksum (136 bytes); sections at 192 (6 bytes), 256 (none) and 256 (70 bytes). */
static void test_forged_table(void **state)
{
    (void)state;
    const uint64_t zero_after = (uint64_t)1 << 32; /* high half of a word: the "0" fields */
    assert_int_equal(read_forged(24, 326, 0), 0);
    assert_int_equal(read_forged(16, 3 | zero_after, 0), ERR_FORMAT);
    assert_int_equal(read_forged(16, 33, 0), ERR_CORRUPT);
    assert_int_equal(read_forged(16, UINT32_MAX, 0), ERR_CORRUPT);
    assert_int_equal(read_forged(24, 390, 64), ERR_CORRUPT); /* bytes that belong to nothing */
    assert_int_equal(read_forged(24, 326, 64), ERR_CORRUPT);
    assert_int_equal(read_forged(24, 325, 0), ERR_CORRUPT);
    assert_int_equal(read_forged(32, ID_A | zero_after, 0), ERR_CORRUPT);
    assert_int_equal(read_forged(64, ID_A, 0), ERR_CORRUPT); /* an id twice */
    assert_int_equal(read_forged(64, ID_C + 1, 0), 0);
    assert_int_equal(read_forged(64 + 8, 230, 0), ERR_CORRUPT); /* the empty one, unaligned */
    static const uint64_t bad[] = {0, 128, 257, 320, UINT64_MAX, UINT64_MAX - 63, 1u << 31};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(read_forged(32 + 2 * 32 + 8, bad[i], 0), ERR_CORRUPT);  /* offset */
        assert_int_equal(read_forged(32 + 2 * 32 + 16, bad[i], 0), ERR_CORRUPT); /* length */
    }
}

static void test_what_is_no_container(void **state)
{
    (void)state;
    unlink(path);
    assert_int_equal(try_read(CONTAINER_MODEL), ERR_MISSING);
    assert_int_equal(container_write(path, CONTAINER_MODEL, sections, 3, NULL), 0);
    assert_int_equal(try_read(CONTAINER_SNAPSHOT), ERR_FORMAT);
    unsigned char text[100];
    memset(text, 'x', sizeof text);
    spit(text, sizeof text);
    assert_int_equal(try_read(CONTAINER_MODEL), ERR_FORMAT);

    struct container *c = NULL;
    assert_int_equal(container_read(&c, folder, CONTAINER_MODEL), ERR_FORMAT);
    assert_int_equal(container_read(&c, "/dev/zero", CONTAINER_MODEL), ERR_FORMAT);
    assert_null(c);
}

static void test_misuse(void **state)
{
    (void)state;
    const struct container_section twice[2] = {{ID_A, 1, "a"}, {ID_A, 1, "b"}};
    const struct container_section huge[1] = {{ID_A, UINT64_MAX, "a"}};
    struct container_section many[CONTAINER_MAX_SECTIONS + 1];
    for (uint32_t i = 0; i <= CONTAINER_MAX_SECTIONS; i++)
        many[i] = (struct container_section){i, 1, "x"};
    assert_int_equal(container_write(path, CONTAINER_MODEL, twice, 2, NULL), ERR_INVALID);
    assert_int_equal(container_write(path, CONTAINER_MODEL, huge, 1, NULL), ERR_INVALID);
    assert_int_equal(container_write(path, CONTAINER_MODEL, many, -1, NULL), ERR_INVALID);
    assert_int_equal(container_write(path, CONTAINER_MODEL, many, CONTAINER_MAX_SECTIONS + 1, NULL),
                     ERR_INVALID);
    assert_int_equal(container_write(path, CONTAINER_MODEL, many, CONTAINER_MAX_SECTIONS, NULL), 0);
    assert_int_equal(try_read(CONTAINER_MODEL), 0);
    assert_int_equal(container_write(path, CONTAINER_MODEL, NULL, 0, NULL), 0);
    assert_int_equal(try_read(CONTAINER_MODEL), 0);
    assert_int_equal(files_in_folder(), 1);
}

static void test_unwritable_places(void **state)
{
    (void)state;
    char target[PATH_BYTES + 10];
    assert_int_equal(container_write(path, CONTAINER_MODEL, sections, 3, NULL), 0);
    snprintf(target, sizeof target, "%s/none/file", folder);
    assert_int_equal(container_write(target, CONTAINER_MODEL, sections, 3, NULL), ERR_IO);
    assert_int_equal(errno, ENOENT);
    snprintf(target, sizeof target, "%s/file", path); /* the parent is a file */
    assert_int_equal(container_write(target, CONTAINER_MODEL, sections, 3, NULL), ERR_IO);
    assert_int_equal(container_write("/proc/file", CONTAINER_MODEL, sections, 3, NULL), ERR_IO);

    /* Renaming onto a directory fails when all is written already. */
    snprintf(target, sizeof target, "%s/folder", folder);
    assert_int_equal(mkdir(target, 0700), 0);
    assert_int_equal(container_write(target, CONTAINER_MODEL, sections, 3, NULL), ERR_IO);
    assert_int_equal(errno, EISDIR);
    assert_int_equal(files_in_folder(), 2);
    assert_int_equal(rmdir(target), 0);
    assert_int_equal(durable_rename(target, path), ERR_IO);
}

/* A write that fails half-way: the old file stands and the temporary one is gone. */
static void test_failing_write(void **state)
{
    (void)state;
    struct rlimit old, small = {100, 100};
    assert_int_equal(container_write(path, CONTAINER_MODEL, sections, 1, NULL), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int err = container_write(path, CONTAINER_MODEL, sections, 3, NULL), why = errno;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(err, ERR_IO);
    assert_int_equal(why, EFBIG);
    assert_int_equal(files_in_folder(), 1);
    assert_int_equal(try_read(CONTAINER_MODEL), 0);
}

static void test_durable_rename(void **state)
{
    (void)state;
    char other[PATH_BYTES + 10];
    snprintf(other, sizeof other, "%s/other", folder);
    assert_int_equal(container_write(other, CONTAINER_CHECKPOINT, sections, 3, NULL), 0);
    assert_int_equal(durable_rename(other, path), 0);
    assert_int_equal(try_read(CONTAINER_CHECKPOINT), 0);
    assert_int_equal(files_in_folder(), 1);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(durable_sync_parent("file"), 0);
    assert_int_equal(durable_sync_parent("/file"), 0);
    assert_int_equal(durable_sync_parent("none/file"), ERR_IO);
    assert_int_equal(container_write("file", CONTAINER_MODEL, sections, 1, NULL), 0);
    assert_int_equal(try_read(CONTAINER_MODEL), 0);
    assert_int_equal(chdir("/"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_layout_on_disk),
        cmocka_unit_test(test_every_flipped_byte_is_detected),
        cmocka_unit_test(test_every_truncation_is_detected),
        cmocka_unit_test(test_forged_table),
        cmocka_unit_test(test_what_is_no_container),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_unwritable_places),
        cmocka_unit_test(test_failing_write),
        cmocka_unit_test(test_durable_rename),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
