--- embed.lua - writes Lua sources as a C file that defines cg_embedded_modules: of each module its
--- text, and of those that every program loads their bytecode, which loads twenty times faster.
---
--- Usage: luajit scripts/embed.lua OUTPUT.c FILE.lua...
--- A module is named by its path: lua/catga/init.lua is "catga"; lua/catga/x.lua and stdlib/x.lua
--- are "catga.x". Two files of one name, or a file that does not parse, end the build.

local STRINGS = { ['"'] = '\\"', ["\\"] = "\\\\", ["?"] = "\\?", ["\t"] = "\\t", ["\n"] = "\\n" }

local function fail(...)
  io.stderr:write("embed: ", string.format(...), "\n")
  os.exit(1)
end

--- The module name of a source path.
local function module_name(path)
  local name = path:match("^lua/(.+)%.lua$")
  if not name then
    name = path:match("^stdlib/(.+)%.lua$")
    name = name and "catga/" .. name
  end
  if not name then
    fail("%s is neither in lua/ nor in stdlib/", path)
  end
  return (name:gsub("/init$", ""):gsub("/", "."))
end

local function read(path)
  local file, err = io.open(path, "rb")
  if not file then
    fail("%s", err)
  end
  local text = file:read("*a")
  file:close()
  local chunk, problem = loadstring(text, "@" .. path)
  if not chunk then
    fail("%s", problem)
  end
  return text, string.dump(chunk)
end

--- The text without its comment lines, as long as that is the same program with the same line
--- numbers: what looks like a comment may lie in a long string.
local function without_comments(text, code, path)
  local shorter = ("\n" .. text):gsub("\n[ ]*%-%-[^\n]*", "\n"):sub(2)
  local chunk = loadstring(shorter, "@" .. path)
  return chunk and string.dump(chunk) == code and shorter or text
end

--- One C string literal a line of text. "?" is escaped because C11 knows trigraphs.
local function literal(text)
  local lines = {}
  for line in text:gmatch("[^\n]*\n?") do
    if line ~= "" then
      local escaped = line:gsub('[%c"\\?\128-\255]', function(char)
        return STRINGS[char] or string.format("\\%03o", char:byte())
      end)
      lines[#lines + 1] = '    "' .. escaped .. '"'
    end
  end
  return #lines > 0 and table.concat(lines, "\n") or '    ""'
end

--- One C string literal a few dozen bytes. A digit behind an escape would belong to it.
local function bytes(code)
  local lines = {}
  for place = 1, #code, 48 do
    local escaped = code:sub(place, place + 47):gsub("[^%w ]", function(char)
      return string.format("\\%03o", char:byte())
    end)
    lines[#lines + 1] = '    "' .. escaped .. '"'
  end
  return table.concat(lines, "\n")
end

local output = table.remove(arg, 1) or fail("usage: embed.lua OUTPUT.c FILE.lua...")
local modules, path_of = {}, {}
for _, path in ipairs(arg) do
  local name = module_name(path)
  if path_of[name] then
    fail("%s and %s are both module %s", path_of[name], path, name)
  end
  path_of[name] = path
  local text, code = read(path)
  modules[#modules + 1] = { name = name, path = path, code = code,
    text = without_comments(text, code, path) }
end
table.sort(modules, function(a, b)
  return a.name < b.name
end)

-- What C asks for at the start of every program.
local ROOTS = { "catga", "catga.program", "catga.task_loop", "catga.http" }

--- The modules that these load, by what they require at their top level.
local function loaded_from(names)
  local by_name, loaded = {}, {}
  for _, module in ipairs(modules) do by_name[module.name] = module end
  local function load(name)
    local module = by_name[name]
    if not module or loaded[name] then return end
    loaded[name] = true
    for line in module.text:gmatch("[^\n]+") do
      if line:find("^local ") then
        for wanted in line:gmatch('require%s*%(?%s*"([%w_.]+)"') do load(wanted) end
      end
    end
  end
  for _, name in ipairs(names) do load(name) end
  return loaded
end

local is_loaded = loaded_from(ROOTS)
local out = {
  "/* Written by scripts/embed.lua from the Lua sources; not to be edited. */",
  '#include "runtime/embedded.h"',
  "",
  "const struct cg_embedded cg_embedded_modules[] = {",
}
for _, module in ipairs(modules) do
  local code = is_loaded[module.name] and module.code or ""
  out[#out + 1] = string.format(
    '  {.name = "%s",\n   .path = "%s",\n   .size = %d,\n   .source =\n%s,\n   .code_size = %d,\n'
      .. '   .code =\n%s},',
    module.name, module.path, #module.text, literal(module.text), #code,
    code ~= "" and bytes(code) or '    ""'
  )
end
out[#out + 1] = "  {0},"
out[#out + 1] = "};"
out[#out + 1] = string.format('const char cg_embedded_version[] = "%s";', jit.version)
out[#out + 1] = string.format("const size_t cg_embedded_count = %d;\n", #modules)

-- An interrupted build must not leave half a file that looks new.
local unfinished = output .. ".new"
local file = io.open(unfinished, "wb") or fail("cannot write %s", unfinished)
file:write(table.concat(out, "\n"))
file:close()
assert(os.rename(unfinished, output))
