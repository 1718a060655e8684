/* path_fixture.h - a file of a test's own: cmocka's set-up and tear-down make `path` and remove it. */
#ifndef ACCRETED_TESTS_UNIT_CORE_PATH_FIXTURE_H
#define ACCRETED_TESTS_UNIT_CORE_PATH_FIXTURE_H

#include <stdlib.h>
#include <unistd.h>

static char path[] = "/tmp/accreted-test-XXXXXX";

static int make_path(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

#endif
