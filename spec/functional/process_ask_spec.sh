#!/bin/bash
# process_ask_spec.sh - `catga process query|update|replay|fork`, `show --locals`, and their HTTP.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/process_ask_spec.sh
source "$(dirname "$0")/program.sh"

new_app
app main.lua <<'LUA'
local catga = require "catga"
local P = catga.process "Order"
function P:execute(input)
  self.address = input.address or "old"
  self:step("pack", function() return 1 end)
  local patience = 5
  self:receive("go", { timeout = patience .. "h" })
  return { address = self.address }
end
function P.queries:address(args) return { address = self.address, args = args } end
function P.queries.fails() return nil, catga.error("private", "not for you") end
function P.updates:move(value)
  self.address = value
  return { now = value }
end
function P.validators.move(_, value) return value ~= "moon" end
catga.command("Go", function(cmd) return catga.processes.signal(cmd.id, "go", 1) end)
LUA
start_app

verb() { # NAME CODE PATTERN ARGUMENTS...
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" process "$@"
}

"$program" process start Order '{"id":"a/1"}' >/dev/null
verb "a query" 0 '^\{"address":"old","args":\{"n":1\}\}$' query a/1 address '{"n":1}'
verb "a query without arguments" 0 '^\{"address":"old"\}$' query a/1 address
verb "a query that fails" 1 '^catga: private: not for you$' query a/1 fails
verb "an unknown query" 3 'no query called adress; did you mean address' query a/1 adress
verb "no such process" 3 'there is no process b' query b address
verb "wrong JSON" 1 'the body' query a/1 address '{'
verb "a query without a name" 2 'give a process id, a name' query a/1
verb "an update" 0 '^\{"now":"new"\}$' update a/1 move '"new"' --id 1
verb "the same one" 0 '^\{"now":"new"\}$' update a/1 move '"new"' --id 1
verb "a refused update" 1 '^catga: update_refused: process a/1 refuses update move$' \
  update a/1 move '"moon"'
verb "an unknown update" 3 'no update called mov; did you mean move' update a/1 mov
verb "locals" 0 '^body, operation 2: signal go$' show a/1 --locals
verb "locals, the place" 0 '^  .*main.lua:7 in execute$' show a/1 --locals
verb "locals, a variable" 0 '^    patience = 5$' show a/1 --locals
verb "locals, self" 0 '^    self = self \{ address = "new" \}$' show a/1 --locals
verb "locals as JSON" 0 '"locals":\{"input":"\{ id = ' show a/1 --locals -o json
verb "a replay" 0 '^verdict +same$' replay a/1
verb "a replay as JSON" 0 '"verdict":"same"' replay a/1 -o json
verb "no replay" 3 'there is no process b' replay b
verb "a fork" 0 '^b$' fork a/1 1 --id b --input '{"address":"other"}'
verb "a fork of no operation" 1 'it cannot be forked at 7' fork a/1 7
verb "a wrong operation" 1 'whole number from 0' fork a/1 x
verb "the same fork" 1 'there is a process b already' fork a/1 1 --id b
verb "the fork's query" 0 '"address":"other"' query b address
verb "the fork" 0 '^forked_from|"forked_from":\{"id":"a/1","op":1\}' show b -o json

at="http://localhost"
http "a query" 200 '^\{"address":"new"\}$' -d '{"name":"address"}' "$at/process-queries/a%2F1"
http "a query without a name" 400 'needs .*name' -d '{}' "$at/process-queries/a%2F1"
http "an unknown query" 404 'unknown_query' -d '{"name":"x"}' "$at/process-queries/a%2F1"
http "an update" 200 '"now":"far"' -d '{"name":"move","value":"far"}' "$at/process-updates/a%2F1"
http "a wrong id" 422 '"code":"invalid"' -d '{"name":"move","value":1,"id":5}' \
  "$at/process-updates/a%2F1"
http "locals" 200 '"strands":\[' "$at/process-locals/a%2F1"
http "locals as text" 200 'patience = 5' "$at/process-locals/a%2F1?text=1"
http "a replay" 200 '"verdict":"same"' "$at/process-replays/a%2F1"
http "a fork" 201 '^Location: /processes/c' -d '{"op":1,"id":"c"}' "$at/process-forks/a%2F1"
http "a fork of nothing" 400 'needs' -d '{}' "$at/process-forks/a%2F1"

"$program" send Go '{"id":"a/1"}' >/dev/null
ends() { "$program" process show a/1 -o json | grep -q '"status":"completed"'; }
is "the process ends" until_ok ends
verb "an ended process answers" 0 '"address":"far"' query a/1 address
verb "it takes no update" 1 '^catga: ended: ' update a/1 move '"x"'
verb "but tells of one before" 0 '"now":"new"' update a/1 move '"new"' --id 1
stop_app
start_app
verb "also after a restart" 0 '"address":"far"' query a/1 address
stop_app
sed -i 's/"pack"/"wrap"/' "$tmp/app/main.lua"
start_app
verb "a replay that diverges" 1 '^at +.*main.lua:5$' replay a/1
verb "what is recorded" 1 '^recorded +step pack$' replay a/1
stop_app

finish
