/* nonce.c - the random numbers that logs and segments are told apart by.
 *
 * Owns: nothing. Thread: any. */
#include "log/nonce.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

enum cg_code cg_nonce_draw(uint64_t seed, uint64_t count, uint64_t *value, struct cg_err *err) {
  if (seed == 0) {
    if (getrandom(value, sizeof(*value), 0) != sizeof(*value))
      return cg_err_set(err, CG_EIO, "getrandom: %s", strerror(errno));
    return CG_OK;
  }
  uint64_t mixed = seed + (count + 1) * UINT64_C(0x9e3779b97f4a7c15); /* SplitMix64. */
  mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
  *value = mixed ^ mixed >> 31;
  return CG_OK;
}
