--- What comes to a process from outside: signals, answers to approvals, outcomes of promises. Each
--- is a record of its journal, so the journal says in which order they came, and none is lost that
--- comes before it is waited for.
local messages = require "catga.process.messages"
local strands = require "catga.process.strand"

local M = {}

local PAGE = 1000

--- Reads what has come since the last look.
---@param s catga.Instance
---@param is_sure boolean?  look also when nothing was announced
function M.collect(s, is_sure)
  local p = s.root or s
  if not (p.has_mail or is_sure) then return end
  p.has_mail = nil
  local store = p.app.store
  local from, count = p.scanned or 1, store:count(p.stream)
  while from < count do
    local some = assert(store:read(p.stream, from, PAGE))
    for _, record in ipairs(some) do messages.take_in(p, record) end
    from = some[1] and some[#some].version + 1 or count
  end
  p.scanned = count
end

--- The messages under a key that have come and were not taken.
---@param s catga.Instance
---@param key string
---@return { version: integer, data: table }[]
function M.list(s, key)
  local p = s.root or s
  return p.mail and p.mail[key] or {}
end

--- Something has come, or is about to: who waits looks again, the one that has waited longest
--- first.
---@param p catga.Instance
function M.announce(p)
  p.has_mail = true
  local list = {}
  if p.napping then list[1] = p end
  for _, b in ipairs(strands.branches_of(p)) do
    if b.napping then list[#list + 1] = b end
  end
  table.sort(list, function(a, b) return a.napping_since < b.napping_since end)
  for _, s in ipairs(list) do strands.poke(s) end
end

return M
