#!/bin/bash
# transfer_verbs_spec.sh - `catga log export` and `import`, with a running instance and without.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/transfer_verbs_spec.sh
source "$(dirname "$0")/program.sh"

new_app
app main.lua <<<'local catga = require "catga"
catga.command("Fill", function(c)
  for n = 1, c.count do
    assert(catga.events.append("Order-" .. n % 7, { { type = "Made", data = { n = n } } }))
  end
  return true
end)'

# log NAME CODE PATTERN ARGUMENTS...: check of a verb of `catga log`.
log() {
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" log "$@"
}

# places FILE: its documents without where they lie.
places() {
  sed -E 's/"catgaposition":"[0-9]+",//; s/"catgaversion":"[0-9]+",//' "$1"
}

same() {
  cmp -s <(places "$1") <(places "$2")
}

log "no log to export" 3 'there is no log in' export
start_app
"$program" send Fill '{"count":3000}' >"$tmp/out" || fail "filling"
"$program" log export >"$tmp/online" || fail "export online"
is "all are exported" test "$(wc -l <"$tmp/online")" -eq 3000
is "in order" test "$(sed -n 1500p "$tmp/online" | grep -c '"n":1500')" -eq 1
log "a part" 0 '"catgaposition":"8",' export --after 7 --to 9
is "no more" test "$("$program" log export --after 7 --to 9 | wc -l)" -eq 2
is "of a stream" test "$("$program" log export --stream Order-3 --types Made,X | wc -l)" -eq 429
log "its source" 0 '"source":"/shop"' export --source /shop --to 1
log "a wrong number" 1 'after must be a whole number' export --after x
log "a wrong time" 1 'until_time must be a time' export --until x
log "an argument" 2 'it takes no argument x' export x
if "$program" log export >/dev/full 2>"$tmp/full"; then fail "a full disk"; else pass; fi
is "it is told" grep -q 'writing the events: No space left' "$tmp/full"
stop_app
"$program" log export >"$tmp/offline" || fail "export of closed files"
is "closed files give the same" cmp -s "$tmp/online" "$tmp/offline"

# Into a new directory, without an instance.
first="$CATGA_DATA"
export CATGA_DATA="$tmp/second"
log "an import" 0 '^3000 events imported, 0 were there, 0 bad lines left out$' import "$tmp/online"
log "once more" 0 '^\{"imported":0,"repeated":3000,"bad":0\}$' import "$tmp/online" -o json
"$program" log export >"$tmp/again" || fail "export of what was imported"
is "the round trip" same "$tmp/online" "$tmp/again"
log "a log without fault" 0 'no fault' verify

# Into a running instance, broken off and done again.
export CATGA_DATA="$tmp/third"
start_app
head -n 1234 "$tmp/online" >"$tmp/part"
log "a part" 0 '^1234 events imported' import "$tmp/part" --batch 7
check "the rest, from stdin" 0 '^1766 events imported, 1234 were there' sh -c \
  "'$program' log import - <'$tmp/online'"
"$program" log export >"$tmp/third.ndjson" || fail "export of the third"
is "the same again" same "$tmp/online" "$tmp/third.ndjson"

# Bad lines.
good='{"specversion":"1.0","id":"%s","source":"/t","type":"T","subject":"T-1"}\n'
# shellcheck disable=SC2059
{ printf "$good" 1 2; echo '{"specversion":"1.0"}'; printf "$good" 3; printf 'a\0b\n'; echo
  printf "$good" 4; printf '{'; } >"$tmp/bad"
log "a bad line" 1 'bad:3: invalid: id must be a string' import "$tmp/bad"
log "nothing of its batch" 0 '^0 events' import /dev/null
log "in batches" 1 '^2 events imported, 0 were there' import "$tmp/bad" --batch 2
log "bad lines are left out" 0 '^2 events imported, 2 were there, 3 bad lines' import "$tmp/bad" \
  --skip-bad
log "and told" 0 'bad:3: id must' import "$tmp/bad" --skip-bad
log "each of them" 0 'bad:5: ' import "$tmp/bad" --skip-bad
log "also without an end" 0 'bad:8: ' import "$tmp/bad" --skip-bad --batch 1
log "no such file" 3 'No such file' import "$tmp/none"
log "no file" 2 'name one file' import
log "a wrong batch" 2 '--batch is a number from 1 to 10000' import "$tmp/bad" --batch 0
log "two places" 2 'exclude each other' import "$tmp/bad" --stream S --stream-from type
log "a wrong attribute" 1 'field is subject, type or source' import "$tmp/bad" --stream-from id

# Sizes: a batch that is too large goes in halves, a line that is too large is named.
large() {
  printf '{"specversion":"1.0","id":"L%s","source":"/t","type":"T","subject":"T-2","data":"%s"}\n' \
    "$1" "$(head -c "$2" /dev/zero | tr '\0' x)"
}
{ for n in 1 2 3 4 5; do large "$n" 400000; done; large 6 1100000; large 7 10; } >"$tmp/large"
log "a line too large" 1 'large:6: limit: ' import "$tmp/large"
log "is left out" 0 '^1 events imported, 5 were there, 1 bad' import "$tmp/large" --skip-bad
stop_app
log "and fits without an instance" 0 '^1 events imported, 6 were there' import "$tmp/large"
head -c 69000000 /dev/zero | tr '\0' ' ' >"$tmp/huge"
large 8 5 >>"$tmp/huge"
large 9 5 >>"$tmp/huge"
log "a line over every bound" 1 'huge:1: the line has over 65 MiB' import "$tmp/huge"
log "is left out" 0 '^1 events imported, 0 were there, 1 bad' import "$tmp/huge" --skip-bad

# An import that is killed is done again.
export CATGA_DATA="$tmp/fourth"
for delay in 0.02 0.05 0.1 0.15; do
  timeout -s KILL "$delay" "$program" log import "$tmp/online" --batch 20 >"$tmp/out" 2>&1
done 2>"$tmp/killed"
"$program" log import "$tmp/online" >"$tmp/out" || fail "import after kills"
"$program" log export >"$tmp/fourth.ndjson"
is "the same after kills" same "$tmp/online" "$tmp/fourth.ndjson"
export CATGA_DATA="$first"
finish
