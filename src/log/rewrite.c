/* rewrite.c - writes a sealed segment anew: without what need not be kept, or compressed.
 *
 * Reads the old file commit by commit, checking everything, and writes the commits again with a new
 * nonce into "segment-N.log.rewritten". Dropped records of a commit leave holes; commits of which
 * nothing is left become one commit with one hole. When all are kept, marks are too, so that every
 * commit stays where it was. The header is written last, so a file with a
 * valid header is whole.
 * Owns: the new file until it is whole. Thread: any. */
#include <inttypes.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "log/blocks.h"
#include "log/nonce.h"
#include "log/scan.h"

#define OUTPUT_BYTES ((size_t)1 << 20) /* Written at once. */

/* The file being written. */
struct output {
  const struct cg_fs *fs;        /* How. */
  char *path;                    /* Its path. */
  int handle;                    /* It; -1: not made. */
  uint64_t offset;               /* Where `waiting` goes, when it is not compressed. */
  struct cg_buf *waiting;        /* Commits to be written. */
  bool is_compressing;           /* They go through the packer. */
  struct cg_block_packer packer; /* Makes blocks of them. */
};

/* Positions of which nothing is left, not written yet. */
struct gap {
  uint64_t position;         /* The first. */
  uint64_t count;            /* How many; 0: none. */
  uint64_t durable_position; /* Of the first commit dropped. */
  int64_t time_ms;           /* Of the last commit dropped. */
};

/* A rewriting under way. */
struct work {
  const struct cg_log_rewrite *asked; /* What to do. */
  struct cg_scan scan;                /* The old file. */
  struct cg_segment_header header;    /* Of the new file. */
  struct output output;               /* The new file. */
  struct gap gap;                     /* Commits dropped as a whole. */
  struct cg_buf *commit;              /* The one being made. */
  struct cg_buf *gap_commit;          /* The one that stands for the gap. */
  uint32_t chain;                     /* Check of the last one made. */
};

/* --- the new file --- */

static enum cg_code output_failed(const struct output *output, const char *doing, int error,
                                  struct cg_err *err) {
  return cg_err_set(err, cg_err_from_errno(-error), "%s %s: %s", doing, output->path,
                    strerror(-error));
}

static enum cg_code output_open(struct output *output, const struct cg_fs *fs, const char *path,
                                const struct cg_segment_header *header, int level,
                                struct cg_err *err) {
  *output = (struct output){
      .fs = fs,
      .path = cg_segment_file_path(path, header->number, CG_SEGMENT_KIND_REWRITTEN),
      .offset = CG_SEGMENT_HEADER_BYTES,
      .waiting = cg_buf_take(NULL, OUTPUT_BYTES),
      .is_compressing = header->is_compressed,
  };
  if (output->is_compressing)
    cg_block_packer_init(&output->packer, level, header->nonce);
  cg_io_unlink(fs, output->path); /* What a failed attempt may have left. */
  output->handle = cg_io_open(fs, output->path, CG_FS_CREATE);
  return output->handle < 0 ? output_failed(output, "create", output->handle, err) : CG_OK;
}

/* Writes a block, or the table, at its offset. */
static enum cg_code write_packed(struct output *output, const struct cg_buf *packed,
                                 uint64_t offset, struct cg_err *err) {
  int result = cg_io_write(output->fs, output->handle, packed->data, packed->size, offset);
  return result < 0 ? output_failed(output, "write", result, err) : CG_OK;
}

/* Writes what waits in blocks; less than a block goes on waiting, unless it is the last. */
static enum cg_code output_pack(struct output *output, bool is_last, struct cg_err *err) {
  struct cg_buf *waiting = output->waiting;
  size_t done = 0;
  enum cg_code code = CG_OK;
  while (code == CG_OK && done < waiting->size &&
         (is_last || waiting->size - done >= CG_BLOCK_BYTES)) {
    size_t part = waiting->size - done < CG_BLOCK_BYTES ? waiting->size - done : CG_BLOCK_BYTES;
    uint64_t offset = output->packer.offset;
    code = cg_block_packer_add(&output->packer, waiting->data + done, part, err);
    if (code == CG_OK)
      code = write_packed(output, output->packer.packed, offset, err);
    done += part;
  }
  if (done > 0)
    memmove(waiting->data, waiting->data + done, waiting->size - done);
  waiting->size -= done;
  return code;
}

/* Writes what waits; `is_last`: nothing comes behind it. */
static enum cg_code output_drain(struct output *output, bool is_last, struct cg_err *err) {
  if (output->is_compressing)
    return output_pack(output, is_last, err);
  int result = cg_io_write(output->fs, output->handle, output->waiting->data, output->waiting->size,
                           output->offset);
  if (result < 0)
    return output_failed(output, "write", result, err);
  output->offset += output->waiting->size;
  output->waiting->size = 0;
  return CG_OK;
}

/* Writes table and header and makes all of it durable. */
static enum cg_code output_finish(struct output *output, struct cg_segment_header *header,
                                  struct cg_err *err) {
  enum cg_code code = output_drain(output, true, err);
  if (code == CG_OK && output->is_compressing) {
    header->table_offset = output->packer.offset;
    cg_block_packer_table(&output->packer);
    code = write_packed(output, output->packer.table, header->table_offset, err);
  }
  if (code != CG_OK)
    return code;
  uint8_t bytes[CG_SEGMENT_HEADER_BYTES];
  cg_segment_header_encode(header, bytes);
  int result = cg_io_write(output->fs, output->handle, bytes, sizeof(bytes), 0);
  if (result < 0)
    return output_failed(output, "write header of", result, err);
  result = cg_io_sync(output->fs, output->handle);
  return result < 0 ? output_failed(output, "sync", result, err) : CG_OK;
}

/* Closes the file; removes it unless it is whole. */
static void output_close(struct output *output, bool is_whole) {
  if (output->handle >= 0) {
    output->fs->close(output->fs->arg, output->handle);
    if (!is_whole)
      cg_io_unlink(output->fs, output->path);
  }
  if (output->is_compressing)
    cg_block_packer_deinit(&output->packer);
  cg_buf_unref(output->waiting);
  cg_free(output->path);
}

/* --- commits --- */

/* Empties a commit to room for its header. */
static void begin_commit(struct cg_buf *commit) {
  commit->size = 0;
  cg_buf_room(commit, CG_COMMIT_HEADER_BYTES);
  commit->size = CG_COMMIT_HEADER_BYTES;
}

/* Adds a hole to a commit. */
static void add_hole(struct cg_buf *commit, struct cg_commit_header *header, uint64_t count) {
  struct cg_record hole = {.version = count, .flags = CG_RECORD_HOLE};
  cg_record_append(commit, &hole);
  header->record_count++;
  header->gap_count += (uint32_t)(count - 1);
}

/* Finishes a commit and hands it to the new file. */
static enum cg_code end_commit(struct work *work, struct cg_buf *commit,
                               struct cg_commit_header *header, struct cg_err *err) {
  cg_buf_room(commit, CG_COMMIT_END_BYTES);
  commit->size += CG_COMMIT_END_BYTES;
  header->size = (uint32_t)commit->size;
  header->chain = work->chain;
  work->chain = cg_commit_finish(commit->data, header, work->header.nonce);
  cg_buf_append(work->output.waiting, commit->data, commit->size);
  return work->output.waiting->size >= OUTPUT_BYTES ? output_drain(&work->output, false, err)
                                                    : CG_OK;
}

/* Writes the commit that stands for all those dropped as a whole. */
static enum cg_code end_gap(struct work *work, struct cg_err *err) {
  if (work->gap.count == 0)
    return CG_OK;
  struct cg_commit_header header = {
      .first_position = work->gap.position,
      .durable_position = work->gap.durable_position,
      .time_ms = work->gap.time_ms,
  };
  begin_commit(work->gap_commit);
  add_hole(work->gap_commit, &header, work->gap.count);
  work->gap.count = 0;
  return end_commit(work, work->gap_commit, &header, err);
}

/* Notes that nothing of a commit is left. */
static void widen_gap(struct work *work, const struct cg_commit_header *header) {
  if (work->gap.count == 0) {
    work->gap.position = header->first_position;
    work->gap.durable_position = header->durable_position;
  }
  work->gap.count += cg_commit_end_position(header) - header->first_position;
  work->gap.time_ms = header->time_ms;
}

/* Which of its records a commit keeps: fills the commit under way, with holes between them. */
static enum cg_code keep_records(struct work *work, const struct cg_reader_commit *old,
                                 struct cg_commit_header *header, bool *is_empty,
                                 struct cg_err *err) {
  const struct cg_log_rewrite *asked = work->asked;
  uint64_t position = old->header.first_position, dropped_count = 0;
  *is_empty = true;
  for (size_t at = 0; at < old->records_size;) {
    struct cg_record record;
    size_t size;
    enum cg_code code =
        cg_record_decode(old->records + at, old->records_size - at, &record, &size, err);
    if (code != CG_OK)
      return code; /* Not reached: the scan has checked it. */
    record.position = position;
    bool is_kept =
        !(record.flags & CG_RECORD_HOLE) && (!asked->keep || asked->keep(asked->arg, &record));
    if (is_kept && dropped_count > 0)
      add_hole(work->commit, header, dropped_count);
    if (is_kept) {
      cg_buf_append(work->commit, old->records + at, size);
      header->record_count++;
      dropped_count = 0;
      *is_empty = false;
    } else {
      dropped_count += cg_record_positions(&record);
    }
    position += cg_record_positions(&record);
    at += size;
  }
  if (dropped_count > 0)
    add_hole(work->commit, header, dropped_count);
  return CG_OK;
}

/* Writes a commit again. */
static enum cg_code rewrite_commit(struct work *work, const struct cg_reader_commit *old,
                                   struct cg_err *err) {
  bool is_mark = old->header.record_count == 0;
  if (is_mark && work->asked->keep)
    return CG_OK; /* What a mark says, the next segment's header says better. */
  struct cg_commit_header header = {
      .first_position = old->header.first_position,
      .durable_position = old->header.durable_position,
      .time_ms = old->header.time_ms,
  };
  bool is_empty;
  begin_commit(work->commit);
  enum cg_code code = keep_records(work, old, &header, &is_empty, err);
  if (code == CG_OK && is_empty && !is_mark) {
    widen_gap(work, &old->header);
    return CG_OK;
  }
  if (code == CG_OK)
    code = end_gap(work, err);
  return code == CG_OK ? end_commit(work, work->commit, &header, err) : code;
}

/* --- the whole --- */

/* Fills in the header of the new file. */
static enum cg_code make_header(struct work *work, struct cg_err *err) {
  const struct cg_segment_header *old = &work->scan.segment->header;
  work->header = *old;
  work->header.is_rewritten = true;
  work->header.is_compressed = work->asked->compress;
  work->header.table_offset = 0;
  work->header.end_position = work->scan.seal.end_position;
  work->header.end_chain = work->scan.seal.chain;
  uint64_t seed = work->asked->nonce_seed;
  uint64_t nonce;
  enum cg_code code = cg_nonce_draw(seed, old->nonce, &nonce, err);
  work->header.nonce = (uint32_t)(nonce >> 32);
  if (work->header.nonce == old->nonce)
    work->header.nonce++;
  work->chain = old->chain;
  return code;
}

/* Writes all commits, then the header. */
static enum cg_code rewrite_all(struct work *work, struct cg_err *err) {
  struct cg_reader_commit commit;
  enum cg_code code;
  while ((code = cg_scan_next(&work->scan, &commit, err)) == CG_OK) {
    code = rewrite_commit(work, &commit, err);
    if (code != CG_OK)
      return code;
  }
  if (code == CG_END)
    code = end_gap(work, err);
  return code == CG_OK ? output_finish(&work->output, &work->header, err) : code;
}

enum cg_code cg_log_rewrite(const char *path, const struct cg_fs *fs, struct cg_log_seal *seal,
                            const struct cg_log_rewrite *rewrite, struct cg_err *err) {
  struct work work = {.asked = rewrite};
  fs = fs ? fs : cg_fs_system();
  if (rewrite->level < 0 || rewrite->level > CG_ZSTD_LEVEL_MAX)
    return cg_err_set(err, CG_EINVAL, "level = %d: must be from 1 to %d, or 0 for the default",
                      rewrite->level, CG_ZSTD_LEVEL_MAX);
  enum cg_code code = cg_scan_open(&work.scan, path, fs, seal, err);
  if (code != CG_OK)
    return code;
  work.commit = cg_buf_take(NULL, OUTPUT_BYTES);
  work.gap_commit = cg_buf_take(NULL, 256);
  code = make_header(&work, err);
  if (code == CG_OK) {
    code = output_open(&work.output, fs, path, &work.header, rewrite->level, err);
    if (code == CG_OK)
      code = rewrite_all(&work, err);
    output_close(&work.output, code == CG_OK);
  }
  cg_buf_unref(work.commit);
  cg_buf_unref(work.gap_commit);
  cg_scan_close(&work.scan);
  if (code == CG_OK)
    seal->nonce = work.header.nonce;
  return code;
}
