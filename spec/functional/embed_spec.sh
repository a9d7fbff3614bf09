#!/bin/bash
# embed_spec.sh - installs into a directory and builds examples/embed against that, as a stranger
# would: by pkg-config, header and library only.
#
# Usage: CATGA_PROGRAM=build/catga [BUILD=build] [SANITIZE=] spec/functional/embed_spec.sh
source "$(dirname "$0")/program.sh"
cd "$(dirname "$0")/../.."

prefix="$tmp/prefix"
unset MAKEFLAGS MAKELEVEL
make --no-print-directory BUILD="${BUILD:-build}" PREFIX="$prefix" SANITIZE="${SANITIZE:-}" \
  install >"$tmp/install" 2>&1 || cat "$tmp/install"
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
is "pkg-config knows it" pkg-config --exists catga
is "the version is the program's" \
  test "catga $(pkg-config --modversion catga)" = "$("$prefix/bin/catga" --version)"
sanitize="${SANITIZE:+-fsanitize=$SANITIZE}"
build_example() {
  # shellcheck disable=SC2046,SC2086
  ${CC:-cc} -std=c11 -Wall -Wextra -Werror -pedantic $sanitize examples/embed/main.c -o "$tmp/embed" \
    $(pkg-config --cflags --libs catga)
}
is "the example builds" build_example
check "the example runs in memory" 0 '^result \{"cents":500,"id":"order-1"\}$' \
  "$tmp/embed" examples/embed/app
check "the handler in C was asked for each item" 0 '^asked 2 times$' \
  "$tmp/embed" examples/embed/app "$tmp/kept"
check "a finished process is not run again" 0 '^asked 0 times$' \
  "$tmp/embed" examples/embed/app "$tmp/kept"
check "what is wrong is told" 1 'none: ' "$tmp/embed" "$tmp/none"
plus_plus() {
  command -v c++ >/dev/null || return 0
  printf '#include <catga.h>\nint main() { return catga_version() == nullptr; }\n' >"$tmp/plus.cc"
  # shellcheck disable=SC2046,SC2086
  c++ -Wall -Wextra -Werror $sanitize "$tmp/plus.cc" -o "$tmp/plus" \
    $(pkg-config --cflags --libs catga) && "$tmp/plus"
}
is "C++ takes the header" plus_plus
is "the example is short" test "$(wc -l <examples/embed/main.c)" -le 60
finish
