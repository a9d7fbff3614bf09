/* files.h - file calls of scripts, made by a thread of libuv's pool.
 *
 * How to use: fill a job, submit it, and read the results in `on_done`. A job that nobody waits for
 * any more is done all the same: a call under way cannot be taken back.
 * Owns: a job its buffers. Thread: the loop thread; the work is done on the pool's. */
#ifndef CG_RUNTIME_FILES_H
#define CG_RUNTIME_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

struct cg_runtime;
struct cg_files_job;

/* What to do with `path`. */
enum cg_files_verb {
  CG_FILES_READ,    /* The whole file into `bytes`; CG_ELIMIT: it is over size_max. */
  CG_FILES_WRITE,   /* `bytes` become the file, by a temporary name: it is never half. */
  CG_FILES_APPEND,  /* `bytes` to its end; made when missing. */
  CG_FILES_STAT,    /* Into `info`. */
  CG_FILES_LIST,    /* Entries of a directory into `bytes`: a struct cg_files_info, the name and
                       0, for each; CG_ELIMIT: more than size_max. */
  CG_FILES_MKDIR,   /* A directory; with `is_deep` also those above, and it may be there. */
  CG_FILES_REMOVE,  /* A file or an empty directory; with `is_deep` all that is in it. */
  CG_FILES_RENAME,  /* To path_to, which is replaced. */
  CG_FILES_COPY,    /* The file to path_to, which is replaced as in WRITE. */
  CG_FILES_TEMP,    /* A new empty file, or with `is_deep` a directory, `path` and six letters; its
                       name into `bytes`. */
  CG_FILES_OPEN,    /* For reading; the descriptor into `fd`, `info` is filled. */
  CG_FILES_READ_AT, /* From `fd` at `offset`, at most size_max bytes, into `bytes`; fills `info`. */
};

/* What a file is. */
struct cg_files_info {
  char type;         /* 'f' file, 'd' directory, 'l' link, 'o' something else. */
  uint32_t mode;     /* Permissions. */
  uint64_t size;     /* Bytes. */
  uint64_t device;   /* With inode: which file it is, whatever its name. */
  uint64_t inode;    /* The same. */
  double changed_ms; /* When its content was changed last, since the Unix epoch. */
};

/* Tells that a job is done, on the loop thread. */
typedef void (*cg_files_fn)(struct cg_files_job *job);

/* A job. Made by cg_files_job_new, which sets all to zero. */
struct cg_files_job {
  enum cg_files_verb verb; /* What to do. */
  char *path;              /* Owned; NULL for READ_AT. */
  char *path_to;           /* Owned, or NULL. */
  struct cg_buf *bytes;    /* What is written, or was read. */
  uint64_t offset;         /* Of READ_AT. */
  uint64_t size_max;       /* Bound of READ, LIST, READ_AT. */
  uint32_t mode;           /* Permissions of what is made; 0: those of what was there, or usual. */
  int fd;                  /* Of OPEN, READ_AT; -1: none. Not closed with the job. */
  bool is_deep;            /* See the verbs. */
  bool is_synced;          /* Durable when it is done. */
  bool is_link;            /* STAT: of a link itself. */
  enum cg_code code;       /* Result. */
  struct cg_err err;       /* When it failed. */
  struct cg_files_info info;  /* Result of STAT, OPEN, READ_AT. */
  cg_files_fn on_done;        /* Told when it is done. */
  void *arg;                  /* For on_done. */
  struct cg_runtime *runtime; /* Set by submit; NULL: it has ended meanwhile. */
  uv_work_t work;             /* libuv's. */
};

/* A job without a path, or with; texts are copied. */
struct cg_files_job *cg_files_job_new(enum cg_files_verb verb, const char *path,
                                      const char *path_to);
/* Frees it; must not be under way. */
void cg_files_job_free(struct cg_files_job *job);
/* Hands it to the pool; counts as outside work until it is done. */
void cg_files_submit(struct cg_runtime *runtime, struct cg_files_job *job);

#endif
