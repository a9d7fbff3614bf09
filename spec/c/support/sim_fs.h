/* sim_fs.h - a file system in memory that can crash, fail and forget like a real one.
 *
 * How to use: sim_fs_new, hand sim_fs_calls to the code under test, plan a fault by sim_fs_fault,
 * and after the fault sim_fs_crash: it replaces everything by what a machine might find after power
 * loss. Written bytes are sure only after datasync of the file, names only after sync_dir of their
 * directory. Until then every 512-byte sector on its own may be the old one, any of the versions
 * written since, or torn between two; a file may have its old size, its new, or one between; a
 * create, rename or unlink may have happened or not. All choices come from the seed.
 * A datasync that fails leaves the written bytes readable, but some of them will never reach the
 * disk, and a later datasync of the file does not bring them there.
 * Owns: all files. Thread: one. */
#ifndef SPEC_SIM_FS_H
#define SPEC_SIM_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fs.h"

struct sim_fs;

/* What happens at a planned call. */
enum sim_fault {
  SIM_FAULT_NONE,  /* Nothing. */
  SIM_FAULT_CRASH, /* The call happens in part, it and all later ones return -EIO. */
  SIM_FAULT_ERROR, /* It does not happen and returns the error. */
  SIM_FAULT_SHORT  /* A read or write does only part of what it was asked. */
};

/* An empty file system with the directory "/". */
struct sim_fs *sim_fs_new(uint64_t seed);
/* Frees it; NULL is fine. */
void sim_fs_free(struct sim_fs *sim);
/* The calls; valid as long as the file system. */
const struct cg_fs *sim_fs_calls(struct sim_fs *sim);

/* Plans a fault for the `count`-th call from now (1 is the next); `is_lasting`: for that and every
 * later one. Replaces the plan before. `error` is a positive errno value. */
void sim_fs_fault(struct sim_fs *sim, enum sim_fault fault, int error, uint64_t count,
                  bool is_lasting);
/* Whether the planned fault has happened. */
bool sim_fs_has_faulted(const struct sim_fs *sim);
/* Calls made so far. */
uint64_t sim_fs_call_count(const struct sim_fs *sim);
/* Syncs of the file system so far: datasync and sync_dir. */
uint64_t sim_fs_sync_count(const struct sim_fs *sim);
/* Lets the disk have `bytes` in all; a reservation beyond fails with ENOSPC. */
void sim_fs_limit_space(struct sim_fs *sim, uint64_t bytes);
/* Lets allocate fail with EOPNOTSUPP. */
void sim_fs_refuse_allocate(struct sim_fs *sim);

/* Loses power: closes all handles, forgets the fault, and settles what was not synced. */
void sim_fs_crash(struct sim_fs *sim);
/* Ends the process only: closes all handles and forgets the fault; the system's cache stays. */
void sim_fs_kill(struct sim_fs *sim);

/* The file's bytes as programs see them; a change in place is forgotten by a crash. NULL: no such
 * file. */
uint8_t *sim_fs_bytes(struct sim_fs *sim, const char *path, size_t *size);
/* Puts a durable file with these bytes in place of what is there. */
void sim_fs_put(struct sim_fs *sim, const char *path, const void *bytes, size_t size);
/* Puts a durable directory in place. */
void sim_fs_put_directory(struct sim_fs *sim, const char *path);
/* Removes a name durably. */
void sim_fs_remove(struct sim_fs *sim, const char *path);

/* The next number of the seed's sequence, below `bound`. */
uint64_t sim_fs_random(struct sim_fs *sim, uint64_t bound);

#endif
