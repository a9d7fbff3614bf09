/* store_model_bytes.h - the bytes of a record of store_model, which follow from what it is.
 *
 * Owns: nothing. Thread: any. */
#ifndef SPEC_STORE_MODEL_BYTES_H
#define SPEC_STORE_MODEL_BYTES_H

#include <stdio.h>
#include <string.h>

#include "support/store_model.h"

#define STORE_MODEL_DATA_MAX 4096

/* Type, metadata and data of a record. */
struct store_model_bytes {
  char type[16];                      /* Zero-terminated. */
  char metadata[16];                  /* Not zero-terminated. */
  size_t metadata_size;               /* 0 in some. */
  uint8_t data[STORE_MODEL_DATA_MAX]; /* The data. */
  size_t data_size;                   /* Bytes of it. */
};

/* Makes them: stream, version and salt must be set. */
static inline void store_model_bytes_make(struct store_model_bytes *bytes,
                                          const struct store_model_record *record) {
  snprintf(bytes->type, sizeof(bytes->type), "Type%u", record->salt % 7);
  memset(bytes->metadata, 'm', sizeof(bytes->metadata));
  bytes->metadata_size = record->salt % 3 == 0 ? record->salt % sizeof(bytes->metadata) : 0;
  int size = snprintf((char *)bytes->data, sizeof(bytes->data), "%u of %u, %u", record->version,
                      record->stream, record->salt);
  size_t filler = record->salt % (record->salt % 16 == 0 ? 3000 : 200);
  memset(bytes->data + size, 'a' + record->salt % 26, filler);
  bytes->data_size = (size_t)size + filler;
}

#endif
