--- The local kind of locks keeps the contract of all kinds.
local testing = require "catga.testing"
local contract = setfenv(assert(loadfile "spec/support/lock_contract.lua"), getfenv())()

contract("local", function()
  local app = assert(testing.app(function() end))
  return {
    kind = require("catga.policy.lock_local").new(app.app),
    advance = function(ms) app:advance(ms .. "ms") end,
    close = function() app:stop() end,
  }
end)
