--- From a chain of operators to one Lua function.
---
--- A chain is written as the loop that one would write by hand: `where` is an `if`, `select` a new
--- local, a branch is what stands behind the other one. So LuaJIT makes one trace of it. The text
--- holds numbers of nodes and nothing of the script's; the script's functions are upvalues and are
--- called directly, so their errors keep their places.
---
--- In the text `v` is the item, `k` its key, `w` its window and `t` its event time. `F` are the
--- functions of the script, `O` the operators' objects, `X` the functions made here: `s1` of source
--- 1, `n5` for what node 5 does, `d5` for what comes behind it, `move` for the watermark.
---
--- There are two forms. The plain one calls functions as they are. The guarded one, for items that
--- have failed, calls each through `guard`, which decides what becomes of the item.
local M = {}

local REFS_MAX = 40  -- Upvalues of one function; LuaJIT allows 60.
local DEPTH_MAX = 40 -- Nested blocks of one function; LuaJIT allows 200.

---@class catga.StreamText
---@field graph table
---@field is_guarded boolean
---@field out string[]
---@field made table<string, boolean>
local Text = {}
Text.__index = Text

-- A function that is being written.
local Body = {}
Body.__index = Body

function Body:line(format, ...) self.lines[#self.lines + 1] = format:format(...) end

--- The local that stands for an expression outside of the function.
function Body:ref(name, expression)
  if not self.refs[name] then
    self.refs[name] = expression
    self.order[#self.order + 1] = name
  end
  return name
end

function Body:fn(node) return self:ref("F" .. node.id, ("F[%d]"):format(node.id)) end
function Body:op(node) return self:ref("O" .. node.id, ("O[%d]"):format(node.id)) end
function Body:node(node) return self:ref("N" .. node.id, ("N[%d]"):format(node.id)) end
function Body:helper(name) return self:ref(name, "H." .. name) end

-- Writes one function of X.
local function write(self, name, params, fill)
  if self.made[name] then return end
  self.made[name] = true
  local body = setmetatable({ lines = {}, refs = {}, order = {}, depth = 0 }, Body)
  fill(body)
  local out = self.out
  out[#out + 1] = ("X.%s = (function()"):format(name)
  for _, ref in ipairs(body.order) do
    out[#out + 1] = ("local %s = %s"):format(ref, body.refs[ref])
  end
  out[#out + 1] = ("return function(%s)"):format(params)
  for _, line in ipairs(body.lines) do out[#out + 1] = line end
  out[#out + 1] = "end end)()"
end

local emit

-- What comes behind a node, in place.
local function children(self, body, node)
  local edges = node.children
  if #edges == 1 then return emit(self, body, edges[1].node, edges[1].side) end
  for _, edge in ipairs(edges) do
    body:line("do local v, k, w, t = v, k, w, t")
    emit(self, body, edge.node, edge.side)
    body:line("end")
  end
end

-- What comes behind a node as a function of its own, for operators that give on later.
local function down(self, node)
  write(self, "d" .. node.id, "v, k, w, t", function(body) children(self, body, node) end)
  return "d" .. node.id
end

-- Begins a block in which `r` is what a function of the script returned.
local function call(self, body, node, fn, args)
  if self.is_guarded then
    body:line("do local ok, r = %s(%s, %s, %s)", body:helper "guard", body:node(node), fn, args)
    body:line("if ok then")
  else
    body:line("do local r = %s(%s)", fn, args)
  end
end

local function end_call(self, body) body:line(self.is_guarded and "end end" or "end") end

-- A local `e`: the entry of the key.
local function entry(body, node)
  local op = body:op(node)
  if not node.is_keyed then return body:line("local e = %s.E", op) end
  local state = body:ref("S" .. node.id, ("O[%d].state"):format(node.id))
  body:line("local key = k if key == nil then key = %s end", body:helper "ROOT")
  body:line("local e = %s.by[key] or %s(%s, key)", state, body:helper "open", state)
end

local function touch(self, body, node)
  if not self.graph.is_durable then return end
  body:line("if not e.dirty then %s(%s, e) end", body:helper "touch",
    body:ref("S" .. node.id, ("O[%d].state"):format(node.id)))
end

local EMIT = {}

function EMIT.where(self, body, node)
  if self.is_guarded then
    call(self, body, node, body:fn(node), "v, k, w")
    body:line("if r then")
    children(self, body, node)
    body:line("end")
    return end_call(self, body)
  end
  body:line("if %s(v, k, w) then", body:fn(node))
  children(self, body, node)
  body:line("end")
end

function EMIT.select(self, body, node)
  call(self, body, node, body:fn(node), "v, k, w")
  body:line("local v = r if v == nil then %s(%s) end", body:helper "is_nil", body:node(node))
  children(self, body, node)
  end_call(self, body)
end

function EMIT.group_by(self, body, node)
  call(self, body, node, body:fn(node), "v, k, w")
  body:line("local k = r if k == nil then %s(%s) end", body:helper "is_nil", body:node(node))
  children(self, body, node)
  end_call(self, body)
end

function EMIT.flat_map(self, body, node)
  call(self, body, node, body:fn(node), "v, k, w")
  body:line("if %s(r) ~= \"table\" then %s(%s) end", body:helper "type", body:helper "is_no_list",
    body:node(node))
  body:line("for i = 1, #r do local v = r[i]")
  children(self, body, node)
  body:line("end")
  end_call(self, body)
end

local function fold(self, body, node)
  entry(body, node)
  call(self, body, node, body:fn(node), "e.v, v, k, w")
  body:line("local v = r if v == nil then %s(%s) end", body:helper "is_nil", body:node(node))
  body:line("e.v = v")
  touch(self, body, node)
end

function EMIT.scan(self, body, node)
  body:line("do")
  fold(self, body, node)
  children(self, body, node)
  end_call(self, body)
  body:line("end")
end

function EMIT.reduce(self, body, node)
  body:line("do")
  fold(self, body, node)
  end_call(self, body)
  body:line("end")
  down(self, node)
end

function EMIT.buffer(self, body, node)
  local op = body:op(node)
  body:line("do")
  entry(body, node)
  body:line("local n = e.n + 1 e.n = n e.list[n] = v")
  if node.ms then body:line("if n == 1 then %s:started(e) end", op) end
  touch(self, body, node)
  if node.count then body:line("if n >= %d then", node.count) end
  local behind = down(self, node)
  if not node.count then
    return body:line("end")
  elseif node.is_keyed then
    body:line("%s:flush(e, t)", op)
  else
    body:line("local list = e.list e.list, e.n, e.saved = %s(%s.size_hint, 0), 0, 0",
      body:helper "new_table", op)
    body:line("%s(list, nil, nil, t)", body:ref("X" .. behind, "X." .. behind))
  end
  body:line("end end")
end
EMIT.batch = EMIT.buffer

function EMIT.take(self, body, node)
  body:line("do")
  entry(body, node)
  body:line("local n = e.v + 1 if n <= %d then e.v = n", node.count)
  touch(self, body, node)
  children(self, body, node)
  if not node.is_keyed then
    body:line("if n == %d then %s(%s) end", node.count, body:helper "take_ended", body:node(node))
  end
  body:line("end end")
end

function EMIT.skip(self, body, node)
  body:line("do")
  entry(body, node)
  body:line("local n = e.v if n < %d then e.v = n + 1", node.count)
  touch(self, body, node)
  body:line("else")
  children(self, body, node)
  body:line("end end")
end

-- Operators whose `push` says whether the item goes on now.
local function pass(self, body, node)
  call(self, body, node, body:ref("P" .. node.id, ("O[%d].push"):format(node.id)),
    body:op(node) .. ", v, k, w, t")
  body:line("if r then")
  children(self, body, node)
  body:line("end")
  end_call(self, body)
end
EMIT.distinct, EMIT.throttle = pass, pass

-- Operators that take the item, and give something on through `down`.
local function push(self, body, node, side)
  local method = side == 1 and "push_left" or side == 2 and "push_right" or "push"
  down(self, node)
  local fn = body:ref(("P%d%s"):format(node.id, method), ("O[%d].%s"):format(node.id, method))
  if self.is_guarded then
    body:line("%s(%s, %s, %s, v, k, w, t)", body:helper "guard", body:node(node), fn, body:op(node))
  else
    body:line("%s(%s, v, k, w, t)", fn, body:op(node))
  end
end

for _, kind in ipairs { "tumbling", "hopping", "session", "sliding", "join", "debounce", "sample",
  "delay", "queue" } do
  EMIT[kind] = push
end

-- Sinks. `sinks` is how often one was called since the last checkpoint.
function EMIT.each(self, body, node)
  if self.is_guarded or node.max then return push(self, body, node) end
  body:line("do local _, r = %s(v, k, w)", body:fn(node))
  body:line("if r ~= nil then %s(%s, r) end", body:helper "failed", body:node(node))
  local instance = body:ref("I", "R.instance")
  body:line("%s.sinks = %s.sinks + 1 end", instance, instance)
end
EMIT.to, EMIT.list = push, push

function EMIT.branch(self, body, node) children(self, body, node) end

function EMIT.split(self, body, node)
  local branches = node.children
  local function from(i)
    local branch = branches[i].node
    if i == #branches then return children(self, body, branch) end
    call(self, body, node, body:ref(("F%d_%d"):format(node.id, i),
      ("F[%d][%d]"):format(node.id, i)), "v, k, w")
    body:line("if r then")
    children(self, body, branch)
    body:line("else")
    from(i + 1)
    body:line("end")
    end_call(self, body)
  end
  from(1)
end

EMIT.merge = EMIT.branch

-- A node in place, or a call of its function when this one has become large.
function emit(self, body, node, side)
  local is_large = #body.order > REFS_MAX or body.depth > DEPTH_MAX
  local has_function = self.is_guarded or #node.parents > 1 and not side or is_large
  if not has_function then
    body.depth = body.depth + 1
    EMIT[node.kind](self, body, node, side)
    body.depth = body.depth - 1
    return
  end
  local name = ("n%d%s"):format(node.id, side and "_" .. side or "")
  write(self, name, "v, k, w, t", function(own) EMIT[node.kind](self, own, node, side) end)
  body:line("%s(v, k, w, t)", body:ref("X" .. name, "X." .. name))
end

-- Event time of an item, and the watermark that it moves.
local function time_of(self, body, node)
  if not self.graph.has_event_time then return end
  local clock = body:ref("C", "R.watermark")
  local source = body:ref("Q" .. node.id, ("R.sources[%d]"):format(node.id))
  if node.event_time then
    call(self, body, node, body:ref("T" .. node.id, ("R.times[%d]"):format(node.id)), "v")
    body:line("local t = r")
  else
    body:line("do local t = item.time")
  end
  body:line("if t > %s.max then %s(%s, %s, t) end", source, body:helper "see", clock, source)
end

local function end_time(self, body, node)
  if not self.graph.has_event_time then return end
  if node.event_time then return end_call(self, body) end
  body:line("end")
end

local function event_source(self, node)
  write(self, "s" .. node.id, "items, from, to", function(body)
    body:line("for i = from, to do")
    body:line("local item = items[i] local k, w, t")
    body:line(node.envelope and "local v = item" or "local v = item.data")
    time_of(self, body, node)
    children(self, body, node)
    end_time(self, body, node)
    body:line("end")
  end)
end

local function iterator_source(self, node)
  write(self, "s" .. node.id, "next_item, most", function(body)
    body:line("for i = 1, most do local v = next_item()")
    body:line("if v == nil then return true, i - 1 end local k, w, t")
    time_of(self, body, node)
    children(self, body, node)
    end_time(self, body, node)
    if self.graph.has_take then
      body:line("if %s.ended then return true, i end", body:ref("I", "R.instance"))
    end
    body:line("end return false, most")
  end)
end

local function move(self)
  write(self, "move", "m", function(body)
    for _, node in ipairs(self.graph.nodes) do
      if node.is_window then
        body:line("do local o = O[%d] o.wm = m if m >= o.closes then o:advance(m) end end", node.id)
      end
    end
  end)
end

-- The function of a sink that nobody is before in the chain.
local function sink_of_late(self, node)
  write(self, "n" .. node.id, "v, k, w, t", function(body) EMIT[node.kind](self, body, node) end)
end

--- The text of a graph, checked by LuaJIT.
---@param graph table          a finished one, see lua/catga/stream/graph.lua
---@param is_guarded boolean?
---@return string
function M.text(graph, is_guarded)
  local self = setmetatable({ graph = graph, is_guarded = is_guarded == true, made = {},
    out = { "local R = ... local F, O, N, H, X = R.F, R.O, R.N, R.H, R.X" } }, Text)
  for _, node in ipairs(graph.nodes) do
    if node.late then sink_of_late(self, node.late) end
    if node.kind == "events" then event_source(self, node) end
    if node.kind == "iterator" then iterator_source(self, node) end
  end
  move(self)
  return table.concat(self.out, "\n")
end

--- The function of a graph that makes its functions of what R holds.
---@param graph table
---@param is_guarded boolean?
---@return fun(refs: table)
function M.chunk(graph, is_guarded)
  local field = is_guarded and "guarded_chunk" or "plain_chunk"
  if not graph[field] then
    graph[field] = assert(load(M.text(graph, is_guarded),
      is_guarded and "=catga.stream.guarded" or "=catga.stream.chain", "t"))
  end
  return graph[field]
end

return M
