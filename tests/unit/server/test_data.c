/*
 * test_data.c - from packs to the learner's arrays, and the sweep of files that no row owns.
 */
#include "tests/unit/server/store_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "core/learner/learner.h"
#include "server/jobs/data.h"
#include "server/jobs/recovery.h"
#include "server/store/pack.h"

struct rig {
    char dir[64];
    struct plan plan;
    struct batch train, test;
    char *names[2];
    atomic_int command;
    struct data_source source;
    struct refusal why;
};

static int rig_setup(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    char path[128];
    log_set_level("error");
    strcpy(r->dir, "/tmp/accreted-data-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(path, sizeof path, "%s/batches", r->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    r->names[0] = strdup("cat");
    r->names[1] = strdup("dog");
    strcpy(r->train.name, "train");
    strcpy(r->train.hash, "aaaa");
    strcpy(r->test.name, "test");
    strcpy(r->test.hash, "bbbb");
    r->plan = (struct plan){.train = &r->train, .train_count = 1, .test = &r->test,
                            .test_count = 1, .names = r->names, .classes = 2};
    r->source = (struct data_source){r->dir, &r->plan, &r->command};
    *state = r;
    return 0;
}

static int rig_teardown(void **state)
{
    struct rig *r = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/batches/aaaa.train", r->dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/batches/bbbb.test", r->dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/batches", r->dir);
    rmdir(path);
    rmdir(r->dir);
    free(r->names[0]);
    free(r->names[1]);
    free(r);
    return 0;
}

struct raw {
    const char *label;
    int side, channels;
    uint8_t value; /* of every pixel */
};

static void write_pack(const struct rig *r, const char *file, const struct raw *images, int count)
{
    static uint8_t pixels[128 * 128 * 3];
    char path[128];
    struct pack_writer *w;
    snprintf(path, sizeof path, "%s/batches/%s", r->dir, file);
    assert_int_equal(pack_writer_new(&w, path), 0);
    for (int i = 0; i < count; i++) {
        const struct raw *raw = &images[i];
        uint64_t size = (uint64_t)raw->side * (uint64_t)raw->side * (uint64_t)raw->channels;
        struct pack_image image = {0, PACK_RAW, raw->side, raw->side, raw->channels, pixels, size};
        memset(pixels, raw->value, size);
        assert_int_equal(pack_writer_label(w, raw->label, &image.label), 0);
        assert_int_equal(pack_writer_add(w, &image), 0);
    }
    assert_int_equal(pack_writer_finish(w, NULL), 0);
}

static void flip_byte(const struct rig *r, const char *file, long offset)
{
    char path[128];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/batches/%s", r->dir, file);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

static void input_is(struct rig *r, enum resnet_arch arch, const struct raw *images, int count,
                     int channels, int side)
{
    struct job_options o;
    job_options_default(&o);
    o.learner.arch = arch;
    write_pack(r, "aaaa.train", images, count);
    r->train.train_count = count;
    assert_int_equal(data_choose_input(&r->source, &o, &r->why), 0);
    assert_int_equal(o.channels, channels);
    assert_int_equal(o.height, side);
    assert_int_equal(o.width, side);
    char path[128];
    snprintf(path, sizeof path, "%s/batches/aaaa.train", r->dir);
    assert_int_equal(unlink(path), 0);
}

static void test_input(void **state)
{
    struct rig *r = *state;
    const struct raw grey[] = {{"cat", 28, 1, 5}, {"dog", 28, 1, 9}};
    const struct raw mixed[] = {{"cat", 28, 1, 5}, {"dog", 28, 3, 9}};
    const struct raw sizes[] = {{"cat", 28, 1, 5}, {"dog", 30, 1, 9}};
    const struct raw large[] = {{"cat", 65, 3, 5}, {"dog", 65, 3, 9}};
    const struct raw small[] = {{"cat", 7, 1, 5}, {"dog", 7, 1, 9}};
    input_is(r, RESNET_CIFAR, grey, 2, 1, 28);
    input_is(r, RESNET_CIFAR, mixed, 2, 3, 28);
    input_is(r, RESNET_CIFAR, sizes, 2, 3, 32);
    input_is(r, RESNET_CIFAR, large, 2, 3, 32);
    input_is(r, RESNET_CIFAR, small, 2, 3, 32);
    input_is(r, RESNET_18, large, 2, 3, 32);
    input_is(r, RESNET_18, grey, 2, 3, 32); /* it takes no less */
}

static struct job_options grey_16(void)
{
    struct job_options o;
    job_options_default(&o);
    o.channels = 1;
    o.height = o.width = 16;
    return o;
}

static void test_images_and_labels(void **state)
{
    struct rig *r = *state;
    struct job_options o = grey_16();
    struct dataset d;
    /* Labels in the pack's own order; one of the test images is of a class nobody knows. */
    const struct raw train[] = {{"dog", 16, 1, 50}, {"cat", 32, 1, 70}, {"dog", 16, 1, 90}};
    const struct raw test[] = {{"emu", 16, 1, 1}, {"cat", 16, 1, 2}};
    write_pack(r, "aaaa.train", train, 3);
    write_pack(r, "bbbb.test", test, 2);
    r->train.train_count = 3;
    r->test.test_count = 2;
    struct data_set set;
    assert_int_equal(data_train(&r->source, &o, &set, &r->why), 0);
    assert_int_equal(set.images.count, 3);
    assert_int_equal(set.images.labels[0], 1);
    assert_int_equal(set.images.labels[1], 0);
    assert_int_equal(set.images.pixels[256], 70); /* shrunk to 16x16 */
    assert_int_equal(set.images.pixels[2 * 256 + 255], 90);
    data_set_release(&set);
    assert_int_equal(data_test(&r->source, &o, &d), 0);
    assert_int_equal(d.count, 1);
    assert_int_equal(d.labels[0], 0);
    assert_int_equal(d.pixels[0], 2);
    dataset_release(&d);
}

/* Images and bytes of the files of all versions but `but`. */
static void exemplars_hold(const struct rig *r, int64_t but, int images)
{
    static const int versions[] = {1, 2, 3, 4, 5, 20};
    struct data_exemplars_total total;
    int64_t bytes = 0;
    char path[128];
    struct stat st;
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        snprintf(path, sizeof path, "%s/exemplars/%d", r->dir, versions[i]);
        if (versions[i] != but && stat(path, &st) == 0)
            bytes += st.st_size;
    }
    assert_int_equal(data_exemplars_count(r->dir, but, &total), 0);
    assert_int_equal(total.images, images);
    assert_int_equal(total.bytes, bytes);
}

/* Kept images come after the new ones, in their order, as they were uploaded; those of classes that are not known yet,
 * which a version that was never active has left, do not come. */
static void test_exemplars(void **state)
{
    int64_t version, served[] = {3, 2, 1};
    struct rig *r = *state;
    struct job_options o = grey_16();
    struct data_set set;
    struct pack *pack;
    char folder[128], emu[] = "emu", *names[3] = {r->names[0], r->names[1], emu};
    const struct raw old[] = {{"dog", 16, 1, 10}, {"emu", 16, 1, 20}, {"cat", 16, 1, 30}, {"dog", 16, 1, 40}};
    const struct raw fresh[] = {{"emu", 32, 1, 50}, {"emu", 16, 1, 60}};
    snprintf(folder, sizeof folder, "%s/exemplars", r->dir);
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(folder, sizeof folder, "%s/tmp", r->dir);
    assert_int_equal(mkdir(folder, 0700), 0);
    write_pack(r, "../exemplars/2", old, 4);
    write_pack(r, "../exemplars/1", old, 1);  /* of before */
    write_pack(r, "../exemplars/20", old, 2); /* never served, though its number is the highest */
    r->plan.served = served;
    r->plan.served_count = 3;
    write_pack(r, "aaaa.train", fresh, 2);
    r->train.train_count = 2;
    r->plan.names = names;
    r->plan.known = 2;
    r->plan.classes = 3;
    r->plan.version = 4;
    assert_int_equal(data_train(&r->source, &o, &set, &r->why), 0); /* none asked for */
    assert_int_equal(set.images.count, 2);
    assert_int_equal(set.exemplars, 0);
    data_set_release(&set);

    o.learner.exemplars_total = 5;
    assert_int_equal(data_train(&r->source, &o, &set, &r->why), 0);
    assert_int_equal(set.images.count, 5);
    assert_int_equal(set.exemplars, 3);
    assert_int_equal(set.exemplars_version, 2);
    const int labels[5] = {2, 2, 1, 0, 1}, values[5] = {50, 60, 10, 30, 40};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(set.images.labels[i], labels[i]);
        assert_int_equal(set.images.pixels[i * 256], values[i]);
    }

    const int kept[3] = {4, 3, 0};
    assert_int_equal(data_keep(&r->source, &set, kept, 3), 0);
    assert_int_equal(data_exemplars_open(r->dir, (int64_t[]){4, 3, 2, 1}, 4, &pack, &version), 0);
    assert_int_equal(version, 4);
    assert_int_equal(pack_image_count(pack), 3);
    for (int i = 0; i < 3; i++) {
        struct pack_image image;
        assert_int_equal(pack_image(pack, i, &image), 0);
        assert_string_equal(pack_label(pack, image.label), names[labels[kept[i]]]);
        assert_int_equal(image.data[0], values[kept[i]]);
        assert_int_equal(image.width, kept[i] ? 16 : 32);
    }
    pack_close(pack);

    assert_int_equal(data_exemplars_forget(r->dir, (int64_t[]){3, 2}, 2), 0);
    exemplars_hold(r, 0, 3 + 1 + 2); /* of 4, 1 and 20 */
    exemplars_hold(r, 4, 1 + 2);

    r->plan.version = 5; /* removed meanwhile by a client: they do not come back, nor do others in their place */
    assert_int_equal(data_keep(&r->source, &set, kept, 3), 0);
    assert_int_equal(data_exemplars_open(r->dir, (int64_t[]){5, 1}, 2, &pack, &version), 0);
    assert_int_equal(version, 5);
    assert_int_equal(pack_image_count(pack), 1);
    pack_close(pack);
    assert_int_equal(data_exemplars_remove(r->dir), 0);
    assert_int_equal(data_exemplars_open(r->dir, (int64_t[]){5, 4, 1}, 3, &pack, &version),
                     ERR_MISSING);
    exemplars_hold(r, 0, 0);
    data_set_release(&set);
    rmdir(folder);
    snprintf(folder, sizeof folder, "%s/exemplars", r->dir);
    assert_int_equal(rmdir(folder), 0);
    r->plan.names = r->names;
    r->plan.classes = 2;
    r->plan.served = NULL;
    r->plan.served_count = 0;
}

static void test_damage(void **state)
{
    struct rig *r = *state;
    struct job_options o = grey_16();
    struct dataset d;
    struct data_set set;
    const struct raw images[] = {{"cat", 16, 1, 5}, {"dog", 16, 1, 9}};
    write_pack(r, "aaaa.train", images, 2);
    write_pack(r, "bbbb.test", images, 2);
    r->train.train_count = 2;
    r->test.test_count = 2;
    flip_byte(r, "aaaa.train", 300);
    flip_byte(r, "bbbb.test", 300);
    assert_int_equal(data_train(&r->source, &o, &set, &r->why), ERR_INVALID);
    assert_string_equal(r->why.code, "corrupt_batch");
    assert_int_equal(data_test(&r->source, &o, &d), 0); /* left out whole */
    assert_int_equal(d.count, 0);
    dataset_release(&d);

    flip_byte(r, "aaaa.train", 300);
    assert_int_equal(data_train(&r->source, &o, &set, &r->why), 0);
    data_set_release(&set);
    r->train.train_count = 3; /* the row promised more than the file holds */
    assert_int_equal(data_train(&r->source, &o, &set, &r->why), ERR_INVALID);
    assert_string_equal(r->why.code, "corrupt_batch");
}

static void test_commands(void **state)
{
    struct rig *r = *state;
    struct job_options o = grey_16();
    struct data_set set;
    const struct raw images[] = {{"cat", 16, 1, 5}};
    write_pack(r, "aaaa.train", images, 1);
    r->train.train_count = 1;
    atomic_store(&r->command, COMMAND_CANCEL);
    assert_int_equal(data_train(&r->source, &o, &set, &r->why), ERR_CANCELLED);
    atomic_store(&r->command, COMMAND_STOP);
    assert_int_equal(data_train(&r->source, &o, &set, &r->why), ERR_STOPPED);
}

/* ---- the sweep ---- */

static void path_of(const struct store *s, const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", s->dir, name);
}

static void touch(const struct store *s, const char *name)
{
    char path[256];
    path_of(s, name, path, sizeof path);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static bool remove_if_there(const struct store *s, const char *name)
{
    char path[256];
    path_of(s, name, path, sizeof path);
    return unlink(path) == 0;
}

static int write_history(struct db_txn *t, void *ctx)
{
    int64_t batch = 1, job;
    uint32_t confusion[1] = {0};
    struct evaluation e = {.classes = 1, .confusion = confusion};
    const char *names[] = {"cat"};
    (void)ctx;
    int err = jobs_insert(t, "{}", &batch, 1, 0, NULL, &job);
    struct version v = {.version = 1, .job = job, .step = 1, .classes = 1, .dense_bytes = 1,
                        .active = true};
    if (!err)
        err = jobs_start(t, job, "avx2", 1);
    if (!err)
        err = versions_insert(t, &v, names, 0, &e, &e);
    if (!err)
        err = jobs_succeed(t, job, 1, true, true);
    batch = 2;
    return err ? err : jobs_insert(t, "{}", &batch, 1, 0, NULL, &job);
}

/* Beside version 1, all of its step: 2 is held back, 3 served and was discarded, 4 was held back and discarded. */
static int write_branches(struct db_txn *t, void *ctx)
{
    uint32_t confusion[1] = {0};
    struct evaluation e = {.classes = 1, .confusion = confusion};
    const char *names[] = {"cat"};
    int err = 0;
    (void)ctx;
    for (int version = 2; version <= 4 && !err; version++) {
        int64_t job;
        err = jobs_insert(t, "{}", NULL, 0, 0, NULL, &job);
        struct version v = {.version = version, .job = job, .step = 1, .classes = 1, .dense_bytes = 1};
        if (!err)
            err = versions_insert(t, &v, names, 0, &e, &e);
    }
    if (!err)
        err = versions_activate(t, 3);
    if (!err)
        err = versions_activate(t, 1);
    for (int version = 3; version <= 4 && !err; version++)
        err = versions_discard(t, version);
    return err;
}

/* Replayed is what a version that served left, discarded or not; what is held back waits. */
static void test_sweep_of_exemplars(void **state)
{
    struct store *s = *state;
    char path[256];
    int64_t *served;
    int count;
    add_batch(s, "learned", "cat", NULL, 2, 2);
    add_batch(s, "waiting", "dog", NULL, 2, 0);
    assert_int_equal(db_write_wait(s->db, write_history, NULL), 0);
    assert_int_equal(db_write_wait(s->db, write_branches, NULL), 0);
    assert_int_equal(versions_served(db_reader(s->db), &served, &count), 0);
    assert_int_equal(count, 2);
    assert_int_equal(served[0], 1); /* the active one comes first */
    assert_int_equal(served[1], 3);
    free(served);

    path_of(s, "exemplars", path, sizeof path);
    assert_int_equal(mkdir(path, 0700), 0);
    static const char *const files[] = {"exemplars/1", "exemplars/2", "exemplars/3", "exemplars/4",
                                        "exemplars/5", "exemplars/x"};
    for (int i = 0; i < 6; i++)
        touch(s, files[i]);
    recovery_sweep(s->db, s->dir);
    for (int i = 0; i < 6; i++)
        if (remove_if_there(s, files[i]) != (i < 3))
            fail_msg("%s was %s", files[i], i < 3 ? "removed" : "left");
    assert_int_equal(rmdir(path), 0);
}

static void test_sweep(void **state)
{
    struct store *s = *state;
    static const char *const folders[] = {"models", "snapshots", "checkpoints", "batches"};
    char hash[65], file[128], path[256];
    memset(hash, 'a', 64);
    hash[64] = '\0';
    add_batch(s, "learned", "cat", NULL, 2, 2);
    add_batch(s, "waiting", "dog", NULL, 2, 0);
    assert_int_equal(db_write_wait(s->db, write_history, NULL), 0);
    for (int i = 0; i < 4; i++) {
        path_of(s, folders[i], path, sizeof path);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    static const char *const orphans[] = {"models/2", "snapshots/2", "models/1.tmp",
                                          "checkpoints/1", "checkpoints/9", "batches/ff.train"};
    static const char *const owned[] = {"models/1", "snapshots/1", "checkpoints/2"};
    for (size_t i = 0; i < sizeof orphans / sizeof orphans[0]; i++)
        touch(s, orphans[i]);
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        touch(s, owned[i]);
    snprintf(file, sizeof file, "batches/%s.train", hash);
    touch(s, file);
    recovery_sweep(s->db, s->dir);
    assert_false(remove_if_there(s, file)); /* consumed: the images of `learned` are gone */
    for (size_t i = 0; i < sizeof orphans / sizeof orphans[0]; i++)
        if (remove_if_there(s, orphans[i]))
            fail_msg("%s was left", orphans[i]);
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        if (!remove_if_there(s, owned[i]))
            fail_msg("%s was removed", owned[i]);
    for (int i = 0; i < 4; i++) {
        path_of(s, folders[i], path, sizeof path);
        assert_int_equal(rmdir(path), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_input, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_exemplars, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_images_and_labels, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_damage, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_commands, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_sweep, store_setup, store_teardown),
        cmocka_unit_test_setup_teardown(test_sweep_of_exemplars, store_setup, store_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
