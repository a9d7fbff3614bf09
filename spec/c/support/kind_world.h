/* kind_world.h - a log of any kind, and everything around it that may go wrong, for contract tests.
 *
 * How to use: kind_world_init, kind_world_open, append through the model, kind_world_settle or
 * single turns, kind_world_crash or kind_world_close, open again, kind_world_deinit. Every opening
 * replays into the model; log_model_settle then compares. A new kind is one value of enum
 * kind_world_kind and a line in each switch; all contract tests run on it from then on.
 * Owns: the log, the model, the disk or server. Thread: one. */
#ifndef SPEC_KIND_WORLD_H
#define SPEC_KIND_WORLD_H

#include "log/log.h"
#include "support/log_model.h"
#include "support/remote_log.h"
#include "support/sim_fs.h"

#define KIND_WORLD_PATH_BYTES 64

/* The kinds, and where they lie. */
enum kind_world_kind {
  KIND_WORLD_FILE,      /* Files on a simulated disk. */
  KIND_WORLD_FILE_REAL, /* Files in a temporary directory. */
  KIND_WORLD_MEMORY,    /* Memory. */
  KIND_WORLD_REMOTE,    /* A server behind a bad network. */
  KIND_WORLD_KINDS      /* How many. */
};

/* A log and its world. */
struct kind_world {
  enum kind_world_kind kind;             /* Which. */
  struct sim_fs *sim;                    /* The source of chance; for one kind also the disk. */
  char directory[KIND_WORLD_PATH_BYTES]; /* Above the log; of the real files a temporary one. */
  struct remote_server *server;          /* Remote kind: the server. */
  struct cg_log *remains;                /* Memory kind: what the last crash has left, or NULL. */
  struct cg_clock_virtual clock;         /* The time. */
  struct cg_log_options options;         /* How to open; a test may change it. */
  struct log_model model;                /* What was appended. */
  struct cg_log *log;                    /* NULL: not open. */
  uint64_t durable_position;             /* As it was last seen. */
  unsigned progress_count;               /* Calls of progress since the last opening. */
  bool has_failed;                       /* As it was last seen. */
  const char *fault;                     /* What progress has found wrong, or NULL. */
};

/* The name of a kind. */
const char *kind_world_name(enum kind_world_kind kind);
/* Makes the world of a kind, all chance from `seed`; segments of 64 KiB, manual. No log yet. */
void kind_world_init(struct kind_world *world, enum kind_world_kind kind, uint64_t seed);
/* Frees it, with the log when it is open. */
void kind_world_deinit(struct kind_world *world);

/* Opens world->log, replaying into the model. */
enum cg_code kind_world_open(struct kind_world *world, struct cg_err *err);
/* Opens a log of the world's kind with any options, as cg_store_options.open_log; `arg` is the
 * world. */
enum cg_code kind_world_open_with(void *arg, const struct cg_log_options *options,
                                  struct cg_log **log, struct cg_err *err);
/* Lets the log work, and the time go on, until all is durable or it has failed; false when it did
 * not come to an end. */
bool kind_world_settle(struct kind_world *world, struct cg_log *log);
/* NULL when what world->log says of itself is as it must be, at any time; else what is not. */
const char *kind_world_check(struct kind_world *world);
/* A random number below `bound`. */
uint64_t kind_world_random(struct kind_world *world, uint64_t bound);

/* Ends the program that has world->log open, with no chance to do anything; the log is freed. Power
 * is lost as well when `is_power_lost` and the kind has a disk that can lose. */
void kind_world_crash(struct kind_world *world, bool is_power_lost);
/* Closes world->log; what cg_log_close returns. */
enum cg_code kind_world_close(struct kind_world *world, struct cg_err *err);

/* What is around the end of a log that the test ends itself: before it, the memory kind keeps what
 * the next opening finds, all of it or what a crash may have left; */
void kind_world_keep(struct kind_world *world, const struct cg_log *log, bool is_whole);
/* after it, the disk loses what it may lose. */
void kind_world_lose(struct kind_world *world, bool is_power_lost);

#endif
