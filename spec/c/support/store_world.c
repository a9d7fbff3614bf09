/* store_world.c - an event store on a log of any kind, for contract tests.
 *
 * Files are opened by path, as the program does; the other kinds through open_log.
 * Owns: the store, the disk or server. Thread: one. */
#include "support/store_world.h"

#include <string.h>

void store_world_init(struct store_world *world, enum kind_world_kind kind, uint64_t seed) {
  *world = (struct store_world){.options = {.seed = seed}};
  kind_world_init(&world->kind, kind, seed);
  world->kind.options.replay = NULL; /* The store's own. */
  if (kind == KIND_WORLD_FILE || kind == KIND_WORLD_FILE_REAL) {
    world->options.path = world->kind.directory;
  } else {
    world->options.open_log = kind_world_open_with;
    world->options.open_log_arg = &world->kind;
  }
}

void store_world_deinit(struct store_world *world) {
  world->kind.log = NULL;
  if (world->store)
    cg_store_abandon(world->store);
  kind_world_deinit(&world->kind);
}

enum cg_code store_world_open(struct store_world *world, struct cg_err *err) {
  world->options.log = world->kind.options;
  world->kind.has_failed = false;
  struct cg_store *store;
  enum cg_code code = cg_store_open(&store, &world->options, err);
  if (code != CG_OK)
    return code;
  world->store = store;
  world->kind.log = cg_store_log(store);
  world->kind.durable_position = cg_log_durable_position(world->kind.log);
  return CG_OK;
}

bool store_world_settle(struct store_world *world) {
  return kind_world_settle(&world->kind, world->kind.log);
}

void store_world_crash(struct store_world *world, bool is_power_lost) {
  kind_world_keep(&world->kind, world->kind.log, false);
  world->kind.log = NULL;
  cg_store_abandon(world->store);
  world->store = NULL;
  kind_world_lose(&world->kind, is_power_lost);
}

enum cg_code store_world_close(struct store_world *world, struct cg_err *err) {
  kind_world_keep(&world->kind, world->kind.log, true);
  enum cg_code code = cg_store_close(world->store, err);
  world->store = NULL;
  world->kind.log = NULL;
  return code;
}

enum cg_code store_world_add(struct store_world *world, const char *stream, int64_t expected,
                             const char *data, uint16_t flags, uint64_t *id, struct cg_err *err) {
  cg_store_stream number;
  enum cg_code code = cg_store_find(world->store, stream, strlen(stream), true, &number, err);
  if (code != CG_OK)
    return code;
  struct cg_store_event event = {
      .stream = number,
      .expected = expected,
      .type = "Happened",
      .type_size = 8,
      .flags = flags,
      .time_ms = world->kind.clock.wall_ms,
  };
  code = cg_store_new_id(world->store, &event.id, err);
  struct cg_buf *buf;
  if (code == CG_OK)
    code = cg_store_add(world->store, &event, &buf, err);
  if (code != CG_OK)
    return code;
  cg_buf_append(buf, data, strlen(data));
  cg_store_added(world->store);
  if (id)
    *id = event.id;
  return CG_OK;
}

uint64_t store_world_count(struct store_world *world, const char *stream) {
  cg_store_stream number;
  cg_store_find(world->store, stream, strlen(stream), false, &number, NULL);
  return number == CG_STORE_NO_STREAM ? 0 : cg_store_count(world->store, number);
}
