/*
 * token_cli.c - see token_cli.h. A process of its own: nothing of the daemon runs.
 *
 * The lock on the data directory keeps the daemon out meanwhile; while the daemon runs, the API does
 * the same.
 */
#include "server/token_cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "core/err.h"
#include "server/config.h"
#include "server/data_dir.h"
#include "server/log.h"
#include "server/store/tokens.h"

static const char usage[] =
    "Usage: accreted token create --scope admin|predict [--name NAME] [OPTION]...\n"
    "       accreted token list [OPTION]...\n"
    "       accreted token revoke ID [OPTION]...\n"
    "Makes, lists and revokes the tokens of a data directory while its daemon does not run; while it\n"
    "runs, /api/v1/tokens does the same. Once a token exists, every request needs one.\n"
    "\n"
    "  --scope SCOPE    admin: everything; predict: predictions and reading\n"
    "  --name NAME      to know it by, up to 64 printable ASCII characters\n"
    "  --config FILE, --data-dir DIR   as for the daemon: where the tokens are kept\n";

struct command {
    const char *verb, *id, *scope, *name, *config, *data_dir;
    bool help;
    struct config options;
    struct token token;
    int64_t revoke;
};

static int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("accreted: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return EXIT_FAILURE;
}

/* ---- the command line ---- */

static bool read_arguments(struct command *c, int argc, char **argv)
{
    static const struct option options[] = {
        {"scope", required_argument, NULL, 's'},  {"name", required_argument, NULL, 'n'},
        {"config", required_argument, NULL, 'c'}, {"data-dir", required_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},         {0},
    };
    int option;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            c->scope = optarg;
        else if (option == 'n')
            c->name = optarg;
        else if (option == 'c')
            c->config = optarg;
        else if (option == 'd')
            c->data_dir = optarg;
        else if (option == 'h')
            c->help = true;
        else
            return false;
    }
    c->verb = optind < argc ? argv[optind++] : "";
    c->id = optind < argc ? argv[optind++] : NULL;
    return optind == argc;
}

static bool parse_id(const char *text, int64_t *id)
{
    size_t length = strlen(text);
    *id = strtoll(text, NULL, 10);
    return length > 0 && length < 19 && strspn(text, "0123456789") == length;
}

/* Does the verb have what it needs, and nothing more? */
static bool is_complete(struct command *c)
{
    if (strcmp(c->verb, "create") == 0)
        return !c->id && c->scope && token_scope_parse(c->scope, &c->token.admin) &&
               token_name_is_valid(c->name ? c->name : "");
    if (c->scope || c->name)
        return false;
    if (strcmp(c->verb, "revoke") == 0)
        return c->id && parse_id(c->id, &c->revoke);
    return strcmp(c->verb, "list") == 0 && !c->id;
}

static int load_config(struct command *c, char *message, int message_bytes)
{
    char *argv[6] = {(char *)"accreted"};
    int argc = 1;
    if (c->config) {
        argv[argc++] = (char *)"--config";
        argv[argc++] = (char *)c->config;
    }
    if (c->data_dir) {
        argv[argc++] = (char *)"--data-dir";
        argv[argc++] = (char *)c->data_dir;
    }
    return config_load(&c->options, argc, argv, message, message_bytes);
}

/* ---- the verbs ---- */

static int write_create(struct db_txn *t, void *ctx)
{
    return tokens_insert(t, ctx);
}

static int verb_create(struct command *c, struct db *db)
{
    char text[TOKEN_TEXT_BYTES];
    struct token *tk = &c->token;
    snprintf(tk->name, sizeof tk->name, "%s", c->name ? c->name : "");
    tk->created_ms = db_now_ms();
    token_make(text);
    token_hash(text, tk->hash);
    int err = db_write_wait(db, write_create, tk);
    if (err == ERR_NOSPACE)
        return fail("there are %d tokens; revoke one first", TOKENS_MAX);
    if (err == ERR_INVALID)
        return fail("make a token of scope admin first: nobody could administer the daemon");
    if (err != 0)
        return fail("cannot write the token: %s", err_str(err));
    fprintf(stderr, "Token %" PRId64 ", scope %s. It is shown this once:\n", tk->id,
            token_scope_name(tk->admin));
    puts(text); /* alone on stdout, for scripts */
    return EXIT_SUCCESS;
}

static int verb_list(struct db *db)
{
    struct token tokens[TOKENS_MAX];
    int count;
    int err = tokens_list(db_reader(db), tokens, &count);
    if (err != 0)
        return fail("cannot read the tokens: %s", err_str(err));
    for (int i = 0; i < count; i++) {
        char created[32] = "";
        struct tm utc;
        time_t seconds = (time_t)(tokens[i].created_ms / 1000);
        if (gmtime_r(&seconds, &utc))
            strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);
        printf("%" PRId64 "\t%s\t%s\t%s\n", tokens[i].id, token_scope_name(tokens[i].admin),
               created, tokens[i].name);
    }
    return EXIT_SUCCESS;
}

static int write_revoke(struct db_txn *t, void *ctx)
{
    const struct command *c = ctx;
    return tokens_delete(t, c->revoke, true);
}

static int verb_revoke(struct command *c, struct db *db)
{
    int err = db_write_wait(db, write_revoke, c);
    if (err == ERR_MISSING)
        return fail("there is no token %" PRId64, c->revoke);
    if (err != 0)
        return fail("cannot revoke the token: %s", err_str(err));
    return EXIT_SUCCESS;
}

static int run_verb(struct command *c, struct db *db)
{
    if (strcmp(c->verb, "create") == 0)
        return verb_create(c, db);
    if (strcmp(c->verb, "revoke") == 0)
        return verb_revoke(c, db);
    return verb_list(db);
}

/* ---- the data directory ---- */

/* Root works as the directory's owner, so that the daemon can use what is made here. */
static bool become_owner(const char *data_dir)
{
    struct stat st;
    if (geteuid() != 0 || stat(data_dir, &st) != 0 || st.st_uid == 0)
        return true;
    return setegid(st.st_gid) == 0 && seteuid(st.st_uid) == 0;
}

static int run_on_database(struct command *c)
{
    uv_loop_t loop;
    struct db *db;
    if (uv_loop_init(&loop) != 0)
        return fail("cannot make the event loop");
    int err = db_open(&db, &loop, c->options.data_dir);
    int status;
    if (err != 0) {
        status = fail("cannot open the database %s/accreted.db: %s", c->options.data_dir,
                      err_str(err));
    } else {
        status = run_verb(c, db);
        db_close(db);
        uv_run(&loop, UV_RUN_DEFAULT);
    }
    uv_loop_close(&loop);
    return status;
}

int token_cli(int argc, char **argv)
{
    static struct command command;
    struct command *c = &command;
    char message[512 + 4096];
    int lock_fd;
    bool good = read_arguments(c, argc, argv);
    if (c->help) {
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    if (!good || !is_complete(c))
        return fail("that is no `token` command; see accreted token --help");
    if (sodium_init() < 0)
        return fail("no source of random numbers");
    log_set_level("warning");
    if (load_config(c, message, sizeof message) != 0)
        return fail("%s", message);
    if (!become_owner(c->options.data_dir))
        return fail("cannot become the owner of %s", c->options.data_dir);
    if (data_dir_open(c->options.data_dir, &lock_fd, message, sizeof message) != 0)
        return fail("%s", message);
    int status = run_on_database(c);
    close(lock_fd);
    return status;
}
