/*
 * pack.h - the file of a batch's images: encoded images with labels, checksummed, written once.
 *
 * magic, version; then per image: header (label index, encoding, sizes), bytes; then the label table, an index of
 * offsets, XXH3-64 of each, and a footer with the counts. Images are stored as they came (JPEG and PNG encoded, data-set files
 * as raw pixels), because the input size is fixed only by the first job.
 */
#ifndef ACCRETED_SERVER_STORE_PACK_H
#define ACCRETED_SERVER_STORE_PACK_H

#include <stdint.h>

enum pack_encoding { PACK_JPEG = 1, PACK_PNG = 2, PACK_RAW = 3 /* height*width*channels bytes, HWC */ };

struct pack_image {
    int label;                    /* index into the label table */
    enum pack_encoding encoding;
    int width, height, channels;  /* as stored; channels 1 or 3 */
    const uint8_t *data;
    uint64_t size_bytes;
};

/* ---- writing: one thread, blocks on the disk ---- */
struct pack_writer;
int pack_writer_new(struct pack_writer **out, const char *path); /* a temporary file */
/* Index of `label`, added when new. */
int pack_writer_label(struct pack_writer *w, const char *label, int *index);
int pack_writer_add(struct pack_writer *w, const struct pack_image *image);
/* Footer, fsync, close. `w` is freed, whatever is returned. */
int pack_writer_finish(struct pack_writer *w, uint64_t *size_bytes);
void pack_writer_abort(struct pack_writer *w); /* removes the file */

/* ---- reading: memory-mapped, immutable, any thread ---- */
struct pack;
int pack_open(struct pack **out, const char *path); /* verifies structure; ERR_MISSING, ERR_CORRUPT, ERR_FORMAT */
void pack_close(struct pack *p);
int pack_image_count(const struct pack *p);
int pack_label_count(const struct pack *p);
const char *pack_label(const struct pack *p, int index);
/* Image `index`, borrowed until pack_close; verifies its checksum: ERR_CORRUPT. */
int pack_image(const struct pack *p, int index, struct pack_image *out);

#endif
