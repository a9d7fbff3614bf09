/* cipher.h - AES-256-GCM and SHA-256 of libcrypto, which is opened when it is first needed.
 *
 * How to use: cg_cipher_open once, cg_cipher_seal and cg_cipher_unseal as often as wanted,
 * cg_cipher_close. A nonce must never be used twice with the same key: take it from
 * cg_cipher_random.
 * Owns: the library's handle and one context. Thread: one at a time. */
#ifndef CG_STORE_CIPHER_H
#define CG_STORE_CIPHER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CG_CIPHER_KEY_BYTES 32
#define CG_CIPHER_NONCE_BYTES 12
#define CG_CIPHER_TAG_BYTES 16
#define CG_CIPHER_DIGEST_BYTES 32

struct cg_cipher;

/* Bytes that are protected but not encrypted, and those that are. */
struct cg_cipher_text {
  const void *bound; /* Associated data; NULL is fine when its size is 0. */
  const void *bytes; /* Plain text, or cipher text; NULL is fine when its size is 0. */
  size_t bound_size; /* Bytes of bound. */
  size_t size;       /* Bytes of bytes; at most INT_MAX. */
};

/* Opens the library. CG_ENOTFOUND: it is not installed, or lacks the cipher. */
enum cg_code cg_cipher_open(struct cg_cipher **cipher, struct cg_err *err);
/* NULL is fine. */
void cg_cipher_close(struct cg_cipher *cipher);

/* Encrypts: `out` gets text->size bytes, `tag` what proves them. CG_EIO: the library failed. */
enum cg_code cg_cipher_seal(struct cg_cipher *cipher, const uint8_t key[CG_CIPHER_KEY_BYTES],
                            const uint8_t nonce[CG_CIPHER_NONCE_BYTES],
                            const struct cg_cipher_text *text, uint8_t *out,
                            uint8_t tag[CG_CIPHER_TAG_BYTES], struct cg_err *err);
/* Decrypts: `out` gets text->size bytes; wiped again unless CG_OK. CG_ECORRUPT: the bytes, what
 * they are bound to, the tag or the key is not what they were sealed with. */
enum cg_code cg_cipher_unseal(struct cg_cipher *cipher, const uint8_t key[CG_CIPHER_KEY_BYTES],
                              const uint8_t nonce[CG_CIPHER_NONCE_BYTES],
                              const struct cg_cipher_text *text, uint8_t *out,
                              const uint8_t tag[CG_CIPHER_TAG_BYTES], struct cg_err *err);

/* SHA-256 of two runs of bytes, one behind the other. CG_EIO: the library failed. */
enum cg_code cg_cipher_digest(struct cg_cipher *cipher, const void *first, size_t first_size,
                              const void *second, size_t second_size,
                              uint8_t digest[CG_CIPHER_DIGEST_BYTES], struct cg_err *err);

/* Fills with the system's randomness; dies when there is none. */
void cg_cipher_random(void *bytes, size_t size);

#endif
