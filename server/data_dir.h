/*
 * data_dir.h - the data directory: made, locked, tidied at start. Start-up and end only, but for room on its disk; blocks.
 */
#ifndef ACCRETED_SERVER_DATA_DIR_H
#define ACCRETED_SERVER_DATA_DIR_H

#include <stdint.h>

/* Makes `path` and its folders (0700) where missing, takes the lock, empties tmp/. 0, or negative
 * with a one-line reason in `message`; "already_running ..." when another daemon holds the lock.
 * The lock is held through *lock_fd, until it is closed or the process ends, however it ends. */
int data_dir_open(const char *path, int *lock_fd, char *message, int message_bytes);

/* Writes the port as text to path/port, for scripts that start with port 0; and removes it. */
int data_dir_write_port(const char *path, int port);
void data_dir_remove_port(const char *path);

/* Room on its disk for those who are not root. Any thread, at any time. ERR_IO: the file system does not say. */
int data_dir_room(const char *path, uint64_t *free_bytes);
/* ERR_NOSPACE unless `wanted` bytes fit there and leave `reserve_bytes`. Threads and ERR_IO as above. */
int data_dir_check_room(const char *path, uint64_t reserve_bytes, uint64_t wanted);

#endif
