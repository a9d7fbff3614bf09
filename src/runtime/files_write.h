/* files_write.h - the verbs of files.h that change something; for files.c alone.
 *
 * Owns: nothing. Thread: those of libuv's pool. */
#ifndef CG_RUNTIME_FILES_WRITE_H
#define CG_RUNTIME_FILES_WRITE_H

#include "runtime/files.h"

/* Does a job of such a verb. */
enum cg_code cg_files_change(struct cg_files_job *job);
/* Sets the job's error from errno: "<what> <path>: ...". In files.c. */
enum cg_code cg_files_fail(struct cg_files_job *job, const char *what, const char *path);

#endif
