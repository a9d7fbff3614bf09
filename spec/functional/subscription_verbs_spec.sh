#!/bin/bash
# subscription_verbs_spec.sh - `catga subscription`, consumers over HTTP, and subscriptions of a
# program that is killed: what their handlers append is there exactly once.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/subscription_verbs_spec.sh
source "$(dirname "$0")/program.sh"

kills=4
events_each=300

new_app
app main.lua <<'LUA'
local catga = require "catga"
catga.command("Make", function(cmd)
  for n = cmd.first, cmd.last do
    catga.events.append("Numbers-" .. n % 7, { { type = "Made", data = { n = n } } })
  end
end)
catga.on("Made", { durable = "copier" }, function(event)
  assert(catga.events.append("Copies", { { type = "Copied", data = { n = event.n } } }))
end)
catga.events.subscribe { name = "crew", types = { "Made" }, group = { consumers = 5 },
  handle = function(event)
    if event.n == 2 then error("not two") end
    catga.sleep("1ms")
    assert(catga.events.append("Work", { { type = "Worked", data = { n = event.n } } }))
  end, attempts = 2, backoff = "1ms" }
catga.events.subscribe { name = "outside", types = { "Made" }, group = {} }
LUA
start_app

# verb NAME CODE PATTERN ARGUMENTS...: check of `catga subscription`.
verb() {
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" subscription "$@"
}

make_events() { # first last
  "$program" send Make "{\"first\":$1,\"last\":$2}" >/dev/null
}

caught_up() { # name
  "$program" subscription show "$1" -o json | grep -q '"lag":0'
}

is_parked() {
  "$program" subscription show crew -o json | grep -q '"parked":1'
}

make_events 1 3
is "the copier has caught up" until_ok caught_up copier
is "two is parked" until_ok is_parked
verb "list" 0 '^crew +running +[0-9]+ +0 +[0-9.]+ +1' list
verb "list for programs" 0 '"name":"copier"' list -o json
verb "show" 0 '^last error +.*not two' show crew
verb "no such subscription" 3 'did you mean crew' show crow
verb "no name" 2 'name one subscription' show
verb "parked" 0 'Made.*not two' parked crew
position=$("$program" subscription parked crew -o json | sed 's/.*"position":\([0-9]*\).*/\1/')
verb "replay" 0 '^events +1' replay crew "$position"
is "two is parked again" until_ok is_parked
verb "nothing at that position" 3 'no parked event at position 999999' replay crew 999999
verb "no position" 2 'a position is a number, or all' replay crew some
verb "drop" 0 '"count":1' drop crew all -o json
verb "none is parked" 0 '"parked":0' show crew -o json
verb "pause" 0 '^$' pause copier
verb "it is paused" 0 '^status +paused' show copier
verb "resume" 0 '^$' resume copier
verb "reset" 2 'number, start or end' reset copier middle
verb "usage" 0 'subscription reset NAME' reset --help

http "a program outside takes events" 200 '"token":"[0-9]+"' -X POST \
  http://catga/subscriptions/outside/take?max=1
token=$(curl -s --unix-socket "$CATGA_DATA/catga.sock" -X POST \
  'http://catga/subscriptions/outside/take?max=1' | sed 's/.*"token":"\([0-9]*\)".*/\1/')
http "and acknowledges" 200 '^true$' -d "{\"token\":\"$token\"}" \
  http://catga/subscriptions/outside/ack
http "only once" 404 'no delivery with this token' -d "{\"token\":\"$token\"}" \
  http://catga/subscriptions/outside/ack

# Killed in the middle of its work, again and again.
last=3
for kill in $(seq "$kills"); do
  make_events $((last + 1)) $((last + events_each))
  last=$((last + events_each))
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null
  start_app
done
is "the copier has caught up after $kills kills" until_ok caught_up copier
is "so has the crew" until_ok caught_up crew
numbers() { # stream
  "$program" stream read "$1" --max 10000 -o json | sed 's/.*"n":\([0-9]*\).*/\1/' | sort -n
}
is "every event is copied exactly once" cmp -s <(numbers Copies) <(seq "$last")
is "every event is worked on exactly once" cmp -s <(numbers Work) <(seq "$last" | grep -v -x 2)
stop_app
finish
