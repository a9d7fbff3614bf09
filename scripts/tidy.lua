--- tidy.lua - the project's own rules on the shape of its sources, checked by `make check`.
---
--- Usage: luajit scripts/tidy.lua, in the root of the tree. Prints "path:line: what" per finding.
--- As a module: loadfile("scripts/tidy.lua")("module") returns { check, read_tree }.
--- The rules: includes go downward and through doors; files, functions and columns have a bound; no
--- #include of a .c file or of a generated header; no mutable file-scope variable; every file opens
--- with a comment; every binding has its stub; no work is left as a note.

local M = {}

local FILE_LINES_MAX = 600
local FUNCTION_LINES_MAX = 70
local COLUMNS_MAX = 100

-- The folders of src/, lowest layer first. "." is src/main.c.
local LAYERS = {
  base = 0,
  log = 1, mediator = 1, ring = 1, metrics = 1, codec = 1,
  store = 2, transport = 2,
  runtime = 3,
  bind = 4, http = 4,
  embed = 5,
  cli = 6,
  ["."] = 7,
}
local RUNTIME_LAYER, PUBLIC_LAYER = LAYERS.runtime, LAYERS.bind
local SEES_LUA = { runtime = true, bind = true, http = true, embed = true, cli = true }
local LUA_HEADERS = {
  ["lua.h"] = true, ["lauxlib.h"] = true, ["lualib.h"] = true, ["luajit.h"] = true,
}
-- Headers beside the doors that other folders may include as well.
local OPEN_HEADERS = { ["log/record.h"] = true, ["codec/json.h"] = true, ["bind/value.h"] = true,
  ["http/http_socket.h"] = true }

local function report(findings, path, line, format, ...)
  findings[#findings + 1] = string.format("%s:%d: " .. format, path, line, ...)
end

--- Calls visit(line, number) for each line of a text.
local function each_line(text, visit)
  local number = 0
  for line in (text:sub(-1) == "\n" and text or text .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    visit(line, number)
  end
  return number
end

--- The folder of src/ that a path lies in, "." for src/ itself, nil outside.
local function folder_of(path)
  local rest = path:match("^src/(.+)$")
  return rest and (rest:match("^(.-)/") or ".")
end

local function is_open(from, header)
  local to, name = header:match("^([^/]+)/(.+)%.h$")
  if to == "base" or name == to or OPEN_HEADERS[header] then
    return true
  end
  return to == "runtime" and LAYERS[from] >= PUBLIC_LAYER
end

--- What is wrong with #include "header" in a file of folder `from`; nil when nothing is.
local function wrong_include(from, header)
  if header == "catga.h" then
    return LAYERS[from] < RUNTIME_LAYER and "the public header is above this layer" or nil
  end
  local to = header:match("^([^/]+)/")
  if to == nil or to == from then
    return nil
  end
  if not LAYERS[to] then
    return ("%s is in no layer"):format(header)
  end
  local peer = OPEN_HEADERS[header] and from == "http"
  if LAYERS[to] >= LAYERS[from] and not peer then
    return ("%s must not include %s: includes go downward"):format(from, header)
  end
  if not is_open(from, header) then
    return ("include the door %s/%s.h, not %s"):format(to, to, header)
  end
end

--- What is wrong with #include <header> in a file of folder `from`.
local function wrong_library(from, header)
  if LUA_HEADERS[header] and not SEES_LUA[from] then
    return ("%s must not know Lua (%s)"):format(from, header)
  end
  if header:match("^uv") and LAYERS[from] < 2 then
    return ("%s must not know libuv (%s)"):format(from, header)
  end
end

local function check_includes(file, findings)
  local folder = folder_of(file.path)
  if folder and not LAYERS[folder] then
    report(findings, file.path, 1, "the folder src/%s is in no layer", folder)
    return
  end
  each_line(file.text, function(line, number)
    local quoted = line:match('^%s*#%s*include%s*"([^"]+)"')
    local library = line:match("^%s*#%s*include%s*<([^>]+)>")
    local wrong
    if quoted and quoted:match("%.c$") then
      wrong = "no #include of a .c file"
    elseif quoted and ("/" .. quoted):match("/gen/") then
      wrong = "no generated header"
    elseif quoted and folder then
      wrong = quoted:match("^%.%./") and "include from src/, without .."
        or wrong_include(folder, quoted)
    elseif library and folder then
      wrong = wrong_library(folder, library)
    end
    if wrong then
      report(findings, file.path, number, "%s", wrong)
    end
  end)
end

--- Columns of a line of UTF-8 text.
local function columns(line)
  return #line:gsub("[\128-\191]", "")
end

--- C, as clang-format writes it: inside a function only labels and the last brace are in the first
--- column, so the line that began there before the brace is the function's head.
local function check_c_lines(file, findings)
  local head, is_function
  each_line(file.text, function(line, number)
    if columns(line) > COLUMNS_MAX then
      report(findings, file.path, number, "%d columns, more than %d", columns(line), COLUMNS_MAX)
    end
    if line:match("^[%a_]") and not line:match("^[%w_]+:") then
      head, is_function = number, line:find("(", 1, true)
    elseif line:match("^}") and head then
      local count = number - head + 1
      if is_function and count > FUNCTION_LINES_MAX then
        report(findings, file.path, head, "a function of %d lines, more than %d", count,
          FUNCTION_LINES_MAX)
      end
      head = nil
    end
    local variable = folder_of(file.path) and line:match("^static ([^(=]+)[;=%[]")
    if variable and not (" " .. variable):match("[ *]const%f[%A]") then
      report(findings, file.path, number, "a mutable file-scope variable")
    end
  end)
end

--- Lua, by indentation: `function` at the end of a head, `end` under its first column.
local function check_lua_lines(file, findings)
  local open = {}
  each_line(file.text, function(line, number)
    local indent = line:match("^%s*")
    if line:match("%f[%w_]function%f[^%w_][^()]*%([^()]*%)%s*$") then
      open[#open + 1] = { indent = indent, number = number }
    elseif #open > 0 and line:match("^%s*end%f[^%w_]") and indent == open[#open].indent then
      local start = table.remove(open).number
      if number - start + 1 > FUNCTION_LINES_MAX then
        report(findings, file.path, start, "a function of %d lines, more than %d",
          number - start + 1, FUNCTION_LINES_MAX)
      end
    end
  end)
end

local function check_size_and_head(file, findings)
  local first
  local count = each_line(file.text, function(line, number)
    if not first and not (number == 1 and line:match("^#!")) then
      first = line
    end
    if line:match("%f[%w]TO" .. "DO%f[%W]") or line:match("%f[%w]FIX" .. "ME%f[%W]") then
      report(findings, file.path, number, "work left as a note")
    end
  end)
  if count > FILE_LINES_MAX then
    report(findings, file.path, 1, "%d lines, more than %d", count, FILE_LINES_MAX)
  end
  local comment = file.path:match("%.lua$") and "^%-%-" or "^/%*"
  if not (first and first:match(comment)) then
    report(findings, file.path, 1, "does not open with a comment that says what it is for")
  end
end

--- Every bind_<area>.c has a stub <area>.lua; bind_<area>_<part>.c is covered by that of its area.
local function check_stubs(files, findings)
  local has = {}
  for _, file in ipairs(files) do
    has[file.path] = true
  end
  for _, file in ipairs(files) do
    local area = file.path:match("^src/bind/bind_(.+)%.c$")
    local whole = area and area:match("^(.+)_[^_]+$")
    local is_part = whole and has["src/bind/bind_" .. whole .. ".c"]
    local stub = area and "lua/catga/_meta/" .. area .. ".lua"
    if stub and not is_part and not has[stub] then
      report(findings, file.path, 1, "the binding has no stub %s", stub)
    end
  end
end

--- Checks sources.
---@param files { path: string, text: string }[]
---@return string[] findings  "path:line: what", sorted by the order of the files
function M.check(files)
  local findings = {}
  for _, file in ipairs(files) do
    check_size_and_head(file, findings)
    if file.path:match("%.[ch]$") then
      check_includes(file, findings)
      check_c_lines(file, findings)
    elseif not file.path:match("_spec%.lua$") then -- A describe block is one long function.
      check_lua_lines(file, findings)
    end
  end
  check_stubs(files, findings)
  return findings
end

--- Reads the C and Lua files of the tree in the current directory.
---@return { path: string, text: string }[]
function M.read_tree()
  local list = assert(io.popen(
    "find src include lua stdlib scripts spec bench examples -type f "
      .. "\\( -name '*.[ch]' -o -name '*.lua' \\) 2>/dev/null | LC_ALL=C sort"
  ))
  local files = {}
  for path in list:lines() do
    local file = assert(io.open(path, "rb"))
    files[#files + 1] = { path = path, text = file:read("*a") }
    file:close()
  end
  list:close()
  return files
end

if ... == "module" then
  return M
end

local found = M.check(M.read_tree())
for _, finding in ipairs(found) do
  print(finding)
end
os.exit(#found == 0 and 0 or 1)
