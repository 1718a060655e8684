/*
 * test_db.c - migrations, the write queue, and the rows of batches.
 */
#include "tests/unit/server/store_fixture.h"

#include <fcntl.h>

#include "server/assets.h"
#include "server/store/sql.h"

static void patch_file(const struct store *s, long offset, uint8_t value)
{
    char path[128];
    snprintf(path, sizeof path, "%s/accreted.db", s->dir);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, &value, 1, offset), 1);
    close(fd);
}

static void test_reopen(void **state)
{
    struct store *s = *state;
    add_batch(s, "one", "cat", "dog", 3, 1);
    store_close(s);
    assert_int_equal(db_open(&s->db, &s->loop, s->dir), 0);
    struct batch b;
    assert_int_equal(batches_get(s->db, "one", &b), 0);
    assert_int_equal(b.train_count, 6);
    assert_int_equal(b.test_count, 2);
    assert_string_equal(b.state, "ready");
    assert_int_equal(b.class_count, 2);
    assert_string_equal(b.classes[1].label, "dog");
    assert_null(b.verdicts);
    batch_release(&b);
}

static int migration_count(void)
{
    int count = 0;
    for (int i = 0; i < asset_count; i++)
        count += strncmp(assets[i].name, "migrations/", 11) == 0;
    return count;
}

/* Byte 63 ends the big-endian user_version of the file's header, byte 71 the application id. */
static void test_newer_refused(void **state)
{
    struct store *s = *state;
    store_close(s);
    log_set_level("error");
    patch_file(s, 63, 99);
    assert_int_equal(db_open(&s->db, &s->loop, s->dir), ERR_FORMAT);
    patch_file(s, 63, (uint8_t)migration_count());
    assert_int_equal(db_open(&s->db, &s->loop, s->dir), 0);
}

static void test_foreign_file_refused(void **state)
{
    struct store *s = *state;
    store_close(s);
    patch_file(s, 71, 0);
    assert_int_equal(db_open(&s->db, &s->loop, s->dir), ERR_FORMAT);
    patch_file(s, 0, 'X');
    assert_int_equal(db_open(&s->db, &s->loop, s->dir), ERR_FORMAT);
    patch_file(s, 0, 'S');
    patch_file(s, 71, 'R');
    assert_int_equal(db_open(&s->db, &s->loop, s->dir), 0);
}

static void test_migrations_are_numbered(void **state)
{
    (void)state;
    int expected = 1;
    for (int i = 0; i < asset_count; i++)
        if (strncmp(assets[i].name, "migrations/", 11) == 0)
            assert_int_equal(atoi(assets[i].name + 11), expected++);
    assert_true(expected > 1);
}

/* ---- the queue ---- */

enum { WRITES = 50 };

struct counting {
    struct store *store;
    int number, *order, *done_count;
};

static int write_counting(struct db_txn *t, void *ctx)
{
    struct counting *c = ctx;
    char name[32];
    snprintf(name, sizeof name, "batch-%d", c->number);
    struct batch_spec spec = {name, {"cat"}, 1, 0, NULL};
    return write_batch(t, &spec);
}

static void counting_done(void *ctx, int status)
{
    struct counting *c = ctx;
    struct batch b;
    char name[32];
    assert_int_equal(status, 0);
    c->order[(*c->done_count)++] = c->number;
    snprintf(name, sizeof name, "batch-%d", c->number);
    assert_int_equal(batches_get(c->store->db, name, &b), 0); /* committed, so the reader sees it */
    batch_release(&b);
    if (*c->done_count == WRITES)
        uv_stop(&c->store->loop);
}

static void keep_alive(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("the writes were not all done within 20 s");
}

static void test_writes_in_order(void **state)
{
    struct store *s = *state;
    struct counting c[WRITES];
    int order[WRITES], done = 0;
    uv_timer_t timer;
    uv_timer_init(&s->loop, &timer);
    uv_timer_start(&timer, keep_alive, 20000, 0);
    for (int i = 0; i < WRITES; i++) {
        c[i] = (struct counting){s, i, order, &done};
        assert_int_equal(db_write(s->db, write_counting, counting_done, &c[i]), 0);
    }
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_int_equal(done, WRITES);
    for (int i = 0; i < WRITES; i++)
        assert_int_equal(order[i], i);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT); /* the timer lies on this stack */
}

static void test_close_runs_what_was_posted(void **state)
{
    struct store *s = *state;
    struct batch b;
    struct batch_spec spec = {"late", {"cat"}, 1, 0, NULL};
    assert_int_equal(db_write(s->db, write_batch, NULL, &spec), 0);
    store_close(s);
    assert_int_equal(db_open(&s->db, &s->loop, s->dir), 0);
    assert_int_equal(batches_get(s->db, "late", &b), 0);
    batch_release(&b);
}

static int write_and_refuse(struct db_txn *t, void *ctx)
{
    int err = write_batch(t, ctx);
    return err ? err : ERR_CANCELLED;
}

static void test_rollback(void **state)
{
    struct store *s = *state;
    struct batch b;
    struct batch_spec spec = {"never", {"cat"}, 1, 0, NULL};
    assert_int_equal(db_write_wait(s->db, write_and_refuse, &spec), ERR_CANCELLED);
    assert_int_equal(batches_get(s->db, "never", &b), ERR_MISSING);
    add_batch(s, "after", "cat", NULL, 1, 0); /* the connection is fine afterwards */
}

/* ---- batches ---- */

static void test_name_taken(void **state)
{
    struct store *s = *state;
    struct batch_spec spec = {"one", {"cat"}, 1, 0, NULL};
    assert_int_equal(db_write_wait(s->db, write_batch, &spec), 0);
    assert_int_equal(db_write_wait(s->db, write_batch, &spec), ERR_INVALID);
}

static void test_batches_page(void **state)
{
    struct store *s = *state;
    struct batch *list;
    int count;
    add_batch(s, "one", "a", NULL, 1, 0);
    add_batch(s, "two", "b", NULL, 0, 1);
    add_batch(s, "three", "c", NULL, 1, 1);
    assert_int_equal(batches_list(s->db, 0, 2, &list, &count), 0);
    assert_int_equal(count, 2);
    assert_string_equal(list[0].name, "three");
    int64_t last = list[1].id;
    batches_release(list, count);
    assert_int_equal(batches_list(s->db, last, 2, &list, &count), 0);
    assert_int_equal(count, 1);
    assert_string_equal(list[0].name, "one");
    batches_release(list, count);
    assert_int_equal(batches_load_test(db_reader(s->db), &list, &count), 0);
    assert_int_equal(count, 2);
    assert_string_equal(list[0].name, "two");
    batches_release(list, count);
}

static int write_bad_state(struct db_txn *t, void *ctx)
{
    (void)ctx;
    return sql_run_one(t, "UPDATE batches SET state = 'lost' WHERE id = 1", SQL_NONE);
}

static int write_consumed_by_nothing(struct db_txn *t, void *ctx)
{
    (void)ctx;
    return sql_run_one(t, "UPDATE batches SET state = 'consumed', consumed_version = 7", SQL_NONE);
}

static void test_schema_refuses_nonsense(void **state)
{
    struct store *s = *state;
    add_batch(s, "one", "a", NULL, 1, 0);
    assert_int_equal(db_write_wait(s->db, write_bad_state, NULL), ERR_INVALID);
    assert_int_equal(db_write_wait(s->db, write_consumed_by_nothing, NULL), ERR_INVALID);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, store_setup, store_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_reopen),
        STORE_TEST(test_newer_refused),
        STORE_TEST(test_foreign_file_refused),
        cmocka_unit_test(test_migrations_are_numbered),
        STORE_TEST(test_writes_in_order),
        STORE_TEST(test_close_runs_what_was_posted),
        STORE_TEST(test_rollback),
        STORE_TEST(test_name_taken),
        STORE_TEST(test_batches_page),
        STORE_TEST(test_schema_refuses_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
