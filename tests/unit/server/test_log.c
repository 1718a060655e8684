/*
 * test_log.c - one message, one line, whatever the arguments hold; levels; the journal's prefixes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/err.h"
#include "server/log.h"

static int saved_stderr, pipe_read;

static int set_up(void **state)
{
    (void)state;
    int fds[2];
    setenv("JOURNAL_STREAM", "1:2", 1); /* inherited, but not our stderr */
    if (pipe(fds) != 0)
        return -1;
    fflush(stderr);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    pipe_read = fds[0];
    return log_set_level("info");
}

static int tear_down(void **state)
{
    (void)state;
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(pipe_read);
    return 0;
}

/* What was logged since; ends the capture. */
static void captured(char *out, size_t size)
{
    dup2(saved_stderr, STDERR_FILENO);
    ssize_t n = read(pipe_read, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
}

static void test_line(void **state)
{
    (void)state;
    char out[512];
    log_info("job %d of %s", 3, "five");
    captured(out, sizeof out);
    assert_int_equal(out[4], '-');
    assert_int_equal(out[10], 'T');
    assert_string_equal(out + 24, " info: job 3 of five\n");
}

static void test_escaping(void **state)
{
    (void)state;
    char out[512];
    log_error("file %s", "a\nb\r\tc\x1b[31m\\\x7f\xc2\x9b-\xc3\xa9");
    captured(out, sizeof out);
    assert_string_equal(out + 24,
                        " error: file a\\nb\\x0d\\tc\\x1b[31m\\\\\\x7f\\xc2\\x9b-\xc3\xa9\n");
}

static void test_long_message_stays_one_line(void **state)
{
    (void)state;
    char text[5000], out[8192];
    memset(text, '\n', sizeof text);
    text[sizeof text - 1] = '\0';
    log_warning("%s", text);
    captured(out, sizeof out);
    assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
    assert_true(strlen(out) > 2000);
}

static void test_levels(void **state)
{
    (void)state;
    char out[512];
    assert_int_equal(log_set_level("loud"), ERR_INVALID);
    log_debug("unheard");
    assert_int_equal(log_set_level("error"), 0);
    log_warning("unheard");
    log_error("heard");
    captured(out, sizeof out);
    assert_null(strstr(out, "unheard"));
    assert_non_null(strstr(out, " error: heard\n"));
}

static void test_journal_prefix(void **state)
{
    (void)state;
    char stream[64], out[512];
    struct stat st;
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_warning("full");
    captured(out, sizeof out);
    assert_string_equal(out, "<4>full\n");
}

#define CAPTURED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CAPTURED(test_line),
        CAPTURED(test_escaping),
        CAPTURED(test_long_message_stays_one_line),
        CAPTURED(test_levels),
        CAPTURED(test_journal_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
