/* cipher.c - libcrypto by dlopen: a program without personal data neither loads nor starts it.
 *
 * One context is used again for every call; the algorithms are fetched once.
 * Owns: see cipher.h. Thread: one at a time. */
#include "store/cipher.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"

#define LIBRARY "libcrypto.so.3"

typedef EVP_CIPHER_CTX *(*context_new_fn)(void);
typedef void (*context_free_fn)(EVP_CIPHER_CTX *);
typedef EVP_CIPHER *(*fetch_fn)(OSSL_LIB_CTX *, const char *, const char *);
typedef void (*cipher_free_fn)(EVP_CIPHER *);
typedef int (*init_fn)(EVP_CIPHER_CTX *, const EVP_CIPHER *, ENGINE *, const unsigned char *,
                       const unsigned char *, int);
typedef int (*update_fn)(EVP_CIPHER_CTX *, unsigned char *, int *, const unsigned char *, int);
typedef int (*final_fn)(EVP_CIPHER_CTX *, unsigned char *, int *);
typedef int (*control_fn)(EVP_CIPHER_CTX *, int, int, void *);
typedef EVP_MD_CTX *(*digest_new_fn)(void);
typedef void (*digest_free_fn)(EVP_MD_CTX *);
typedef const EVP_MD *(*sha256_fn)(void);
typedef int (*digest_init_fn)(EVP_MD_CTX *, const EVP_MD *, ENGINE *);
typedef int (*digest_update_fn)(EVP_MD_CTX *, const void *, size_t);
typedef int (*digest_final_fn)(EVP_MD_CTX *, unsigned char *, unsigned int *);

/* The library with one context of each kind. */
struct cg_cipher {
  void *library;                  /* Of dlopen. */
  EVP_CIPHER *algorithm;          /* AES-256-GCM. */
  EVP_CIPHER_CTX *context;        /* For all calls. */
  EVP_MD_CTX *digest;             /* The same of SHA-256. */
  cipher_free_fn cipher_free;     /* EVP_CIPHER_free of the library; the others likewise. */
  context_free_fn context_free;   /* EVP_CIPHER_CTX_free. */
  init_fn init;                   /* EVP_CipherInit_ex. */
  update_fn update;               /* EVP_CipherUpdate. */
  final_fn final;                 /* EVP_CipherFinal_ex. */
  control_fn control;             /* EVP_CIPHER_CTX_ctrl. */
  digest_free_fn digest_free;     /* EVP_MD_CTX_free. */
  sha256_fn sha256;               /* EVP_sha256. */
  digest_init_fn digest_init;     /* EVP_DigestInit_ex. */
  digest_update_fn digest_update; /* EVP_DigestUpdate. */
  digest_final_fn digest_final;   /* EVP_DigestFinal_ex. */
};

/* Looks a function up; *is_whole becomes false when there is none. */
static void *find(struct cg_cipher *cipher, const char *name, bool *is_whole) {
  void *function = dlsym(cipher->library, name);
  *is_whole = *is_whole && function != NULL;
  return function;
}

static bool find_all(struct cg_cipher *cipher) {
  bool is_whole = true;
  fetch_fn fetch = (fetch_fn)find(cipher, "EVP_CIPHER_fetch", &is_whole);
  context_new_fn context_new = (context_new_fn)find(cipher, "EVP_CIPHER_CTX_new", &is_whole);
  digest_new_fn digest_new = (digest_new_fn)find(cipher, "EVP_MD_CTX_new", &is_whole);
  cipher->cipher_free = (cipher_free_fn)find(cipher, "EVP_CIPHER_free", &is_whole);
  cipher->context_free = (context_free_fn)find(cipher, "EVP_CIPHER_CTX_free", &is_whole);
  cipher->init = (init_fn)find(cipher, "EVP_CipherInit_ex", &is_whole);
  cipher->update = (update_fn)find(cipher, "EVP_CipherUpdate", &is_whole);
  cipher->final = (final_fn)find(cipher, "EVP_CipherFinal_ex", &is_whole);
  cipher->control = (control_fn)find(cipher, "EVP_CIPHER_CTX_ctrl", &is_whole);
  cipher->digest_free = (digest_free_fn)find(cipher, "EVP_MD_CTX_free", &is_whole);
  cipher->sha256 = (sha256_fn)find(cipher, "EVP_sha256", &is_whole);
  cipher->digest_init = (digest_init_fn)find(cipher, "EVP_DigestInit_ex", &is_whole);
  cipher->digest_update = (digest_update_fn)find(cipher, "EVP_DigestUpdate", &is_whole);
  cipher->digest_final = (digest_final_fn)find(cipher, "EVP_DigestFinal_ex", &is_whole);
  if (!is_whole)
    return false;
  cipher->algorithm = fetch(NULL, "AES-256-GCM", NULL);
  cipher->context = context_new();
  cipher->digest = digest_new();
  return cipher->algorithm != NULL && cipher->context != NULL && cipher->digest != NULL;
}

enum cg_code cg_cipher_open(struct cg_cipher **out, struct cg_err *err) {
  struct cg_cipher *cipher = cg_alloc(sizeof(*cipher));
  enum cg_code code = CG_OK;
  cipher->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (cipher->library == NULL)
    code = cg_err_set(err, CG_ENOTFOUND,
                      "personal data needs libcrypto (Debian package libssl3): "
                      "%s",
                      dlerror());
  else if (!find_all(cipher))
    code = cg_err_set(err, CG_ENOTFOUND, "%s has no AES-256-GCM", LIBRARY);
  if (code != CG_OK) {
    cg_cipher_close(cipher);
    return code;
  }
  *out = cipher;
  return CG_OK;
}

void cg_cipher_close(struct cg_cipher *cipher) {
  if (cipher == NULL)
    return;
  if (cipher->context != NULL)
    cipher->context_free(cipher->context);
  if (cipher->digest != NULL)
    cipher->digest_free(cipher->digest);
  if (cipher->algorithm != NULL)
    cipher->cipher_free(cipher->algorithm);
  if (cipher->library != NULL)
    dlclose(cipher->library);
  cg_free(cipher);
}

/* Everything but the tag: true when the library took it. */
static bool run(struct cg_cipher *cipher, const uint8_t *key, const uint8_t *nonce,
                const struct cg_cipher_text *text, uint8_t *out, bool is_sealing) {
  int done;
  assert(text->size <= INT_MAX && text->bound_size <= INT_MAX);
  if (!cipher->init(cipher->context, cipher->algorithm, NULL, key, nonce, is_sealing))
    return false;
  if (text->bound_size > 0 &&
      !cipher->update(cipher->context, NULL, &done, text->bound, (int)text->bound_size))
    return false;
  return text->size == 0 ||
         cipher->update(cipher->context, out, &done, text->bytes, (int)text->size);
}

enum cg_code cg_cipher_seal(struct cg_cipher *cipher, const uint8_t key[CG_CIPHER_KEY_BYTES],
                            const uint8_t nonce[CG_CIPHER_NONCE_BYTES],
                            const struct cg_cipher_text *text, uint8_t *out,
                            uint8_t tag[CG_CIPHER_TAG_BYTES], struct cg_err *err) {
  uint8_t rest[CG_CIPHER_TAG_BYTES];
  int done;
  if (run(cipher, key, nonce, text, out, true) && cipher->final(cipher->context, rest, &done) &&
      cipher->control(cipher->context, EVP_CTRL_AEAD_GET_TAG, CG_CIPHER_TAG_BYTES, tag))
    return CG_OK;
  return cg_err_set(err, CG_EIO, "libcrypto could not encrypt");
}

enum cg_code cg_cipher_unseal(struct cg_cipher *cipher, const uint8_t key[CG_CIPHER_KEY_BYTES],
                              const uint8_t nonce[CG_CIPHER_NONCE_BYTES],
                              const struct cg_cipher_text *text, uint8_t *out,
                              const uint8_t tag[CG_CIPHER_TAG_BYTES], struct cg_err *err) {
  uint8_t expected[CG_CIPHER_TAG_BYTES], rest[CG_CIPHER_TAG_BYTES];
  int done;
  memcpy(expected, tag, sizeof(expected));
  if (run(cipher, key, nonce, text, out, false) &&
      cipher->control(cipher->context, EVP_CTRL_AEAD_SET_TAG, CG_CIPHER_TAG_BYTES, expected) &&
      cipher->final(cipher->context, rest, &done))
    return CG_OK;
  if (text->size > 0)
    explicit_bzero(out, text->size);
  return cg_err_set(err, CG_ECORRUPT,
                    "the encrypted bytes are damaged, or were not encrypted with "
                    "this key for this place");
}

enum cg_code cg_cipher_digest(struct cg_cipher *cipher, const void *first, size_t first_size,
                              const void *second, size_t second_size,
                              uint8_t digest[CG_CIPHER_DIGEST_BYTES], struct cg_err *err) {
  if (cipher->digest_init(cipher->digest, cipher->sha256(), NULL) &&
      cipher->digest_update(cipher->digest, first, first_size) &&
      cipher->digest_update(cipher->digest, second, second_size) &&
      cipher->digest_final(cipher->digest, digest, NULL))
    return CG_OK;
  return cg_err_set(err, CG_EIO, "libcrypto could not compute SHA-256");
}

void cg_cipher_random(void *bytes, size_t size) {
  uint8_t *at = bytes;
  while (size > 0) {
    ssize_t count = getrandom(at, size, 0);
    if (count < 0 && errno != EINTR)
      abort(); /* No key may be made without it. */
    if (count > 0) {
      at += count;
      size -= (size_t)count;
    }
  }
}
