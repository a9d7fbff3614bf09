--- Auto-batching: commands that come close together are handled as one list, in one unit of work;
--- each sender gets his own answer.
---
--- The handler gets a list of messages and an envelope, and returns a list of answers by position,
--- and if some failed, a second one of errors by position. When it fails as a whole each message is
--- handled alone, as a list of one: so one that is bad does not fail the others. What is part of
--- an open unit of work, or has a key, is a list of one too.
---
--- Validation and the app's own behaviors run for each message, before it joins a batch.
local state = require "catga.state"
local errors = require "catga.error"
local tasks = require "catga.task"
local keys = require "catga.policy.keys"
local waits = require "catga.policy.waits"

local M = {}

M.fields = {
  max = { "count", 100, 1, 100000 },  -- messages of one batch
  wait = { "duration", "10ms" },      -- how long the first one waits for others
  key = { "key" },                    -- messages of one key are a batch; default: all of them
}
M.short = "max"
M.memory = {}
M.uses = { command = true }
M.why = "the handler of a command gets the list"

function M.refuse(_, scope)
  if scope.idempotent then
    return "a command with a batch cannot be idempotent: each key has an outcome of its own"
  end
end

---@class catga.Batcher
local Batcher = {}
Batcher.__index = Batcher

---@param app catga.App
function M.new(app)
  return setmetatable({ app = app, open = {}, batches = 0, messages = 0, alone = 0 }, Batcher)
end

---@return table
function Batcher:status()
  local waiting = 0
  for _, batch in pairs(self.open) do waiting = waiting + #batch end
  return { waiting = waiting, batches = self.batches, messages = self.messages,
    alone = self.alone }
end

--- What a handler of lists does for one message.
---@param handle fun(list: any[], ctx: catga.Ctx): any, any
---@return fun(data: any, ctx: catga.Ctx): any, any
function M.single(handle)
  return function(data, ctx)
    local answers, failures = handle({ data }, ctx)
    if type(answers) ~= "table" then return answers, failures end
    local err = type(failures) == "table" and failures[1]
    if err then return nil, err end
    if errors.is(answers[1]) then return nil, answers[1] end
    return answers[1]
  end
end

-- What a handler gave for the item of a place.
local function give(item, answers, failures, place)
  local err = type(failures) == "table" and failures[place]
  local value = answers[place]
  if not err and errors.is(value) then err = value end
  if err then return waits.wake(item, { err = errors.from(err) }) end
  waits.wake(item, { value = value })
end

-- Handles what has come together. Who waits no more is left out.
local function flush(self, batch, run)
  local list, items = {}, {}
  for i = 1, #batch do
    local item = batch[i]
    if not item.is_over then
      items[#items + 1], list[#list + 1] = item, item.data
    end
  end
  if #list == 0 then return end
  self.batches, self.messages = self.batches + 1, self.messages + #list
  local ok, value, err = xpcall(run, errors.catch, list, items[1].ctx)
  local is_done = ok and type(value) == "table" and value.answers
  for i = 1, #items do
    if is_done then
      give(items[i], value.answers, value.failures, i)
    else
      items[i].fault = ok and err or value
      waits.wake(items[i], "alone")
    end
  end
end

local function close(self, key, batch, run)
  if self.open[key] == batch then self.open[key] = nil end
  if batch.timer then self.app.clock:cancel(batch.timer) end
  batch.timer = nil
  tasks.spawn(self.app, flush, self, batch, run)
end

local function join(self, p, key, item, run)
  local batch = self.open[key]
  if not batch then
    batch = {}
    self.open[key] = batch
    batch.timer = self.app.clock:after(p.wait, function()
      batch.timer = nil
      if self.open[key] == batch then close(self, key, batch, run) end
    end)
  end
  batch[#batch + 1] = item
  if #batch >= p.max then close(self, key, batch, run) end
end

--- Puts the batch between the senders and the attempt.
---@param inner fun(data: any, ctx: table): any, any  one attempt of a single message
---@param p table
---@param self catga.Batcher
---@param scope catga.PolicyScope  entry: its `run_list` runs a list inside a unit of work
function M.layer(inner, p, self, scope)
  local what = scope.name .. ": batch.key"
  local of_batch = { name = scope.entry.name, kind = "command", app = scope.app,
    run = function(list, ctx)
      local answers, failures = scope.entry.run_list(list, ctx)
      if type(answers) ~= "table" then
        return nil, failures or errors.new("invalid", ("%s: the handler of a batch returns a list "
          .. "of answers"):format(scope.name), { retryable = true })
      end
      return { answers = answers, failures = failures }
    end, counter = scope.entry.counter }
  local function run(list, ctx)
    local own = scope.app.mediator.envelope(of_batch, ctx)
    state[1].ctx = own
    return scope.app.mediator.attempt(list, own)
  end
  return function(data, ctx)
    local task = state[1]
    if task.in_unit or task.limit or ctx.has_key then
      self.alone = self.alone + 1
      return inner(data, ctx)
    end
    local key, err = ""
    if p.key then
      key, err = keys.of(p.key, data, ctx, what)
      if err then return nil, err end
    end
    local item = { data = data, ctx = ctx, task = task }
    join(self, p, key, item, run)
    tasks.hold(task, item)
    item.release = function(held) held.is_over = true end
    local result, fault = waits.park(scope.app, item)
    tasks.unhold(task, item)
    if not result then return nil, fault end
    if result ~= "alone" then return result.value, result.err end
    self.alone = self.alone + 1
    return inner(data, ctx)
  end
end

return M
