#!/bin/bash
# stream_verbs_spec.sh - `catga stream` and the same over HTTP: append, list, metadata, delete.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/stream_verbs_spec.sh
source "$(dirname "$0")/program.sh"

new_app
app main.lua <<<'local catga = require "catga"
catga.command("C", function() return 1 end)'
app catga.lua <<<'return { segment_size = "64KiB" }'
start_app

stream() {
  "$program" stream "$@"
}

# verb NAME CODE PATTERN ARGUMENTS...: check of a verb of `catga stream`.
verb() {
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" stream "$@"
}

verb "an event is appended" 0 '^version +0$' append Order-1 OrderMade '{"n":1}' --id a
verb "the same id again" 0 '^repeated +true$' append Order-1 OrderMade '{"n":1}' --id a
verb "with an expected version" 0 '^\{"version":1\}$' append Order-1 OrderPaid --expect 0 \
  -o json
verb "with a wrong one" 1 'conflict: stream Order-1: expected 0, its version is 1' \
  append Order-1 OrderPaid --expect 0
verb "with no version" 1 'invalid: expect is a version' append Order-1 X --expect new
verb "wrong data" 1 'invalid: the data: .*line 1, column 2: .*not .n' append Order-1 OrderPaid '{n:1}'
verb "no type" 2 'name a stream and a type' append Order-1
check "data out of stdin" 0 '^version +0$' sh -c \
  "echo '[1,2]' | '$program' stream append Order-2 OrderMade -"
verb "the runtime's stream" 1 "the runtime's own" append '$metadata-x' X
verb "a type that is no UTF-8" 0 '^version' append Odd $'\xff'
for n in 3 4 5 6; do stream append Order-1 "Noted$n" >"$tmp/out"; done

verb "a list" 0 '^Order-1 +5 +6 +20' list
verb "a list has a head" 0 '^STREAM +VERSION +EVENTS +LAST +DELETED' list
verb "of a category" 0 '^\{"count":1,.*"stream":"Order-2","version":0\}$' \
  list --category Order -o json --after Order-1
verb "by prefix, bounded" 0 '^Odd' list --prefix O --max 1
verb "none" 0 '^STREAM' list --prefix none
verb "a wrong bound" 1 'max must be a whole number from 1 to 1000, got "0"' list --max 0
verb "too much" 2 'it takes no argument x' list x

verb "reading by type" 0 '^\{.*"type":"OrderPaid","version":1\}$' \
  read Order-1 --type-prefix Order --from 1 -o json
is "only that" test "$(stream read Order-1 --types Noted3,Noted5 -o json | wc -l)" -eq 2
is "up to a version" test "$(stream read Order-1 --to 2 -o json | wc -l)" -eq 3
is "up to a time" test "$(stream read Order-1 --until 2020-01-01 -o json | wc -l)" -eq 0
verb "a wrong time" 1 'until_time must be a time such as "2026' read Order-1 --until now
verb "an event shows its id" 0 '"metadata":\{"event_id":"a"\}' read Order-1 -o json --max 1

verb "no metadata" 0 '^\{"metadata":\{\}\}$' metadata Order-1 -o json
verb "metadata is set" 0 '^version +0$' metadata Order-1 --set '{"max_count":2}' \
  --expect none
verb "and read" 0 '^metadata +\{"max_count":2\}$' metadata Order-1
verb "a conflict" 1 'conflict: ' metadata Order-1 --set '{}' --expect none
verb "a wrong field" 1 'did you mean max_count' metadata Order-1 --set '{"max_cuont":2}'
verb "no object" 1 'the body is an object such as' metadata Order-1 --set '5'
verb "of a category" 0 '^version +0$' metadata --category Order --set '{"max_age":"30d"}'
verb "and read" 0 '"max_age":"30d"' metadata --category Order
verb "of nothing" 2 'name one stream, or a category' metadata
verb "of both" 2 'name one stream, or a category' metadata S --category C
verb "--expect without --set" 2 '--expect needs --set' metadata S --expect 1
verb "reads obey" 0 '^4 .*Noted5' read Order-1 --max 1
verb "info" 0 '^first version +4$' info Order-1
verb "info of none" 3 'there is no stream none' info none

verb "a delete" 0 '^version +5$' delete Order-1 --expect 5
verb "reads as empty" 0 '^deleted +soft$' info Order-1
verb "goes on" 0 '^version +6$' append Order-1 Again
verb "for good" 0 '^version +6$' delete Order-1 --hard
verb "for ever" 1 'deleted: stream Order-1 was deleted for good' append Order-1 Again
verb "reads say so" 1 'deleted: ' read Order-1
verb "none to delete" 3 'not_found: ' delete none
stop_app "after the verbs"
start_app
verb "after a restart" 1 'deleted: ' append Order-1 Again
verb "the list says so" 0 '^Order-1 +6 +0 +hard *$' list

# Scavenging, and compressing, which also works on closed files.
verb "nothing to scavenge" 0 '^segments +0$' scavenge
verb "an argument of scavenge" 2 'it takes no argument x' scavenge x
check "nothing to compress" 0 '^compressed +0$' "$program" log compress
check "a wrong age" 1 'older "x" is no duration' "$program" log compress --older x
for n in 1 2 3 4; do
  stream append "Large-$n" Filler "{\"text\":\"$(head -c 40000 /dev/zero | tr '\0' x)\"}" >"$tmp/out"
done
stream delete Large-1 --hard >"$tmp/out"
verb "a scavenge" 0 '"removed_events":10,"rewritten":1' scavenge -o json
verb "nothing more" 0 '^rewritten +0$' scavenge
check "sealed files" 0 '^compressed +[1-9]' "$program" log compress
stop_app
check "compressed files" 0 '^compressed +[01]$' "$program" log compress --older 0s
check "a log without fault" 0 'no fault' "$program" log verify
start_app
verb "they are read" 0 '"version":0\}$' read Large-2 -o json

# HTTP.
at=http://catga
events='[{"type":"A","id":"1"},{"type":"B","id":"2"},{"type":"C","id":"3"}]'
http "several events" 201 '^\{"version":2\}$' -d "$events" "$at/streams/T?expect=none"
http "again" 200 '^\{"repeated":true,"version":2\}$' -d "$events" "$at/streams/T?expect=none"
http "where to go on" 200 '^Catga-Next: 2$' "$at/streams/T?max=2"
http "no event" 400 'the body is an event' -d '[]' "$at/streams/T"
http "not even an object" 400 'the body is an event' -d '7' "$at/streams/T"
http "gone" 410 '"code":"deleted"' "$at/streams/Order-1"
http "metadata" 200 '^\{"version":0\}$' -X PUT -d '{"max_count":1}' "$at/metadata/T"
http "no such method" 405 '^Allow: GET, PUT$' -d '{}' "$at/metadata/T"
http "info" 200 '"first_version":2' "$at/stream-info/T"
http "no scavenge under way" 200 '^null$' "$at/scavenge"
http "a stream whose name has slashes" 201 '^\{"version":0\}$' -d '{"type":"A"}' "$at/streams/a%2Fb/c"
http "is listed" 200 '"stream":"a/b/c"' "$at/streams?prefix=a"
stop_app
finish
