/* metadata_fuzz.c - any bytes as the stored metadata of a stream and its category. What must hold
 * is in metadata_fuzz.lua.
 *
 * Owns: nothing between calls. Thread: one. */
#include "support/lua_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  lua_target_run("spec/fuzz/metadata_fuzz.lua", bytes, size);
  return 0;
}
