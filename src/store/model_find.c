/* model_find.c - builds the query of a FIND job.
 *
 * Parameters: a path and a value for each condition, then the sort's path; the only text of the
 * caller's that is written into the query is the table's name. A number is not equal to true or
 * false, nor a string to an object's text: that is what the JSON types are compared for.
 * Owns: nothing. Thread: the model's worker thread. */
#include "store/model_find.h"

#include <stdio.h>
#include <string.h>

#define PIECE_BYTES 1024 /* Room for the table's name and a few words. */

static void write_text(const struct cg_model_job *job, const char *table, struct cg_buf *text);
static void bind_all(sqlite3_stmt *statement, const struct cg_model_job *job);

int cg_model_find_prepare(sqlite3 *db, const struct cg_model_job *job, const char *table,
                          sqlite3_stmt **statement) {
  struct cg_buf *text = cg_buf_take(NULL, 0);
  write_text(job, table, text);
  int status = sqlite3_prepare_v2(db, (const char *)text->data, -1, statement, NULL);
  cg_buf_unref(text);
  if (status == SQLITE_OK)
    bind_all(*statement, job);
  return status;
}

/* The query's text. */
static void write_text(const struct cg_model_job *job, const char *table, struct cg_buf *text) {
  static const char *const CONDITIONS[] = {
      [CG_MODEL_STRING] = "json_extract(doc, ?%d) = ?%d AND json_type(doc, ?%d) = 'text'",
      [CG_MODEL_NUMBER] =
          "json_extract(doc, ?%d) = ?%d AND json_type(doc, ?%d) IN ('integer', 'real')",
      [CG_MODEL_BOOLEAN] = "json_type(doc, ?%d) = ?%d",
      [CG_MODEL_NULL] = "json_type(doc, ?%d) = ?%d"};
  char piece[PIECE_BYTES];
  const void *bytes;
  size_t size, offset = 0;
  int place = 1;
  text->size = 0;
  snprintf(piece, sizeof(piece), "SELECT key, doc FROM %s", table);
  cg_buf_append(text, piece, strlen(piece));
  while (cg_model_entry_next(job->request, &offset, &bytes, &size)) {
    cg_model_entry_next(job->request, &offset, &bytes, &size);
    const char *condition = CONDITIONS[*(const uint8_t *)bytes];
    cg_model_entry_next(job->request, &offset, &bytes, &size);
    const char *word = place == 1 ? " WHERE " : " AND ";
    cg_buf_append(text, word, strlen(word));
    snprintf(piece, sizeof(piece), condition, place, place + 1, place);
    cg_buf_append(text, piece, strlen(piece));
    place += 2;
  }
  const char *way = job->is_descending ? " DESC" : "";
  if (job->order != NULL)
    snprintf(piece, sizeof(piece), " ORDER BY json_extract(doc, ?%d)%s, key%s LIMIT %u OFFSET %u",
             place, way, way, job->max, job->offset);
  else
    snprintf(piece, sizeof(piece), " ORDER BY key%s LIMIT %u OFFSET %u", way, job->max,
             job->offset);
  cg_buf_append(text, piece, strlen(piece) + 1);
}

static void bind_path(sqlite3_stmt *statement, int place, const char *field, size_t size) {
  char *path = sqlite3_mprintf("$.\"%.*s\"", (int)size, field);
  sqlite3_bind_text(statement, place, path, -1, sqlite3_free);
}

static void bind_all(sqlite3_stmt *statement, const struct cg_model_job *job) {
  const void *field, *bytes;
  size_t field_size, size, offset = 0;
  int place = 1;
  while (cg_model_entry_next(job->request, &offset, &field, &field_size)) {
    bind_path(statement, place, field, field_size);
    cg_model_entry_next(job->request, &offset, &bytes, &size);
    enum cg_model_match match = *(const uint8_t *)bytes;
    cg_model_entry_next(job->request, &offset, &bytes, &size);
    double number;
    if (match == CG_MODEL_NUMBER) {
      memcpy(&number, bytes, sizeof(number));
      sqlite3_bind_double(statement, place + 1, number);
    } else if (match == CG_MODEL_STRING) {
      sqlite3_bind_text(statement, place + 1, bytes, (int)size, SQLITE_STATIC);
    } else if (match == CG_MODEL_BOOLEAN) {
      sqlite3_bind_text(statement, place + 1, *(const bool *)bytes ? "true" : "false", -1,
                        SQLITE_STATIC);
    } else {
      sqlite3_bind_text(statement, place + 1, "null", -1, SQLITE_STATIC);
    }
    place += 2;
  }
  if (job->order != NULL)
    bind_path(statement, place, job->order, strlen(job->order));
}
