#!/bin/bash
# process_definition_spec.sh - `catga process definition`.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/process_definition_spec.sh
source "$(dirname "$0")/program.sh"

new_app
app main.lua <<'LUA'
local catga = require "catga"
local Order = catga.process "OrderProcess"
function Order:execute() return self:charge() end
function Order:charge() end
function Order:compensate_charge() end
local function fn() end
catga.process("Ship"):step("pick", fn):attempts(7)
  :parallel("both", { pack = fn, tell = fn }):sleep("1h")
LUA
app catga.lua <<'LUA'
return { processes = { OrderProcess = { timeout = "1h", steps = { charge = { attempts = 5 } } } } }
LUA
start_app

# verb NAME CODE PATTERN ARGUMENTS...: check of `catga process definition`.
verb() {
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" process definition "$@"
}

verb "all" 0 '^OrderProcess +methods +1 +steps +.*main.lua:2$'
verb "all, the other" 0 '^Ship +declaration +5 +.*main.lua:[0-9]+$'
verb "all for programs" 0 '^\{.*"name":"Ship"' -o json
verb "one" 0 '^form +methods$' OrderProcess
verb "its options" 0 '^options +.*"timeout_ms":3600000' OrderProcess
verb "its steps" 0 '^charge +step +5 +30000 +1000 +true +.*main.lua:4$' OrderProcess
verb "a step of a branch" 0 '^pack +step +both/pack +3 ' Ship
verb "steps with settings" 0 '^pick +step +7 ' Ship
verb "for programs" 0 '^\{.*"ordered":true.*\}$' Ship -o json
verb "unknown" 3 'unknown_process: .*did you mean OrderProcess' OderProcess
verb "two names" 2 'give one name' a b
verb "an empty name" 2 '' ''
verb "help" 0 '^Example: catga process definition OrderProcess$' --help
http "over HTTP" 200 '"form":"declaration"' "http://x/process-definitions/Ship"
http "no such method" 405 'allows GET' -X POST -d '{}' "http://x/process-definitions/Ship"

stop_app
verb "nothing runs" 3 'nothing|cannot|no ' Ship
finish
