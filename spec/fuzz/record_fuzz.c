/* record_fuzz.c - any bytes as a record and as a commit: decoding must stay inside them, and what
 * is decoded must encode to the same bytes.
 *
 * The corpus was made by spec/fuzz/make_log_corpus.c from a real log.
 * Owns: nothing between calls. Thread: one. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "log/record.h"

#define NONCE 1

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool is_true) {
  if (!is_true)
    abort();
}

/* What was decoded must encode to the same bytes, but for the CRC, which is 0 then. */
static void encode_again(const uint8_t *bytes, size_t size, const struct cg_record *record) {
  struct cg_buf *buf = cg_buf_take(NULL, size);
  cg_record_append(buf, record);
  require(buf->size == size);
  require(memcmp(buf->data, bytes, 4) == 0);
  require(memcmp(buf->data + 8, bytes + 8, size - 8) == 0);
  cg_buf_unref(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  /* An exact copy, so that a read past the end is noticed. */
  uint8_t *copy = malloc(size > 0 ? size : 1);
  require(copy != NULL);
  if (size > 0)
    memcpy(copy, bytes, size);
  struct cg_record record;
  struct cg_err err;
  size_t record_size;
  if (cg_record_decode(copy, size, &record, &record_size, &err) == CG_OK)
    encode_again(copy, record_size, &record);
  struct cg_commit_header header;
  uint32_t check;
  if (cg_commit_check(copy, size, NONCE, &header, &check, &err) == CG_OK) {
    uint8_t *again = malloc(header.size);
    require(again != NULL);
    memcpy(again, copy, header.size);
    require(cg_commit_finish(again, &header, NONCE) == check);
    require(memcmp(again, copy, header.size) == 0);
    free(again);
  }
  struct cg_segment_header segment;
  cg_segment_header_decode(copy, size, &segment, &err);
  free(copy);
  return 0;
}
