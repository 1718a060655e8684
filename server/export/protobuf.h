/*
 * protobuf.h - the little of the protocol buffers' wire format that writing an ONNX file takes.
 *
 * Fields are appended to one growing block. A failed allocation sticks: everything after it does
 * nothing, and the writer looks at `err` once, at the end. Any thread, one at a time.
 */
#ifndef ACCRETED_SERVER_EXPORT_PROTOBUF_H
#define ACCRETED_SERVER_EXPORT_PROTOBUF_H

#include <stddef.h>
#include <stdint.h>

struct protobuf { /* begins zeroed */
    uint8_t *data; /* owned: free() it */
    size_t size, capacity;
    int err; /* 0 or ERR_NOMEM */
};

void protobuf_varint(struct protobuf *p, int field, uint64_t value);
void protobuf_bytes(struct protobuf *p, int field, const void *data, size_t size_bytes);
void protobuf_text(struct protobuf *p, int field, const char *text);

/* A message inside the message: everything between the two calls is its content. A message holds
 * less than 256 MiB: its length takes four bytes, whatever it is, so that nothing moves. */
size_t protobuf_begin(struct protobuf *p, int field);
void protobuf_end(struct protobuf *p, size_t begin);

#endif
