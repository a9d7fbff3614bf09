/* personal_fuzz.c - any bytes as a stored event with encrypted fields. What must hold is
 * in personal_fuzz.lua.
 *
 * Owns: nothing between calls. Thread: one. */
#include "support/lua_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  lua_target_run("spec/fuzz/personal_fuzz.lua", bytes, size);
  return 0;
}
