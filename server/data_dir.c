/*
 * data_dir.c - flock() is the lock: the kernel lets go of it with the process, so a crash leaves
 * none behind.
 */
#include "server/data_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/err.h"

enum { PATH_BYTES = 4096 + 32 };

static bool make_dir(const char *path)
{
    struct stat st;
    return mkdir(path, 0700) == 0 ||
           (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

static int make_dirs(const char *path, char *message, int message_bytes)
{
    static const char *const folders[] = {"", "/tmp", "/batches", "/models", "/checkpoints",
                                          "/snapshots", "/exemplars"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char full[PATH_BYTES];
        snprintf(full, sizeof full, "%s%s", path, folders[i]);
        errno = 0;
        if (make_dir(full))
            continue;
        snprintf(message, (size_t)message_bytes, "cannot make the directory %s: %s", full,
                 strerror(errno ? errno : ENOTDIR));
        return ERR_IO;
    }
    return 0;
}

static int take_lock(const char *path, int *lock_fd, char *message, int message_bytes)
{
    char file[PATH_BYTES];
    snprintf(file, sizeof file, "%s/lock", path);
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *lock_fd = fd;
        return 0;
    }
    if (errno == EWOULDBLOCK)
        snprintf(message, (size_t)message_bytes,
                 "already_running: another accreted uses %s; stop it, or choose another --data-dir",
                 path);
    else
        snprintf(message, (size_t)message_bytes, "cannot lock %s: %s", file, strerror(errno));
    if (fd >= 0)
        close(fd);
    return ERR_IO;
}

/* What a crash left half made. Only plain files are put there. */
static int empty_tmp(const char *path, char *message, int message_bytes)
{
    char tmp[PATH_BYTES];
    snprintf(tmp, sizeof tmp, "%s/tmp", path);
    DIR *dir = opendir(tmp);
    bool failed = !dir;
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            failed |= unlinkat(dirfd(dir), entry->d_name, 0) != 0;
    }
    if (failed)
        snprintf(message, (size_t)message_bytes, "cannot empty %s: %s", tmp, strerror(errno));
    if (dir)
        closedir(dir);
    return failed ? ERR_IO : 0;
}

int data_dir_open(const char *path, int *lock_fd, char *message, int message_bytes)
{
    int fd = -1;
    int rc = make_dirs(path, message, message_bytes);
    if (rc == 0)
        rc = take_lock(path, &fd, message, message_bytes);
    if (rc == 0)
        rc = empty_tmp(path, message, message_bytes);
    if (rc == 0)
        data_dir_remove_port(path); /* of a daemon that was killed */
    if (rc == 0)
        *lock_fd = fd;
    else if (fd >= 0)
        close(fd);
    return rc;
}

int data_dir_write_port(const char *path, int port)
{
    char file[PATH_BYTES], fresh[PATH_BYTES + 8];
    snprintf(file, sizeof file, "%s/port", path);
    snprintf(fresh, sizeof fresh, "%s.new", file);
    FILE *out = fopen(fresh, "we");
    if (!out)
        return ERR_IO;
    bool written = fprintf(out, "%d\n", port) > 0;
    written &= fclose(out) == 0;
    return written && rename(fresh, file) == 0 ? 0 : ERR_IO; /* a reader sees all of it or none */
}

void data_dir_remove_port(const char *path)
{
    char file[PATH_BYTES];
    snprintf(file, sizeof file, "%s/port", path);
    unlink(file);
}

int data_dir_room(const char *path, uint64_t *free_bytes)
{
    struct statvfs fs;
    if (statvfs(path, &fs) != 0)
        return ERR_IO;
    *free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return 0;
}

int data_dir_check_room(const char *path, uint64_t reserve_bytes, uint64_t wanted)
{
    uint64_t free_bytes;
    int err = data_dir_room(path, &free_bytes);
    bool fits = !err && free_bytes >= reserve_bytes && free_bytes - reserve_bytes >= wanted;
    return err ? err : fits ? 0 : ERR_NOSPACE;
}
