--- Source text of scripts: reading it and compiling it. Compiled bytecode is never loaded.
local host = require "catga.native.host"
local errors = require "catga.error"

local M = {}

local ESCAPE = "\27" -- Begins compiled bytecode of every version, and no Lua source.

--- The text of a script.
---@param path string
---@return string? text
---@return catga.Error? err  "not_found", "bytecode", ...
function M.read(path)
  local text, err = host.read_file(path)
  if not text then return nil, err end
  if text:sub(1, 1) == ESCAPE then
    return nil, errors.new("bytecode", path .. " is compiled bytecode, which is never loaded; "
      .. "give the Lua source")
  end
  return text
end

--- Compiles a script.
---@param text string
---@param path string  for the places in errors
---@param environment table  its globals
---@return function? chunk
---@return catga.Error? err  names file and line
function M.compile(text, path, environment)
  local chunk, failure = loadstring(text, "@" .. path)
  if not chunk then return nil, errors.new("script_error", failure, { file = path }) end
  return setfenv(chunk, environment)
end

return M
