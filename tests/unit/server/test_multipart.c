/*
 * test_multipart.c - multipart/form-data: what curl and browsers send is read, anything crooked is
 * refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/err.h"
#include "server/decode/multipart.h"

static const char type[] = "multipart/form-data; boundary=X";

/* Parts of `body` (its own copy, so that the sanitizer sees a read beyond it), or the error. */
static int count_parts(const char *content_type, const char *body, size_t bytes)
{
    struct multipart m;
    struct multipart_part part;
    int parts = 0, got;
    char *copy = malloc(bytes + (bytes == 0));
    memcpy(copy, body, bytes);
    got = multipart_init(&m, content_type, span_of_memory(copy, bytes));
    bool begun = got == 0;
    while (begun && (got = multipart_next(&m, &part)) == 1) {
        const char *data = (const char *)part.data;
        assert_true(data >= copy && data + part.size_bytes <= copy + bytes);
        parts++;
    }
    free(copy);
    return got < 0 ? got : parts;
}

static int count_text(const char *body)
{
    return count_parts(type, body, strlen(body));
}

static void what_curl_sends(void **state)
{
    (void)state;
    static const char body[] =
        "--X\r\n"
        "Content-Disposition: form-data; name=\"label\"\r\n\r\n"
        "cat\r\n"
        "--X\r\n"
        "Content-Disposition: form-data; name=\"image\"; filename=\"a \\\"b\\\".jpg\"\r\n"
        "Content-Type: image/jpeg\r\n\r\n"
        "\0\r\n--Y\r\n--\xff\r\n"
        "--X\r\n"
        "Content-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n"
        "--X--\r\n";
    struct multipart m;
    struct multipart_part part;
    assert_int_equal(multipart_init(&m, "multipart/form-data; boundary=X",
                                    span_of_memory(body, sizeof body - 1)),
                     0);
    assert_int_equal(multipart_next(&m, &part), 1);
    assert_string_equal(part.name, "label");
    assert_string_equal(part.filename, "");
    assert_int_equal(part.size_bytes, 3);
    assert_memory_equal(part.data, "cat", 3);
    assert_int_equal(multipart_next(&m, &part), 1);
    assert_string_equal(part.name, "image");
    assert_string_equal(part.filename, "a \"b\".jpg");
    assert_string_equal(part.content_type, "image/jpeg");
    assert_int_equal(part.size_bytes, 11);
    assert_memory_equal(part.data, "\0\r\n--Y\r\n--\xff", 11);
    assert_int_equal(multipart_next(&m, &part), 1);
    assert_string_equal(part.name, "empty");
    assert_int_equal(part.size_bytes, 0);
    assert_int_equal(multipart_next(&m, &part), 0);
    assert_int_equal(multipart_next(&m, &part), 0);
}

static void the_type_and_its_boundary(void **state)
{
    (void)state;
    static const char empty[] = "--X--\r\n";
    assert_true(multipart_accepts("Multipart/Form-Data;boundary=X"));
    assert_false(multipart_accepts("multipart/form-database"));
    assert_false(multipart_accepts("image/png"));
    assert_false(multipart_accepts(NULL));
    static const char *good[] = {"multipart/form-data; boundary=X",
                                 "MULTIPART/form-data;charset=utf-8; Boundary=\"X\"",
                                 "multipart/form-data ; boundary=X;"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(count_parts(good[i], empty, sizeof empty - 1), 0);
    static const char *bad[] = {
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=X",
        "multipart/form-data; boundary=X; boundary=X",
        "multipart/form-data; boundary=\"X",
        "multipart/form-data; boundary=\"X \"",
        "multipart/form-data; boundary=\"X\\\"\"",
        "multipart/form-data; boundary=0123456789012345678901234567890123456789012345678901"
        "2345678901234567890"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(count_parts(bad[i], empty, sizeof empty - 1), ERR_FORMAT);
}

#define DISPOSITION "Content-Disposition: form-data; name=\"a\"\r\n"

static void crooked_bodies(void **state)
{
    (void)state;
    assert_int_equal(count_text("--X\r\n" DISPOSITION "\r\nv\r\n--X--"), 1);
    assert_int_equal(count_text("--X\r\n" DISPOSITION "\r\n--X--"), 1); /* no body at all */
    static const char *bad[] = {
        "",
        "-",
        "--X",
        "--X\r\n",
        "--X-",
        "preamble\r\n--X\r\n" DISPOSITION "\r\nv\r\n--X--\r\n",
        "--X\r\n" DISPOSITION "\r\nv\r\n--X--\r\nepilogue",
        "--X\r\n" DISPOSITION "\r\nv\r\n--X-\r\n",
        "--X\r\n" DISPOSITION "\r\nv\r\n--Xtra\r\n",
        "--X\r\n" DISPOSITION "\r\nv",
        "--X\n" DISPOSITION "\r\nv\r\n--X--\r\n",
        "--X\r\n\r\nno name\r\n--X--\r\n",
        "--X\r\nContent-Disposition: form-data\r\n\r\nv\r\n--X--\r\n",
        "--X\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\nv\r\n--X--\r\n",
        "--X\r\nContent-Disposition: form-data; name=\"a\"; name=\"b\"\r\n\r\nv\r\n--X--\r\n",
        "--X\r\nContent-Disposition: form-data; name=\"a\r\n\r\nv\r\n--X--\r\n",
        "--X\r\n" DISPOSITION " folded: line\r\n\r\nv\r\n--X--\r\n",
        "--X\r\n" DISPOSITION "no colon\r\n\r\nv\r\n--X--\r\n",
        "--X\r\n" DISPOSITION "Content-Transfer-Encoding: base64\r\n\r\nv\r\n--X--\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(count_text(bad[i]), ERR_FORMAT);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    static const char body[] = "--X\r\n" DISPOSITION
                               "Content-Type: text/plain\r\n\r\none\r\n--X\r\n" DISPOSITION
                               "\r\n\r\n--X--";
    assert_int_equal(count_parts(type, body, sizeof body - 1), 2);
    for (size_t bytes = 0; bytes < sizeof body - 1; bytes++)
        assert_int_equal(count_parts(type, body, bytes), ERR_FORMAT);
}

static void names_and_headers_have_limits(void **state)
{
    (void)state;
    char *body = malloc(20000);
    for (int length = 63; length <= 64; length++) {
        snprintf(body, 20000,
                 "--X\r\nContent-Disposition: form-data; name=\"%0*d\"\r\n\r\nv\r\n--X--\r\n",
                 length, 0);
        assert_int_equal(count_text(body), length == 63 ? 1 : ERR_FORMAT);
    }
    strcpy(body, "--X\r\n" DISPOSITION "Other: ");
    size_t used = strlen(body);
    memset(body + used, 'h', 9000);
    strcpy(body + used + 9000, "\r\n\r\nv\r\n--X--\r\n");
    assert_int_equal(count_text(body), ERR_FORMAT);
    strcpy(body + used + 4000, "\r\n\r\nv\r\n--X--\r\n");
    assert_int_equal(count_text(body), 1);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_curl_sends),
        cmocka_unit_test(the_type_and_its_boundary),
        cmocka_unit_test(crooked_bodies),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(names_and_headers_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
