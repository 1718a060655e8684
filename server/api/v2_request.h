/*
 * v2_request.h - the body of an Open Inference Protocol request, untrusted, to images and a list of
 * wanted outputs.
 *
 * JSON, or JSON of a length told by the header Inference-Header-Content-Length and binary tensors
 * behind it (little-endian; BYTES elements as a 4-byte length and that many bytes). A length of 0:
 * the whole body is one encoded image.
 *
 *   inputs   one of
 *     image   BYTES [N] or [N,1]: JPEG or PNG; as text in JSON it is base64
 *     pixels  UINT8 or FP32 [N,C,H,W]: pixel values 0..255; the model normalises them itself
 *   outputs  any of
 *     logits, probabilities   FP32 [N,classes]; with a parameter `classification` k the k best as
 *                             BYTES [N,k], "value:index:label" each
 *     label                   BYTES [N,1]
 *
 * Pure functions, any thread.
 */
#ifndef ACCRETED_SERVER_API_V2_REQUEST_H
#define ACCRETED_SERVER_API_V2_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { V2_MAX_IMAGES = 32, V2_MAX_OUTPUTS = 3, V2_WHY_BYTES = 256 };

#define V2_NO_HEADER (-1)

enum v2_tensor { V2_LOGITS, V2_PROBABILITIES, V2_LABEL, V2_TENSORS };

/* The name of an output. Static storage. */
const char *v2_tensor_name(enum v2_tensor tensor);

struct v2_output {
    enum v2_tensor tensor;
    bool binary;
    int classification; /* k; 0: the tensor itself */
};

struct v2_image {
    const void *data;
    size_t size_bytes;
};

struct v2_request {
    json_t *id; /* a string, or NULL */
    int count;  /* images, 1..V2_MAX_IMAGES */
    bool encoded;
    struct v2_image images[V2_MAX_IMAGES]; /* encoded: in the body, or in `decoded` */
    float *pixels;                         /* else: (count, C, H, W), each 0..255 */
    struct v2_output outputs[V2_MAX_OUTPUTS];
    int output_count;

    json_t *root; /* own memory */
    uint8_t *decoded;
};

struct v2_shape { /* of the images that the model takes */
    int channels, height, width;
};

/* The value of Inference-Header-Content-Length (NULL: V2_NO_HEADER). False when it is no number. */
bool v2_header_length(const char *text, int64_t *out);

/* Reads a request; the result borrows from `body`. ERR_FORMAT: it is malformed or asks for what is
 * not there, and `why` (V2_WHY_BYTES) says what is wrong; ERR_NOMEM. Nothing is to release then. */
int v2_request_parse(struct v2_request *out, const void *body, size_t body_bytes,
                     int64_t json_bytes, const struct v2_shape *shape, char *why);
void v2_request_release(struct v2_request *r);

#endif
