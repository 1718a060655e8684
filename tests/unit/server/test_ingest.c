/*
 * test_ingest.c - from a spooled upload to packs: verdicts, refusals, splits, and that refusals
 * leave nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/err.h"
#include "server/decode/ingest.h"
#include "server/decode/tarball.h"
#include "server/store/pack.h"
#include "tests/unit/server/samples.h"

struct fixture {
    char dir[64], tmp[80], batches[80], spool[80];
    struct archive *tar;
    struct ingest_request req;
    struct ingest_result result;
    struct ingest_error error;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/test_ingest.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->tmp, sizeof f->tmp, "%s/tmp", f->dir);
    snprintf(f->batches, sizeof f->batches, "%s/batches", f->dir);
    snprintf(f->spool, sizeof f->spool, "%s/spool", f->dir);
    assert_int_equal(mkdir(f->tmp, 0700), 0);
    assert_int_equal(mkdir(f->batches, 0700), 0);
    f->req = (struct ingest_request){
        .spool_path = f->spool, .data_dir = f->dir, .max_image_bytes = 1 << 20};
    *state = f;
    return 0;
}

static int count_files(const char *dir)
{
    int count = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    int left = count_files(f->tmp); /* whatever happened, nothing stays behind in tmp/ */
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", f->dir);
    int failed = system(command);
    free(f);
    return left != 0 || failed;
}

/* ---- making uploads ---- */

static void tar_begin(struct fixture *f, bool gzip)
{
    f->tar = archive_write_new();
    archive_write_set_format_pax_restricted(f->tar);
    if (gzip)
        archive_write_add_filter_gzip(f->tar);
    assert_int_equal(archive_write_open_filename(f->tar, f->spool), ARCHIVE_OK);
}

enum { HARD_LINK = 1 }; /* beside libarchive's AE_IF* */

static void tar_entry(struct fixture *f, const char *path, int type, const void *data, size_t bytes)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_filetype(entry, type == HARD_LINK ? AE_IFREG : (unsigned)type);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)bytes);
    if (type == AE_IFLNK)
        archive_entry_set_symlink(entry, "/etc/passwd");
    if (type == HARD_LINK)
        archive_entry_set_hardlink(entry, "cat/good.png");
    assert_true(archive_write_header(f->tar, entry) >= ARCHIVE_WARN);
    if (bytes > 0)
        assert_int_equal(archive_write_data(f->tar, data, bytes), bytes);
    archive_entry_free(entry);
}

static void tar_file(struct fixture *f, const char *path, const void *data, size_t bytes)
{
    tar_entry(f, path, AE_IFREG, data, bytes);
}

static void tar_image(struct fixture *f, const char *path, int seed)
{
    struct sample s = grey_png(8, 8, seed);
    tar_file(f, path, s.data, s.size_bytes);
    free(s.data);
}

static void tar_end(struct fixture *f)
{
    struct stat st;
    assert_int_equal(archive_write_close(f->tar), ARCHIVE_OK);
    archive_write_free(f->tar);
    assert_int_equal(stat(f->spool, &st), 0);
    f->req.spool_bytes = (uint64_t)st.st_size;
}

static void spool(struct fixture *f, const void *data, size_t bytes)
{
    FILE *file = fopen(f->spool, "wb");
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
    f->req.spool_bytes = bytes;
}

/* A multipart body made part by part. */
static void part(struct sample *body, const char *name, const char *filename, const void *data,
                 size_t bytes)
{
    body->data = realloc(body->data, body->size_bytes + bytes + 300);
    body->size_bytes += (size_t)sprintf(
        (char *)body->data + body->size_bytes,
        "--X\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s\"\r\n\r\n", name,
        filename);
    memcpy(body->data + body->size_bytes, data, bytes);
    body->size_bytes += bytes;
    memcpy(body->data + body->size_bytes, "\r\n", 2);
    body->size_bytes += 2;
}

static void part_image(struct sample *body, const char *filename, int seed)
{
    struct sample s = grey_png(8, 8, seed);
    part(body, "image", filename, s.data, s.size_bytes);
    free(s.data);
}

static void spool_multipart(struct fixture *f, struct sample *body)
{
    memcpy(body->data + body->size_bytes, "--X--\r\n", 7);
    spool(f, body->data, body->size_bytes + 7);
    free(body->data);
    f->req.format = INGEST_MULTIPART;
    f->req.content_type = "multipart/form-data; boundary=X";
}

/* ---- judging ---- */

static void accept_upload(struct fixture *f)
{
    int err = ingest(&f->req, &f->result, &f->error);
    if (err != 0)
        fail_msg("%d %s: %s", f->error.status, f->error.code, f->error.detail);
}

static void refuse_upload(struct fixture *f, int status, const char *code)
{
    memset(&f->error, 0, sizeof f->error);
    assert_true(ingest(&f->req, &f->result, &f->error) < 0);
    assert_string_equal(f->error.code, code);
    assert_int_equal(f->error.status, status);
    assert_true(strlen(f->error.detail) > 10);
    assert_int_equal(count_files(f->tmp), 0);
    assert_int_equal(count_files(f->batches), 0);
}

static void assert_counts(const struct fixture *f, int train, int test, int rejected,
                          int duplicates)
{
    const struct batch *b = &f->result.batch;
    assert_int_equal(b->train_count, train);
    assert_int_equal(b->test_count, test);
    assert_int_equal(b->rejected, rejected);
    assert_int_equal(b->duplicates, duplicates);
}

static void assert_verdict(const struct fixture *f, const char *file, const char *verdict,
                           const char *reason)
{
    char text[256];
    snprintf(text, sizeof text, "{\"file\":\"%s\",\"verdict\":\"%s\",\"reason\":\"%s\"}", file,
             verdict, reason);
    if (!strstr(f->result.batch.verdicts, text))
        fail_msg("%s is not in %s", text, f->result.batch.verdicts);
}

static const struct batch_class *class_of(const struct fixture *f, const char *label)
{
    for (int i = 0; i < f->result.batch.class_count; i++) {
        if (strcmp(f->result.batch.classes[i].label, label) == 0)
            return &f->result.batch.classes[i];
    }
    fail_msg("no class %s", label);
    return NULL;
}

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
    spool(f, "bodi", 4);
    assert_int_equal(ingest_fingerprint(&f->req, second, &f->error), 0);
    assert_string_not_equal(first, second);
}

/* ---- multipart ---- */

static void multipart_labels_hold_for_what_follows(void **state)
{
    struct fixture *f = *state;
    struct sample body = {0};
    part_image(&body, "early.png", 9);
    part(&body, "label", "", "cat", 3);
    part_image(&body, "1.png", 1);
    part(&body, "image", "bad.png", "text", 4);
    part(&body, "label", "", "dog", 3);
    part_image(&body, "2.png", 2);
    part_image(&body, "3.png", 3);
    spool_multipart(f, &body);
    accept_upload(f);
    assert_counts(f, 3, 0, 2, 0);
    assert_int_equal(class_of(f, "dog")->train_count, 2);
    assert_verdict(f, "early.png", "rejected", "no_label");
    assert_verdict(f, "bad.png", "rejected", "unknown_format");
    ingest_release(&f->result);
}

static void refused_multiparts(void **state)
{
    struct fixture *f = *state;
    struct sample body = {0};
    spool(f, "--X\r\nnonsense", 13);
    f->req.format = INGEST_MULTIPART;
    f->req.content_type = "multipart/form-data; boundary=X";
    refuse_upload(f, 400, "bad_multipart");
    part(&body, "label", "", "cat\n", 4);
    spool_multipart(f, &body);
    refuse_upload(f, 422, "bad_label");
    body = (struct sample){0};
    part(&body, "label", "", "cat", 3);
    spool_multipart(f, &body);
    refuse_upload(f, 422, "empty_class");
    body = (struct sample){0};
    part(&body, "picture", "", "cat", 3);
    spool_multipart(f, &body);
    refuse_upload(f, 422, "unknown_part");
    body = (struct sample){0};
    part(&body, "images", "", "cat", 3);
    spool_multipart(f, &body);
    refuse_upload(f, 422, "missing_part");
}

/* ---- IDX ---- */

/* Twelve different 2x2 images with the labels 1, 2, 0, 1, 2, 0 ... */
static void spool_idx(struct fixture *f, size_t images_bytes)
{
    uint8_t images[16 + 48] = {0, 0, 8, 3, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0, 0, 2};
    uint8_t labels[8 + 12] = {0, 0, 8, 1, 0, 0, 0, 12};
    struct sample body = {0};
    for (int i = 0; i < 48; i++)
        images[16 + i] = (uint8_t)i;
    for (int i = 0; i < 12; i++)
        labels[8 + i] = (uint8_t)((i + 1) % 3);
    part(&body, "labels", "l", labels, sizeof labels);
    part(&body, "images", "i", images, images_bytes);
    spool_multipart(f, &body);
}

static void idx_with_chosen_classes(void **state)
{
    struct fixture *f = *state;
    struct pack *p;
    struct pack_image image;
    spool_idx(f, 64);
    f->req.classes = "2,0";
    f->req.names = "two,zero";
    accept_upload(f);
    assert_counts(f, 8, 0, 0, 0);
    assert_int_equal(f->result.batch.class_count, 2);
    assert_string_equal(f->result.batch.classes[0].label, "two");
    assert_int_equal(pack_open(&p, f->result.train_path), 0);
    assert_int_equal(pack_image(p, 1, &image), 0); /* the third of the file, label 0 */
    assert_string_equal(pack_label(p, image.label), "zero");
    assert_int_equal(image.encoding, PACK_RAW);
    assert_memory_equal(image.data, ((uint8_t[]){8, 9, 10, 11}), 4);
    pack_close(p);
    ingest_release(&f->result);
}

static void idx_with_all_or_named_classes(void **state)
{
    struct fixture *f = *state;
    spool_idx(f, 64);
    accept_upload(f);
    assert_counts(f, 12, 0, 0, 0);
    assert_string_equal(f->result.batch.classes[0].label,
                        "0"); /* though 1 comes first in the file */
    assert_int_equal(class_of(f, "1")->train_count, 4);
    ingest_release(&f->result);
    f->req.names = "a,b,c";
    accept_upload(f);
    assert_int_equal(class_of(f, "c")->train_count, 4);
    ingest_release(&f->result);
    f->req.names = NULL;
    f->req.classes = "1";
    accept_upload(f);
    assert_int_equal(class_of(f, "1")->train_count, 4);
    assert_counts(f, 4, 0, 0, 0);
    ingest_release(&f->result);
}

static void refused_idx(void **state)
{
    struct fixture *f = *state;
    spool_idx(f, 63);
    refuse_upload(f, 422, "bad_idx");
    static const struct {
        const char *classes, *names, *code;
        int status;
    } cases[] = {
        {"0,x", NULL, "bad_query", 400},      {"0,0", NULL, "bad_query", 400},
        {"0,256", NULL, "bad_query", 400},    {"", NULL, "bad_query", 400},
        {"0,", NULL, "bad_query", 400},       {"0,1", "one", "bad_query", 400},
        {"0,1", "a,a", "bad_query", 400},     {"0,1", "a,b,c", "bad_query", 400},
        {NULL, "a,b", "bad_query", 400},      {"0,1", "a,", "bad_label", 422},
        {"0,1", "a,b/c", "bad_label", 422},   {"0,7", NULL, "empty_class", 422},
        {NULL, "a,b,c,d", "empty_class", 422}, {" 1", NULL, "bad_query", 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spool_idx(f, 64);
        f->req.classes = cases[i].classes;
        f->req.names = cases[i].names;
        refuse_upload(f, cases[i].status, cases[i].code);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
        TEST(multipart_labels_hold_for_what_follows),
        TEST(refused_multiparts),
        TEST(idx_with_chosen_classes),
        TEST(idx_with_all_or_named_classes),
        TEST(refused_idx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
