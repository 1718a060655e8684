/*
 * label.h - text from strangers: labels and file names. Pure functions, any thread.
 */
#ifndef ACCRETED_SERVER_DECODE_LABEL_H
#define ACCRETED_SERVER_DECODE_LABEL_H

#include <stddef.h>

/* Copies `text` for a reply: what is no UTF-8 or a control character becomes '?', the rest is cut
 * (at a character) to fit `out_bytes`. */
void text_clean(const char *text, char *out, size_t out_bytes);

#endif
