/* text_fuzz.c - any bytes as the small texts that users write: durations, times, sizes, paths of
 * personal fields, lines of settings. What must hold is in text_fuzz.lua.
 *
 * Owns: nothing between calls. Thread: one. */
#include "support/lua_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  lua_target_run("spec/fuzz/text_fuzz.lua", bytes, size);
  return 0;
}
