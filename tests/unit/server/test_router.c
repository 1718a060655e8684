/*
 * test_router.c - patterns, parameters, percent-decoding, and paths that try to climb out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/http/router.h"

static const struct route routes[] = {
    {"GET", "/", BODY_NONE, 0, NULL, ACCESS_OPEN},
    {"GET", "/jobs", BODY_NONE, 0, NULL, ACCESS_OPEN},
    {"POST", "/jobs", BODY_MEMORY, 10, NULL, ACCESS_OPEN},
    {"GET", "/jobs/{id}", BODY_NONE, 0, NULL, ACCESS_OPEN},
    {"POST", "/jobs/{id}/cancel", BODY_NONE, 0, NULL, ACCESS_OPEN},
    {"PUT", "/a/{one}/b/{two}", BODY_SPOOL, 0, NULL, ACCESS_OPEN},
    {0},
};

static struct route_match match;

static void assert_route(const char *method, const char *path, int index)
{
    assert_int_equal(router_find(routes, method, path, &match), ROUTE_FOUND);
    assert_ptr_equal(match.route, &routes[index]);
}

static void test_patterns(void **state)
{
    (void)state;
    assert_route("GET", "/", 0);
    assert_route("GET", "/jobs", 1);
    assert_route("POST", "/jobs", 2);
    assert_route("GET", "/jobs/7", 3);
    assert_route("POST", "/jobs/7/cancel", 4);
    assert_route("HEAD", "/jobs", 1);
    assert_route("GET", "/%6aobs", 1);
}

static void test_parameters(void **state)
{
    (void)state;
    assert_route("PUT", "/a/x%20y%c3%a9/b/%7E..z", 5);
    assert_int_equal(match.param_count, 2);
    assert_string_equal(match.params[0].name, "one");
    assert_string_equal(match.params[0].value, "x y\xc3\xa9");
    assert_string_equal(match.params[1].name, "two");
    assert_string_equal(match.params[1].value, "~..z");
}

static void test_not_found(void **state)
{
    (void)state;
    static const char *const paths[] = {"/job",        "/jobss",   "/jobs/",    "/jobs//cancel",
                                        "//jobs",      "/jobs/1/", "/jobs/1/x", "/a/1/b",
                                        "/a/1/b/2/c", "/JOBS",    "/jobs/1/cancel/"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        assert_int_equal(router_find(routes, "GET", paths[i], &match), ROUTE_NOT_FOUND);
}

static void test_wrong_method(void **state)
{
    (void)state;
    assert_int_equal(router_find(routes, "DELETE", "/jobs", &match), ROUTE_WRONG_METHOD);
    assert_string_equal(match.allow, "GET, HEAD, POST");
    assert_int_equal(router_find(routes, "HEAD", "/jobs/1/cancel", &match), ROUTE_WRONG_METHOD);
    assert_string_equal(match.allow, "POST");
    assert_int_equal(router_find(routes, "get", "/jobs", &match), ROUTE_WRONG_METHOD);
}

static void test_bad_paths(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "",          "jobs",          "*",            "http://x/jobs", "/jobs/..",   "/jobs/.",
        "/../jobs",  "/jobs/%2e%2e",  "/jobs/.%2E",   "/jobs/a%2fb",   "/jobs/%2F",  "/jobs/%",
        "/jobs/%4",  "/jobs/%zz",     "/jobs/%4z",    "/jobs/a%00b",   "/jobs/%00",
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        assert_int_equal(router_find(routes, "GET", paths[i], &match), ROUTE_BAD_PATH);
}

static void test_length_limit(void **state)
{
    (void)state;
    char path[6 + ROUTE_VALUE_BYTES + 1] = "/jobs/";
    memset(path + 6, 'x', ROUTE_VALUE_BYTES);
    assert_int_equal(router_find(routes, "GET", path, &match), ROUTE_BAD_PATH);
    path[6 + ROUTE_VALUE_BYTES - 1] = '\0';
    assert_route("GET", path, 3);
    assert_int_equal(strlen(match.params[0].value), ROUTE_VALUE_BYTES - 1);
}

static void test_percent_decode(void **state)
{
    (void)state;
    char out[4];
    assert_true(percent_decode(out, sizeof out, "%41b%43", 7));
    assert_string_equal(out, "AbC");
    assert_false(percent_decode(out, sizeof out, "abcd", 4)); /* no room for the end */
    assert_false(percent_decode(out, sizeof out, "%41", 2));  /* cut off by n */
    assert_true(percent_decode(out, sizeof out, "", 0));
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),     cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_not_found),    cmocka_unit_test(test_wrong_method),
        cmocka_unit_test(test_bad_paths),    cmocka_unit_test(test_length_limit),
        cmocka_unit_test(test_percent_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
