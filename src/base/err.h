/* err.h - the error object and the one table of error codes.
 *
 * How to use: a fallible function returns `enum cg_code` and takes `struct cg_err *err` last.
 * The place that fails sets the message once by `return cg_err_set(err, CG_EIO, "...", ...)`;
 * callers pass it up unchanged, or add what they were doing by cg_err_prefix.
 * Owns: nothing. Thread: any; one error object belongs to one thread at a time. */
#ifndef CG_BASE_ERR_H
#define CG_BASE_ERR_H

#include <stddef.h>

/* X(symbol, value, name, text). `name` is what Lua sees as err.code and the CLI prints; it is a
 * contract. */
#define CG_CODES(X)                                                                                \
  X(CG_OK, 0, "ok", "no error")                                                                    \
  X(CG_END, -1, "end", "nothing more to read")                                                     \
  X(CG_EINVAL, -2, "invalid", "bad argument or bad input")                                         \
  X(CG_EIO, -3, "io_error", "a file operation failed")                                             \
  X(CG_ENOMEM, -4, "no_memory", "out of memory")                                                   \
  X(CG_ENOTFOUND, -5, "not_found", "no such thing")                                                \
  X(CG_EEXISTS, -6, "exists", "it exists already")                                                 \
  X(CG_ECONFLICT, -7, "conflict", "the expected version or tail is not the actual one")            \
  X(CG_ECORRUPT, -8, "corrupt", "stored bytes are damaged")                                        \
  X(CG_EBUSY, -9, "busy", "in use by another process")                                             \
  X(CG_EFULL, -10, "disk_full", "no space left")                                                   \
  X(CG_ELIMIT, -11, "limit", "a configured bound was reached")                                     \
  X(CG_ETIMEOUT, -12, "timeout", "not done in time")                                               \
  X(CG_ECANCELLED, -13, "cancelled", "given up on request")                                        \
  X(CG_EFAILED, -14, "failed", "the log stopped after a failed write")                             \
  X(CG_ESCRIPT, -15, "script_error", "a Lua script raised an error")                               \
  X(CG_ECLOSED, -16, "closed", "already stopped")                                                  \
  X(CG_EPERM, -17, "permission", "not allowed by the system")                                      \
  X(CG_EFENCED, -18, "fenced", "another owner has taken over the log")                             \
  X(CG_EDELETED, -19, "deleted", "the stream was deleted for good")                                \
  X(CG_EFORGOTTEN, -20, "forgotten", "the key of this person was destroyed")

/* Error codes: 0 or negative. */
enum cg_code {
#define X(symbol, value, name, text) symbol = value,
  CG_CODES(X)
#undef X
};

/* Bytes of a message, with the terminating zero; a longer message is cut. */
#define CG_ERR_MESSAGE_BYTES 512

/* One error: a code and one message that names what, where and how to mend it. */
struct cg_err {
  enum cg_code code;                  /* CG_OK until set. */
  char message[CG_ERR_MESSAGE_BYTES]; /* Zero-terminated; undefined while code is CG_OK. */
};

/* Sets code and message (printf format) and returns `code`. `err` may be NULL. */
enum cg_code cg_err_set(struct cg_err *err, enum cg_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "<prefix>: " before the message already set; returns err->code. `err` may be NULL (returns
 * CG_OK then). */
enum cg_code cg_err_prefix(struct cg_err *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Maps an errno value to a code: ENOSPC and EDQUOT to CG_EFULL, ENOENT to CG_ENOTFOUND, EACCES,
 * EPERM and EROFS to CG_EPERM, EEXIST to CG_EEXISTS, ENOMEM to CG_ENOMEM, all else to CG_EIO. */
enum cg_code cg_err_from_errno(int errno_value);

/* The contract name of a code, "invalid" and so on; static memory, never NULL. */
const char *cg_code_name(enum cg_code code);

#endif
