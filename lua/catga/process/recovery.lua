--- Reading an unfinished process back from its journal, after a restart.
local errors = require "catga.error"
local journal = require "catga.process.journal"

local M = {}

-- What the journal says about how a process ends already: error, was it cancelled, does it undo.
local function ending_of(records)
  local failure, is_cancelled, is_compensating
  for _, record in ipairs(records) do
    if record.type == "ProcessCancelRequested" then
      failure, is_cancelled = errors.from(record.data.error), true
    elseif record.type == "ProcessTimedOut" then
      failure, is_cancelled = errors.from(record.data.error), false
    elseif record.type == "ProcessCompensationStarted" then
      failure, is_compensating = errors.from(record.data.error), true
      failure.failed_step = record.data.failed_step
    elseif record.type == "ProcessRetried" and not record.data.undo then
      failure, is_cancelled, is_compensating = nil, nil, nil
    end
  end
  return failure, is_cancelled, is_compensating
end

-- The class of a process by the first record of its journal.
local function class_of(app, record)
  local first = record.data
  if record.type ~= "ProcessStarted" or type(first) ~= "table" then
    error(errors.new("damaged", "the journal does not begin with its start"), 0)
  end
  local class = app.registry.processes[first.name]
  if class then return class end
  error(errors.new("unknown_process", ("no process is called %s in this app; it goes on when the "
    .. "script is back"):format(tostring(first.name))), 0)
end

--- What a journal holds: the class of the process, the fields of its instance and, when it was
--- ending already, why. Raises an error that says what is wrong with the journal.
---@param app catga.App
---@param stream integer
---@return { class: catga.ProcessClass, fields: table, failure: catga.Error?,
---  is_cancelled: boolean? }
function M.read(app, stream)
  local records, err = journal.records(app, stream)
  if not records then error(err, 0) end
  local class = class_of(app, records[1])
  local first = records[1].data
  local history = journal.history(records)
  local failure, is_cancelled, is_compensating = ending_of(records)
  local fields = { input = first.input, now = first.at or records[1].time,
    correlation_id = first.correlation_id, special = true, compensating = is_compensating }
  if first.forked_from then fields.is_fork = true end
  if first.run ~= 1 then fields.run = first.run end
  fields.timeout_at, fields.parent_id = first.timeout_at, first.parent and first.parent.id
  fields.tags, fields.tags_changed = history.tags or first.tags, history.tags and true or nil
  fields.children, fields.paused = history.children, history.paused
  if history.most > 0 then fields.history = history end
  fields.update_entries = history.updates
  if history.groups or history.updates then
    fields.branch_histories, fields.groups = history.branches, history.groups
    fields.order = history.order
  end
  fields.mail, fields.mail_ids, fields.read_mail = history.mail, history.mail_ids, history.read_mail
  fields.taken = history.taken
  fields.promises, fields.scanned = history.promises, records[#records].version + 1
  if not history.is_asleep then fields.doubt = history.last + 1 end
  return { class = class, fields = fields, failure = failure, is_cancelled = is_cancelled }
end

return M
