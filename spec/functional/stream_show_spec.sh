#!/bin/bash
# stream_show_spec.sh - `catga stream show` and the same over HTTP: states of aggregates, their
# versions, times and differences.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/stream_show_spec.sh
source "$(dirname "$0")/program.sh"

new_app
app order.lua <<'LUA'
local catga = require "catga"
local Order = catga.aggregate "Order"
Order.snapshot = { every = 2 }
function Order.initial() return { status = "none", lines = {} } end
function Order.apply.OrderCreated(state) state.status = "created" end
function Order.apply.LineAdded(state, event) state.lines[#state.lines + 1] = event end
function Order.apply.Broken(state) state.missing.field = 1 end
catga.command("Do", function(cmd)
  return Order.update(cmd.id, function(order) order:raise(cmd.type, cmd.data) end)
end)
LUA
start_app

# verb NAME CODE PATTERN ARGUMENTS...: check of `catga stream show`.
verb() {
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" stream show "$@"
}

order() { # type data
  "$program" send Do "{\"id\":\"a b\",\"type\":\"$1\",\"data\":$2}" >/dev/null
}

order OrderCreated '{}'
order LineAdded '{"sku":"A","count":1}'
order LineAdded '{"sku":"B","count":2}'

all='"state":{"lines":[{"count":1,"sku":"A"},{"count":2,"sku":"B"}],"status":"created"}'
is "as JSON" grep -q -F -- "$all,\"stream\":\"Order-a b\",\"time\":" \
  <("$program" stream show "Order-a b" -o json)
verb "for people" 0 '^version +2$' "Order-a b"
verb "with its time" 0 '^time +20[0-9-]+ [0-9:]+$' "Order-a b"
verb "with its state" 0 '^state +\{"lines":\[\{"count":1,"sku":"A"\},' "Order-a b"
state='"state":\{"lines":\{\},"status":"created"\}'
verb "at a version" 0 "^\{\"aggregate\":\"Order\",\"id\":\"a b\",$state" \
  "Order-a b" --version 0 -o json
verb "at an early time" 0 '"state":\{"lines":\{\},"status":"none"\},.*"version":-1\}$' \
  "Order-a b" --at 2020-01-01T00:00:00Z -o json
verb "at a late time" 0 '^version +2$' "Order-a b" --at 2999-01-01
verb "a version that is not there" 3 \
  'not_found: stream Order-a b has no version 3; its newest is 2' \
  "Order-a b" --version 3
verb "a difference" 0 '^PATH +BEFORE +AFTER$' "Order-a b" --diff 0..2
verb "its lines" 0 '^lines\[2\] +\{"count":2,"sku":"B"\}$' "Order-a b" --diff 1..2
verb "as JSON lines" 0 '^\{"after":"created","before":"none","path":"status"\}$' \
  "Order-a b" --diff ..2 -o json
is "of the same version" test -z "$("$program" stream show "Order-a b" --diff 1..1 -o json)"
verb "and backward" 0 '^\{"before":\{"count":2,"sku":"B"\},"path":"lines\[2\]"\}$' \
  "Order-a b" --diff 2..1 -o json

verb "no stream" 3 'not_found: there is no stream Order-x' Order-x
verb "no aggregate" 3 \
  'unknown_aggregate: the stream Customer-1 is of no aggregate: there are Order' \
  Customer-1
verb "no hyphen" 3 'unknown_aggregate: ' Order
verb "a wrong time" 1 'invalid: at must be a time such as' "Order-a b" --at noon
verb "a wrong version" 1 'invalid: version must be a whole number' "Order-a b" --version x
for wrong in 1 1. 1.. a..b 1..2..3 99999999999999999..1 -1..2; do
  verb "the difference $wrong" 2 '.--diff takes two versions, such as 3..7' "Order-a b" \
    --diff="$wrong"
done
verb "too many wishes" 2 'give one of --version, --at and --diff' Order-1 --version 1 \
  --at 2020-01-01
verb "no name" 2 'name one stream'
verb "help" 0 '^Example: catga stream show Order-42 --diff 3..7$' --help

"$program" stream append "Order-a b" Broken >/dev/null
verb "what cannot be applied" 1 \
  'apply_failed: aggregate Order: event Broken, version 3 .*order.lua:7' \
  "Order-a b"
verb "the state before it" 0 '^version +2$' "Order-a b" --version 2

get() { # path
  curl -s -o /dev/null -w '%{http_code}' --unix-socket "$CATGA_DATA/catga.sock" "http://catga$1"
}
is "200 for a state" test "$(get '/aggregates/Order-a%20b?version=1')" = 200
is "400 for both" test "$(get '/aggregates/Order-a%20b?version=1&at=2020-01-01')" = 400
is "400 without an end" test "$(get '/aggregate-changes/Order-a%20b?from=1')" = 400
is "404 for no aggregate" test "$(get '/aggregates/None-1')" = 404
is "404 for no name" test "$(get '/aggregates')" = 404
is "500 for a broken script" test "$(get '/aggregates/Order-a%20b')" = 500
stop_app
finish
