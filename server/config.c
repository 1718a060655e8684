/*
 * config.c - one table of options serves the file, the command line and --help.
 *
 * Everything is read into a scratch struct that replaces *out only when all of it is good: inih
 * goes on after a bad line, so the scratch may hold later lines too. Start-up only.
 */
#include "server/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"

#define DEFAULT_FILE "/etc/accreted/accreted.conf"

enum kind { KIND_TEXT, KIND_INT, KIND_BYTES, KIND_ADDRESS, KIND_LEVEL };

struct option_row {
    const char *name; /* the same in the file and, after --, on the command line */
    enum kind kind;
    size_t offset, size; /* of the field in struct config */
    uint64_t min, max;   /* KIND_INT, KIND_BYTES; texts: the fewest bytes, 0 = may be unset */
};

#define FIELD(member) offsetof(struct config, member), sizeof(((struct config *)0)->member)
#define GIB (UINT64_C(1) << 30)

static const struct option_row rows[] = {
    {"data-dir", KIND_TEXT, FIELD(data_dir), 1, 0},
    {"listen", KIND_ADDRESS, FIELD(listen), 1, 0},
    {"tls-certificate", KIND_TEXT, FIELD(tls_certificate), 0, 0},
    {"tls-key", KIND_TEXT, FIELD(tls_key), 0, 0},
    {"trusted-proxy", KIND_ADDRESS, FIELD(trusted_proxy), 0, 0},
    {"host-names", KIND_TEXT, FIELD(host_names), 0, 0},
    {"port", KIND_INT, FIELD(port), 0, 65535},
    {"threads", KIND_INT, FIELD(threads), 0, 64},
    {"nice", KIND_INT, FIELD(nice_level), 0, 19},
    {"max-upload-bytes", KIND_BYTES, FIELD(max_upload_bytes), 1024, 1024 * GIB},
    {"max-image-bytes", KIND_BYTES, FIELD(max_image_bytes), 1024, GIB},
    {"min-free-bytes", KIND_BYTES, FIELD(min_free_bytes), 0, 1024 * 1024 * GIB},
    {"max-queued-jobs", KIND_INT, FIELD(max_queued_jobs), 1, 10000},
    {"max-connections", KIND_INT, FIELD(max_connections), 4, 10000},
    {"max-connections-per-address", KIND_INT, FIELD(max_connections_per_address), 1, 10000},
    {"header-timeout", KIND_INT, FIELD(header_timeout_s), 1, 3600},
    {"log-level", KIND_LEVEL, FIELD(log_level), 0, 0},
};
enum { ROW_COUNT = sizeof rows / sizeof *rows };

static const struct config defaults = {
    .data_dir = "/var/lib/accreted",
    .listen = "127.0.0.1",
    .port = 8080,
    .threads = 0,
    .nice_level = 10,
    .max_upload_bytes = 2 * GIB,
    .max_image_bytes = 16 << 20,
    .min_free_bytes = 256 << 20,
    .max_queued_jobs = 64,
    .max_connections = 256,
    .max_connections_per_address = 64,
    .header_timeout_s = 30,
    .log_level = "info",
};

static const char usage[] =
    "Usage: accreted [OPTION]...\n"
    "Keeps an image classifier up to date: learns new classes from batches, serves predictions.\n"
    "\n"
    "  --config FILE           options from FILE (" DEFAULT_FILE " where it exists)\n"
    "  --data-dir DIR          everything accreted keeps (/var/lib/accreted)\n"
    "  --listen ADDRESS        another than loopback needs a token, and TLS or a proxy (127.0.0.1)\n"
    "  --tls-certificate FILE  speak HTTPS with this certificate chain (PEM)\n"
    "  --tls-key FILE          and its key (PEM)\n"
    "  --trusted-proxy ADDRESS the proxy in front that does TLS; without our own, only it and this machine may connect\n"
    "  --host-names NAMES      names to answer to beside the address, a comma between\n"
    "  --port PORT             0 takes any free one and writes it to DIR/port (8080)\n"
    "  --threads N             threads of a training job; 0 = one a core (0)\n"
    "  --nice N                priority of those threads, 0..19 (10)\n"
    "  --max-upload-bytes N    largest batch upload; K, M, G are understood (2G)\n"
    "  --max-image-bytes N     largest single image file (16M)\n"
    "  --min-free-bytes N      disk space that uploads and jobs leave alone (256M)\n"
    "  --max-queued-jobs N     jobs that may wait (64)\n"
    "  --max-connections N     client connections at once (256)\n"
    "  --max-connections-per-address N   and of one other machine (64)\n"
    "  --header-timeout N      seconds a client has for its header (30)\n"
    "  --log-level LEVEL       debug, info, warning or error (info)\n"
    "  --help, --version       say so and exit\n"
    "\n"
    "The file has the same names without the dashes in front: `port = 8080`.\n";

const char *config_usage(void)
{
    return usage;
}

/* A decimal number within [min, max], for sizes with K, M or G behind it. */
static bool parse_number(const char *text, bool suffix, uint64_t min, uint64_t max, uint64_t *out)
{
    if (*text < '0' || *text > '9')
        return false; /* strtoull would take a sign or a space */
    errno = 0;
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    unsigned shift = 0;
    if (suffix && *end) {
        shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
        if (shift)
            end++;
    }
    if (errno || *end || value > (UINT64_MAX >> shift))
        return false;
    value <<= shift;
    if (value < min || value > max)
        return false;
    *out = value;
    return true;
}

bool config_is_loopback(const char *text)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, text, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool is_address(const char *text)
{
    struct in6_addr any;
    return inet_pton(AF_INET, text, &any) == 1 || inet_pton(AF_INET6, text, &any) == 1;
}

static bool is_level(const char *text)
{
    return strcmp(text, "debug") == 0 || strcmp(text, "info") == 0 ||
           strcmp(text, "warning") == 0 || strcmp(text, "error") == 0;
}

static bool copy_text(const struct option_row *row, char *field, const char *value)
{
    size_t length = strlen(value);
    if (length < row->min || length >= row->size)
        return false;
    memcpy(field, value, length + 1);
    return true;
}

static bool apply(struct config *c, const struct option_row *row, const char *value)
{
    char *field = (char *)c + row->offset;
    uint64_t number;
    switch (row->kind) {
    case KIND_TEXT:
        return copy_text(row, field, value);
    case KIND_ADDRESS:
        return (!*value || is_address(value)) && copy_text(row, field, value);
    case KIND_LEVEL:
        return is_level(value) && copy_text(row, field, value);
    case KIND_INT:
        if (!parse_number(value, false, row->min, row->max, &number))
            return false;
        *(int *)(void *)field = (int)number;
        return true;
    case KIND_BYTES:
        if (!parse_number(value, true, row->min, row->max, &number))
            return false;
        memcpy(field, &number, sizeof number);
        return true;
    }
    return false;
}

/* What a good value would have been, for the error message. */
static void describe(const struct option_row *row, char *out, int out_bytes)
{
    switch (row->kind) {
    case KIND_TEXT:
        snprintf(out, (size_t)out_bytes, "a text of %ju to %zu bytes",
                 (uintmax_t)row->min, row->size - 1);
        break;
    case KIND_ADDRESS:
        snprintf(out, (size_t)out_bytes, "an address such as 127.0.0.1 or ::1");
        break;
    case KIND_LEVEL:
        snprintf(out, (size_t)out_bytes, "debug, info, warning or error");
        break;
    case KIND_INT:
        snprintf(out, (size_t)out_bytes, "a number from %ju to %ju", (uintmax_t)row->min,
                 (uintmax_t)row->max);
        break;
    case KIND_BYTES:
        snprintf(out, (size_t)out_bytes, "bytes from %ju to %ju, or with K, M or G behind",
                 (uintmax_t)row->min, (uintmax_t)row->max);
        break;
    }
}

struct file_reader {
    struct config *scratch;
    bool seen[ROW_COUNT];
    bool line_too_long;
    char problem[256]; /* of the first bad line */
};

static void note_problem(struct file_reader *r, const char *what, const char *name)
{
    if (!r->problem[0])
        snprintf(r->problem, sizeof r->problem, "%s '%.64s'", what, name);
}

/* inih's handler: 1 = fine, 0 = bad line. */
static int on_line(void *user, const char *section, const char *name, const char *value)
{
    struct file_reader *r = user;
    if (*section) {
        note_problem(r, "unknown section", section);
        return 0;
    }
    for (int i = 0; i < ROW_COUNT; i++) {
        if (strcmp(name, rows[i].name) != 0)
            continue;
        if (r->seen[i]) {
            note_problem(r, "set twice (or a line starting with a space):", name);
            return 0;
        }
        r->seen[i] = true;
        if (apply(r->scratch, &rows[i], value))
            return 1;
        char wanted[128];
        describe(&rows[i], wanted, sizeof wanted);
        if (!r->problem[0])
            snprintf(r->problem, sizeof r->problem, "%s must be %s", name, wanted);
        return 0;
    }
    note_problem(r, "unknown option", name);
    return 0;
}

struct line_source {
    FILE *file;
    struct file_reader *reader;
    int line;
};

/* inih would read an overlong line as two; it is refused instead. */
static char *next_line(char *out, int out_bytes, void *stream)
{
    struct line_source *source = stream;
    char *line = fgets(out, out_bytes, source->file);
    if (!line)
        return NULL;
    source->line++;
    if (!strchr(line, '\n') && !feof(source->file)) {
        source->reader->line_too_long = true;
        return NULL;
    }
    return line;
}

static int read_file(struct config *scratch, const char *path, char *message, int message_bytes)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        snprintf(message, (size_t)message_bytes, "cannot read %s: %s", path, strerror(errno));
        return ERR_INVALID;
    }
    struct file_reader reader = {.scratch = scratch};
    struct line_source source = {.file = file, .reader = &reader};
    int bad_line = ini_parse_stream(next_line, &source, on_line, &reader);
    int failed = ferror(file);
    fclose(file);
    if (bad_line > 0)
        snprintf(message, (size_t)message_bytes, "%s:%d: %s", path, bad_line,
                 reader.problem[0] ? reader.problem : "not of the form `name = value`");
    else if (reader.line_too_long)
        snprintf(message, (size_t)message_bytes, "%s:%d: line too long", path, source.line);
    else if (bad_line < 0 || failed)
        snprintf(message, (size_t)message_bytes, "cannot read %s", path);
    else
        return 0;
    return ERR_INVALID;
}

enum { OPT_CONFIG = 256, OPT_HELP, OPT_VERSION, OPT_ROW }; /* clear of getopt's '?' and ':' */

static void make_long_options(struct option *out)
{
    int n = 0;
    for (; n < ROW_COUNT; n++)
        out[n] = (struct option){rows[n].name, required_argument, NULL, OPT_ROW + n};
    out[n++] = (struct option){"config", required_argument, NULL, OPT_CONFIG};
    out[n++] = (struct option){"help", no_argument, NULL, OPT_HELP};
    out[n++] = (struct option){"version", no_argument, NULL, OPT_VERSION};
    out[n] = (struct option){0};
}

struct command_line {
    const char *file;              /* --config, or NULL */
    const char *values[ROW_COUNT]; /* NULL = not given */
    bool help, version;
};

static int read_command_line(struct command_line *out, int argc, char **argv, char *message,
                             int message_bytes)
{
    struct option options[ROW_COUNT + 4];
    make_long_options(options);
    optind = 0; /* glibc: start again, for callers that parse twice */
    opterr = 0;
    int c;
    while ((c = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
        if (c == OPT_CONFIG) {
            out->file = optarg;
        } else if (c == OPT_HELP) {
            out->help = true;
        } else if (c == OPT_VERSION) {
            out->version = true;
        } else if (c >= OPT_ROW) {
            out->values[c - OPT_ROW] = optarg;
        } else {
            snprintf(message, (size_t)message_bytes, "%s %s; see --help",
                     c == ':' ? "a value is missing after" : "unknown option", argv[optind - 1]);
            return ERR_INVALID;
        }
    }
    if (optind < argc) {
        snprintf(message, (size_t)message_bytes, "unexpected '%s'; see --help", argv[optind]);
        return ERR_INVALID;
    }
    return 0;
}

int config_load(struct config *out, int argc, char **argv, char *message, int message_bytes)
{
    struct config scratch = defaults;
    struct command_line cli = {0};
    int rc = read_command_line(&cli, argc, argv, message, message_bytes);
    if (rc != 0)
        return rc;
    scratch.help = cli.help;
    scratch.version = cli.version;
    bool wants_file = !cli.help && !cli.version;
    if (wants_file && (cli.file || access(DEFAULT_FILE, F_OK) == 0))
        rc = read_file(&scratch, cli.file ? cli.file : DEFAULT_FILE, message, message_bytes);
    if (rc != 0)
        return rc;
    for (int i = 0; i < ROW_COUNT; i++) {
        if (!cli.values[i] || apply(&scratch, &rows[i], cli.values[i]))
            continue;
        char wanted[128];
        describe(&rows[i], wanted, sizeof wanted);
        snprintf(message, (size_t)message_bytes, "--%s must be %s", rows[i].name, wanted);
        return ERR_INVALID;
    }
    if (!scratch.tls_certificate[0] != !scratch.tls_key[0]) {
        snprintf(message, (size_t)message_bytes,
                 "tls-certificate and tls-key need each other; one is missing");
        return ERR_INVALID;
    }
    *out = scratch;
    return 0;
}
