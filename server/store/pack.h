/*
 * pack.h - the file of a batch's images: encoded images with labels, checksummed, written once.
 *
 * Layout, integers little-endian, no padding between the parts:
 *   header  16 bytes: magic "ACRTPACK", u32 format version, u32 zero
 *   images  the bytes of each, back to back, in the order added
 *   labels  NUL-terminated UTF-8 strings, in the order of their index
 *   index   48 bytes an image: u64 offset, u64 size, u32 label, u32 encoding, u32 width,
 *           u32 height, u32 channels, u32 zero, u64 XXH3-64 of the image's bytes
 *   footer  56 bytes: magic "ACRTPEND", u64 labels' offset, u64 index's offset, u64 label count,
 *           u64 image count, u64 size of the file, u64 XXH3-64 of labels, index and footer to here
 *
 * Every byte is under a checksum or has one legal value. Images are stored as they came (JPEG and
 * PNG encoded, data-set files as raw pixels), because the input size is fixed only by the first
 * job.
 */
#ifndef ACCRETED_SERVER_STORE_PACK_H
#define ACCRETED_SERVER_STORE_PACK_H

#include <stdint.h>

enum pack_encoding {
    PACK_JPEG = 1,
    PACK_PNG = 2,
    PACK_RAW = 3 /* height*width*channels bytes, HWC */
};

/* What one pack may hold: the reader and the writer both refuse more. */
enum { PACK_MAX_LABELS = 65536, PACK_MAX_IMAGES = 10000000, PACK_MAX_SIDE = 65535 };

struct pack_image {
    int label;                    /* index into the label table */
    enum pack_encoding encoding;
    int width, height, channels;  /* as stored; channels 1 or 3 */
    const uint8_t *data;
    uint64_t size_bytes;
};

/* ---- writing: one thread, blocks on the disk ---- */
struct pack_writer;
/* Creates `path`, a temporary file that must not exist. ERR_IO, ERR_NOSPACE, ERR_NOMEM. */
int pack_writer_new(struct pack_writer **out, const char *path);
/* Index of `label`, added when new. ERR_INVALID: empty, or over PACK_MAX_LABELS. ERR_NOMEM. */
int pack_writer_label(struct pack_writer *w, const char *label, int *index);
/* Copies the image to the file. ERR_INVALID: a field out of range. ERR_IO, ERR_NOSPACE,
 * ERR_NOMEM. */
int pack_writer_add(struct pack_writer *w, const struct pack_image *image);
/* Footer, fsync, close. `w` is freed, whatever is returned; on an error the file is removed.
 * `size_bytes` may be NULL. */
int pack_writer_finish(struct pack_writer *w, uint64_t *size_bytes);
void pack_writer_abort(struct pack_writer *w); /* removes the file; NULL is fine */

/* ---- reading: memory-mapped, immutable, any thread ---- */
struct pack;
/* Verifies everything but the images' own bytes. ERR_MISSING, ERR_CORRUPT, ERR_FORMAT, ERR_IO,
 * ERR_NOMEM. */
int pack_open(struct pack **out, const char *path);
void pack_close(struct pack *p);
int pack_image_count(const struct pack *p);
uint64_t pack_bytes(const struct pack *p); /* of the file */
int pack_label_count(const struct pack *p);
const char *pack_label(const struct pack *p, int index);
/* Gives back the memory that reading took; whatever is looked at again comes from the file. */
void pack_forget(const struct pack *p);
/* Image `index`, borrowed until pack_close; verifies its checksum: ERR_CORRUPT. */
int pack_image(const struct pack *p, int index, struct pack_image *out);

#endif
