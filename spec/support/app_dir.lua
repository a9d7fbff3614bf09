--- App directories for specs: real files in a temporary directory.
---
---   local app_dir = dofile "spec/support/app_dir.lua"
---   local dir = app_dir.new { ["main.lua"] = "...", ["lib/money.lua"] = "..." }
---   app_dir.remove_all()     -- after_each
local M = {}

local made = {}

local function shell(format, ...)
  local quoted = {}
  for i, text in ipairs { ... } do quoted[i] = "'" .. text:gsub("'", "'\\''") .. "'" end
  local pipe = assert(io.popen(format:format(unpack(quoted)), "r"))
  local output = pipe:read("*a")
  pipe:close()
  return (output:gsub("\n$", ""))
end

--- Writes a file, with the directories above it.
---@param dir string
---@param name string
---@param text string
function M.write(dir, name, text)
  local path = dir .. "/" .. name
  local parent = path:match("^(.*)/")
  if parent ~= dir then shell("mkdir -p %s", parent) end
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

--- Makes a directory with files.
---@param files table<string, string>  text by name
---@return string dir
function M.new(files)
  local dir = shell("mktemp -d")
  assert(dir:find("^/"), "mktemp -d made no directory")
  made[#made + 1] = dir
  for name, text in pairs(files) do M.write(dir, name, text) end
  return dir
end

--- Removes a file.
function M.remove(dir, name) assert(os.remove(dir .. "/" .. name)) end

--- Removes all directories that were made.
function M.remove_all()
  for _, dir in ipairs(made) do shell("rm -rf %s", dir) end
  made = {}
end

return M
