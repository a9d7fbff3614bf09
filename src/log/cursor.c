/* cursor.c - reading a log in order of positions.
 *
 * The kind puts one whole, checked commit at a time under the cursor; the cursor walks its records.
 * Owns: the reader's window and the copy of a pending commit. Thread: the log's loop thread. */
#include <assert.h>
#include <inttypes.h>

#include "base/mem.h"
#include "log/kind.h"

#define WINDOW_BYTES ((size_t)256 << 10) /* What is read from a file at once. */

static enum cg_code step(struct cg_log_cursor *cursor, struct cg_record *record,
                         struct cg_err *err);

struct cg_log_cursor *cg_log_cursor_new(struct cg_log *log, uint64_t after) {
  struct cg_log_cursor *cursor = cg_alloc(sizeof(*cursor));
  cursor->log = log;
  cursor->position = after + 1;
  cg_reader_init(&cursor->reader, WINDOW_BYTES);
  cursor->copy = cg_buf_take(NULL, 0);
  return cursor;
}

void cg_log_cursor_free(struct cg_log_cursor *cursor) {
  if (!cursor)
    return;
  cg_reader_deinit(&cursor->reader);
  cg_buf_unref(cursor->copy);
  cg_free(cursor);
}

enum cg_code cg_log_cursor_next(struct cg_log_cursor *cursor, uint64_t until,
                                struct cg_record *record, struct cg_err *err) {
  if (until > cursor->log->next_position)
    until = cursor->log->next_position;
  while (cursor->position < until) {
    if (cursor->left_count == 0) {
      enum cg_code code = cursor->log->kind->fetch(cursor->log, cursor, err);
      if (code != CG_OK)
        return code;
      assert(cursor->left_count > 0);
    }
    enum cg_code code = step(cursor, record, err);
    if (code != CG_OK)
      return code;
    if (cursor->at_position <= cursor->position) /* It begins inside of the commit. */
      continue;
    cursor->position = cursor->at_position;
    if (!(record->flags & CG_RECORD_HOLE))
      return CG_OK;
  }
  return CG_END;
}

/* Takes the next record of the commit under the cursor. */
static enum cg_code step(struct cg_log_cursor *cursor, struct cg_record *record,
                         struct cg_err *err) {
  size_t size;
  enum cg_code code = cg_record_decode(cursor->at, cursor->left_size, record, &size, err);
  if (code != CG_OK)
    return cg_err_prefix(err, "position %" PRIu64, cursor->at_position), code;
  record->position = cursor->at_position;
  cursor->at_position += cg_record_positions(record);
  cursor->at += size;
  cursor->left_size -= size;
  cursor->left_count--;
  return CG_OK;
}
