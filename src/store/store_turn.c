/* store_turn.c - what the store does between two turns of the loop: hands work to the index's
 * worker, takes in what it has made, and lets go of memory.
 *
 * Owns: what store.h says. Thread: the loop thread. */
#include "store/store_state.h"

#define SLOTS_AT_ONCE 4096u            /* Streams looked at in one turn. */
#define RETRY_NS UINT64_C(10000000000) /* After a failure of the worker. */
#define TABLES_MAX 32u                 /* With more tables merging goes before building. */

/* Something with the index has failed: said, and tried again later. */
static void put_off(struct cg_store *store, uint32_t seal_count, const struct cg_err *err) {
  cg_say(store->say, CG_SAY_WARN, "index: %s; what it misses stays in memory meanwhile",
         err->message);
  store->retry_seals = seal_count;
  store->retry_ns = cg_clock_mono_ns(&store->clock) + RETRY_NS;
}

/* A segment was written anew: puts it in place with its table. What slots still hold of it is in
 * the table, so it is dropped first. */
static void take_rewrite(struct cg_store *store, const struct cg_worker_job *job) {
  struct cg_err err = job->err;
  enum cg_code code = job->code;
  while (cg_slots_turn(&store->slots, cg_index_end_position(&store->index),
                       store->streams_cached_max, SLOTS_AT_ONCE))
    continue;
  if (code == CG_OK)
    code = cg_index_swap(&store->index, &job->seal, job->first_segments[0], job->last_segments[0],
                         &err);
  else if (job->has_corrupt &&
           (code = cg_index_rebuild(&store->index, job->first_segments[0], &err)) == CG_OK)
    code = cg_err_set(&err, CG_EBUSY,
                      "a part of the index was missing or damaged, and was made "
                      "again; try again");
  store->rewrite_code = code;
  store->rewrite_err = err;
  store->is_rewritten = true;
}

/* Takes in what the worker has done. */
static void take_job(struct cg_store *store) {
  const struct cg_worker_job *job = cg_worker_take(&store->worker);
  if (job == NULL)
    return;
  if (job->is_rewrite) {
    take_rewrite(store, job);
    return;
  }
  struct cg_err err = job->err;
  enum cg_code code = job->code;
  if (code == CG_OK && job->is_merge)
    code = cg_index_add(&store->index, job->first_segments[0],
                        job->last_segments[job->part_count - 1], &err);
  else if (code == CG_OK)
    code = cg_index_add(&store->index, job->seal.number, job->seal.number, &err);
  else if (job->has_corrupt)
    code = cg_index_rebuild(&store->index, job->first_segments[job->corrupt], &err);
  const struct cg_log_seal *seals;
  if (code != CG_OK)
    put_off(store, cg_log_seals(store->log, &seals), &err);
}

/* Adds a table to those of the job. */
static void add_part(struct cg_worker_job *job, const struct cg_table *table) {
  uint32_t part = job->part_count++;
  job->first_segments[part] = table->header.first_segment;
  job->last_segments[part] = cg_table_last_segment(table);
  job->crcs[part] = table->header.crc;
}

/* Gives the worker the next thing to do, if there is any. */
static void give_job(struct cg_store *store, const struct cg_log_seal *seals, uint32_t seal_count) {
  struct cg_worker_job job = {.is_merge = false};
  uint64_t covered = cg_index_segment_count(&store->index);
  uint32_t first;
  if (covered == seal_count && store->settled_serial == store->index.serial)
    return;
  bool wants_merge = cg_index_wants_merge(&store->index, &first);
  if (covered < seal_count && !(wants_merge && store->index.table_count > TABLES_MAX)) {
    job.seal = seals[covered];
  } else if (wants_merge) {
    job.is_merge = true;
    for (uint32_t i = 0; i < CG_TABLE_PARTS_MAX; i++)
      add_part(&job, store->index.tables[first + i]);
  } else {
    store->settled_serial = store->index.serial;
    return;
  }
  struct cg_err err;
  if (cg_worker_give(&store->worker, &job, &err) != CG_OK)
    put_off(store, seal_count, &err);
}

/* Whether the worker may be given something after a failure. */
static bool may_try(struct cg_store *store, uint32_t seal_count) {
  if (store->retry_ns == 0)
    return true;
  if (seal_count <= store->retry_seals && cg_clock_mono_ns(&store->clock) < store->retry_ns)
    return false;
  store->retry_ns = 0;
  return true;
}

enum cg_code cg_store_rewrite(struct cg_store *store, uint64_t number,
                              const struct cg_log_rewrite *rewrite, struct cg_err *err) {
  const struct cg_log_seal *seals;
  if (!store->has_index || number >= cg_log_seals(store->log, &seals))
    return cg_err_set(err, CG_ENOTFOUND, "segment %llu is not there, or not sealed",
                      (unsigned long long)number);
  struct cg_worker_job job = {.is_rewrite = true, .rewrite = *rewrite, .seal = seals[number]};
  const struct cg_table *table = cg_index_table_of(&store->index, number);
  if (store->is_rewriting || !cg_worker_is_idle(&store->worker) || table == NULL)
    return cg_err_set(err, CG_EBUSY, "the index is being worked on; try again later");
  add_part(&job, table);
  enum cg_code code = cg_worker_give(&store->worker, &job, err);
  store->is_rewriting = code == CG_OK;
  return code;
}

bool cg_store_rewritten(struct cg_store *store, enum cg_code *code, struct cg_err *err) {
  if (!store->is_rewritten)
    return false;
  *code = store->rewrite_code;
  if (err != NULL)
    *err = store->rewrite_err;
  store->is_rewriting = store->is_rewritten = false;
  return true;
}

bool cg_store_turn(struct cg_store *store) {
  if (!store->has_index || store->is_building)
    return false;
  const struct cg_log_seal *seals;
  take_job(store);
  uint32_t seal_count = cg_log_seals(store->log, &seals);
  bool is_idle = cg_worker_is_idle(&store->worker);
  if (is_idle && may_try(store, seal_count))
    give_job(store, seals, seal_count);
  bool has_more = cg_slots_turn(&store->slots, cg_index_end_position(&store->index),
                                store->streams_cached_max, SLOTS_AT_ONCE);
  return has_more || (store->worker.is_manual && !cg_worker_is_idle(&store->worker));
}
