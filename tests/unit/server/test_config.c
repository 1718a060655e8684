/*
 * test_config.c - options: order of precedence, and every kind of mistake named with its file and
 * line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/err.h"
#include "server/config.h"

enum { MESSAGE_BYTES = 1024 };

static int load(struct config *c, char *message, const char *const *args)
{
    char *argv[16] = {(char *)"accreted"};
    int argc = 1;
    while (args[argc - 1]) {
        argv[argc] = (char *)args[argc - 1];
        argc++;
    }
    message[0] = '\0';
    return config_load(c, argc, argv, message, MESSAGE_BYTES);
}
#define LOAD(c, message, ...) load(c, message, (const char *const[]){__VA_ARGS__, NULL})

static void write_file(char *path, const char *text)
{
    strcpy(path, "/tmp/accreted-config-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

/* Loads a file of that text; the message without the path in front. */
static int load_text(struct config *c, char *message, const char *text)
{
    char path[64];
    write_file(path, text);
    int rc = LOAD(c, message, "--config", path);
    if (strncmp(message, path, strlen(path)) == 0)
        memmove(message, message + strlen(path), strlen(message + strlen(path)) + 1);
    unlink(path);
    return rc;
}

static void test_defaults(void **state)
{
    (void)state;
    struct config c;
    char message[MESSAGE_BYTES];
    assert_int_equal(load_text(&c, message, "# nothing\n"), 0);
    assert_string_equal(c.data_dir, "/var/lib/accreted");
    assert_string_equal(c.listen, "127.0.0.1");
    assert_int_equal(c.port, 8080);
    assert_int_equal(c.threads, 0);
    assert_int_equal(c.nice_level, 10);
    assert_int_equal(c.max_upload_bytes, UINT64_C(2) << 30);
    assert_int_equal(c.max_image_bytes, 16 << 20);
    assert_int_equal(c.min_free_bytes, 256 << 20);
    assert_int_equal(c.max_queued_jobs, 64);
    assert_int_equal(c.max_connections, 256);
    assert_string_equal(c.log_level, "info");
    assert_false(c.help || c.version);
}

static void test_command_line_beats_file(void **state)
{
    (void)state;
    struct config c;
    char message[MESSAGE_BYTES], path[64];
    write_file(path, "port = 1234\nthreads = 3\nmax-upload-bytes = 3G ; a lot\n");
    assert_int_equal(LOAD(&c, message, "--port=99", "--config", path), 0);
    unlink(path);
    assert_int_equal(c.port, 99);
    assert_int_equal(c.threads, 3);
    assert_int_equal(c.max_upload_bytes, UINT64_C(3) << 30);
}

static void test_file_errors_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"port = 1\nprot = 2\n", ":2: unknown option 'prot'"},
        {"[http]\nport = 1\n", ":2: unknown section 'http'"},
        {"port = 70000\n", ":1: port must be a number from 0 to 65535"},
        {"port = -1\n", ":1: port must be a number from 0 to 65535"},
        {"port = 80x\n", ":1: port must be a number from 0 to 65535"},
        {"\nport\n", ":2: not of the form `name = value`"},
        {"port = 1\nport = 2\n", ":2: set twice (or a line starting with a space): 'port'"},
        {"data-dir =\n", ":1: data-dir must be a text of 1 to 4095 bytes"},
        {"listen = 0.0.0\n",
         ":1: listen must be an address such as 127.0.0.1 or ::1"},
        {"log-level = loud\n", ":1: log-level must be debug, info, warning or error"},
        {"help = yes\n", ":1: unknown option 'help'"},
        {"prot = 1\nport = bad\n", ":1: unknown option 'prot'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config c = {.port = 7};
        char message[MESSAGE_BYTES];
        assert_int_equal(load_text(&c, message, cases[i].text), ERR_INVALID);
        assert_string_equal(message, cases[i].message);
        assert_int_equal(c.port, 7); /* written only on success */
    }
}

/* Every option that the shipped file shows, at the value shown, is the default. Run from the
 * project root. */
static void test_shipped_file_shows_the_defaults(void **state)
{
    (void)state;
    char text[8192], line[512], message[MESSAGE_BYTES];
    size_t used = 0;
    int shown = 0;
    FILE *file = fopen("systemd/accreted.conf", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        bool is_option = strncmp(line, "; ", 2) == 0;
        assert_true(is_option || line[0] == '#' || line[0] == '\n');
        used += (size_t)snprintf(text + used, sizeof text - used, "%s", line + (is_option ? 2 : 0));
        assert_true(used < sizeof text);
        shown += is_option;
    }
    fclose(file);
    struct config shipped = {0}, defaults = {0};
    assert_int_equal(load_text(&shipped, message, text), 0);
    assert_int_equal(load_text(&defaults, message, ""), 0);
    assert_memory_equal(&shipped, &defaults, sizeof shipped);
    assert_int_equal(shown, 17);
}

static void test_long_line_is_refused(void **state)
{
    (void)state;
    struct config c;
    char message[MESSAGE_BYTES], text[1000];
    memset(text, 'x', sizeof text);
    memcpy(text, "port = 1\ndata-dir = ", 20);
    memcpy(text + sizeof text - 2, "\n", 2);
    assert_int_equal(load_text(&c, message, text), ERR_INVALID);
    assert_string_equal(message, ":2: line too long");
}

static void test_sizes(void **state)
{
    (void)state;
    struct config c;
    char message[MESSAGE_BYTES];
    assert_int_equal(LOAD(&c, message, "--config=/dev/null", "--max-image-bytes=5K"), 0);
    assert_int_equal(c.max_image_bytes, 5 << 10);
    static const char *const bad[] = {"1", "2X", "K", "1KK", " 5K", "+5K", "99999999999999999999",
                                      "17179869185G", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char option[64];
        snprintf(option, sizeof option, "--max-image-bytes=%s", bad[i]);
        assert_int_equal(LOAD(&c, message, "--config=/dev/null", option), ERR_INVALID);
        assert_non_null(strstr(message, "--max-image-bytes must be bytes from 1024 to"));
    }
}

static void test_command_line_errors(void **state)
{
    (void)state;
    struct config c;
    char message[MESSAGE_BYTES];
    assert_int_equal(LOAD(&c, message, "--bogus"), ERR_INVALID);
    assert_string_equal(message, "unknown option --bogus; see --help");
    assert_int_equal(LOAD(&c, message, "--port"), ERR_INVALID);
    assert_string_equal(message, "a value is missing after --port; see --help");
    assert_int_equal(LOAD(&c, message, "start"), ERR_INVALID);
    assert_string_equal(message, "unexpected 'start'; see --help");
    assert_int_equal(LOAD(&c, message, "--config", "/nonexistent.conf"), ERR_INVALID);
    assert_string_equal(message, "cannot read /nonexistent.conf: No such file or directory");
}

static void test_addresses(void **state)
{
    (void)state;
    struct config c;
    char message[MESSAGE_BYTES];
    assert_int_equal(LOAD(&c, message, "--config=/dev/null", "--listen=::1"), 0);
    assert_int_equal(LOAD(&c, message, "--config=/dev/null", "--listen=127.3.2.1"), 0);
    assert_int_equal(LOAD(&c, message, "--config=/dev/null", "--listen=192.168.1.1"), 0);
    assert_int_equal(LOAD(&c, message, "--config=/dev/null", "--listen=::"), 0);
    assert_int_equal(LOAD(&c, message, "--config=/dev/null", "--listen=localhost"), ERR_INVALID);
    assert_true(config_is_loopback("127.3.2.1") && config_is_loopback("::1"));
    assert_false(config_is_loopback("192.168.1.1") || config_is_loopback("0.0.0.0") ||
                 config_is_loopback("::") || config_is_loopback("::ffff:127.0.0.1"));
    assert_int_equal(LOAD(&c, message, "--config=/dev/null", "--tls-key=k"), ERR_INVALID);
    assert_non_null(strstr(message, "tls-certificate"));
}

static void test_help_needs_no_file(void **state)
{
    (void)state;
    struct config c;
    char message[MESSAGE_BYTES];
    assert_int_equal(LOAD(&c, message, "--help", "--config=/nonexistent.conf"), 0);
    assert_true(c.help);
    assert_int_equal(LOAD(&c, message, "--version"), 0);
    assert_true(c.version);
    assert_non_null(strstr(config_usage(), "--max-queued-jobs"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_command_line_beats_file),
        cmocka_unit_test(test_file_errors_name_the_line),
        cmocka_unit_test(test_shipped_file_shows_the_defaults),
        cmocka_unit_test(test_long_line_is_refused),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_command_line_errors),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_help_needs_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
