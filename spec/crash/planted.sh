#!/bin/bash
# planted.sh - proves that the crash spec can fail: it plants a bug in a copy of the engine, builds
# that copy, and expects orders_crash.sh to fail for the right reason.
#
# Usage: [BUILD=build] spec/crash/planted.sh
# What is built already in BUILD is taken over, so that only the changed Lua is compiled.
set -uo pipefail
cd "$(dirname "$0")/../.."

build="${BUILD:-build}"
tmp="$(mktemp -d)"
passed=0
failed=0
unset MAKEFLAGS MAKELEVEL
trap 'rm -rf "$tmp"' EXIT

# The bugs: file, the line as it stands there, the line with the bug, the check that must fail.
plants=(
  "lua/catga/process/journal.lua"
  "  if entry.done then return entry end"
  "  if entry.done and op < p.history.last then return entry end"
  "no step is completed or undone twice in a journal"

  "lua/catga/process/undo.lua"
  "  for i = #list, 1, -1 do"
  "  for i = 1, #list do"
  "steps are undone last first"
)

fail() {
  echo "FAILED  $1"
  failed=$((failed + 1))
}

copy_tree() {
  cp -a Makefile src include lua scripts "$tmp/" || return 1
  if [ -d stdlib ]; then
    cp -a stdlib "$tmp/" || return 1
  fi
  mkdir -p "$tmp/build"
  cp -a "$build/obj" "$build/gen" "$build/flags" "$tmp/build/" 2>/dev/null
  return 0
}

# plant FILE LINE BUG: replaces the one line that is equal to LINE.
plant() {
  awk -v line="$2" -v bug="$3" '$0 == line { print bug; n++; next } { print } END { exit n != 1 }' \
    "$1" >"$tmp/$1"
}

try_bug() { # FILE LINE BUG CHECK
  if ! plant "$1" "$2" "$3"; then
    fail "$1 no longer has the line \"$2\": plant the bug where it belongs now"
    return
  fi
  touch "$tmp/$1"
  if ! make --no-print-directory -C "$tmp" BUILD=build build/catga >"$tmp/make.out" 2>&1; then
    fail "the copy with \"$3\" does not build"
    tail -n 20 "$tmp/make.out"
    return
  fi
  env -u CATGA_ORDERS -u CATGA_KEEP CATGA_PROGRAM="$tmp/build/catga" CATGA_KILLS=8 \
    CATGA_ORDERS_COUNT=3000 CATGA_SEEDS=1 spec/crash/orders_crash.sh >"$tmp/crash.out" 2>&1
  if grep -q "^FAILED  $4" "$tmp/crash.out"; then
    echo "noticed \"$3\": $4"
    passed=$((passed + 1))
  else
    fail "nobody noticed \"$3\""
    tail -n 20 "$tmp/crash.out"
  fi
  cp -a "$1" "$tmp/$1"
}

copy_tree || exit 1
for ((i = 0; i < ${#plants[@]}; i += 4)); do
  try_bug "${plants[i]}" "${plants[i + 1]}" "${plants[i + 2]}" "${plants[i + 3]}"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
