#!/bin/bash
# test_verb_spec.sh - `catga test` itself: what passes, what fails, what it says of leaks.
#
# Usage: CATGA_PROGRAM=build/catga spec/functional/test_verb_spec.sh
source "$(dirname "$0")/program.sh"

spec() { # writes stdin to the one spec of a new app
  rm -rf "$tmp/app"
  app "spec/one_spec.lua"
}

leak() { # name, pattern, Lua of a spec body
  spec <<<"local native = require 'catga.native.task'
local catga, testing = require 'catga', require 'catga.testing'
describe('it', function() it('leaks', function() $3 end) end)"
  check "$1" 1 "$2" "$program" test "$tmp/app"
}

spec <<<'local task = require "catga.native.task"
describe("waiting", function()
  local clock = require("catga.native.clock").system()
  teardown(function() clock:close() end)
  it("works", function() clock:sleep(5) assert.equal(1, 1) end)
  it("works for other tasks", function()
    local ran
    task.spawn(function() ran = true end)
    task.settle()
    assert.is_true(ran)
  end)
  pending("is told")
end)'
check "passing specs" 0 '^2 successes / 0 failures / 0 errors / 1 pending' "$program" test "$tmp/app"
check "the seed is printed" 0 '^seed 77$' "$program" test "$tmp/app" --seed 77
check "one file" 0 '^2 successes' "$program" test "$tmp/app/spec/one_spec.lua"
check "a filter" 0 '^1 success ' "$program" test "$tmp/app" --filter 'other tasks'
check "another output" 0 '^ok 1 - waiting works' "$program" test "$tmp/app" -o TAP --seed 1
check "a wrong seed" 2 'seed is a whole number' "$program" test "$tmp/app" --seed x

spec <<<'describe("it", function() it("fails", function() assert.equal(1, 2) end) end)'
check "a failing spec" 1 'one_spec.lua:1: Expected objects to be equal' "$program" test "$tmp/app"
spec <<<'describe("it", function() it("raises", function() error("oh no") end) end)'
check "a spec that raises" 1 'one_spec.lua:1: oh no' "$program" test "$tmp/app"
spec <<<'local x = = 1'
check "a spec that does not load" 1 'one_spec.lua' "$program" test "$tmp/app"
spec <<<'describe("it", function() it("waits", function()
  require("catga.native.task").park() end) end)'
check "a spec that waits for nothing" 1 'waits for what never comes' "$program" test "$tmp/app"

spec <<<'describe("lib", function() it("is on the module path", function()
  assert.equal("from lib", require("helper.text")) end) end)'
app lib/helper/text.lua <<<'return "from lib"'
check "modules of lib/" 0 '^1 success ' "$program" test "$tmp/app"
check "modules of lib/, for one file" 0 '^1 success ' "$program" test "$tmp/app/spec/one_spec.lua"

leak "a task that is left" 'leave 1 tasks' 'native.spawn(function() native.park() end)'
leak "a clock that is left" 'leave 1 handles' \
  'leaked = require("catga.native.clock").virtual(0) package.loaded.string.leaked = leaked'
leak "an app that is left" 'handles behind' \
  'package.loaded.string.leaked = testing.app(function() end)'
leak "a timer that is left" 'references' \
  'local c = require("catga.native.clock").virtual(0) c:after(5, function() end)
   package.loaded.string.leaked = c'
spec <<<'local testing = require "catga.testing"
describe("an app", function() it("that is stopped is no leak", function()
  local app = testing.app(function() require("catga").command("A", function() return 1 end) end)
  assert.equal(1, app:send("A"))
  app:stop()
end) end)'
check "an app that is stopped" 0 '^1 success ' "$program" test "$tmp/app"
finish
