/*
 * idx.c - IDX files through libarchive's raw format, which takes gzip off where there is any.
 */
#include "server/decode/idx.h"

#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "server/decode/archive_span.h"

static const uint8_t images_magic[4] = {0, 0, 8, 3}, labels_magic[4] = {0, 0, 8, 1};

struct stream {
    struct archive *archive;
    struct archive_span source;
};

struct idx {
    struct stream images, labels;
    int count, height, width;
    int next;
    uint8_t *pixels; /* the current image */
};

static int stream_open(struct stream *s, struct span file)
{
    struct archive_entry *entry;
    struct archive *archive = archive_read_new();
    *s = (struct stream){.archive = archive, .source.span = file};
    if (!archive || archive_read_support_filter_gzip(archive) != ARCHIVE_OK ||
        archive_read_support_format_raw(archive) != ARCHIVE_OK)
        return ERR_NOMEM;
    if (archive_span_open(archive, &s->source) != ARCHIVE_OK ||
        archive_read_next_header(archive, &entry) != ARCHIVE_OK)
        return ERR_FORMAT;
    return 0;
}

/* Exactly `bytes`, or ERR_FORMAT. */
static int stream_get(struct stream *stream, void *to, size_t bytes)
{
    size_t have = 0;
    while (have < bytes) {
        la_ssize_t got = archive_read_data(stream->archive, (uint8_t *)to + have, bytes - have);
        if (got <= 0)
            return ERR_FORMAT;
        have += (size_t)got;
    }
    return 0;
}

/* Whether the stream ends here. */
static int stream_end(struct stream *stream)
{
    uint8_t byte;
    return archive_read_data(stream->archive, &byte, 1) == 0 ? 0 : ERR_FORMAT;
}

/* libarchive passes over what follows a gzip stream: the file's last four bytes must be the
 * stream's own length. */
static int check_gzip_length(const struct span *file, uint64_t expected)
{
    if (file->size_bytes < 18 || file->data[0] != 0x1f || file->data[1] != 0x8b)
        return 0;
    const uint8_t *end = file->data + file->size_bytes;
    uint32_t length = (uint32_t)end[-1] << 24 | (uint32_t)end[-2] << 16 | (uint32_t)end[-3] << 8 |
                      end[-4];
    return length == (uint32_t)expected ? 0 : ERR_FORMAT;
}

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int read_headers(struct idx *x, const char **why)
{
    uint8_t image_header[16], label_header[8];
    *why = "images: not an IDX file of unsigned bytes in 3 dimensions (magic 00000803)";
    if (stream_get(&x->images, image_header, sizeof image_header) != 0 ||
        memcmp(image_header, images_magic, sizeof images_magic) != 0)
        return ERR_FORMAT;
    *why = "labels: not an IDX file of unsigned bytes in 1 dimension (magic 00000801)";
    if (stream_get(&x->labels, label_header, sizeof label_header) != 0 ||
        memcmp(label_header, labels_magic, sizeof labels_magic) != 0)
        return ERR_FORMAT;
    uint32_t count = big_endian(image_header + 4);
    uint32_t height = big_endian(image_header + 8), width = big_endian(image_header + 12);
    *why = "images and labels differ in their counts";
    if (count != big_endian(label_header + 4))
        return ERR_FORMAT;
    *why = "the count must be 1 to 1000000 and each side 1 to 1024";
    if (count < 1 || count > IDX_MAX_IMAGES || height < 1 || height > IDX_MAX_SIDE || width < 1 ||
        width > IDX_MAX_SIDE)
        return ERR_FORMAT;
    x->count = (int)count;
    x->height = (int)height;
    x->width = (int)width;
    return 0;
}

static int check_lengths(const struct idx *x, const char **why)
{
    uint64_t count = (uint64_t)x->count;
    *why = "images: the gzip stream's length does not fit its header";
    if (check_gzip_length(&x->images.source.span,
                          16 + count * (uint64_t)x->height * (uint64_t)x->width) != 0)
        return ERR_FORMAT;
    *why = "labels: the gzip stream's length does not fit its header";
    return check_gzip_length(&x->labels.source.span, 8 + count);
}

int idx_new(struct idx **out, struct span images, struct span labels, const char **why)
{
    struct idx *x = calloc(1, sizeof *x);
    if (!x)
        return ERR_NOMEM;
    *why = "images: empty or damaged";
    int err = stream_open(&x->images, images);
    if (err == 0) {
        *why = "labels: empty or damaged";
        err = stream_open(&x->labels, labels);
    }
    if (err == 0)
        err = read_headers(x, why);
    if (err == 0)
        err = check_lengths(x, why);
    if (err == 0 && !(x->pixels = malloc((size_t)x->height * (size_t)x->width)))
        err = ERR_NOMEM;
    if (err != 0)
        idx_free(x);
    else
        *out = x;
    return err;
}

void idx_free(struct idx *x)
{
    if (!x)
        return;
    archive_read_free(x->images.archive);
    archive_read_free(x->labels.archive);
    free(x->pixels);
    free(x);
}

int idx_values(struct span labels, bool present[256])
{
    struct stream stream;
    uint8_t block[4096];
    la_ssize_t got = 0;
    memset(present, 0, 256 * sizeof *present);
    int err = stream_open(&stream, labels);
    if (err == 0)
        err = stream_get(&stream, block, 8); /* the header */
    while (err == 0 && (got = archive_read_data(stream.archive, block, sizeof block)) > 0) {
        for (la_ssize_t i = 0; i < got; i++)
            present[block[i]] = true;
    }
    archive_read_free(stream.archive);
    return err == ERR_NOMEM ? err : 0;
}

int idx_height(const struct idx *x)
{
    return x->height;
}

int idx_width(const struct idx *x)
{
    return x->width;
}

int idx_next(struct idx *x, const uint8_t **pixels, int *label, const char **why)
{
    if (x->next == x->count) {
        *why = "images: damaged, or longer than its header says";
        if (stream_end(&x->images) != 0)
            return ERR_FORMAT;
        *why = "labels: damaged, or longer than its header says";
        return stream_end(&x->labels);
    }
    uint8_t value;
    *why = "images: damaged, or shorter than its header says";
    if (stream_get(&x->images, x->pixels, (size_t)x->height * (size_t)x->width) != 0)
        return ERR_FORMAT;
    *why = "labels: damaged, or shorter than its header says";
    if (stream_get(&x->labels, &value, 1) != 0)
        return ERR_FORMAT;
    x->next++;
    *pixels = x->pixels;
    *label = value;
    return 1;
}
