/*
 * test_retire.c - a pack written anew without a class, and that a stop leaves all as it was. What an
 * erasure does to a whole data directory is test_classes.py's.
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
#include "server/jobs/retire.h"
#include "server/log.h"
#include "server/store/pack.h"

static const char *const labels[] = {"cat", "dog"};

struct fixture {
    char dir[64];
    struct batch_class classes[2];
    struct retire_pack pack;
    struct retire_erase erase; /* of "cat" */
};

static void write_pack(const char *path)
{
    struct pack_writer *w;
    uint8_t pixels[4] = {1, 2, 3, 4};
    assert_int_equal(pack_writer_new(&w, path), 0);
    for (int i = 0; i < 6; i++) {
        struct pack_image image = {.width = 2, .height = 2, .channels = 1, .encoding = PACK_RAW,
                                   .data = pixels, .size_bytes = sizeof pixels};
        assert_int_equal(pack_writer_label(w, labels[i % 2], &image.label), 0);
        assert_int_equal(pack_writer_add(w, &image), 0);
    }
    assert_int_equal(pack_writer_finish(w, NULL), 0);
}

static int images_of(const char *path)
{
    struct pack *p;
    assert_int_equal(pack_open(&p, path), 0);
    int count = pack_image_count(p);
    pack_close(p);
    return count;
}

static int set_up(void **state)
{
    static const char *const folders[] = {"tmp", "batches", "exemplars"};
    char path[128];
    struct fixture *f = calloc(1, sizeof *f);
    log_set_level("error");
    strcpy(f->dir, "/tmp/test_retire.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", f->dir, folders[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    for (int i = 0; i < 2; i++) {
        strcpy(f->classes[i].label, labels[i]);
        strcpy(f->classes[i].stored, labels[i]);
    }
    strcpy(f->pack.batch.hash, "0123");
    f->pack.batch.classes = f->classes;
    f->pack.batch.class_count = 2;
    f->erase.names = calloc(1, sizeof *f->erase.names);
    f->erase.name_count = 1;
    strcpy(f->erase.names[0], "cat");
    snprintf(path, sizeof path, "%s/batches/0123.test", f->dir);
    write_pack(path);
    snprintf(path, sizeof path, "%s/exemplars/2", f->dir);
    write_pack(path);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char command[128], tmp[128];
    snprintf(tmp, sizeof tmp, "%s/tmp", f->dir);
    int left = rmdir(tmp) != 0; /* empty, whatever happened */
    snprintf(command, sizeof command, "rm -rf %s", f->dir);
    int failed = system(command);
    retire_erase_release(&f->erase);
    free(f);
    return left || failed;
}

static void a_stop_leaves_test_images(void **state)
{
    struct fixture *f = *state;
    char path[256];
    atomic_bool stop = true;
    assert_int_equal(retire_pack_write(f->dir, "cat", &stop, &f->pack), ERR_STOPPED);
    snprintf(path, sizeof path, "%s/batches/%s.test", f->dir, f->pack.hash);
    assert_int_equal(access(path, F_OK), -1);
    stop = false;
    assert_int_equal(retire_pack_write(f->dir, "cat", &stop, &f->pack), 0);
    assert_int_equal(f->pack.images, 3);
    assert_int_equal(images_of(path), 3);
}

static void a_stop_leaves_the_rest_of_an_erasure(void **state)
{
    struct fixture *f = *state;
    char path[128];
    atomic_bool stop = true;
    snprintf(path, sizeof path, "%s/exemplars/2", f->dir);
    assert_int_equal(retire_erase_run(f->dir, &stop, &f->erase), ERR_STOPPED);
    assert_int_equal(images_of(path), 6);
    stop = false;
    assert_int_equal(retire_erase_run(f->dir, &stop, &f->erase), 0);
    assert_int_equal(f->erase.exemplars, 3);
    assert_int_equal(images_of(path), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stop_leaves_test_images, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stop_leaves_the_rest_of_an_erasure, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
