--- Records of a journal that are messages from outside, by what they are for. The fields of an
--- instance that hold them: mail, by key a list of those that were not taken, in order; mail_ids,
--- the ids that senders gave them; read_mail, by version those that the journal says were taken.
local M = {}

-- By type of record: under what the message is kept, and whether there is one at most.
local KEYS = {
  ProcessSignalled = function(data) return "signal " .. tostring(data.signal) end,
  ProcessApprovalAnswered = function(data) return "approval " .. tostring(data.approval) end,
  ProcessPromiseResolved = function(data) return "promise " .. tostring(data.promise) end,
  ProcessPromiseRejected = function(data) return "promise " .. tostring(data.promise) end,
}

--- Takes a record of the journal in, if it is a message.
---@param p table  an instance, or the fields of one
---@param record table
function M.take_in(p, record)
  local key_of, data = KEYS[record.type], record.data
  if not key_of or type(data) ~= "table" then return end
  local key = key_of(data)
  p.mail = p.mail or {}
  local list = p.mail[key]
  if not list then
    list = {}
    p.mail[key] = list
  end
  list[#list + 1] = { version = record.version, type = record.type, data = data }
  if data.id then
    p.mail_ids = p.mail_ids or {}
    p.mail_ids[data.id] = true
  end
end

--- Takes a message away that the process has had, by the version of its record.
---@param p table
---@param key string
---@param version integer
---@return table? data
---@return string? type
function M.remove(p, key, version)
  local list = p.mail and p.mail[key]
  for i, message in ipairs(list or {}) do
    if message.version == version then
      table.remove(list, i)
      return message.data, message.type
    end
  end
end


--- Gives back what branches have taken that lose: the process goes on as if they had never waited.
---@param p table
---@param op integer|string  number of the group's operation
---@param kept string?       prefix of the branch that won
---@return boolean did_any
function M.give_back(p, op, kept)
  local own, left, did_any = tostring(op) .. ".", {}, false
  for _, one in ipairs(p.taken or {}) do
    local is_own = one.op:sub(1, #own) == own
    if is_own and not (kept and one.op:sub(1, #kept) == kept) then
      p.mail = p.mail or {}
      local list = p.mail[one.key] or {}
      p.mail[one.key], did_any = list, true
      list[#list + 1] = one.message
      table.sort(list, function(a, b) return a.version < b.version end)
    else
      left[#left + 1] = one
    end
  end
  p.taken = left
  return did_any
end

--- Remembers that a branch has taken a message.
---@param p table
---@param op string
---@param key string
---@param message table
function M.took(p, op, key, message)
  p.taken = p.taken or {}
  p.taken[#p.taken + 1] = { op = op, key = key, message = message }
end

--- A wait has taken a message, or ended: what the record of it says is applied.
---@param p table
---@param data table  of ProcessWaitStarted, ProcessWaitCompleted
function M.apply(p, data)
  if data.kind == "approval" and p.mail then
    p.mail["approval " .. data.name] = nil -- Answers are for one approval only.
  elseif data.record then
    local key = (data.kind == "await" and "promise " or "signal ") .. data.name
    local data_of, type_of = M.remove(p, key, data.record)
    p.read_mail = p.read_mail or {}
    p.read_mail[data.record] = data_of
    if type(data.op) == "string" and data.kind == "signal" then
      M.took(p, data.op, key, { version = data.record, type = type_of, data = data_of })
    end
  end
end

return M
