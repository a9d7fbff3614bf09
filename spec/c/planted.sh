#!/bin/bash
# planted - proves that the log's tests notice bugs: builds them with one planted, and expects the
# named test to fail; and without any, to pass.
#
# Usage: [BUILD=build] [SANITIZE=...] spec/c/planted.sh, after the tests were built. Only the files
# that know the bug are compiled anew.
# The bugs stand in src/base and src/log, and for the remote kind in spec/c/support, behind #ifdef
# CG_PLANT_*; no other build defines these.
# Last line: "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."

build="${BUILD:-build}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CATGA_SEEDS=100 GLIBC_TUNABLES="${keeps_memory:-}" # scripts/test says what that is.
passed=0
failed=0

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

# compile PLANT OUT: the files that know the bug, compiled with it, in OUT, unless they are there.
compile() {
  local file
  mkdir "$2" 2>/dev/null || return 0
  for file in $(grep -l "$1" src/base/*.c src/log/*.c spec/c/support/*.c); do
    "${command[@]}" -D"$1" -Ispec/c -c "$file" -o "$2/$(basename "$file" .c).o" || return 1
  done
}

# try PLANT PROGRAM TEST: PLANT is a macro, or none; TEST is what must fail, or none. Objects with
# the bug stand before the archives, so that they take the place of their own.
try() {
  local out="$work/$1-$2" compiled="$work/$1.objects" objects=()
  if [ -n "$1" ]; then
    if ! compile "$1" "$compiled" 2>"$out.txt"; then
      cat "$out.txt"
      rm -rf "$compiled"
      result "$2 with $1 compiles" 1
      return
    fi
    objects=("$compiled"/*.o)
  fi
  if ! "${command[0]}" ${SANITIZE:+-fsanitize=$SANITIZE} -o "$out" "$build/obj/spec/c/$2.o" \
    "${objects[@]}" "$build/libsupport.a" "$build/libcatga.a" \
    $(pkg-config --libs luajit libuv sqlite3 libmicrohttpd nettle) -lm -lcmocka -pthread \
    2>"$out.txt"; then
    cat "$out.txt"
    result "$2 with ${1:-nothing planted} links" 1
    return
  fi
  timeout 600 "$out" >"$out.txt" 2>&1
  local code=$?
  if [ -z "$3" ]; then
    result "$2 passes with nothing planted" "$code"
  else
    grep -q -F "[  FAILED  ] $3" "$out.txt"
    result "$2: $3 notices $1" $?
  fi
}

prefix=test_a_crash_leaves_a_prefix_with_all_acknowledged_commits
final=test_a_failed_sync_is_final
flip=test_every_flipped_bit_of_a_closed_segment_is_met
tail=test_another_tail_is_a_conflict
pending=test_pending_bytes_are_bounded
owner=test_a_log_has_one_owner
story=test_a_kind_keeps_the_contract_in_any_story
bits=test_a_commit_comes_back_and_every_bit_counts

try "" log_crash_test ""
try "" log_fault_test ""
try CG_PLANT_NO_SYNC log_crash_test "$prefix"
try CG_PLANT_NO_SYNC log_fault_test "$final"
try CG_PLANT_EARLY_ACK log_crash_test "$prefix"
try CG_PLANT_EARLY_ACK log_fault_test "$final"
try CG_PLANT_SKIP_CRC log_crash_test "$prefix"
try CG_PLANT_SKIP_CRC log_flip_crash_test "$flip"
try CG_PLANT_SKIP_CRC record_test "$bits"

try "" log_contract_test ""
try "" log_contract_crash_test ""
try CG_PLANT_NO_TAIL_CHECK log_contract_test "$tail"
try CG_PLANT_NO_PENDING_BOUND log_contract_test "$pending"
try CG_PLANT_ACK_ORDER log_contract_crash_test "$story (file)"
try CG_PLANT_REMOTE_ACK_ORDER log_contract_crash_test "$story (remote)"
try CG_PLANT_REMOTE_FENCE_IGNORED log_contract_test "$owner (remote)"
try CG_PLANT_REMOTE_FENCE_IGNORED log_contract_crash_test "$story (remote)"
try CG_PLANT_REMOTE_NO_TAIL_CHECK log_contract_crash_test "$story (remote)"
try CG_PLANT_REMOTE_NUMBER_ONLY log_contract_crash_test "$story (remote)"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
