/* reader.c - reads the commits of one segment file through a window.
 *
 * The window holds what was read last; a request inside it costs no call. It is enlarged only for a
 * commit whose header, with a right CRC, says it is larger, so its size is bounded by
 * CG_COMMIT_BYTES_MAX.
 * Owns: the window. Thread: one at a time. */
#include "log/reader.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"

#define ZERO_STEP_BYTES 256 /* Looked at at once when zeros are skipped from behind. */

/* Whether `size` bytes are all zero; reads eight at a time, as gigabytes may pass through it. */
static bool is_zero(const uint8_t *bytes, size_t size) {
  size_t index = 0;
  for (; index + 8 <= size; index += 8) {
    uint64_t word;
    memcpy(&word, bytes + index, sizeof(word));
    if (word != 0)
      return false;
  }
  for (; index < size; index++)
    if (bytes[index] != 0)
      return false;
  return true;
}

void cg_reader_init(struct cg_reader *reader, size_t window_bytes) {
  *reader = (struct cg_reader){.window_bytes = window_bytes};
}

void cg_reader_deinit(struct cg_reader *reader) {
  cg_free(reader->window);
  reader->window = NULL;
}

void cg_reader_turn(struct cg_reader *reader, struct cg_segment *segment, uint64_t limit) {
  reader->segment = segment;
  reader->nonce = segment->header.nonce;
  reader->limit = limit;
  reader->window_size = 0;
}

void cg_reader_extend(struct cg_reader *reader, uint64_t limit) {
  assert(limit >= reader->limit);
  reader->limit = limit;
}

enum cg_code cg_reader_bytes(struct cg_reader *reader, uint64_t offset, size_t size,
                             const uint8_t **bytes, size_t *available, struct cg_err *err) {
  *available = 0;
  *bytes = NULL;
  if (offset >= reader->limit)
    return CG_OK;
  if (size > reader->limit - offset)
    size = (size_t)(reader->limit - offset);
  if (offset < reader->window_offset ||
      offset + size > reader->window_offset + reader->window_size) {
    if (size > reader->window_bytes || !reader->window) {
      while (reader->window_bytes < size)
        reader->window_bytes *= 2;
      cg_free(reader->window);
      reader->window = cg_realloc(NULL, reader->window_bytes); /* Not zeroed: it is filled next. */
    }
    size_t want = reader->window_bytes;
    if (want > reader->limit - offset)
      want = (size_t)(reader->limit - offset);
    reader->window_size = 0;
    size_t count;
    enum cg_code code = cg_segment_read(reader->segment, reader->window, want, offset, &count, err);
    if (code != CG_OK)
      return code;
    reader->window_offset = offset;
    reader->window_size = count;
    if (size > count)
      size = count;
  }
  *bytes = reader->window + (offset - reader->window_offset);
  *available = size;
  return CG_OK;
}

enum cg_code cg_reader_header(struct cg_reader *reader, uint64_t offset,
                              struct cg_commit_header *header, struct cg_err *err) {
  const uint8_t *bytes;
  size_t available;
  enum cg_code code =
      cg_reader_bytes(reader, offset, CG_COMMIT_HEADER_BYTES, &bytes, &available, err);
  if (code != CG_OK)
    return code;
  if (cg_commit_header_decode(bytes, available, reader->nonce, header))
    return CG_OK;
  if (is_zero(bytes, available))
    return CG_END;
  return cg_err_set(err, CG_ECORRUPT, "no valid commit header");
}

/* Says why the bytes of a commit end at `offset`: there is no more, or they cannot be read. */
static enum cg_code cut_short(struct cg_reader *reader, uint64_t offset, struct cg_err *err) {
  const uint8_t *bytes;
  size_t available;
  enum cg_code code = cg_reader_bytes(reader, offset, 1, &bytes, &available, err);
  return code == CG_OK ? cg_err_set(err, CG_ECORRUPT, "commit cut short") : code;
}

enum cg_code cg_reader_commit(struct cg_reader *reader, uint64_t offset,
                              struct cg_reader_commit *commit, struct cg_err *err) {
  enum cg_code code = cg_reader_header(reader, offset, &commit->header, err);
  if (code != CG_OK)
    return code;
  const uint8_t *bytes;
  size_t available;
  code = cg_reader_bytes(reader, offset, commit->header.size, &bytes, &available, err);
  if (code == CG_OK && available < commit->header.size)
    return cut_short(reader, offset + available, err);
  if (code == CG_OK)
    code = cg_commit_check(bytes, available, reader->nonce, &commit->header, &commit->check, err);
  if (code != CG_OK)
    return code;
  commit->records = bytes + CG_COMMIT_HEADER_BYTES;
  commit->records_size = commit->header.size - CG_COMMIT_HEADER_BYTES - CG_COMMIT_END_BYTES;
  return CG_OK;
}

enum cg_code cg_reader_find(struct cg_reader *reader, uint64_t offset, uint64_t position,
                            uint64_t *found, struct cg_err *err) {
  offset = (offset + 7) & ~UINT64_C(7);
  for (;;) {
    const uint8_t *bytes;
    size_t available;
    enum cg_code code =
        cg_reader_bytes(reader, offset, CG_COMMIT_HEADER_BYTES, &bytes, &available, err);
    if (code != CG_OK)
      return code;
    if (available == 0)
      return CG_END;
    if (available < CG_COMMIT_HEADER_BYTES) { /* At the end, or before a damaged block. */
      offset = (offset + available + 7) & ~UINT64_C(7);
      continue;
    }
    /* Everything in the window is looked at before it is asked for more. */
    available = reader->window_size - (size_t)(offset - reader->window_offset);
    size_t step = 0;
    for (; step + CG_COMMIT_HEADER_BYTES <= available; step += 8) {
      struct cg_reader_commit commit;
      if (!cg_commit_header_decode(bytes + step, available - step, reader->nonce, &commit.header) ||
          commit.header.durable_position <= position)
        continue;
      code = cg_reader_commit(reader, offset + step, &commit, NULL);
      if (code == CG_OK) {
        *found = offset + step;
        return CG_OK;
      }
      if (code == CG_EIO)
        return cg_err_set(err, CG_EIO, "read at offset %llu", (unsigned long long)(offset + step));
      step += 8; /* The window may have moved: take it up again behind this header. */
      break;
    }
    offset += step;
  }
}

enum cg_code cg_reader_end(struct cg_reader *reader, uint64_t offset, uint64_t *end,
                           struct cg_err *err) {
  *end = offset;
  size_t step_bytes = reader->window_bytes;
  for (;;) {
    const uint8_t *bytes;
    size_t available;
    enum cg_code code = cg_reader_bytes(reader, offset, step_bytes, &bytes, &available, err);
    if (code != CG_OK)
      return code;
    if (available == 0)
      return CG_OK;
    size_t last = available;
    while (last >= ZERO_STEP_BYTES && is_zero(bytes + last - ZERO_STEP_BYTES, ZERO_STEP_BYTES))
      last -= ZERO_STEP_BYTES;
    while (last > 0 && bytes[last - 1] == 0)
      last--;
    if (last > 0)
      *end = offset + last;
    offset += available;
  }
}
