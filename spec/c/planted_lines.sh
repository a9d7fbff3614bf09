#!/bin/bash
# planted_lines.sh - plants bugs in single lines of the log and the store, and expects the named test
# program to notice each.
#
# Usage: [BUILD=build] [SANITIZE=...] spec/c/planted_lines.sh, after the tests were built. Only the
# changed file is compiled, and linked before the library, so that it takes the place of its own.
# Last line: "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."

build="${BUILD:-build}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export CATGA_SEEDS=100 GLIBC_TUNABLES="${keeps_memory:-}" # scripts/test says what that is.
passed=0
failed=0

# File, the line as it stands there (without indentation), the line with the bug, the program that
# must fail.
plants=(
  src/base/io.c
  "result = fs->sync_dir(fs->arg, path);"
  "result = 0;"
  log_crash_test

  src/base/zone.c
  "if (zone->times[middle] <= time)"
  "if (zone->times[middle] < time)"
  zone_test

  src/base/zone_rule.c
  "return day >= next ? day - 7 : day;"
  "return day;"
  zone_test

  src/log/segment.c
  "enum cg_code code = cg_segment_sync(segment, err);"
  "enum cg_code code = CG_OK;"
  log_crash_test

  src/log/recovery.c
  "if (header->chain != scan->chain)"
  "if (header->chain == scan->chain + 1)"
  log_forged_test

  src/log/recovery.c
  "code = cg_reader_find(&scan->reader, scan->offset, scan->position, &proof, err);"
  "code = CG_END, proof = 0;"
  log_flip_crash_test

  src/log/recovery.c
  "if (scan->stated_position >= scan->position)"
  "if (scan->position > 0)"
  log_fault_test

  src/log/writer.c
  "if (writer->marked_position >= writer->written_position || writer->sync_due_ns != UINT64_MAX)"
  "if (writer->written_position > 0)"
  log_flip_crash_test

  src/log/rewrite.c
  "result = cg_io_sync(output->fs, output->handle);"
  "result = 0;"
  log_rewrite_fault_test

  src/log/scan.c
  "if (code == CG_OK && header->chain != scan->chain)"
  "if (code == CG_OK && header->chain == scan->chain + 1)"
  log_forged_test

  src/store/table.c
  "if (stated != cg_table_page_crc(page, table->bytes + page * CG_TABLE_PAGE_BYTES))"
  "if (stated == 0 && page > UINT32_MAX)"
  table_test

  src/store/table.c
  "segment->end_position != seal->end_position || segment->nonce != seal->nonce ||"
  "segment->end_position != seal->end_position ||"
  store_rewrite_test

  src/store/slots.c
  "if (slot->name == NULL || slot->held > 0 || slot->unfinished)"
  "if (slot->name == NULL || slot->held > 0)"
  store_index_test

  src/store/store.c
  "if (expected == CG_STORE_ANY || (expected >= 0 && expected == last) ||"
  "if (expected == CG_STORE_ANY || expected >= 0 ||"
  store_contract_test

  src/store/reserve.c
  "int status = written == (int64_t)sizeof(bytes) ? fs->datasync(fs->arg, reserve->handle) : -1;"
  "int status = written == (int64_t)sizeof(bytes) ? 0 : -1;"
  store_test

  src/store/keys_file.c
  "status = fs->sync_dir(fs->arg, directory);"
  "status = 0;"
  keys_test
)

result() { # what, 0 for well
  if [ "$2" -eq 0 ]; then
    passed=$((passed + 1))
    echo "ok      $1"
  else
    failed=$((failed + 1))
    echo "FAILED  $1"
  fi
}

# How the library was compiled: the first word of the stamp is the compiler.
read -r -a command <"$build/flags"

# plant FILE LINE BUG: the changed file in $work; the line must be there once.
plant() {
  awk -v line="$2" -v bug="$3" '
    { text = $0; sub(/^ +/, "", text) }
    text == line && !n { print bug; n++; next }
    { print }
    END { exit n != 1 }' "$1" >"$work/planted.c"
}

try() { # FILE LINE BUG PROGRAM
  local name
  if ! plant "$1" "$2" "$3"; then
    result "$1 no longer has the line \"$2\": plant the bug where it belongs now" 1
    return
  fi
  if ! "${command[@]}" -Wno-error -I"$(dirname "$1")" -c "$work/planted.c" -o "$work/planted.o" \
    2>"$work/said" ||
    ! "${command[0]}" ${SANITIZE:+-fsanitize=$SANITIZE} -o "$work/program" \
      "$build/obj/spec/c/$4.o" "$work/planted.o" "$build/libsupport.a" "$build/libcatga.a" \
      $(pkg-config --libs luajit libuv sqlite3 libmicrohttpd nettle) -lm -lcmocka -pthread \
      2>"$work/said"; then
    cat "$work/said"
    result "$4 with \"$3\" in $1 builds" 1
    return
  fi
  timeout 300 "$work/program" >"$work/out" 2>&1
  local code=$?
  name=$(sed -n 's/^\[  FAILED  \] \(test_.*\)/\1/p' "$work/out" | head -n 1)
  # One that goes on for too long behind a failed test has noticed it, too: sanitizers are slow.
  test -n "$name" -o "$code" -ne 0 -a "$code" -ne 124
  result "$1: \"$3\" is noticed by $4: ${name:-it ended with code $code}" $?
}

for ((i = 0; i < ${#plants[@]}; i += 4)); do
  try "${plants[@]:i:4}"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
