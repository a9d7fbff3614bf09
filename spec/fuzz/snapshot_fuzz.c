/* snapshot_fuzz.c - any bytes as the stored snapshot of an aggregate. What must hold is in
 * snapshot_fuzz.lua.
 *
 * Owns: nothing between calls. Thread: one. */
#include "support/lua_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  lua_target_run("spec/fuzz/snapshot_fuzz.lua", bytes, size);
  return 0;
}
