/*
 * store_fixture.h - a database in a temporary directory, for the tests of the store and the jobs.
 */
#ifndef ACCRETED_TESTS_STORE_FIXTURE_H
#define ACCRETED_TESTS_STORE_FIXTURE_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "core/err.h"
#include "server/log.h"
#include "server/store/batches.h"
#include "server/store/db.h"
#include "server/store/jobs.h"
#include "server/store/versions.h"

struct store {
    char dir[64];
    uv_loop_t loop;
    struct db *db;
};

static inline void store_close(struct store *s)
{
    db_close(s->db);
    s->db = NULL;
    uv_run(&s->loop, UV_RUN_DEFAULT);
}

static inline int store_setup(void **state)
{
    struct store *s = calloc(1, sizeof *s);
    assert_non_null(s);
    log_set_level("error");
    strcpy(s->dir, "/tmp/accreted-test-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    assert_int_equal(uv_loop_init(&s->loop), 0);
    assert_int_equal(db_open(&s->db, &s->loop, s->dir), 0);
    *state = s;
    return 0;
}

static inline int store_teardown(void **state)
{
    struct store *s = *state;
    char path[512];
    struct dirent *entry;
    store_close(s);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    DIR *dir = opendir(s->dir);
    while (dir && (entry = readdir(dir))) {
        snprintf(path, sizeof path, "%s/%s", s->dir, entry->d_name);
        unlink(path);
    }
    closedir(dir);
    rmdir(s->dir);
    free(s);
    return 0;
}

/* A ready batch with one class per label; train and test images of each. */
struct batch_spec {
    const char *name;
    const char *labels[4];
    int train, test;
    const char *test_only; /* one class more, with a test image and none to train on */
};

static inline int write_batch(struct db_txn *t, void *ctx)
{
    const struct batch_spec *spec = ctx;
    struct batch_class classes[5];
    struct batch b = {.created_ms = 1000, .classes = classes};
    snprintf(b.name, sizeof b.name, "%s", spec->name);
    memset(b.hash, 'a', 64);
    memset(b.request_hash, 'b', 64);
    while (b.class_count < 4 && spec->labels[b.class_count]) {
        struct batch_class *c = &classes[b.class_count];
        snprintf(c->label, sizeof c->label, "%s", spec->labels[b.class_count++]);
        c->train_count = spec->train;
        c->test_count = spec->test;
        b.train_count += spec->train;
        b.test_count += spec->test;
    }
    if (spec->test_only) {
        struct batch_class *c = &classes[b.class_count++];
        snprintf(c->label, sizeof c->label, "%s", spec->test_only);
        c->train_count = 0;
        c->test_count = 1;
        b.test_count++;
    }
    return batches_insert(t, &b);
}

static inline void add_batch(struct store *s, const char *name, const char *first,
                             const char *second, int train, int test)
{
    struct batch_spec spec = {name, {first, second}, train, test, NULL};
    assert_int_equal(db_write_wait(s->db, write_batch, &spec), 0);
}

#endif
