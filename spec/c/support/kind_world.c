/* kind_world.c - a log of any kind, and everything around it that may go wrong, for contract tests.
 *
 * Owns: the log, the model, the disk or server. Thread: one. */
#include "support/kind_world.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SETTLE_TURNS_MAX 200000
#define START_MS INT64_C(1767225600000)

const char *kind_world_name(enum kind_world_kind kind) {
  static const char *const names[] = {"file", "real file", "memory", "remote"};
  return names[kind];
}

/* Watches the durable position: it only grows, and no more once the log has failed. */
static void on_progress(void *arg) {
  struct kind_world *world = arg;
  world->progress_count++;
  if (!world->log)
    return; /* While opening. */
  uint64_t position = cg_log_durable_position(world->log);
  if (position < world->durable_position)
    world->fault = "the durable position went back";
  if (position != world->durable_position && world->has_failed)
    world->fault = "a failed log has acknowledged something";
  world->has_failed = cg_log_failed(world->log, NULL) != CG_OK;
  world->durable_position = position;
}

const char *kind_world_check(struct kind_world *world) {
  uint64_t position = cg_log_durable_position(world->log);
  if (world->fault)
    return world->fault;
  if (position != world->durable_position)
    return "the durable position has moved without progress";
  if (position > cg_log_next_position(world->log))
    return "the durable position is behind the tail";
  if (position == 1)
    return NULL;
  const struct log_model_commit *commit = log_model_find(&world->model, position - 1);
  if (!commit || commit->first_position + commit->record_count != position)
    return "the durable position is inside a commit";
  return NULL;
}

void kind_world_init(struct kind_world *world, enum kind_world_kind kind, uint64_t seed) {
  *world = (struct kind_world){.kind = kind, .sim = sim_fs_new(seed), .directory = "/data"};
  world->clock = (struct cg_clock_virtual){.wall_ms = START_MS};
  world->options = (struct cg_log_options){
      .clock = cg_clock_of(&world->clock),
      .segment_bytes = 64 << 10,
      .nonce_seed = seed + 1,
      .manual = true,
      .replay = log_model_see,
      .replay_arg = &world->model,
      .progress = on_progress,
      .progress_arg = world,
  };
  switch (kind) {
  case KIND_WORLD_FILE:
    sim_fs_put_directory(world->sim, world->directory);
    world->options.fs = sim_fs_calls(world->sim);
    break;
  case KIND_WORLD_FILE_REAL:
    snprintf(world->directory, sizeof(world->directory), "/tmp/catga-contract-XXXXXX");
    if (!mkdtemp(world->directory))
      abort();
    break;
  case KIND_WORLD_REMOTE:
    world->server = remote_server_new(seed + 2, &world->clock);
    break;
  default:
    break;
  }
}

/* Removes a directory and what is in it. */
static void remove_tree(const char *path) {
  DIR *directory = opendir(path);
  struct dirent *entry;
  while (directory && (entry = readdir(directory))) {
    char below[2 * KIND_WORLD_PATH_BYTES + sizeof(entry->d_name)];
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
      continue;
    snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
    if (unlink(below) != 0)
      remove_tree(below);
  }
  if (directory)
    closedir(directory);
  rmdir(path);
}

void kind_world_deinit(struct kind_world *world) {
  if (world->log)
    cg_log_abandon(world->log);
  if (world->remains)
    cg_log_abandon(world->remains);
  if (world->kind == KIND_WORLD_FILE_REAL)
    remove_tree(world->directory);
  log_model_deinit(&world->model);
  remote_server_free(world->server);
  sim_fs_free(world->sim);
}

uint64_t kind_world_random(struct kind_world *world, uint64_t bound) {
  return sim_fs_random(world->sim, bound);
}

enum cg_code kind_world_open_with(void *arg, const struct cg_log_options *options,
                                  struct cg_log **log, struct cg_err *err) {
  struct kind_world *world = arg;
  struct cg_log_options memory = *options;
  char path[KIND_WORLD_PATH_BYTES + 8];
  switch (world->kind) {
  case KIND_WORLD_REMOTE:
    return remote_log_open(log, world->server, options, err);
  case KIND_WORLD_MEMORY:
    memory.snapshot = world->remains;
    return cg_log_open_memory(log, &memory, err);
  default:
    snprintf(path, sizeof(path), "%s/log", world->directory);
    return cg_log_open_file(log, path, options, err);
  }
}

enum cg_code kind_world_open(struct kind_world *world, struct cg_err *err) {
  log_model_begin(&world->model);
  world->progress_count = 0;
  world->has_failed = false;
  struct cg_log *log;
  enum cg_code code = kind_world_open_with(world, &world->options, &log, err);
  if (code != CG_OK)
    return code;
  world->log = log;
  world->durable_position = cg_log_durable_position(log);
  return CG_OK;
}

bool kind_world_settle(struct kind_world *world, struct cg_log *log) {
  for (int turn = 0; turn < SETTLE_TURNS_MAX; turn++) {
    if (cg_log_failed(log, NULL) != CG_OK ||
        cg_log_durable_position(log) == cg_log_next_position(log))
      return true;
    if (!cg_log_turn(log))
      cg_clock_virtual_advance(&world->clock, 1);
  }
  return false;
}

void kind_world_keep(struct kind_world *world, const struct cg_log *log, bool is_whole) {
  if (world->kind != KIND_WORLD_MEMORY)
    return;
  uint64_t durable = cg_log_durable_position(log), next = cg_log_next_position(log);
  uint64_t until = is_whole ? next : durable + kind_world_random(world, next - durable + 1);
  struct cg_log *remains = cg_log_memory_snapshot(log, until);
  if (world->remains)
    cg_log_abandon(world->remains);
  world->remains = remains;
}

void kind_world_lose(struct kind_world *world, bool is_power_lost) {
  if (world->kind == KIND_WORLD_FILE && is_power_lost)
    sim_fs_crash(world->sim);
  else if (world->kind == KIND_WORLD_FILE)
    sim_fs_kill(world->sim);
}

void kind_world_crash(struct kind_world *world, bool is_power_lost) {
  kind_world_keep(world, world->log, false);
  cg_log_abandon(world->log);
  world->log = NULL;
  kind_world_lose(world, is_power_lost);
}

enum cg_code kind_world_close(struct kind_world *world, struct cg_err *err) {
  kind_world_keep(world, world->log, true);
  enum cg_code code = cg_log_close(world->log, err);
  world->log = NULL;
  return code;
}
