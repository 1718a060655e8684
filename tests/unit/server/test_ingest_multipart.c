/*
 * test_ingest_multipart.c - from a spooled multipart body to packs: images with labels, and IDX files.
 */
#include "tests/unit/server/ingest_fixture.h"

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
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(multipart_labels_hold_for_what_follows),
        TEST(refused_multiparts),
        TEST(idx_with_chosen_classes),
        TEST(idx_with_all_or_named_classes),
        TEST(refused_idx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
