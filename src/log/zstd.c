/* zstd.c - libzstd, opened when it is needed first.
 *
 * By dlopen, so that it costs a program without compressed segments neither memory nor time.
 * Owns: see zstd.h. Thread: one at a time. */
#include "log/zstd.h"

#include <dlfcn.h>
#include <zstd.h>

#include "base/mem.h"

#define LIBRARY "libzstd.so.1"

typedef ZSTD_CCtx *(*create_compressor_fn)(void);
typedef ZSTD_DCtx *(*create_decompressor_fn)(void);
typedef size_t (*free_compressor_fn)(ZSTD_CCtx *);
typedef size_t (*free_decompressor_fn)(ZSTD_DCtx *);
typedef size_t (*compress_fn)(ZSTD_CCtx *, void *, size_t, const void *, size_t, int);
typedef size_t (*decompress_fn)(ZSTD_DCtx *, void *, size_t, const void *, size_t);
typedef unsigned (*is_error_fn)(size_t);
typedef const char *(*error_name_fn)(size_t);

/* The library and what was made by it. */
struct cg_zstd_library {
  void *handle;                               /* Of dlopen. */
  ZSTD_CCtx *compressor;                      /* NULL until needed. */
  ZSTD_DCtx *decompressor;                    /* NULL until needed. */
  create_compressor_fn create_compressor;     /* ZSTD_createCCtx; the others likewise. */
  create_decompressor_fn create_decompressor; /* ZSTD_createDCtx. */
  free_compressor_fn free_compressor;         /* ZSTD_freeCCtx. */
  free_decompressor_fn free_decompressor;     /* ZSTD_freeDCtx. */
  compress_fn compress;                       /* ZSTD_compressCCtx. */
  decompress_fn decompress;                   /* ZSTD_decompressDCtx. */
  is_error_fn is_error;                       /* ZSTD_isError. */
  error_name_fn error_name;                   /* ZSTD_getErrorName. */
};

/* Opens the library unless it is open. */
static enum cg_code open_library(struct cg_zstd *zstd, struct cg_err *err) {
  if (zstd->library)
    return CG_OK;
  void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    return cg_err_set(err, CG_EIO, "compressed segments need libzstd (Debian package libzstd1): %s",
                      dlerror());
  struct cg_zstd_library found = {
      .handle = handle,
      .create_compressor = (create_compressor_fn)dlsym(handle, "ZSTD_createCCtx"),
      .create_decompressor = (create_decompressor_fn)dlsym(handle, "ZSTD_createDCtx"),
      .free_compressor = (free_compressor_fn)dlsym(handle, "ZSTD_freeCCtx"),
      .free_decompressor = (free_decompressor_fn)dlsym(handle, "ZSTD_freeDCtx"),
      .compress = (compress_fn)dlsym(handle, "ZSTD_compressCCtx"),
      .decompress = (decompress_fn)dlsym(handle, "ZSTD_decompressDCtx"),
      .is_error = (is_error_fn)dlsym(handle, "ZSTD_isError"),
      .error_name = (error_name_fn)dlsym(handle, "ZSTD_getErrorName"),
  };
  if (!found.create_compressor || !found.create_decompressor || !found.free_compressor ||
      !found.free_decompressor || !found.compress || !found.decompress || !found.is_error ||
      !found.error_name) {
    dlclose(handle);
    return cg_err_set(err, CG_EIO, "%s is no libzstd", LIBRARY);
  }
  zstd->library = cg_alloc(sizeof(*zstd->library));
  *zstd->library = found;
  return CG_OK;
}

size_t cg_zstd_bound(size_t size) {
  return ZSTD_COMPRESSBOUND(size);
}

enum cg_code cg_zstd_compress(struct cg_zstd *zstd, int level, const uint8_t *bytes, size_t size,
                              uint8_t *packed, size_t *packed_size, struct cg_err *err) {
  enum cg_code code = open_library(zstd, err);
  if (code != CG_OK)
    return code;
  struct cg_zstd_library *library = zstd->library;
  if (!library->compressor)
    library->compressor = library->create_compressor();
  if (!library->compressor)
    return cg_err_set(err, CG_ENOMEM, "libzstd has no memory");
  *packed_size = library->compress(library->compressor, packed, cg_zstd_bound(size), bytes, size,
                                   level == 0 ? CG_ZSTD_LEVEL_DEFAULT : level);
  if (library->is_error(*packed_size))
    return cg_err_set(err, CG_ENOMEM, "compress: %s", library->error_name(*packed_size));
  return CG_OK;
}

enum cg_code cg_zstd_decompress(struct cg_zstd *zstd, const uint8_t *packed, size_t packed_size,
                                uint8_t *bytes, size_t size, struct cg_err *err) {
  enum cg_code code = open_library(zstd, err);
  if (code != CG_OK)
    return code;
  struct cg_zstd_library *library = zstd->library;
  if (!library->decompressor)
    library->decompressor = library->create_decompressor();
  if (!library->decompressor)
    return cg_err_set(err, CG_ENOMEM, "libzstd has no memory");
  size_t result = library->decompress(library->decompressor, bytes, size, packed, packed_size);
  if (library->is_error(result))
    return cg_err_set(err, CG_ECORRUPT, "decompress: %s", library->error_name(result));
  if (result != size)
    return cg_err_set(err, CG_ECORRUPT, "decompress: %zu bytes, expected %zu", result, size);
  return CG_OK;
}

void cg_zstd_close(struct cg_zstd *zstd) {
  struct cg_zstd_library *library = zstd->library;
  if (!library)
    return;
  library->free_compressor(library->compressor);
  library->free_decompressor(library->decompressor);
  dlclose(library->handle);
  cg_free(library);
  zstd->library = NULL;
}
