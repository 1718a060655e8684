/*
 * log.h - one line a message to stderr, with syslog priority prefixes when the journal reads it.
 *
 * Any thread. Control characters in arguments are escaped, so that a file name cannot forge a line.
 */
#ifndef ACCRETED_SERVER_LOG_H
#define ACCRETED_SERVER_LOG_H

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

/* `name` is one of debug info warning error. Returns 0 or ERR_INVALID. */
int log_set_level(const char *name);
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
