/* utf8.h - what is valid UTF-8.
 *
 * How to use: ask for the size of one sequence, or of the valid start of a text. Valid is as in
 * RFC 3629: no overlong form, no surrogate, nothing beyond U+10FFFF.
 * Owns: nothing. Thread: any. */
#ifndef CG_CODEC_UTF8_H
#define CG_CODEC_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define CG_UTF8_BYTES_MAX 4 /* The longest sequence. */

/* Bytes of the sequence at the start of `text` (1 to 4); 0 when it is not valid or size is 0. */
size_t cg_utf8_sequence_size(const char *text, size_t size);

/* Bytes at the start of `text` that are valid; `size` when all of it is. */
size_t cg_utf8_valid_size(const char *text, size_t size);

/* Writes the sequence of `code_point`, which must be at most 0x10FFFF and no surrogate (asserted),
 * to `out` with room for CG_UTF8_BYTES_MAX bytes. Returns its size. */
size_t cg_utf8_encode(uint32_t code_point, char *out);

#endif
