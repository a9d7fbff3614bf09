#!/bin/bash
# http_spec.sh - the HTTP API: statuses, headers, bodies, clients that go away, a stop meanwhile.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/http_spec.sh
source "$(dirname "$0")/program.sh"

new_app
app main.lua <<<'local catga = require "catga"
catga.command { name = "Greet", input = { name = "string" },
  handle = function(c) return { text = "hello " .. c.name } end }
catga.command("Fresh", function(_, ctx) return ctx:new_id() end)
catga.command("Refuse", function() return nil, catga.error("payment_refused", "no money") end)
catga.command("Raise", function() error("oh no") end)
catga.command("Clash", function() return nil, catga.error("conflict", "changed meanwhile") end)
catga.command("Nothing", function() end)
catga.command("Ünï cödé", function(c) return c end)
catga.command("Slow", function() catga.say("slow begins") catga.sleep("200ms")
  catga.say("slow ends") return "slow" end)
catga.query("Which", function(q) return q.n end)
local Order = catga.process "Order"
function Order:execute(input)
  if input.forever then catga.say("waiting") self:sleep("1h") end
  if input.bad then error(catga.error("bad", "it is bad")) end
  return { n = input.n }
end'
app catga.lua <<<'return { message_size_max = "64KiB" }'

start_app
at=http://catga
http "alive" 200 '^\{"status":"ok"\}$' "$at/livez"
http "a command" 200 '^\{"text":"hello a"\}$' -d '{"name":"a"}' "$at/commands/Greet"
http "its content type" 200 '^Content-Type: application/json$' -d '{"name":"a"}' \
  "$at/commands/Greet"
http "a query" 200 '^7$' -d '{"n":7}' "$at/queries/Which"
http "an answer of nothing" 200 '^null$' -d '{}' "$at/commands/Nothing"
http "no body is an empty object" 200 '^null$' -X POST "$at/queries/Which"
http "a name in any script" 200 '^\{"a":1\}$' -d '{"a":1}' \
  "$at/commands/%C3%9Cn%C3%AF%20c%C3%B6d%C3%A9"
http "an event" 200 '^true$' -d '{"n":1}' "$at/events/Noted"
http "its stream" 200 '"type":"Noted"' "$at/streams/%24type-Noted"
http "a stream from a version on" 200 '^\[\]$' "$at/streams/%24type-Noted?from=1"
http "where the log stands" 200 '"durable_position":([0-9]+),.*"next_position":\1,' "$at/log"
http "unknown command" 404 '"code":"unknown_command"' -d '{}' "$at/commands/Gret"
http "unknown stream" 404 '"code":"not_found"' "$at/streams/none"
http "unknown path" 404 '"code":"not_found"' "$at/none"
http "wrong JSON" 400 '"code":"invalid"' -d '{' "$at/commands/Greet"
http "against the schema" 422 '"code":"validation"' -d '{}' "$at/commands/Greet"
http "a problem document" 422 '^Content-Type: application/problem\+json$' -d '{}' \
  "$at/commands/Greet"
http "refused" 422 '"code":"payment_refused","detail":"no money"' -d '{}' "$at/commands/Refuse"
http "conflict" 409 '"code":"conflict"' -d '{}' "$at/commands/Clash"
http "raised" 500 '"detail":".*oh no"' -d '{}' "$at/commands/Raise"
http "wrong method" 405 '^Allow: POST$' "$at/commands/Greet"
http "a wrong number" 400 'max must be a whole number' "$at/processes?max=-1"

first=$(curl -s -m 9 --unix-socket "$CATGA_DATA/catga.sock" -H 'Idempotency-Key: k' -d '{}' \
  "$at/commands/Fresh")
http "the same key" 200 "^$first\$" -H 'Idempotency-Key: k' -d '{}' "$at/commands/Fresh"
http "an empty key" 400 'Idempotency-Key must have' -H 'Idempotency-Key;' -d '{}' \
  "$at/commands/Fresh"

http "a start" 201 '^Location: /processes/o%2F1$' -d '{"id":"o/1","n":5}' "$at/processes/Order"
http "its result" 200 '^\{"id":"o/1","result":\{"n":5\},"status":"completed"\}$' \
  -d '{"id":"o/1","n":5}' "$at/processes/Order?wait=1"
http "another input" 409 '"code":"conflict"' -d '{"id":"o/1","n":6}' "$at/processes/Order"
http "a process that fails" 422 '"process_status":"failed"' -d '{"id":"o2","bad":true}' \
  "$at/processes/Order?wait=1"
http "one process" 200 '"status":"completed"' "$at/processes/o%2F1"
http "its journal" 200 '"type":"ProcessCompleted"' "$at/streams/Process-o%2F1"
http "processes by status" 200 '^\[\{[^{]*"error":\{[^{]*\},"id":"o2"[^{]*\}\]$' \
  "$at/processes?status=failed"
http "no such process" 404 'there is no process o3' "$at/processes/o3"

# Sizes: announced, and not.
head -c 65537 /dev/zero | tr '\0' ' ' >"$tmp/large"
printf '{"n":"%s"}' "$(head -c 65000 /dev/zero | tr '\0' 'x')" >"$tmp/fits"
http "too large" 413 '"code":"limit"' --data-binary "@$tmp/large" "$at/commands/Nothing"
http "too large, in pieces" 413 '"code":"limit"' -H 'Transfer-Encoding: chunked' \
  --data-binary "@$tmp/large" "$at/commands/Nothing"
http "the largest that fits" 200 '^null$' --data-binary "@$tmp/fits" "$at/commands/Nothing"
http "one by one on a connection" 200 '^nullHTTP/1.1 200 OK$' -d '{}' "$at/commands/Nothing" \
  "$at/commands/Nothing"

# A client that goes away while its handler runs: the handler ends, the program goes on.
curl -s -m 0.1 --unix-socket "$CATGA_DATA/catga.sock" -d '{}' "$at/commands/Slow"
wait_line "slow begins"
wait_line "slow ends"
http "alive after that" 200 '^\{"status":"ok"\}$' "$at/livez"

# Fifty at the same time.
for _ in $(seq 50); do
  curl -s -m "$seconds_max" --unix-socket "$CATGA_DATA/catga.sock" -d '{"name":"b"}' \
    "$at/commands/Greet" >>"$tmp/many" &
  clients="${clients:-} $!"
done
# shellcheck disable=SC2086
wait $clients
is "fifty clients are answered" test "$(grep -o 'hello b' "$tmp/many" | wc -l)" -eq 50

# Who waits for a process when the program stops is told so; the process goes on later.
curl -s -i -m "$seconds_max" --unix-socket "$CATGA_DATA/catga.sock" -d '{"id":"w","forever":true}' \
  "$at/processes/Order?wait=1" >"$tmp/waiting" &
client=$!
wait_line "waiting"
stop_app
wait "$client"
is "who waits is told of the stop" grep -q '^HTTP/1.1 503 .*' "$tmp/waiting"
start_app
http "the process is still there" 200 '"status":"(running|waiting)"' "$at/processes/w"
stop_app

# A data directory whose socket's path does not fit an address.
long="$tmp/$(head -c 60 /dev/zero | tr '\0' a)/$(head -c 60 /dev/zero | tr '\0' b)"
mkdir -p "$long"
export CATGA_DATA="$long/data"
start_app
check "a socket with a long path" 0 '^\{"text":"hello c"\}$' "$program" send Greet '{"name":"c"}'
stop_app
finish
