/*
 * token_cli.h - `accreted token create|list|revoke`: tokens while the daemon does not run, the first
 * one above all.
 */
#ifndef ACCRETED_SERVER_TOKEN_CLI_H
#define ACCRETED_SERVER_TOKEN_CLI_H

/* argv[0] is "token". Works on the data directory, which it locks; blocks. Prints to stdout, an
 * error as one line to stderr. Returns the exit status. */
int token_cli(int argc, char **argv);

#endif
