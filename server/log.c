/*
 * log.c - formatting, escaping and one write() a line.
 *
 * Any thread: a line is built on the stack and handed to the kernel in one piece, so lines never
 * mix. The level is the only state.
 */
#include "server/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "core/err.h"

enum { MESSAGE_BYTES = 1024, LINE_BYTES = 4 * MESSAGE_BYTES + 64 };

static const struct {
    const char *name;
    const char *journal_prefix;
} levels[] = {
    [LOG_LEVEL_DEBUG] = {"debug", SD_DEBUG},
    [LOG_LEVEL_INFO] = {"info", SD_INFO},
    [LOG_LEVEL_WARNING] = {"warning", SD_WARNING},
    [LOG_LEVEL_ERROR] = {"error", SD_ERR},
};

static _Atomic int lowest_level = LOG_LEVEL_INFO;

int log_set_level(const char *name)
{
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (strcmp(name, levels[i].name) == 0) {
            atomic_store(&lowest_level, (int)i);
            return 0;
        }
    }
    return ERR_INVALID;
}

/* True when stderr is the journal's socket: it names that socket's device and inode in the
 * environment. */
static bool to_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    if (!stream || fstat(STDERR_FILENO, &st) != 0)
        return false;
    char own[64];
    snprintf(own, sizeof own, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return strcmp(stream, own) == 0;
}

/* Control characters, U+0080..U+009F among them, and the backslash become \n, \t or \xNN. Returns
 * the length. */
static size_t escape(char *out, const char *text)
{
    char *o = out;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f;
        if (*p == '\n' || *p == '\t' || *p == '\\')
            o += sprintf(o, "\\%c", *p == '\n' ? 'n' : *p == '\t' ? 't' : '\\');
        else if (*p < 0x20 || *p == 0x7f || c1)
            o += sprintf(o, "\\x%02x", *p);
        else
            *o++ = (char)*p;
        if (c1)
            o += sprintf(o, "\\x%02x", *++p);
    }
    return (size_t)(o - out);
}

static size_t write_prefix(char *out, size_t size, enum log_level level)
{
    if (to_journal())
        return (size_t)snprintf(out, size, "%s", levels[level].journal_prefix);
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char stamp[32];
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    return (size_t)snprintf(out, size, "%s.%03ldZ %s: ", stamp, now.tv_nsec / 1000000,
                            levels[level].name);
}

void log_write(enum log_level level, const char *format, ...)
{
    if ((int)level < atomic_load(&lowest_level))
        return;
    char message[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);

    char line[LINE_BYTES];
    size_t n = write_prefix(line, 64, level);
    n += escape(line + n, message);
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* nowhere left to complain */
}
