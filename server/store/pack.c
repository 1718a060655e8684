/*
 * pack.c - writing and reading of pack files (pack.h has the layout).
 *
 * The writer streams the images, and the index to a second file that is copied behind them; the
 * reader maps the file, proves labels, index and footer once, and checks an image's own bytes each
 * time it is asked for. So neither holds more than a window of a large pack.
 */
#include "server/store/pack.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/err.h"

enum { HEADER_BYTES = 16, ENTRY_BYTES = 48, FOOTER_BYTES = 56, FORMAT_VERSION = 1 };
enum { WINDOW_BYTES = 1 << 20 }; /* of a mapped file, before its pages are given back */
static const char header_magic[8] = "ACRTPACK";
static const char footer_magic[8] = "ACRTPEND";

/* ---- fields ---- */

static void put_u32(uint8_t *at, uint32_t v)
{
    v = htole32(v);
    memcpy(at, &v, sizeof v);
}

static void put_u64(uint8_t *at, uint64_t v)
{
    v = htole64(v);
    memcpy(at, &v, sizeof v);
}

static uint32_t get_u32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return le32toh(v);
}

static uint64_t get_u64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return le64toh(v);
}

static void put_header(uint8_t header[HEADER_BYTES])
{
    memcpy(header, header_magic, sizeof header_magic);
    put_u32(header + 8, FORMAT_VERSION);
    put_u32(header + 12, 0);
}

/* The one rule about an image's fields, for writer and reader alike. */
static bool image_legal(const struct pack_image *image, int label_count)
{
    bool shape = image->width > 0 && image->width <= PACK_MAX_SIDE && image->height > 0 &&
                 image->height <= PACK_MAX_SIDE && (image->channels == 1 || image->channels == 3);
    if (!shape || image->label < 0 || image->label >= label_count || image->size_bytes == 0)
        return false;
    uint64_t raw_bytes = (uint64_t)image->width * (uint64_t)image->height *
                         (uint64_t)image->channels;
    switch (image->encoding) {
    case PACK_JPEG:
    case PACK_PNG:
        return true;
    case PACK_RAW:
        return image->size_bytes == raw_bytes;
    }
    return false;
}

/* ---- writing ---- */

struct pack_writer {
    FILE *file;
    char *path;
    uint64_t offset; /* where the next byte goes */
    char **labels;
    int label_count, label_capacity;
    FILE *index; /* the entries, in a file of their own that has no name any more */
    int image_count;
};

static int io_error(void)
{
    return errno == ENOSPC || errno == EDQUOT ? ERR_NOSPACE : ERR_IO;
}

static void writer_free(struct pack_writer *w)
{
    for (int i = 0; i < w->label_count; i++)
        free(w->labels[i]);
    free(w->labels);
    if (w->index)
        fclose(w->index);
    free(w->path);
    free(w);
}

static int writer_put(struct pack_writer *w, const void *data, uint64_t size_bytes)
{
    if (fwrite(data, 1, size_bytes, w->file) != size_bytes)
        return io_error();
    w->offset += size_bytes;
    return 0;
}

/* A file beside `path` that is gone with its last descriptor. */
static int open_index(struct pack_writer *w)
{
    char path[4608];
    snprintf(path, sizeof path, "%s.index", w->path);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return io_error();
    unlink(path);
    w->index = fdopen(fd, "w+b");
    if (!w->index) {
        close(fd);
        return ERR_NOMEM;
    }
    return 0;
}

int pack_writer_new(struct pack_writer **out, const char *path)
{
    struct pack_writer *w = calloc(1, sizeof *w);
    int err = ERR_NOMEM;
    int fd = -1;
    if (!w || !(w->path = strdup(path)))
        goto out;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || !(w->file = fdopen(fd, "wb"))) {
        err = io_error();
        goto out;
    }
    setvbuf(w->file, NULL, _IOFBF, 1 << 18);
    uint8_t header[HEADER_BYTES];
    put_header(header);
    err = writer_put(w, header, sizeof header);
    if (err == 0)
        err = open_index(w);
    if (err == 0)
        *out = w;
out:
    if (err != 0) {
        if (w && w->file)
            fclose(w->file);
        else if (fd >= 0)
            close(fd);
        if (fd >= 0)
            unlink(path);
        if (w)
            writer_free(w);
    }
    return err;
}

/* Makes room for one more element of `element_bytes` in *array. */
static int grow(void **array, int count, int *capacity, size_t element_bytes)
{
    if (count < *capacity)
        return 0;
    int bigger = *capacity ? *capacity * 2 : 64;
    void *moved = reallocarray(*array, (size_t)bigger, element_bytes);
    if (!moved)
        return ERR_NOMEM;
    *array = moved;
    *capacity = bigger;
    return 0;
}

int pack_writer_label(struct pack_writer *w, const char *label, int *index)
{
    for (int i = 0; i < w->label_count; i++) {
        if (strcmp(w->labels[i], label) == 0) {
            *index = i;
            return 0;
        }
    }
    if (label[0] == '\0' || w->label_count >= PACK_MAX_LABELS)
        return ERR_INVALID;
    void *labels = w->labels;
    int err = grow(&labels, w->label_count, &w->label_capacity, sizeof *w->labels);
    w->labels = labels;
    char *copy = err == 0 ? strdup(label) : NULL;
    if (!copy)
        return ERR_NOMEM;
    *index = w->label_count;
    w->labels[w->label_count++] = copy;
    return 0;
}

int pack_writer_add(struct pack_writer *w, const struct pack_image *image)
{
    if (!image_legal(image, w->label_count) || w->image_count >= PACK_MAX_IMAGES)
        return ERR_INVALID;
    uint8_t entry[ENTRY_BYTES];
    put_u64(entry, w->offset);
    put_u64(entry + 8, image->size_bytes);
    put_u32(entry + 16, (uint32_t)image->label);
    put_u32(entry + 20, (uint32_t)image->encoding);
    put_u32(entry + 24, (uint32_t)image->width);
    put_u32(entry + 28, (uint32_t)image->height);
    put_u32(entry + 32, (uint32_t)image->channels);
    put_u32(entry + 36, 0);
    put_u64(entry + 40, XXH3_64bits(image->data, image->size_bytes));
    int err = writer_put(w, image->data, image->size_bytes);
    if (err == 0 && fwrite(entry, sizeof entry, 1, w->index) != 1)
        err = io_error();
    if (err == 0)
        w->image_count++;
    return err;
}

static int writer_copy_index(struct pack_writer *w, XXH3_state_t *sum)
{
    uint8_t entry[ENTRY_BYTES];
    int err = fflush(w->index) == 0 ? 0 : io_error();
    rewind(w->index);
    for (int i = 0; i < w->image_count && err == 0; i++) {
        if (fread(entry, sizeof entry, 1, w->index) != 1)
            return ERR_IO;
        XXH3_64bits_update(sum, entry, sizeof entry);
        err = writer_put(w, entry, sizeof entry);
    }
    return err;
}

/* Labels, index and footer; the checksum runs over exactly what is written. */
static int writer_tail(struct pack_writer *w)
{
    uint64_t labels_offset = w->offset;
    XXH3_state_t *sum = XXH3_createState();
    if (!sum)
        return ERR_NOMEM;
    XXH3_64bits_reset(sum);
    int err = 0;
    for (int i = 0; i < w->label_count && err == 0; i++) {
        size_t bytes = strlen(w->labels[i]) + 1;
        XXH3_64bits_update(sum, w->labels[i], bytes);
        err = writer_put(w, w->labels[i], bytes);
    }
    uint64_t index_offset = w->offset;
    if (err == 0)
        err = writer_copy_index(w, sum);
    uint8_t footer[FOOTER_BYTES];
    memcpy(footer, footer_magic, sizeof footer_magic);
    put_u64(footer + 8, labels_offset);
    put_u64(footer + 16, index_offset);
    put_u64(footer + 24, (uint64_t)w->label_count);
    put_u64(footer + 32, (uint64_t)w->image_count);
    put_u64(footer + 40, w->offset + FOOTER_BYTES);
    XXH3_64bits_update(sum, footer, FOOTER_BYTES - 8);
    put_u64(footer + 48, XXH3_64bits_digest(sum));
    XXH3_freeState(sum);
    return err != 0 ? err : writer_put(w, footer, sizeof footer);
}

int pack_writer_finish(struct pack_writer *w, uint64_t *size_bytes)
{
    int err = writer_tail(w);
    /* A failed fsync has lost the data: it is not tried again, the file goes. */
    if (err == 0 && (fflush(w->file) != 0 || fsync(fileno(w->file)) != 0))
        err = io_error();
    if (fclose(w->file) != 0 && err == 0)
        err = io_error();
    if (err != 0)
        unlink(w->path);
    else if (size_bytes)
        *size_bytes = w->offset;
    writer_free(w);
    return err;
}

void pack_writer_abort(struct pack_writer *w)
{
    if (!w)
        return;
    fclose(w->file);
    unlink(w->path);
    writer_free(w);
}

/* ---- reading ---- */

struct pack {
    uint8_t *map;
    uint64_t size_bytes;
    const uint8_t *index;
    const char **labels; /* into the map */
    int label_count, image_count;
};

static void entry_read(const uint8_t *entry, struct pack_image *image, uint64_t *offset)
{
    *offset = get_u64(entry);
    image->size_bytes = get_u64(entry + 8);
    image->label = (int)get_u32(entry + 16);
    image->encoding = (enum pack_encoding)get_u32(entry + 20);
    image->width = (int)get_u32(entry + 24);
    image->height = (int)get_u32(entry + 28);
    image->channels = (int)get_u32(entry + 32);
}

static int map_file(struct pack *p, const char *path)
{
    int err = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ERR_MISSING : ERR_IO;
    struct stat st;
    if (fstat(fd, &st) != 0) {
        err = ERR_IO;
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        err = ERR_FORMAT;
        goto out;
    }
    if (st.st_size < HEADER_BYTES + FOOTER_BYTES) {
        err = ERR_CORRUPT;
        goto out;
    }
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        err = ERR_NOMEM;
        goto out;
    }
    p->map = map;
    p->size_bytes = (uint64_t)st.st_size;
out:
    close(fd);
    return err;
}

void pack_forget(const struct pack *p)
{
    madvise(p->map, p->size_bytes, MADV_DONTNEED);
}

static int hash_tail(const struct pack *p, uint64_t from, uint64_t *hash)
{
    XXH3_state_t *sum = XXH3_createState();
    if (!sum)
        return ERR_NOMEM;
    XXH3_64bits_reset(sum);
    for (uint64_t end = p->size_bytes - 8, bytes; from < end; from += bytes) {
        bytes = end - from < WINDOW_BYTES ? end - from : WINDOW_BYTES;
        XXH3_64bits_update(sum, p->map + from, bytes);
        pack_forget(p);
    }
    *hash = XXH3_64bits_digest(sum);
    XXH3_freeState(sum);
    return 0;
}

/* Header, footer and their checksum; after it the offsets and counts may be believed. */
static int verify_frame(struct pack *p, uint64_t *labels_offset, uint64_t *index_offset)
{
    uint8_t header[HEADER_BYTES];
    put_header(header);
    if (memcmp(p->map, header, sizeof header) != 0)
        return ERR_FORMAT;
    const uint8_t *footer = p->map + p->size_bytes - FOOTER_BYTES;
    if (memcmp(footer, footer_magic, sizeof footer_magic) != 0)
        return ERR_CORRUPT;
    uint64_t labels = get_u64(footer + 8), index = get_u64(footer + 16);
    uint64_t label_count = get_u64(footer + 24), image_count = get_u64(footer + 32);
    uint64_t tail_end = p->size_bytes - FOOTER_BYTES;
    bool sane = get_u64(footer + 40) == p->size_bytes && labels >= HEADER_BYTES &&
                labels <= index && index <= tail_end && label_count <= PACK_MAX_LABELS &&
                image_count <= PACK_MAX_IMAGES && tail_end - index == image_count * ENTRY_BYTES;
    uint64_t hash = 0;
    int err = sane ? hash_tail(p, labels, &hash) : 0;
    if (err != 0)
        return err;
    if (!sane || hash != get_u64(footer + 48))
        return ERR_CORRUPT;
    p->index = p->map + index;
    p->label_count = (int)label_count;
    p->image_count = (int)image_count;
    *labels_offset = labels;
    *index_offset = index;
    return 0;
}

static int read_labels(struct pack *p, uint64_t from, uint64_t to)
{
    p->labels = calloc((size_t)p->label_count + 1, sizeof *p->labels);
    if (!p->labels)
        return ERR_NOMEM;
    const char *at = (const char *)p->map + from, *end = (const char *)p->map + to;
    for (int i = 0; i < p->label_count; i++) {
        const char *nul = memchr(at, '\0', (size_t)(end - at));
        if (!nul || nul == at)
            return ERR_CORRUPT;
        p->labels[i] = at;
        at = nul + 1;
    }
    return at == end ? 0 : ERR_CORRUPT;
}

/* The images lie back to back between header and labels: no hole, no overlap. */
static int verify_index(const struct pack *p, uint64_t labels_offset)
{
    uint64_t expected = HEADER_BYTES;
    for (int i = 0; i < p->image_count; i++) {
        struct pack_image image;
        uint64_t offset;
        entry_read(p->index + (size_t)i * ENTRY_BYTES, &image, &offset);
        if (!image_legal(&image, p->label_count) || offset != expected ||
            image.size_bytes > labels_offset - expected)
            return ERR_CORRUPT;
        expected += image.size_bytes;
        if (i % (WINDOW_BYTES / ENTRY_BYTES) == 0)
            pack_forget(p);
    }
    return expected == labels_offset ? 0 : ERR_CORRUPT;
}

int pack_open(struct pack **out, const char *path)
{
    struct pack *p = calloc(1, sizeof *p);
    if (!p)
        return ERR_NOMEM;
    uint64_t labels_offset, index_offset;
    int err = map_file(p, path);
    if (err == 0)
        err = verify_frame(p, &labels_offset, &index_offset);
    if (err == 0)
        err = read_labels(p, labels_offset, index_offset);
    if (err == 0)
        err = verify_index(p, labels_offset);
    if (err != 0)
        pack_close(p);
    else
        *out = p;
    return err;
}

void pack_close(struct pack *p)
{
    if (!p)
        return;
    if (p->map)
        munmap(p->map, p->size_bytes);
    free(p->labels);
    free(p);
}

uint64_t pack_bytes(const struct pack *p)
{
    return p->size_bytes;
}

int pack_image_count(const struct pack *p)
{
    return p->image_count;
}

int pack_label_count(const struct pack *p)
{
    return p->label_count;
}

const char *pack_label(const struct pack *p, int index)
{
    return p->labels[index];
}

int pack_image(const struct pack *p, int index, struct pack_image *out)
{
    if (index < 0 || index >= p->image_count)
        return ERR_INVALID;
    const uint8_t *entry = p->index + (size_t)index * ENTRY_BYTES;
    struct pack_image image;
    uint64_t offset;
    entry_read(entry, &image, &offset);
    image.data = p->map + offset;
    if (XXH3_64bits(image.data, image.size_bytes) != get_u64(entry + 40))
        return ERR_CORRUPT;
    *out = image;
    return 0;
}
