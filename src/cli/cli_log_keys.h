/* cli_log_keys.h - copies the keys of personal data beside a backup, and back.
 *
 * Keys are left out of a backup unless they are asked for: whoever has a backup with a key can read
 * what was encrypted with it, also when the key has been destroyed since.
 * Owns: nothing. Thread: the main thread. */
#ifndef CG_CLI_CLI_LOG_KEYS_H
#define CG_CLI_CLI_LOG_KEYS_H

#include <stdint.h>

#include "base/err.h"

/* Copies the files whose names begin with "keys" from one directory to another; each is replaced as
 * a whole, durably, with mode 0600. *count gets how many. */
enum cg_code cg_cli_log_keys_copy(const char *from, const char *to, uint32_t *count,
                                  struct cg_err *err);

#endif
