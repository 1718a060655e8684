/*
 * label.c - the grammar of labels, and UTF-8.
 */
#include "server/decode/label.h"

#include <stdint.h>
#include <string.h>

#include "server/decode/ingest.h"

/* Length of the UTF-8 character at `text` (NUL-terminated) and its code point; 0 when it is not
 * valid: overlong forms, surrogates and what lies over U+10FFFF included. */
static int utf8_next(const char *text, uint32_t *code)
{
    const uint8_t *p = (const uint8_t *)text;
    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }
    int length = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;
    if (length == 0 || p[0] > 0xf4)
        return 0;
    uint32_t c = p[0] & (0xffu >> (length + 1));
    for (int i = 1; i < length; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (c < least[length] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
        return 0;
    *code = c;
    return length;
}

/* C0, DEL, C1, and the characters that turn the direction or break the line of a text around
 * them. */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0x2028 || c == 0x2029;
}

bool label_valid(const char *label)
{
    size_t bytes = strlen(label);
    if (bytes < 1 || bytes >= LABEL_BYTES || label[0] == '.' || label[0] == ' ' ||
        label[bytes - 1] == ' ')
        return false;
    for (const char *p = label; *p;) {
        uint32_t c;
        int length = utf8_next(p, &c);
        if (length == 0 || is_control(c) || c == '/' || c == '\\')
            return false;
        p += length;
    }
    return true;
}

void text_clean(const char *text, char *out, size_t out_bytes)
{
    size_t used = 0;
    while (*text) {
        uint32_t c;
        int length = utf8_next(text, &c);
        bool bad = length == 0 || is_control(c);
        size_t bytes = bad ? 1 : (size_t)length;
        if (used + bytes >= out_bytes)
            break;
        if (bad)
            out[used] = '?';
        else
            memcpy(out + used, text, bytes);
        used += bytes;
        text += length == 0 ? 1 : length;
    }
    out[used] = '\0';
}
