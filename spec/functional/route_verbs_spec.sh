#!/bin/bash
# route_verbs_spec.sh - `catga route`, in a running program and without one, and routes of a program
# that is killed: what they send is there exactly once.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/route_verbs_spec.sh
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
  return true
end)
catga.command("Note", function(cmd)
  return catga.events.append("Notes", { { type = "Noted", data = cmd } })
end)
catga.on("Even", function() end)
catga.route("Made", { name = "even" }):when(function(m) return m.n % 2 == 0 end):to("Even")
  :otherwise():to("Odd")
catga.route("Made", { name = "tens" }):filter(function(m) return m.n % 10 == 0 end, "no ten")
  :to_command("Note")
catga.route("Made", { name = "pairs" }):aggregate { by = function() return "all" end, complete = 2 }
  :to_stream("Pairs", "Pair")
LUA
start_app

verb() { # NAME CODE PATTERN ARGUMENTS...
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" route "$@"
}

make_events() { # first last
  "$program" send Make "{\"first\":$1,\"last\":$2}" >/dev/null
}

caught_up() {
  "$program" route status -o json | grep -q '"lag":0'
}

message='{"type":"Made","data":{"n":4}}'
make_events 1 20
is "the routes have caught up" until_ok caught_up
verb "list" 0 '^even +routes +0 +\["Made"\] .*\["Even","Odd"\] +20 +0' list
verb "list of what was dropped" 0 '"reasons":\{"no ten":18\}' list -o json
verb "status" 0 '^routes +all +3 +running +0 ' status
verb "explain" 0 '^even +0 +matched +when at .*main.lua:12 holds' explain "$message"
verb "explain says where to" 0 '^even +topic +Even +1 handler +\{"n":4\}' explain "$message"
verb "explain says why not" 0 '^tens +0 +filtered +no ten' explain "$message"
verb "explain says what is gathered" 0 '^pairs +0 +gathered +would be number 1' explain "$message"
verb "explain for programs" 0 '"verdict":"filtered"' explain "$message" -o json
echo "$message" >"$tmp/message.json"
verb "explain of a file" 0 '^even +0 +matched' explain "$tmp/message.json"
is "explain of stdin" grep -q '^even .*matched' <("$program" route explain - <<<"$message")
verb "nobody reads it" 0 '^even +topic +Odd +nobody' explain '{"type":"Made","data":{"n":3}}'
verb "a type that nobody routes" 0 'no rule reads' explain '{"type":"Nothing"}'
verb "a wrong field" 1 'did you mean type' explain '{"typ":"Made"}'
verb "no JSON" 1 'the body' explain '{"type":'
verb "no such file" 1 'No such file' explain /nowhere/message.json
verb "no message" 2 'give one message' explain
verb "a wrong option" 2 'did you mean --dir' list --dr x
verb "usage" 0 'Example: catga route explain' explain --help
http "explain over HTTP" 200 '"verdict":"matched"' -d "$message" http://catga/route-explanations

# Killed in the middle of its work, again and again.
last=20
for kill in $(seq "$kills"); do
  make_events $((last + 1)) $((last + events_each))
  last=$((last + events_each))
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null
  start_app
done
is "the routes have caught up after $kills kills" until_ok caught_up
numbers() { # stream
  "$program" stream read "$1" --max 10000 -o json | sed 's/.*"n":\([0-9]*\).*/\1/' | sort -n
}
is "every even event is sent once" cmp -s <(numbers '$type-Even') <(seq 2 2 "$last")
is "every odd event is sent once" cmp -s <(numbers '$type-Odd') <(seq 1 2 "$last")
is "every command is sent once" cmp -s <(numbers Notes) <(seq 10 10 "$last")
gathered() {
  "$program" stream read Pairs --max 10000 -o json | grep -o '"n":[0-9]*' | cut -d: -f2 | sort -n
}
is "every event is in one pair" cmp -s <(gathered) <(seq "$last")
stop_app

verb "nothing runs" 3 'not running|nothing runs|no instance|cannot' status
verb "list without a program" 0 '^tens +routes' list --dir "$tmp/app"
verb "explain without a program" 0 '^even +0 +matched' explain "$message" --dir "$tmp/app"
echo 'catga.route("A"):to_command("None")' >>"$tmp/app/main.lua"
verb "scripts that are wrong" 1 'main.lua:[0-9]+: .*no command is called None' list \
  --dir "$tmp/app"
verb "no such scripts" 1 'nowhere' list --dir /nowhere
finish
