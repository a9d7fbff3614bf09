#!/bin/bash
# process_verbs_spec.sh - the verbs and routes by which people tell running processes something, and
# steer them.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/process_verbs_spec.sh
source "$(dirname "$0")/program.sh"

new_app
app main.lua <<'LUA'
local catga = require "catga"
local down = true
catga.command("Up", function() down = false return true end)
local Order = catga.process "Order"

Order.options = { tags = function(input) return { customer = input.customer } end }
function Order:execute(order)
  self:reserve()
  local paid = self:receive("paid", { timeout = "24h" })
  local answer = self:approval("large order", { approvers = { "ann", "bob" },
    form = { limit = "number?" } })
  local promise = self:promise()
  self:step("ask", function() catga.say("promise " .. promise.id .. ".") return true end)
  local value, err = promise:wait()
  return { paid = paid, approved = answer.approved, by = answer.by, value = value,
    code = err and err.code, id = order.id }
end
function Order.reserve() return 1 end
function Order.compensate_reserve() catga.say("undone") end
local Charge = catga.process "Charge"
Charge.settings = { charge = { attempts = 1 } }
function Charge:execute() return self:charge() end
function Charge.charge() if down then error("the wire is down") end return "charged" end
local Branches = catga.process "Branches"
function Branches:execute()
  return self:all("work", {
    function() self:step("long", function() catga.sleep("1h") end) end,
    function() self:step("longer", function() catga.sleep("1h") end) end,
    function() self:receive("go") end,
    function() self:run("Order", { customer = "child" }) end,
  })
end
local Rounds = catga.process "Rounds"
function Rounds:execute()
  for i = 1, 1200 do self:step("round", function() return i end) end
  return "done"
end
LUA
start_app

# verb NAME CODE PATTERN ARGUMENTS...: check of `catga process`.
verb() {
  local name=$1 code=$2 pattern=$3
  shift 3
  check "$name" "$code" "$pattern" "$program" process "$@"
}

shows() { # id pattern
  "$program" process show "$1" -o json | grep -q -- "$2"
}

verb "start with id, tag, timeout" 0 '^o1$' start Order '{"customer":"ann"}' --id o1 \
  --tag urgent=true --timeout 48h
verb "an option that is no tag" 2 'tag is NAME=VALUE' start Order '{}' --tag urgent
verb "a timeout that is none" 1 'invalid: .*is no duration' start Order '{}' --id x --timeout soon
is "waits for the signal" until_ok shows o1 '"waits":\[{"due":[0-9]*,"kind":"signal","name":"paid"'
verb "list by tag" 0 '^o1 +Order +waiting' list --tag customer=ann
verb "list by two tags" 0 '^o1 ' list --tag customer=ann --tag urgent=true
verb "list by another tag" 0 '^(ID .*)?$' list --tag customer=bob
verb "show" 0 '^tags +.*ann' show o1
verb "history" 0 '^1 .* 1 +step reserve done$' history o1
verb "history for programs" 0 '"type":"ProcessStarted"' history o1 -o json
verb "history of none" 3 'not_found' history o9

verb "signal that is no JSON" 1 'invalid: the data' signal o1 paid '{oops'
verb "signal without a name" 2 'name of a signal' signal o1
verb "signal to none" 3 'not_found: there is no process o9' signal o9 paid
verb "signal" 0 '^$' signal o1 paid '{"amount":5}' --id s1
is "waits for the approval" until_ok shows o1 '"kind":"approval"'
verb "approvals" 0 '^o1 +large order +1 +.*ann' approvals
verb "approve as somebody" 1 'forbidden: .*ann, bob' approve o1 'large order' --by eve
verb "approve with a wrong form" 1 'validation: .*limit must be a number' approve o1 'large order' \
  '{"limit":"x"}' --by ann
verb "approve something else" 3 'it waits for large order' approve o1 other --by ann
verb "approve has no reason" 2 'it has no option' approve o1 'large order' --reason x
verb "approve" 0 '^$' approve o1 'large order' '{"limit":7}' --by ann
wait_line 'promise [0-9]*~'
promise=$(sed -n 's/.*promise \([^ ]*\)\.$/\1/p' "$tmp/run.log" | tail -n 1)
check "no such promise" 3 'there is no promise' "$program" promise resolve '1~00~o1'
check "reject needs a code" 2 'an error code' "$program" promise reject "$promise"
check "resolve" 0 '^$' "$program" promise resolve "$promise" '{"ok":[]}'
is "has ended" until_ok shows o1 '"status":"completed"'
verb "the result" 0 '"value":{"ok":\[\]}' show o1 -o json
check "resolve again" 1 'ended' "$program" promise resolve "$promise"
verb "signal after the end" 1 'ended: process o1 has ended' signal o1 paid

verb "start another" 0 '^o2$' start Order '{}' --id o2
is "it waits" until_ok shows o2 '"waits"'
verb "pause" 0 '^$' pause o2 --reason lunch
verb "is paused" 0 '^o2 ' list --status paused
verb "resume" 0 '^$' resume o2
verb "both are in its history" 0 'paused: lunch' history o2
verb "signal it" 0 '^$' signal o2 paid
is "waits for the approval, too" until_ok shows o2 '"kind":"approval"'
verb "reject" 0 '^$' reject o2 'large order' --by bob --reason no
until_ok has_line 'promise [0-9]*~.*~o2\.'
promise=$(sed -n 's/.*promise \([^ ]*~o2\)\.$/\1/p' "$tmp/run.log" | tail -n 1)
check "reject the promise" 0 '^$' "$program" promise reject "$promise" refused 'not today'
is "has ended, too" until_ok shows o2 '"status":"completed"'
verb "was rejected, and refused" 0 '"approved":false.*"code":"refused"' show o2 -o json

verb "start to cancel" 0 '^o3$' start Order '{}' --id o3
verb "cancel" 0 '^$' cancel o3 --reason 'no money'
verb "why" 0 'process o3 was cancelled: no money' show o3
wait_line 'undone'
verb "is cancelled" 0 '^o3 ' list --status cancelled
verb "cancel again" 1 'ended' cancel o3
verb "start to kill" 0 '^o4$' start Order '{}' --id o4
verb "kill" 0 '^$' kill o4 --reason enough
verb "is killed" 0 'process o4 was killed: enough' show o4

verb "one that fails" 1 'the wire is down' start Charge '{}' --id c1 --wait
verb "skip another operation" 1 'conflict: .*that is operation 1' skip c1 7
verb "skip" 0 '^$' skip c1 1 '{"by":"hand"}'
is "goes on with it" until_ok shows c1 '"by":"hand"'
verb "another that fails" 1 'the wire is down' start Charge '{}' --id c2 --wait
"$program" send Up '{}' >/dev/null
verb "retry" 0 '^$' retry c2
is "goes on" until_ok shows c2 '"result":"charged"'
verb "retry what did not fail" 1 'conflict' retry c2

# What is seen of branches, children, and of text that looks like a number.
verb "start one with branches" 0 '^b1$' start Branches '{}' --id b1 --tag batch=007
verb "list by text" 0 '^b1 .*"batch":"007"' list --tag batch=007
verb "list by a number" 0 '^ID +NAME +STATUS +STARTED +ENDED +TAGS$' list --tag batch=7
is "there is none" test -z "$("$program" process list --tag batch=7 -o json)"
verb "the step that is attempted" 0 '^step +long$' show b1
verb "its attempt" 0 '^attempt +1$' show b1
verb "the other one" 0 '^longer +1 +1\.2\.1$' show b1
verb "the wait" 0 '^signal +go +1\.3\.1 *$' show b1
is "the child waits" until_ok shows b1/1.4.1 '"waits"'
verb "children" 0 '^b1/1\.4\.1 +Order' list --parent b1
verb "its parent" 0 '^parent +b1$' show b1/1.4.1
verb "kill it" 0 '^$' kill b1
is "its child is killed" until_ok shows b1/1.4.1 '"status":"killed"'
verb "start one with a long journal" 0 '^"done"$' start Rounds '{}' --id r1 --wait
is "its history is whole" test \
  "$("$program" process history r1 -o json | grep -c ProcessStepCompleted)" = 1200

http "unknown field" 400 'the field nme is not known; did you mean name.; there are id, name, value' -X POST \
  "http://catga/process-signals/o1" -d '{"nme":1}'
http "unknown action" 400 'the action stop is not known; did you mean skip.; there are cancel' -X POST "http://catga/process-control/o1" \
  -d '{"action":"stop"}'
http "approved is needed" 400 'the body needs approved' -X POST \
  "http://catga/process-approvals/o1" -d '{"name":"x"}'
http "ended is a conflict" 409 'ended' -X POST "http://catga/process-signals/o1" -d '{"name":"paid"}'
http "start with tags" 201 '"id":"h1"' -X POST \
  "http://catga/processes/Order?id=h1&tag.customer=zed&timeout=1h" -d '{}'
http "list by tag" 200 '"id":"h1"' "http://catga/processes?tag.customer=zed"

stop_app
finish
