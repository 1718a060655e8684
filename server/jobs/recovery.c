/*
 * recovery.c - see recovery.h.
 */
#include "server/jobs/recovery.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "server/jobs/data.h"
#include "server/log.h"
#include "server/store/batches.h"
#include "server/store/versions.h"

/* ---- jobs ---- */

static struct recovery decide_running(const struct job *j, int epochs)
{
    struct recovery r = {RECOVER_RETRY, JOB_DAEMON_CRASHED, j->attempt};
    if (epochs > j->epochs_before)
        r.attempt = 1;
    else if (!j->stopped)
        r.attempt = j->attempt + 1;
    if (j->stopped)
        r.why = JOB_DAEMON_STOPPED;
    if (r.attempt > RECOVERY_MAX_ATTEMPTS)
        r.action = RECOVER_GIVE_UP;
    return r;
}

struct recovery recovery_decide(const struct job *j, int epochs)
{
    switch (j->state) {
    case JOB_RUNNING:
        return decide_running(j, epochs);
    case JOB_CANCELLING:
        return (struct recovery){.action = RECOVER_CANCEL};
    case JOB_QUEUED:
    case JOB_SUCCEEDED:
    case JOB_FAILED:
    case JOB_CANCELLED:
        return (struct recovery){.action = RECOVER_NOTHING};
    }
    return (struct recovery){.action = RECOVER_NOTHING};
}

static int recover_job(struct db_txn *t, const struct job *j)
{
    int epochs;
    int err = jobs_epochs(t, j->id, &epochs);
    if (err)
        return err;
    struct recovery r = recovery_decide(j, epochs);
    switch (r.action) {
    case RECOVER_NOTHING:
        return 0;
    case RECOVER_CANCEL:
        return jobs_cancelled(t, j->id);
    case RECOVER_RETRY:
        log_info("job %" PRId64 " was interrupted after %d epochs and goes on (attempt %d)", j->id,
                 epochs, r.attempt);
        return jobs_requeue(t, j->id, r.why, r.attempt, epochs);
    case RECOVER_GIVE_UP:
        log_error("job %" PRId64 " crashed the daemon %d times without finishing an epoch", j->id,
                  RECOVERY_MAX_ATTEMPTS);
        return jobs_fail(t, j->id, "crash_loop",
                         "The daemon died three times in this job without finishing an epoch. Look "
                         "at its log (out of memory?), then post the job again with a smaller "
                         "batch, input or depth.");
    }
    return 0;
}

int recovery_jobs(struct db_txn *t)
{
    struct job *open;
    int count;
    int err = jobs_list_open(t, &open, &count);
    if (err)
        return err;
    for (int i = 0; i < count && !err; i++)
        err = recover_job(t, &open[i]);
    jobs_release(open, count);
    return err;
}

/* ---- files ---- */

/* Does a row own the file called `name`? */
typedef bool (*owned_fn)(struct db_txn *t, const char *name);

/* "12" -> 12; 0 for anything else. */
static int64_t number_of(const char *name)
{
    char *end;
    long long number = strtoll(name, &end, 10);
    return *end == '\0' && number > 0 ? number : 0;
}

static bool model_owned(struct db_txn *t, const char *name)
{
    struct version v;
    int err = versions_get(t, number_of(name), &v);
    return err ? err != ERR_MISSING : v.dense_kept;
}

static bool version_owned(struct db_txn *t, const char *name)
{
    struct version v;
    return versions_get(t, number_of(name), &v) != ERR_MISSING; /* in doubt, keep */
}

/* The file of a version that served outlasts its discard. */
static bool exemplars_owned(struct db_txn *t, const char *name)
{
    return number_of(name) && versions_keeps_exemplars(t, number_of(name));
}

static bool checkpoint_owned(struct db_txn *t, const char *name)
{
    struct job j;
    int err = jobs_get(t, number_of(name), &j);
    if (err)
        return err != ERR_MISSING; /* in doubt, keep */
    bool owned = !job_state_is_final(j.state);
    job_release(&j);
    return owned;
}

static bool pack_owned(struct db_txn *t, const char *name)
{
    char hash[HASH_HEX_BYTES];
    snprintf(hash, sizeof hash, "%.*s", (int)strcspn(name, "."), name);
    return batches_has_hash(t, hash);
}

static void sweep_folder(struct db_txn *t, const char *data_dir, const char *folder, owned_fn owned)
{
    char path[4400];
    struct dirent *entry;
    data_path(path, sizeof path, data_dir, folder, "", "");
    DIR *dir = opendir(path);
    if (!dir)
        return; /* a fresh data directory */
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            owned(t, entry->d_name))
            continue;
        data_path(path, sizeof path, data_dir, folder, entry->d_name, "");
        if (unlink(path) == 0)
            log_info("removed %s/%s, which an interrupted daemon left", folder, entry->d_name);
        else
            log_warning("%s/%s belongs to nothing and cannot be removed", folder, entry->d_name);
    }
    closedir(dir);
}

static void sweep_consumed(struct db_txn *t, const char *data_dir)
{
    struct batch *batches;
    char path[4400];
    int count;
    if (batches_load_consumed(t, 0, &batches, &count))
        return;
    for (int i = 0; i < count; i++) {
        data_path(path, sizeof path, data_dir, "batches", batches[i].hash, ".train");
        if (unlink(path) == 0)
            log_info("removed the training images of batch '%s'", batches[i].name);
    }
    batches_release(batches, count);
}

void recovery_sweep(struct db *db, const char *data_dir)
{
    struct db_txn *t = db_reader(db);
    sweep_folder(t, data_dir, "models", model_owned);
    sweep_folder(t, data_dir, "snapshots", version_owned);
    sweep_folder(t, data_dir, "exemplars", exemplars_owned);
    sweep_folder(t, data_dir, "checkpoints", checkpoint_owned);
    sweep_folder(t, data_dir, "batches", pack_owned);
    sweep_consumed(t, data_dir);
}
