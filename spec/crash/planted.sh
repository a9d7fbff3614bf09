#!/bin/bash
# planted.sh - proves that the crash spec can fail. It plants a bug in a copy of the engine, builds
# that copy, and expects orders_crash.sh to fail for the right reason; then it falsifies what a good
# run has left, one thing at a time, and expects check.lua to tell.
#
# Usage: CATGA_PROGRAM=build/catga [BUILD=build] spec/crash/planted.sh
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
  "  if entry.done and op < most then return entry end"
  "no step is completed or undone twice in a journal"

  "lua/catga/process/undo.lua"
  "  for i = #list, 1, -1 do"
  "  for i = 1, #list do"
  "steps are undone last first"
)

# What is falsified: file, an awk program over its lines, the check that must fail.
order=order-S000100
falsehoods=(
  "sink" "!/^call $order\/1\/3\/1 /" "every expected call was made, and no other"
  "sink" "/^quit/ { print \"call $order/1/4/1 CompleteOrder\" } 1"
  "no step was called after its completion was acknowledged"
  "sink" "/^call $order\/1\/2\/1 / { print } 1"
  "no call was repeated within one run of the program"
  "sink" "/^end $order / { \$3 = \"compensated\" } 1" "an outcome that was acknowledged stayed"
  "sink" "!/^life 2/" "every kill met unfinished processes, and repeats are attempts in flight"
  "dump" "!/^record $order ProcessCompleted/" "every process has the one outcome it must have"
  "dump" "/^record $order ProcessStepCompleted 2/ { print } 1"
  "no step is completed or undone twice in a journal"
  "dump" "/^month 2010-12/ { \$3 += 1 } 1" "the read model's sums are those of the orders"
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

small_run() { # PROGRAM
  env -u CATGA_ORDERS CATGA_PROGRAM="$1" CATGA_KILLS=8 CATGA_ORDERS_COUNT=3000 CATGA_SEED=1 \
    CATGA_SEEDS=1 CATGA_KEEP="$tmp/keep" spec/crash/orders_crash.sh >"$tmp/crash.out" 2>&1
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
  small_run "$tmp/build/catga"
  if grep -q "^FAILED  $4" "$tmp/crash.out"; then
    echo "noticed \"$3\": $4"
    passed=$((passed + 1))
  else
    fail "nobody noticed \"$3\""
    tail -n 20 "$tmp/crash.out"
  fi
  cp -a "$1" "$tmp/$1"
}

falsify() { # FILE AWK_PROGRAM CHECK
  local good="$tmp/keep/seed-1" bad="$tmp/bad"
  mkdir -p "$bad"
  cp "$good/sink" "$good/dump" "$bad/"
  awk "$2" "$good/$1" >"$bad/$1"
  if cmp -s "$good/$1" "$bad/$1"; then
    fail "\"$2\" changes nothing"
  elif luajit spec/crash/check.lua "$bad/sink" "$bad/dump" 8 >"$tmp/check.out"; then
    fail "nobody noticed \"$2\""
  elif grep -qF "FAILED  $3" "$tmp/check.out"; then
    echo "noticed \"$2\": $3"
    passed=$((passed + 1))
  else
    fail "\"$2\" was noticed for another reason"
    cat "$tmp/check.out"
  fi
}

copy_tree || exit 1
for ((i = 0; i < ${#plants[@]}; i += 4)); do
  try_bug "${plants[i]}" "${plants[i + 1]}" "${plants[i + 2]}" "${plants[i + 3]}"
done
small_run "${CATGA_PROGRAM:?CATGA_PROGRAM names the program}" || fail "the good run fails"
for ((i = 0; i < ${#falsehoods[@]}; i += 3)); do
  falsify "${falsehoods[i]}" "${falsehoods[i + 1]}" "${falsehoods[i + 2]}"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
