--- What processes in memory are doing: for people who look, read-only.
local engine = require "catga.process.engine"
local strands = require "catga.process.strand"
local mailbox = require "catga.process.mailbox"
local raw = require "catga.sandbox".raw

local M = {}

-- What a strand waits for, or the step that it attempts; nil: neither.
local function doing(s)
  local op = strands.key_of(s, s.op)
  local step = s.task and s.task.limit
  if step then return nil, { op = op, name = step.name, attempt = s.attempt } end
  if not (s.napping and s.awaits) then return nil end
  return { op = op, kind = s.awaits.kind, name = s.awaits.name, due = s.awaits.due }
end

--- Adds to the description of a process what it waits for (`waits`) and attempts (`steps`).
---@param app catga.App
---@param process table  as App:process gives it
---@return table process
function M.add(app, process)
  local p = app.engine.active[process.id]
  local waits, steps = {}, {}
  for _, s in ipairs(p and engine.strands_of(p) or {}) do
    local wait, step = doing(s)
    waits[#waits + 1], steps[#steps + 1] = wait, step
  end
  process.waits = #waits > 0 and waits or nil
  process.steps = #steps > 0 and steps or nil
  return process
end

local function names(set)
  local list = {}
  for name in raw.pairs(set or {}) do list[#list + 1] = name end
  table.sort(list)
  return #list > 0 and list or nil
end

--- Approvals that processes in memory wait for: { process, name, quorum, approvers?, answered? }.
---@param app catga.App
---@return table[]
function M.approvals(app)
  local list = {}
  for id, p in raw.pairs(app.engine.active) do
    for name, asked in raw.pairs(p.approvals or {}) do
      mailbox.collect(p)
      local by = {}
      for _, message in ipairs(mailbox.list(p, "approval " .. name)) do
        by[message.data.by or "?"] = true
      end
      list[#list + 1] = { process = id, name = name, quorum = asked.quorum,
        approvers = names(asked.approvers), answered = names(by) }
    end
  end
  table.sort(list, function(a, b)
    if a.process ~= b.process then return a.process < b.process end
    return a.name < b.name
  end)
  return list
end

return M
