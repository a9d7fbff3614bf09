--- The function that xpcall calls around handlers, and making it ready for LuaJIT's compiler.
---
--- A trace that would begin with the function that xpcall calls ends in a return to xpcall, which
--- LuaJIT cannot compile. It tries some times in vain, then interprets that function for ever, and
--- with it whatever calls it. So this one stands in between, and `warm_up` compiles it once where
--- it is called otherwise: from then on it is taken into the traces of its callers.
local M = {}

--- Calls run(data, ctx). Not a tail call, which would put `run` directly under xpcall.
---@param run fun(data: any, ctx: table): any, any
---@param data any
---@param ctx table
---@return any value
---@return any err
function M.call(run, data, ctx)
  local value, err = run(data, ctx)
  return value, err
end

local ROUNDS = 300 -- Some times what LuaJIT needs to compile a function, and to give up an exit.

local is_warm = false

--- Compiles it, once a program.
function M.warm_up()
  if is_warm then return end
  is_warm = true
  jit.off(M.warm_up) -- Else its loops may be compiled instead, and hold it.
  local call = M.call
  local function first() return true end
  local function other() return true end
  local function catch(failure) return failure end
  for _ = 1, ROUNDS do call(first, nil, nil) end
  for _ = 1, ROUNDS do xpcall(call, catch, other, nil, nil) end
end

return M
