/* scan.c - reads one sealed segment from its file and checks everything in it.
 *
 * Unlike recovery it has no doubt about what it finds: a sealed segment is whole, so anything but
 * commits that follow on one another up to the stated end is damage.
 * Owns: see scan.h. Thread: one at a time. */
#include "log/scan.h"

#include <inttypes.h>

#define WINDOW_BYTES ((size_t)1 << 20) /* What is read at once. */

/* Puts file and offset before an error. */
static enum cg_code failed_at(const struct cg_scan *scan, enum cg_code code, uint64_t offset,
                              struct cg_err *err) {
  char name[CG_SEGMENT_NAME_BYTES];
  cg_segment_name(name, scan->seal.number);
  cg_err_prefix(err, "%s/%s: offset %" PRIu64, scan->segment->directory, name, offset);
  return code;
}

/* Opens the segment's file, or the rewritten one beside it, whichever has the seal's nonce. */
static enum cg_code find_file(struct cg_scan *scan, const char *path, const struct cg_fs *fs,
                              struct cg_err *err) {
  for (int attempt = 0; attempt < 3; attempt++) {
    /* Looked for twice under its own name: it may be given that name between the first looks. */
    bool is_beside = attempt == 1;
    enum cg_code code =
        is_beside ? cg_segment_open_rewritten(&scan->segment, fs, path, scan->seal.number, NULL)
                  : cg_segment_open_to_read(&scan->segment, fs, path, scan->seal.number, err);
    if (code == CG_OK && scan->segment->header.nonce == scan->seal.nonce)
      return CG_OK;
    if (code == CG_OK)
      cg_segment_free(scan->segment);
    else if (!is_beside)
      return code;
  }
  return cg_err_set(err, CG_ENOTFOUND,
                    "segment %" PRIu64 " in %s has been rewritten: no file has nonce %08x",
                    scan->seal.number, path, scan->seal.nonce);
}

enum cg_code cg_scan_open(struct cg_scan *scan, const char *path, const struct cg_fs *fs,
                          const struct cg_log_seal *seal, struct cg_err *err) {
  *scan = (struct cg_scan){.seal = *seal};
  enum cg_code code = find_file(scan, path, fs, err);
  if (code != CG_OK)
    return code;
  const struct cg_segment_header *header = &scan->segment->header;
  if (header->first_position != seal->first_position)
    code = cg_err_set(err, CG_ECORRUPT,
                      "the segment begins at position %" PRIu64 ", expected %" PRIu64,
                      header->first_position, seal->first_position);
  else if (header->is_rewritten &&
           (header->end_position != seal->end_position || header->end_chain != seal->chain))
    code = cg_err_set(err, CG_ECORRUPT,
                      "the segment does not end where the next one begins: before position %" PRIu64
                      ", expected %" PRIu64,
                      header->end_position, seal->end_position);
  if (code != CG_OK) {
    failed_at(scan, code, 0, err);
    cg_segment_free(scan->segment);
    return code;
  }
  scan->position = header->first_position;
  scan->chain = header->chain;
  scan->next_offset = CG_SEGMENT_HEADER_BYTES;
  cg_reader_init(&scan->reader, WINDOW_BYTES);
  cg_reader_turn(&scan->reader, scan->segment, cg_segment_limit(scan->segment));
  return CG_OK;
}

void cg_scan_close(struct cg_scan *scan) {
  cg_reader_deinit(&scan->reader);
  cg_segment_free(scan->segment);
}

/* Where the commits end: nothing but zeros may follow, and the end must be the sealed one. */
static enum cg_code check_end(struct cg_scan *scan, struct cg_err *err) {
  uint64_t end;
  enum cg_code code = cg_reader_end(&scan->reader, scan->next_offset, &end, err);
  if (code == CG_OK && end != scan->next_offset)
    code = cg_err_set(err, CG_ECORRUPT, "bytes after the last commit are not zero");
  if (code == CG_OK && scan->position != scan->seal.end_position)
    code = cg_err_set(err, CG_ECORRUPT,
                      "the segment ends before position %" PRIu64 ", expected %" PRIu64,
                      scan->position, scan->seal.end_position);
  /* Of a rewritten one the header says what the chain was; its own commits are chained anew. */
  if (code == CG_OK && !scan->segment->header.is_rewritten && scan->chain != scan->seal.chain)
    code = cg_err_set(err, CG_ECORRUPT, "the next segment is not chained to the last commit");
  return code == CG_OK ? CG_END : failed_at(scan, code, scan->next_offset, err);
}

enum cg_code cg_scan_next(struct cg_scan *scan, struct cg_reader_commit *commit,
                          struct cg_err *err) {
  enum cg_code code = cg_reader_commit(&scan->reader, scan->next_offset, commit, err);
  if (code == CG_END)
    return check_end(scan, err);
  const struct cg_commit_header *header = &commit->header;
  if (code == CG_OK && header->first_position != scan->position)
    code = cg_err_set(err, CG_ECORRUPT, "commit has position %" PRIu64 ", expected %" PRIu64,
                      header->first_position, scan->position);
  if (code == CG_OK && header->chain != scan->chain)
    code = cg_err_set(err, CG_ECORRUPT, "commit is not chained to the one before it");
  if (code == CG_OK && header->durable_position > header->first_position)
    code = cg_err_set(err, CG_ECORRUPT,
                      "commit at position %" PRIu64 " states durable position %" PRIu64,
                      header->first_position, header->durable_position);
  if (code != CG_OK)
    return failed_at(scan, code, scan->next_offset, err);
  scan->offset = scan->next_offset;
  scan->next_offset += header->size;
  scan->position = cg_commit_end_position(header);
  scan->chain = commit->check;
  return CG_OK;
}

/* Calls `record` for each record of a commit. CG_ECANCELLED: it said no. */
static enum cg_code give_records(const struct cg_scan *scan, const struct cg_log_scan *face,
                                 const struct cg_reader_commit *commit, struct cg_err *err) {
  cg_log_place place = scan->seal.number << 32 | (scan->offset + CG_COMMIT_HEADER_BYTES) / 8;
  uint64_t position = commit->header.first_position;
  size_t at = 0;
  while (at < commit->records_size) {
    struct cg_record record;
    size_t size;
    enum cg_code code =
        cg_record_decode(commit->records + at, commit->records_size - at, &record, &size, err);
    if (code != CG_OK) /* Not reached: the commit was checked as a whole. */
      return failed_at(scan, code, scan->offset, err);
    record.position = position;
    position += cg_record_positions(&record);
    if (!(record.flags & CG_RECORD_HOLE) && !face->record(face->arg, &record, place + at / 8))
      return cg_err_set(err, CG_ECANCELLED, "the scan was ended by its caller");
    at += size;
  }
  return CG_OK;
}

enum cg_code cg_log_scan(const char *path, const struct cg_fs *fs, const struct cg_log_seal *seal,
                         const struct cg_log_scan *face, struct cg_err *err) {
  struct cg_scan scan;
  enum cg_code code = cg_scan_open(&scan, path, fs ? fs : cg_fs_system(), seal, err);
  if (code != CG_OK)
    return code;
  uint64_t waypoint_offset = 0; /* Of the last one; 0: none yet. */
  struct cg_reader_commit commit;
  while ((code = cg_scan_next(&scan, &commit, err)) == CG_OK) {
    struct cg_log_waypoint waypoint = {.position = commit.header.first_position,
                                       .offset = scan.offset};
    bool is_due =
        waypoint_offset == 0 || waypoint.offset - waypoint_offset >= CG_SEGMENT_WAYPOINT_BYTES;
    if (is_due) {
      waypoint_offset = waypoint.offset;
      if (face->waypoint)
        face->waypoint(face->arg, &waypoint);
    }
    code = give_records(&scan, face, &commit, err);
    if (code != CG_OK)
      break;
  }
  cg_scan_close(&scan);
  return code == CG_END ? CG_OK : code;
}
