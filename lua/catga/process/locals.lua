--- Where the strands of a process stand in the script: the frames of their code, with file, line
--- and local variables. A process that is not in memory is replayed as a shadow for it.
local errors = require "catga.error"
local native_task = require "catga.native.task"
local codec = require "catga.native.json"
local journal = require "catga.process.journal"
local shadow = require "catga.process.shadow"
local queries = require "catga.process.queries"
local engine = require "catga.process.engine"
local raw = require "catga.sandbox".raw

local M = {}

local LEVELS_MAX = 200    -- Of a stack that are looked at.
local FRAMES_MAX = 20     -- Of one strand.
local LOCALS_MAX = 50     -- Of one frame.
local STRANDS_MAX = 100   -- Of one process.
local DEPTH_MAX = 3       -- Of tables.
local FIELDS_MAX = 20     -- Of one table.
local STRING_BYTES_MAX = 200
local VALUE_BYTES_MAX = 2000
local TEXT_BYTES_MAX = 60000

local function text_of(value)
  return journal.storable_text(('"%s"'):format(value:sub(1, STRING_BYTES_MAX):gsub("%c", " ")
    .. (#value > STRING_BYTES_MAX and "..." or "")), VALUE_BYTES_MAX)
end

local function place_of(info) return ("%s:%d"):format(info.short_src, info.linedefined) end

local OTHERS = {
  ["nil"] = tostring, boolean = tostring, string = text_of,
  number = function(value) return ("%.14g"):format(value) end,
  ["function"] = function(fn)
    local info = debug.getinfo(fn, "S")
    return info.what == "C" and "function" or "function " .. place_of(info)
  end,
}

local printable

local function table_text(value, depth)
  if depth > DEPTH_MAX then return "{...}" end
  local parts, count = {}, 0
  for i = 1, math.min(#value, FIELDS_MAX) do parts[i] = printable(rawget(value, i), depth + 1) end
  local list = #parts
  for key, one in raw.next, value do
    if not (type(key) == "number" and key >= 1 and key <= list and key % 1 == 0) then
      count = count + 1
      if #parts >= FIELDS_MAX or count > FIELDS_MAX then
        parts[#parts + 1] = "..."
        break
      end
      local name = type(key) == "string" and key:find("^[%a_][%w_]*$") and key
        or "[" .. printable(key, depth + 1) .. "]"
      parts[#parts + 1] = name .. " = " .. printable(one, depth + 1)
    end
  end
  if list == 0 then table.sort(parts) end
  return #parts == 0 and "{}" or "{ " .. table.concat(parts, ", ") .. " }"
end

function printable(value, depth)
  local kind = type(value)
  if value == codec.null then return "null" end
  if kind == "table" then return table_text(value, depth) end
  local other = OTHERS[kind]
  return other and other(value) or kind
end

-- Text of a local variable; self is what the body has set on it.
local function shown(p, value)
  local text = value == p.class.self and "self " .. table_text(p.vars or {}, 1)
    or printable(value, 1)
  return journal.storable_text(text, VALUE_BYTES_MAX)
end

local function locals_of(p, co, level)
  local found = {}
  for i = 1, LOCALS_MAX do
    local name, value = debug.getlocal(co, level, i)
    if not name then break end
    if name:sub(1, 1) ~= "(" then found[name] = shown(p, value) end
  end
  return found
end

local function name_of(p, info)
  local face = p.class.face
  if info.func == face.execute then return "execute" end
  for name, fn in raw.pairs(face.updates) do
    if info.func == fn then return "updates." .. name end
  end
  for name, step in raw.pairs(p.class.steps) do
    if info.func == step.fn then return name end
  end
  return info.name or "function at " .. place_of(info)
end

-- A coroutine of the script's own in which the strand waits: the shim over coroutine.resume has it.
local function inner_coroutine(co, level)
  for i = 1, LOCALS_MAX do
    local name, value = debug.getlocal(co, level, i)
    if not name then return nil end
    if name == "co" and type(value) == "thread" then return value end
  end
end

-- The frames of scripts, innermost first.
local function add_frames(p, co, frames, seen)
  for level = 0, LEVELS_MAX do
    local info = debug.getinfo(co, level, "Slnf")
    if not info or #frames >= FRAMES_MAX then return end
    local is_own = info.source:find("^@lua/catga/")
    if info.what ~= "C" and not is_own then
      frames[#frames + 1] = { at = info.short_src .. ":" .. info.currentline,
        file = info.short_src, line = info.currentline, name = name_of(p, info),
        locals = locals_of(p, co, level) }
    elseif is_own and info.source == "@lua/catga/sandbox.lua" then
      local inner = inner_coroutine(co, level)
      if inner and not seen[inner] then
        seen[inner] = true
        add_frames(p, inner, frames, seen)
      end
    end
  end
end

local function strand_name(s)
  if not s.root then return "body" end
  local n = s.prefix:match("^u(%d+)%.$")
  return n and "update " .. n or "branch " .. s.prefix:sub(1, -2)
end

-- Of a strand that has none: a tail call, `return self:receive("x")`, leaves none, and the body of
-- a declared process is not of the script.
local function only_frame(p, s)
  local info = debug.getinfo(journal.function_of(s), "Sf")
  local at = s.place or place_of(info)
  local file, line = at:match("^(.*):(%d+)$")
  return { at = at, file = file, line = tonumber(line), name = name_of(p, info), locals = {} }
end

-- What a strand waits for, as strand.nap was told, in the words of the journal.
local function wait_text(what)
  if type(what) == "number" then return "timer sleep" end
  return type(what) == "table" and what.kind .. " " .. what.name or nil
end

local function describe(p, s)
  local co = s.task and native_task.thread(s.task)
  local frames = {}
  if co then add_frames(p, co, frames, {}) end
  if co and #frames == 0 then frames[1] = only_frame(p, s) end
  local stopped = type(s.stopped) == "table" and s.stopped or nil
  local step = s.task and s.task.limit
  local key = s.op > 0 and (s.prefix and s.prefix .. s.op or s.op) or nil
  local asked = stopped and stopped.asked or s.napping and wait_text(s.waiting) or nil
  return { strand = strand_name(s), op = key, is_waiting = co ~= nil and not step,
    waits_for = asked, step = step and step.name,
    frames = codec.array(frames) }
end

-- For people: a strand a paragraph.
local function text_of_strands(list)
  local lines = {}
  local function add(...) lines[#lines + 1] = (...):format(select(2, ...)) end
  for _, one in ipairs(list) do
    add("%s%s%s", one.strand, one.op and ", operation " .. one.op or "",
      one.waits_for and ": " .. one.waits_for or one.step and ": in step " .. one.step or "")
    for _, frame in ipairs(one.frames) do
      add("  %s in %s", frame.at, frame.name)
      local names = {}
      for name in raw.pairs(frame.locals) do names[#names + 1] = name end
      table.sort(names)
      for _, name in ipairs(names) do add("    %s = %s", name, frame.locals[name]) end
    end
  end
  return journal.storable_text(table.concat(lines, "\n"), TEXT_BYTES_MAX)
end

local function answer(p)
  local strands = engine.strands_of(p)
  table.sort(strands, function(a, b)
    if a == p or b == p then return a == p and b ~= p end
    return a.prefix < b.prefix
  end)
  local list = {}
  for i = 1, math.min(#strands, STRANDS_MAX) do
    if strands[i].stopped ~= true then list[#list + 1] = describe(p, strands[i]) end
  end
  return { id = p.id, name = p.class.name, strands = codec.array(list), count = #strands,
    text = text_of_strands(list) }
end

--- Where a process stands: { id, name, count, text, strands }. A strand is { strand = "body" |
--- "branch 3.2" | "update 1", op, is_waiting, step?, waits_for?, frames }, a frame, the innermost
--- first, { at, file, line, name, locals }, and locals are text by name; what is left out of a
--- value shows as "...". May yield.
---@param from catga.Engine
---@param id string
---@return table? found
---@return catga.Error? err
function M.locals(from, id)
  local app = from.app
  local stream, err = shadow.stream_of(app, id)
  if not stream then return nil, err end
  local p = queries.in_memory(app, id)
  if p then return answer(p) end
  local ok, found, failure = pcall(shadow.with, app, id, stream, function(s, status, fault)
    if status ~= "replayed" then return nil, fault end
    return answer(s)
  end)
  if not ok then return nil, errors.from(found) end
  return found, failure
end

return M
