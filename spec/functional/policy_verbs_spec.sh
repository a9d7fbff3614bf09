#!/bin/bash
# policy_verbs_spec.sh - `catga handler` and `catga policy`: what stands around handlers, and what
# policies remember.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/policy_verbs_spec.sh
source "$(dirname "$0")/program.sh"

new_app
app catga.lua <<'LUA'
return { policies = { Pay = { attempts = 4 } } }
LUA
app main.lua <<'LUA'
local catga = require "catga"
catga.policy("bank", { breaker = { window = 2, min_calls = 2, open = "1h" }, backoff = "1ms" })
catga.behavior("audit", function(_, _, next) return next() end)
catga.command { name = "Pay", policy = "bank", input = { n = "number" }, timeout = "10s",
  handle = function(cmd)
    if cmd.n == 0 then error("the bank is down") end
    return cmd.n
  end }
catga.command { name = "Few", limiter = { rate = 1, per = "1h" }, handle = function() return 1 end }
catga.query("Plain", function() return 1 end)
LUA
start_app

# verb NAME CODE PATTERN ARGUMENTS...: check of `catga ARGUMENTS...`.
verb() {
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" "$@"
}

verb "the handlers" 0 '^Pay +command +0 +0 +.*main.lua:4 +retry > breaker > unit of work > timeout > idempotency > validation > audit > handler' handler list
verb "the handlers for programs" 0 '"name":"Plain"' handler list -o json
verb "a pipeline" 0 '^retry +message +attempts +4 +catga.lua' handler explain Pay
verb "its defaults" 0 'jitter +equal +default' handler explain Pay
verb "its policies" 0 'open +1h +policy bank, .*main.lua:2' handler explain Pay
verb "its behaviors" 0 '^audit +attempt +.*main.lua:3' handler explain Pay
verb "a pipeline for programs" 0 '"pipeline":\[\{' handler explain Pay -o json
verb "a pipeline without policies" 0 '^unit of work' handler explain Plain
verb "an unknown handler" 3 'no handler of Pya; did you mean Pay' handler explain Pya
verb "no name" 2 'give one name' handler explain
verb "help" 0 'Example: catga handler explain' handler explain --help
verb "a wrong verb" 2 'did you mean "explain"' handler explian
verb "a closed breaker" 0 '^breaker +closed' policy show bank
verb "its users" 0 '^used by +\["command Pay"\]' policy show bank
verb "its rules" 0 'min_calls +2 +policy bank' policy show bank
verb "sends that fail" 1 'the bank is down|circuit' send Pay '{"n":0}'
verb "an open breaker" 0 '^breaker +open +.*opened 1' policy show bank
verb "a refusal" 1 'circuit_open: command Pay: the circuit breaker is open' send Pay '{"n":1}'
verb "one that is allowed" 0 '^1$' send Few '{}'
verb "one that is not" 1 'rate_limited' send Few '{}'
verb "the policies" 0 '^command Few +.*limiter: .*left 0' policy list
verb "the policies for programs" 0 '"name":"policy bank"' policy list -o json
verb "one for programs" 0 '"state":"open"' policy show bank -o json
verb "that of a message" 0 'retries' policy show Pay
verb "an unknown policy" 3 'did you mean bank' policy show bnak
verb "help of policy" 0 'list +what policies remember' policy --help

stop_app
finish
