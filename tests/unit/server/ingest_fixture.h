/*
 * ingest_fixture.h - an upload in a temporary directory, made as a tar or a multipart body, and what
 * ingest says of it: for the tests of the ways an upload can come.
 */
#ifndef ACCRETED_TESTS_INGEST_FIXTURE_H
#define ACCRETED_TESTS_INGEST_FIXTURE_H

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

static inline int set_up(void **state)
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

static inline int count_files(const char *dir)
{
    int count = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static inline int tear_down(void **state)
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

static inline void tar_begin(struct fixture *f, bool gzip)
{
    f->tar = archive_write_new();
    archive_write_set_format_pax_restricted(f->tar);
    if (gzip)
        archive_write_add_filter_gzip(f->tar);
    assert_int_equal(archive_write_open_filename(f->tar, f->spool), ARCHIVE_OK);
}

enum { HARD_LINK = 1 }; /* beside libarchive's AE_IF* */

static inline void tar_entry(struct fixture *f, const char *path, int type, const void *data, size_t bytes)
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

static inline void tar_file(struct fixture *f, const char *path, const void *data, size_t bytes)
{
    tar_entry(f, path, AE_IFREG, data, bytes);
}

static inline void tar_image(struct fixture *f, const char *path, int seed)
{
    struct sample s = grey_png(8, 8, seed);
    tar_file(f, path, s.data, s.size_bytes);
    free(s.data);
}

static inline void tar_end(struct fixture *f)
{
    struct stat st;
    assert_int_equal(archive_write_close(f->tar), ARCHIVE_OK);
    archive_write_free(f->tar);
    assert_int_equal(stat(f->spool, &st), 0);
    f->req.spool_bytes = (uint64_t)st.st_size;
}

static inline void spool(struct fixture *f, const void *data, size_t bytes)
{
    FILE *file = fopen(f->spool, "wb");
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
    f->req.spool_bytes = bytes;
}

/* A multipart body made part by part. */
static inline void part(struct sample *body, const char *name, const char *filename, const void *data,
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

static inline void part_image(struct sample *body, const char *filename, int seed)
{
    struct sample s = grey_png(8, 8, seed);
    part(body, "image", filename, s.data, s.size_bytes);
    free(s.data);
}

static inline void spool_multipart(struct fixture *f, struct sample *body)
{
    memcpy(body->data + body->size_bytes, "--X--\r\n", 7);
    spool(f, body->data, body->size_bytes + 7);
    free(body->data);
    f->req.format = INGEST_MULTIPART;
    f->req.content_type = "multipart/form-data; boundary=X";
}

/* ---- judging ---- */

static inline void accept_upload(struct fixture *f)
{
    int err = ingest(&f->req, &f->result, &f->error);
    if (err != 0)
        fail_msg("%d %s: %s", f->error.status, f->error.code, f->error.detail);
}

static inline void refuse_upload(struct fixture *f, int status, const char *code)
{
    memset(&f->error, 0, sizeof f->error);
    assert_true(ingest(&f->req, &f->result, &f->error) < 0);
    assert_string_equal(f->error.code, code);
    assert_int_equal(f->error.status, status);
    assert_true(strlen(f->error.detail) > 10);
    assert_int_equal(count_files(f->tmp), 0);
    assert_int_equal(count_files(f->batches), 0);
}

static inline void assert_counts(const struct fixture *f, int train, int test, int rejected,
                          int duplicates)
{
    const struct batch *b = &f->result.batch;
    assert_int_equal(b->train_count, train);
    assert_int_equal(b->test_count, test);
    assert_int_equal(b->rejected, rejected);
    assert_int_equal(b->duplicates, duplicates);
}

static inline void assert_verdict(const struct fixture *f, const char *file, const char *verdict,
                           const char *reason)
{
    char text[256];
    snprintf(text, sizeof text, "{\"file\":\"%s\",\"verdict\":\"%s\",\"reason\":\"%s\"}", file,
             verdict, reason);
    if (!strstr(f->result.batch.verdicts, text))
        fail_msg("%s is not in %s", text, f->result.batch.verdicts);
}

static inline const struct batch_class *class_of(const struct fixture *f, const char *label)
{
    for (int i = 0; i < f->result.batch.class_count; i++) {
        if (strcmp(f->result.batch.classes[i].label, label) == 0)
            return &f->result.batch.classes[i];
    }
    fail_msg("no class %s", label);
    return NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
