/*
 * test_jobs.c - rows of the jobs: every change of state, allowed or refused, and recovery.
 */
#include "tests/unit/server/store_fixture.h"

#include <math.h>

#include "server/jobs/recovery.h"
#include "server/store/sql.h"

/* ---- driving a job into any state ---- */

struct step {
    int64_t id;
    enum job_state to;
    enum job_state from; /* for cancel */
    int64_t version;
};

static int write_job(struct db_txn *t, void *ctx)
{
    struct step *s = ctx;
    int64_t batch = 1;
    return jobs_insert(t, "{}", &batch, 1, 0, NULL, &s->id);
}

static int publish(struct db_txn *t, int64_t job)
{
    uint32_t confusion[4] = {3, 1, 0, 0};
    struct evaluation e = {.classes = 2, .confusion = confusion};
    const char *names[] = {"cat", "dog"};
    struct version v = {.version = 1, .job = job, .step = 1, .classes = 2, .model_bytes = 10,
                        .snapshot_bytes = 5, .dense_bytes = 20, .sparsity = 0.5,
                        .accuracy_dense = 0.75, .accuracy_pruned = NAN, .created_ms = 1000,
                        .active = true};
    int err = versions_insert(t, &v, names, 0, &e, &e);
    return err ? err : jobs_succeed(t, job, 1, true, true);
}

/* The function that leads to `to`, whatever state the job is in. */
static int write_change(struct db_txn *t, void *ctx)
{
    const struct step *s = ctx;
    switch (s->to) {
    case JOB_QUEUED:
        return jobs_requeue(t, s->id, JOB_DAEMON_CRASHED, 2, 0);
    case JOB_RUNNING:
        return jobs_start(t, s->id, "avx2", 2);
    case JOB_CANCELLING:
        return jobs_cancel(t, s->id, JOB_RUNNING);
    case JOB_SUCCEEDED:
        return publish(t, s->id);
    case JOB_FAILED:
        return jobs_fail(t, s->id, "diverged", "Use a smaller 'lr'.");
    case JOB_CANCELLED:
        return s->from == JOB_QUEUED ? jobs_cancel(t, s->id, JOB_QUEUED) : jobs_cancelled(t, s->id);
    }
    return ERR_INVALID;
}

static int change(struct store *s, int64_t id, enum job_state from, enum job_state to)
{
    struct step step = {.id = id, .to = to, .from = from};
    return db_write_wait(s->db, write_change, &step);
}

static int64_t job_in(struct store *s, enum job_state state)
{
    struct step step = {0};
    add_batch(s, "one", "cat", "dog", 3, 2);
    assert_int_equal(db_write_wait(s->db, write_job, &step), 0);
    if (state == JOB_QUEUED)
        return step.id;
    if (state == JOB_CANCELLED) {
        assert_int_equal(change(s, step.id, JOB_QUEUED, JOB_CANCELLED), 0);
        return step.id;
    }
    assert_int_equal(change(s, step.id, JOB_QUEUED, JOB_RUNNING), 0);
    if (state != JOB_RUNNING)
        assert_int_equal(change(s, step.id, JOB_RUNNING, state), 0);
    return step.id;
}

static enum job_state state_of(struct store *s, int64_t id)
{
    struct job j;
    assert_int_equal(jobs_get(db_reader(s->db), id, &j), 0);
    enum job_state state = j.state;
    job_release(&j);
    return state;
}

static void batch_state_is(struct store *s, const char *state)
{
    struct batch b;
    assert_int_equal(batches_get(s->db, "one", &b), 0);
    assert_string_equal(b.state, state);
    batch_release(&b);
}

/* ---- every change ---- */

static const bool allowed[JOB_STATES][JOB_STATES] = {
    [JOB_QUEUED] = {[JOB_RUNNING] = true, [JOB_CANCELLED] = true},
    [JOB_RUNNING] = {[JOB_QUEUED] = true, [JOB_CANCELLING] = true, [JOB_SUCCEEDED] = true,
                     [JOB_FAILED] = true},
    [JOB_CANCELLING] = {[JOB_CANCELLED] = true},
};

static void test_every_change(void **state)
{
    (void)state;
    for (int from = 0; from < JOB_STATES; from++) {
        for (int to = 0; to < JOB_STATES; to++) {
            void *fixture;
            store_setup(&fixture);
            struct store *s = fixture;
            int64_t id = job_in(s, (enum job_state)from);
            int err = change(s, id, (enum job_state)from, (enum job_state)to);
            if (allowed[from][to] != (err == 0))
                fail_msg("%s -> %s gave %d", job_state_name((enum job_state)from),
                         job_state_name((enum job_state)to), err);
            assert_int_equal(state_of(s, id), allowed[from][to] ? to : from);
            store_teardown(&fixture);
        }
    }
}

static void test_batches_follow(void **state)
{
    struct store *s = *state;
    int64_t id = job_in(s, JOB_QUEUED);
    batch_state_is(s, "in_use");
    assert_int_equal(change(s, id, JOB_QUEUED, JOB_CANCELLED), 0);
    batch_state_is(s, "ready");
}

static void test_success(void **state)
{
    struct store *s = *state;
    struct job j;
    struct version v;
    struct class_row *classes;
    struct class_score *scores;
    struct confusion_cell *cells;
    int count;
    int64_t id = job_in(s, JOB_SUCCEEDED);
    struct db_txn *t = db_reader(s->db);
    batch_state_is(s, "consumed");
    assert_int_equal(jobs_get(t, id, &j), 0);
    assert_int_equal(j.version, 1);
    assert_int_equal(j.reproducible, 1);
    assert_true(j.progress == 1 && j.finished_ms > 0);
    job_release(&j);
    assert_int_equal(versions_active(t, &v), 0);
    assert_int_equal(v.version, 1);
    assert_true(v.accuracy_dense == 0.75 && isnan(v.accuracy_pruned));
    assert_int_equal(classes_of(t, 0, &classes, &count), 0);
    assert_int_equal(count, 2);
    assert_string_equal(classes[1].name, "dog");
    assert_int_equal(classes[0].test_images, 2);
    free(classes);
    assert_int_equal(evaluations_chain(t, &scores, &count), 0);
    assert_int_equal(count, 1); /* the dog had no test image in this evaluation: no row */
    assert_int_equal(scores[0].total, 4);
    assert_int_equal(scores[0].correct, 3);
    free(scores);
    assert_int_equal(confusion_list(t, 1, false, &cells, &count), 0);
    assert_int_equal(count, 2);
    free(cells);
}

static int write_around_the_store(struct db_txn *t, void *ctx)
{
    return sql_exec(t, ctx);
}

/* The schema holds the rules by itself, whatever code writes. */
static void test_schema_guards_states(void **state)
{
    struct store *s = *state;
    job_in(s, JOB_CANCELLED);
    char again[] = "UPDATE jobs SET state = 'queued', finished_ms = NULL WHERE id = 1";
    char other[] = "UPDATE jobs SET progress = 1 WHERE id = 1";
    assert_int_equal(db_write_wait(s->db, write_around_the_store, again), ERR_INVALID);
    assert_int_equal(db_write_wait(s->db, write_around_the_store, other), ERR_INVALID);
}

/* A publication that loses against a cancellation leaves nothing behind. */
static void test_cancel_beats_publication(void **state)
{
    struct store *s = *state;
    struct version v;
    int64_t id = job_in(s, JOB_CANCELLING);
    assert_int_equal(change(s, id, JOB_CANCELLING, JOB_SUCCEEDED), ERR_INVALID);
    assert_int_equal(versions_active(db_reader(s->db), &v), ERR_MISSING);
    assert_int_equal(change(s, id, JOB_CANCELLING, JOB_CANCELLED), 0);
    batch_state_is(s, "ready");
}

/* ---- curves ---- */

static int write_epochs(struct db_txn *t, void *ctx)
{
    const struct step *s = ctx;
    struct learner_epoch e = {.epoch = 0, .loss_class = 2.5, .loss_mmd = NAN, .accuracy = 0.5};
    int err = jobs_put_epoch(t, s->id, &e, 0.25, 100);
    e.epoch = 1;
    e.loss_class = 1.5;
    if (!err)
        err = jobs_put_epoch(t, s->id, &e, 0.5, 100);
    e.loss_class = 1.25; /* run again after a restart */
    return err ? err : jobs_put_epoch(t, s->id, &e, 0.4, 100);
}

static void test_metrics(void **state)
{
    struct store *s = *state;
    struct learner_epoch *epochs;
    struct job j;
    int count;
    struct step step = {.id = job_in(s, JOB_RUNNING)};
    assert_int_equal(db_write_wait(s->db, write_epochs, &step), 0);
    assert_int_equal(jobs_metrics(db_reader(s->db), step.id, &epochs, &count), 0);
    assert_int_equal(count, 2);
    assert_true(epochs[1].loss_class == 1.25);
    assert_true(isnan(epochs[0].loss_mmd));
    free(epochs);
    assert_int_equal(jobs_get(db_reader(s->db), step.id, &j), 0);
    assert_true(j.progress == 0.5); /* never falls */
    job_release(&j);
}

/* ---- recovery ---- */

static void test_recovery_table(void **state)
{
    (void)state;
    static const struct {
        enum job_state state;
        int attempt, epochs_before, epochs;
        bool stopped;
        enum recovery_action action;
        int next_attempt;
    } table[] = {
        {JOB_QUEUED, 1, 0, 0, false, RECOVER_NOTHING, 0},
        {JOB_RUNNING, 1, 0, 0, false, RECOVER_RETRY, 2},
        {JOB_RUNNING, 2, 0, 0, false, RECOVER_RETRY, 3},
        {JOB_RUNNING, 3, 0, 0, false, RECOVER_GIVE_UP, 4},
        {JOB_RUNNING, 3, 4, 4, false, RECOVER_GIVE_UP, 4},
        {JOB_RUNNING, 3, 4, 5, false, RECOVER_RETRY, 1}, /* a new epoch: counts anew */
        {JOB_RUNNING, 3, 4, 4, true, RECOVER_RETRY, 3},  /* a stop is no crash */
        {JOB_CANCELLING, 1, 0, 0, false, RECOVER_CANCEL, 0},
        {JOB_SUCCEEDED, 1, 0, 9, false, RECOVER_NOTHING, 0},
        {JOB_FAILED, 1, 0, 9, false, RECOVER_NOTHING, 0},
        {JOB_CANCELLED, 1, 0, 9, false, RECOVER_NOTHING, 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct job j = {.state = table[i].state, .attempt = table[i].attempt,
                        .epochs_before = table[i].epochs_before, .stopped = table[i].stopped};
        struct recovery r = recovery_decide(&j, table[i].epochs);
        if (r.action != table[i].action || r.attempt != table[i].next_attempt)
            fail_msg("row %zu: action %d, attempt %d", i, (int)r.action, r.attempt);
    }
}

static int write_recovery(struct db_txn *t, void *ctx)
{
    (void)ctx;
    return recovery_jobs(t);
}

static void test_crash_loop_ends(void **state)
{
    struct store *s = *state;
    struct job j;
    int64_t id = job_in(s, JOB_RUNNING);
    for (int crash = 0; crash < 2; crash++) {
        assert_int_equal(db_write_wait(s->db, write_recovery, NULL), 0);
        assert_int_equal(state_of(s, id), JOB_QUEUED);
        assert_int_equal(change(s, id, JOB_QUEUED, JOB_RUNNING), 0);
    }
    assert_int_equal(db_write_wait(s->db, write_recovery, NULL), 0);
    assert_int_equal(jobs_get(db_reader(s->db), id, &j), 0);
    assert_int_equal(j.state, JOB_FAILED);
    assert_string_equal(j.error_code, "crash_loop");
    assert_int_equal(j.restarts, 2);
    job_release(&j);
    batch_state_is(s, "ready");
}

static void test_recovery_cancels(void **state)
{
    struct store *s = *state;
    int64_t id = job_in(s, JOB_CANCELLING);
    assert_int_equal(db_write_wait(s->db, write_recovery, NULL), 0);
    assert_int_equal(state_of(s, id), JOB_CANCELLED);
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, store_setup, store_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_change),
        STORE_TEST(test_batches_follow),
        STORE_TEST(test_success),
        STORE_TEST(test_schema_guards_states),
        STORE_TEST(test_cancel_beats_publication),
        STORE_TEST(test_metrics),
        cmocka_unit_test(test_recovery_table),
        STORE_TEST(test_crash_loop_ends),
        STORE_TEST(test_recovery_cancels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
