/*
 * test_ingest.c - from a spooled tar to packs: verdicts, refusals, splits, and that refusals leave
 * nothing.
 */
#include "tests/unit/server/ingest_fixture.h"

/* ---- tar ---- */

static void tar_of_two_classes(void **state)
{
    struct fixture *f = *state;
    tar_begin(f, true);
    tar_entry(f, "./", AE_IFDIR, NULL, 0);
    tar_entry(f, "./cat/", AE_IFDIR, NULL, 0);
    tar_image(f, "./cat/1.png", 1);
    tar_image(f, "dog/1.png", 2);
    tar_image(f, "dog/2.png", 3);
    tar_image(f, "h\xc3\xa9risson/\xf0\x9f\xa6\x94.png", 4);
    tar_end(f);
    accept_upload(f);
    assert_counts(f, 4, 0, 0, 0);
    assert_int_equal(f->result.batch.class_count, 3);
    assert_string_equal(f->result.batch.classes[0].label, "cat");
    assert_int_equal(class_of(f, "dog")->train_count, 2);
    assert_int_equal(class_of(f, "h\xc3\xa9risson")->train_count, 1);
    assert_string_equal(f->result.batch.verdicts, "[]");
    assert_int_equal(strncmp(f->result.batch.name, "batch-", 6), 0);
    assert_int_equal(strlen(f->result.batch.name), 18);
    assert_string_equal(f->result.test_path, "");
    assert_int_equal(ingest_publish(&f->result, f->dir), 0);
    char path[256];
    snprintf(path, sizeof path, "%s/%s.train", f->batches, f->result.batch.hash);
    struct pack *p;
    struct pack_image image;
    assert_int_equal(pack_open(&p, path), 0);
    assert_int_equal(pack_image_count(p), 4);
    assert_int_equal(pack_image(p, 1, &image), 0);
    assert_string_equal(pack_label(p, image.label), "dog");
    assert_int_equal(image.encoding, PACK_PNG);
    assert_int_equal(image.width, 8);
    pack_close(p);
    ingest_release(&f->result);
    assert_int_equal(count_files(f->batches), 1);
}

static void each_file_gets_its_verdict(void **state)
{
    struct fixture *f = *state;
    struct sample s = grey_png(8, 8, 9);
    char *big = calloc(1, 2 << 20);
    tar_begin(f, false);
    tar_image(f, "cat/good.png", 1);
    tar_image(f, "cat/again.png", 1);
    tar_image(f, "dog/good.png", 2);
    tar_image(f, "dog/stolen.png", 1);
    tar_file(f, "cat/cut.png", s.data, s.size_bytes / 2);
    tar_file(f, "cat/text.jpg", "not an image", 12);
    tar_file(f, "cat/empty.png", "", 0);
    tar_file(f, "cat/big.png", big, 2 << 20);
    tar_file(f, "cat/._good.png", "AppleDouble", 11);
    tar_file(f, ".git/objects/aa/bb", "x", 1);
    tar_file(f, "loose.png", s.data, s.size_bytes);
    tar_file(f, "cat/deep/er.png", s.data, s.size_bytes);
    tar_file(f, "../cat/up.png", s.data, s.size_bytes);
    tar_file(f, "/cat/root.png", s.data, s.size_bytes);
    tar_file(f, "cat//two.png", s.data, s.size_bytes);
    tar_file(f, "../up.png", s.data, s.size_bytes);
    tar_file(f, "/root.png", s.data, s.size_bytes);
    tar_file(f, "cat/..", s.data, s.size_bytes);
    tar_entry(f, "cat/link.png", AE_IFLNK, NULL, 0);
    tar_entry(f, "cat/pipe.png", AE_IFIFO, NULL, 0);
    tar_entry(f, "cat/hard.png", HARD_LINK, NULL, 0);
    tar_file(f, "cat/\x1b[31m\xff.png", "x", 1);
    tar_end(f);
    accept_upload(f);
    assert_counts(f, 2, 0, 17, 1);
    assert_verdict(f, "cat/again.png", "duplicate", "duplicate_image");
    assert_verdict(f, "dog/stolen.png", "rejected", "conflicting_label");
    assert_verdict(f, "cat/cut.png", "rejected", "damaged_image");
    assert_verdict(f, "cat/text.jpg", "rejected", "unknown_format");
    assert_verdict(f, "cat/empty.png", "rejected", "empty_file");
    assert_verdict(f, "cat/big.png", "rejected", "file_too_large");
    assert_verdict(f, "cat/._good.png", "ignored", "hidden_file");
    assert_verdict(f, ".git/objects/aa/bb", "ignored", "hidden_file");
    assert_verdict(f, "loose.png", "rejected", "bad_path");
    assert_verdict(f, "cat/deep/er.png", "rejected", "bad_path");
    assert_verdict(f, "../cat/up.png", "rejected", "bad_path");
    assert_verdict(f, "/cat/root.png", "rejected", "bad_path");
    assert_verdict(f, "cat//two.png", "rejected", "bad_path");
    assert_verdict(f, "../up.png", "rejected", "bad_path");
    assert_verdict(f, "/root.png", "rejected", "bad_path");
    assert_verdict(f, "cat/..", "rejected", "bad_path");
    assert_verdict(f, "cat/hard.png", "rejected", "not_a_regular_file");
    assert_verdict(f, "cat/link.png", "rejected", "not_a_regular_file");
    assert_verdict(f, "cat/pipe.png", "rejected", "not_a_regular_file");
    assert_verdict(f, "cat/?[31m?.png", "rejected", "unknown_format");
    ingest_release(&f->result);
    free(s.data);
    free(big);
}

static void refused_tars(void **state)
{
    struct fixture *f = *state;
    spool(f, "", 0);
    refuse_upload(f, 400, "empty_body");
    spool(f, "\x89PNG\r\n\x1a\n and no tar at all", 26);
    refuse_upload(f, 415, "bad_archive");
    char text[4096];
    memset(text, 't', sizeof text);
    spool(f, text, sizeof text);
    refuse_upload(f, 415, "bad_archive");
    tar_begin(f, false);
    tar_end(f);
    refuse_upload(f, 422, "no_valid_image");
    tar_begin(f, false);
    tar_file(f, "cat/a.txt", "text", 4);
    tar_end(f);
    refuse_upload(f, 422, "no_valid_image");
    tar_begin(f, false);
    tar_image(f, "cat/a.png", 1);
    tar_entry(f, "dog", AE_IFDIR, NULL, 0);
    tar_end(f);
    refuse_upload(f, 422, "empty_class");
    tar_begin(f, false);
    tar_image(f, "cat/a.png", 1);
    tar_file(f, "dog/a.png", "text", 4);
    tar_end(f);
    refuse_upload(f, 422, "empty_class");
    tar_begin(f, false);
    tar_image(f, "cat/a.png", 1);
    tar_end(f);
    f->req.classes = "0";
    refuse_upload(f, 400, "bad_query");
}

static void a_cut_archive_is_refused(void **state)
{
    struct fixture *f = *state;
    for (int gzip = 0; gzip < 2; gzip++) {
        tar_begin(f, gzip);
        tar_image(f, "cat/1.png", 1);
        tar_image(f, "cat/2.png", 2);
        tar_end(f);
        f->req.spool_bytes = gzip ? f->req.spool_bytes / 2
                                  : 1600; /* within the second file's bytes */
        refuse_upload(f, 422, "bad_archive");
    }
}

static void labels_that_are_none(void **state)
{
    struct fixture *f = *state;
    static const char *bad[] = {
        "a\\b/1.png",
        " cat/1.png",
        "cat /1.png",
        "c\x01t/1.png",
        "c\xfft/1.png",
        "rtl\xe2\x80\xae/1.png",
        "01234567890123456789012345678901234567890123456789012345678901234/1.png"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        tar_begin(f, false);
        tar_image(f, "good/1.png", 1);
        tar_image(f, bad[i], 2);
        tar_end(f);
        refuse_upload(f, 422, "bad_label");
    }
    assert_true(label_valid("T-shirt"));
    assert_true(label_valid("\xe7\x8c\xab"));
    assert_true(label_valid("0123456789012345678901234567890123456789012345678901234567890123"));
    assert_false(label_valid(""));
    assert_false(label_valid(".cat"));
    assert_false(label_valid("\xc0\xaf"));     /* overlong '/' */
    assert_false(label_valid("\xe0\x81\xa1")); /* an overlong letter */
    assert_false(label_valid("\xed\xa0\x80")); /* a surrogate */
    assert_false(label_valid("cat\n"));
}

/* Zeros that gzip makes a thousand times smaller, in one file too large to be loaded. */
static void a_bomb_is_refused(void **state)
{
    struct fixture *f = *state;
    size_t bytes = 160u << 20;
    char *zeros = calloc(1, bytes);
    tar_begin(f, true);
    tar_image(f, "cat/1.png", 1);
    tar_file(f, "cat/bomb.png", zeros, bytes);
    tar_end(f);
    free(zeros);
    refuse_upload(f, 422, "bad_archive");
    assert_non_null(strstr(f->error.detail, "expands"));
}

static void a_full_disk_is_refused(void **state)
{
    struct fixture *f = *state;
    tar_begin(f, false);
    tar_image(f, "cat/1.png", 1);
    tar_end(f);
    f->req.min_free_bytes = UINT64_MAX / 2;
    refuse_upload(f, 507, "disk_full");
}

/* ---- splits and hashes ---- */

static void tar_many(struct fixture *f, int from, int to, int step)
{
    tar_begin(f, false);
    for (int i = from; i != to; i += step) {
        char path[32];
        snprintf(path, sizeof path, "%s/%d.png", i % 2 ? "odd" : "even", i);
        tar_image(f, path, i);
    }
    tar_image(f, "rare/1.png", 100);
    tar_end(f);
}

static void test_split_keeps_all_for_tests(void **state)
{
    struct fixture *f = *state;
    tar_many(f, 0, 10, 1);
    f->req.test_split = true;
    accept_upload(f);
    assert_counts(f, 0, 11, 0, 0);
    assert_string_equal(f->result.train_path, "");
    assert_int_equal(class_of(f, "even")->test_count, 5);
    assert_true(f->result.batch.test_bytes > 0);
    ingest_release(&f->result);
}

static void holdout_is_chosen_by_content(void **state)
{
    struct fixture *f = *state;
    char hash[HASH_HEX_BYTES];
    struct pack *train, *test;
    struct pack_image image;
    f->req.holdout = 0.3;
    tar_many(f, 0, 20, 1);
    accept_upload(f);
    assert_counts(f, 15, 6, 0, 0); /* 3 of each ten; of the only image none */
    assert_int_equal(class_of(f, "odd")->test_count, 3);
    assert_int_equal(class_of(f, "rare")->train_count, 1);
    assert_int_equal(pack_open(&train, f->result.train_path), 0);
    assert_int_equal(pack_open(&test, f->result.test_path), 0);
    assert_int_equal(pack_image_count(train), 15);
    assert_int_equal(pack_image_count(test), 6);
    assert_int_equal(pack_image(test, 0, &image), 0);
    assert_string_equal(pack_label(test, image.label), pack_label(train, image.label));
    pack_close(train);
    pack_close(test);
    memcpy(hash, f->result.batch.hash, sizeof hash);
    ingest_release(&f->result);
    tar_many(f, 19, -1, -1); /* the other way round */
    accept_upload(f);
    assert_string_equal(f->result.batch.hash, hash);
    ingest_release(&f->result);
    f->req.holdout = 0.9;
    accept_upload(f);
    assert_counts(f, 3, 18, 0, 0);
    assert_string_not_equal(f->result.batch.hash, hash);
    ingest_release(&f->result);
}

static void hash_covers_labels_name_and_pixels(void **state)
{
    struct fixture *f = *state;
    char hashes[4][HASH_HEX_BYTES];
    for (int i = 0; i < 4; i++) {
        tar_begin(f, false);
        tar_image(f, i == 1 ? "dog/1.png" : "cat/1.png", i == 2 ? 2 : 1);
        tar_end(f);
        f->req.name = i == 3 ? "other" : "name";
        accept_upload(f);
        memcpy(hashes[i], f->result.batch.hash, HASH_HEX_BYTES);
        ingest_release(&f->result);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(hashes[i], hashes[j]);
    }
}

static void fingerprint_covers_body_and_options(void **state)
{
    struct fixture *f = *state;
    char first[HASH_HEX_BYTES], second[HASH_HEX_BYTES];
    spool(f, "body", 4);
    assert_int_equal(ingest_fingerprint(&f->req, first, &f->error), 0);
    assert_int_equal(ingest_fingerprint(&f->req, second, &f->error), 0);
    assert_string_equal(first, second);
    f->req.holdout = 0.1;
    assert_int_equal(ingest_fingerprint(&f->req, second, &f->error), 0);
    assert_string_not_equal(first, second);
    f->req.holdout = 0;
    f->req.names = "";
    assert_int_equal(ingest_fingerprint(&f->req, second, &f->error), 0);
    assert_string_not_equal(first, second);
    f->req.names = NULL;
    f->req.label = "cat";
    assert_int_equal(ingest_fingerprint(&f->req, second, &f->error), 0);
    assert_string_not_equal(first, second);
    f->req.label = NULL;
    spool(f, "bodi", 4);
    assert_int_equal(ingest_fingerprint(&f->req, second, &f->error), 0);
    assert_string_not_equal(first, second);
}

static void refuse_stopped(struct fixture *f, int err)
{
    assert_int_equal(err, ERR_STOPPED);
    assert_string_equal(f->error.code, "shutting_down");
    assert_int_equal(f->error.status, 503);
    assert_int_equal(count_files(f->tmp), 0);
}

/* Whatever is being read, and before an image is looked at: in each form it is no damage of the upload's. */
static void a_stop_ends_it(void **state)
{
    struct fixture *f = *state;
    char hash[HASH_HEX_BYTES];
    atomic_bool stop = true;
    f->req.stop = &stop;
    tar_begin(f, true);
    tar_image(f, "cat/1.png", 1);
    tar_end(f);
    refuse_stopped(f, ingest(&f->req, &f->result, &f->error));
    refuse_stopped(f, ingest_fingerprint(&f->req, hash, &f->error));
    f->req.format = INGEST_CIFAR10;
    refuse_stopped(f, ingest(&f->req, &f->result, &f->error));
    struct sample body = {0};
    part_image(&body, "1.png", 1);
    part(&body, "label", "", "cat", 3);
    spool_multipart(f, &body);
    refuse_stopped(f, ingest(&f->req, &f->result, &f->error));
    struct sample image = grey_png(8, 8, 1);
    spool(f, image.data, image.size_bytes);
    f->req.format = INGEST_IMAGE;
    f->req.label = "cat";
    refuse_stopped(f, ingest(&f->req, &f->result, &f->error));
    stop = false;
    accept_upload(f);
    ingest_release(&f->result);
    free(image.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tar_of_two_classes),
        TEST(each_file_gets_its_verdict),
        TEST(refused_tars),
        TEST(a_cut_archive_is_refused),
        TEST(labels_that_are_none),
        TEST(a_bomb_is_refused),
        TEST(a_full_disk_is_refused),
        TEST(test_split_keeps_all_for_tests),
        TEST(holdout_is_chosen_by_content),
        TEST(hash_covers_labels_name_and_pixels),
        TEST(fingerprint_covers_body_and_options),
        TEST(a_stop_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
