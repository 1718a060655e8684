/*
 * config.h - options from the command line and a configuration file (libinih), checked whole before
 * use.
 *
 * Order: defaults, then the file (--config, or /etc/accreted/accreted.conf where it exists), then
 * the command line. An unknown name or a bad value is an error that names the file and line.
 */
#ifndef ACCRETED_SERVER_CONFIG_H
#define ACCRETED_SERVER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

struct config {
    char data_dir[4096];     /* /var/lib/accreted */
    char listen[64];         /* 127.0.0.1; another than loopback needs a token, and TLS or a proxy */
    char tls_certificate[1024], tls_key[1024]; /* PEM files; "" = plain HTTP; both or none */
    char trusted_proxy[64];  /* address of the proxy in front that does TLS; "" = none */
    char host_names[1024];   /* names it answers to beside its address, a comma between; "" */
    int port;                /* 8080; 0 = any free one (printed, and written to data_dir/port) */
    int threads;             /* gang of a training job; 0 = number of cores */
    int nice_level;          /* of the gang, 0..19; 10 */
    uint64_t max_upload_bytes; /* 2 GiB */
    uint64_t max_image_bytes;  /* 16 MiB: one image, in an upload or a prediction */
    uint64_t min_free_bytes;   /* 256 MiB: uploads and jobs are refused (507) below it */
    int max_queued_jobs;       /* 64 */
    int max_connections;       /* 256 */
    int max_connections_per_address; /* 64; not from this machine or the trusted proxy */
    int header_timeout_s;      /* 30: for a whole header; and before a body's rate counts */
    char log_level[16];        /* debug info warning error */
    bool help, version;        /* asked for on the command line */
};

/* 0, or ERR_INVALID with a one-line message in `message`. */
int config_load(struct config *out, int argc, char **argv, char *message, int message_bytes);
/* Whether `address` is one of this machine alone. */
bool config_is_loopback(const char *address);
/* The text for --help: every option with its default. */
const char *config_usage(void);

#endif
