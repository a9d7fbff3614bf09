/* nonce.h - the random numbers that logs and segments are told apart by.
 *
 * Owns: nothing. Thread: any. */
#ifndef CG_LOG_NONCE_H
#define CG_LOG_NONCE_H

#include <stdint.h>

#include "base/err.h"

/* 64 well-mixed bits from the seed and a count, or, when the seed is 0, from the system, which may
 * be CG_EIO. */
enum cg_code cg_nonce_draw(uint64_t seed, uint64_t count, uint64_t *value, struct cg_err *err);

#endif
