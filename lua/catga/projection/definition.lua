--- What a script says of a projection: its fields, checked as they are set and once all files are
--- loaded.
---
---   local sales = catga.projection "Sales"
---   sales.version = 2                                   -- built beside the old one, then swapped
---   sales.lifecycle = "background"                      -- or "inline", "live"
---   function sales.on.OrderPaid(event, model, ctx) model:put(event.order_id, event) end
---   sales.key = "customer_id"                           -- documents by key:
---   function sales.fold.OrderPaid(doc, event, ctx) doc.total = (doc.total or 0) + event.total end
---   sales.tables = { "CREATE TABLE revenue (month TEXT PRIMARY KEY, total REAL)" }
local registries = require "catga.registry"
local groups = require "catga.projection.group"

local M = {}

local NAME_BYTES_MAX = 200
local VERSION_MAX = 2 ^ 31 - 1
local PARTITIONS_MAX = 1024
local LIFECYCLES = { background = true, inline = true, live = true }
local POLICIES = { stop = true, skip = true, dead_letter = true }

local function list_of(names)
  return table.concat(registries.sorted_names(names), ", ")
end

-- A table of a definition, `on` or `fold`: assigning a function registers a handler, once a type.
local function handler_table(definition, list, other)
  return setmetatable({}, {
    __index = list,
    __newindex = function(_, name, handler)
      local where = "projection " .. definition.name
      if type(name) ~= "string" or name == "" then
        error(where .. ": an event type is a string that is not empty", 2)
      end
      if type(handler) ~= "function" then
        error(("%s: the handler of %s is a function, got %s"):format(where, name, type(handler)), 2)
      end
      if list[name] or other[name] then
        error(("%s handles %s already"):format(where, name), 2)
      end
      list[name] = handler
      if name:find("^Process") then definition.with_journals = true end
    end,
  })
end

local function one_of(field, choices)
  return function(where, value)
    if choices[value] then return value end
    error(("%s: %s is one of %s, got %s"):format(where, field, list_of(choices),
      tostring(value)), 0)
  end
end

local function whole(field, least, most)
  return function(where, value)
    if type(value) == "number" and value % 1 == 0 and value >= least and value <= most then
      return value
    end
    error(("%s: %s is a whole number from %d%s, got %s"):format(where, field, least,
      most < VERSION_MAX and " to " .. most or "", tostring(value)), 0)
  end
end

-- A list of SQL statements.
local function statements(field)
  return function(where, value)
    local count = type(value) == "table" and #value or 0
    if count == 0 then
      error(("%s: %s is a list of SQL statements"):format(where, field), 0)
    end
    for i = 1, count do
      if type(value[i]) ~= "string" or not value[i]:find("%S") then
        error(("%s: statement %d of %s is no text"):format(where, i, field), 0)
      end
    end
    return value
  end
end

local CHECKS = {
  version = whole("the version", 1, VERSION_MAX),
  partitions = whole("partitions", 1, PARTITIONS_MAX),
  lifecycle = one_of("lifecycle", LIFECYCLES),
  on_error = one_of("on_error", POLICIES),
  tables = statements "tables",
  migrations = statements "migrations",
}

function CHECKS.key(where, value) return groups.check_key(where, "key", value, true) end

function CHECKS.partition(where, value)
  return groups.check_key(where, "partition", value, false)
end

function CHECKS.initial(where, value)
  if type(value) == "function" then return value end
  error(where .. ": initial is a function that gives a new document, got " .. type(value), 0)
end

local FIELDS = { on = true, fold = true }
for field in pairs(CHECKS) do FIELDS[field] = true end

local function set_field(definition, field, value)
  local where = "projection " .. definition.name
  if not FIELDS[field] then
    local near = type(field) == "string" and registries.suggest(field, FIELDS)
    error(("%s has no field \"%s\"%s; there are %s"):format(where, tostring(field),
      near and "; did you mean " .. near .. "?" or "", list_of(FIELDS)), 3)
  end
  local check = CHECKS[field]
  if check then
    local ok, checked = pcall(check, where, value)
    if not ok then error(checked, 3) end
    definition[field] = checked
    return
  end
  if type(value) ~= "table" then
    error(("%s: %s is a table of handlers"):format(where, field), 3)
  end
  for name, handler in pairs(value) do definition[field][name] = handler end
end

--- Defines a projection; the script fills in its fields.
---@param registry catga.Registry
---@param name string  1 to 200 bytes: letters, digits, "_", "-" and "."
---@return table face
function M.define(registry, name)
  if type(name) == "string" and (#name > NAME_BYTES_MAX
    or name:find("[^%w_%-%.\128-\255]") or name:lower():find("^catga_")
    or name:lower():find("^sqlite_")) then
    error(("%s: \"%s\" cannot be the name of a projection: it has up to %d letters, digits, _, - "
      .. "and ., and does not begin with catga_ or sqlite_"):format(registries.caller(), name,
      NAME_BYTES_MAX), 0)
  end
  local definition = { name = name, version = 1, lifecycle = "background", on_error = "stop",
    handlers = {}, folds = {} }
  registry:named("projection", name, definition)
  definition.on = handler_table(definition, definition.handlers, definition.folds)
  definition.fold = handler_table(definition, definition.folds, definition.handlers)
  return setmetatable({}, {
    __index = definition,
    __newindex = function(_, field, value) set_field(definition, field, value) end,
  })
end

-- What contradicts itself in a definition; nil: nothing.
local function contradiction(definition)
  if next(definition.folds) and not definition.key then
    return "fold needs key: which document an event belongs to"
  end
  if definition.key and not next(definition.folds) then
    return "key is for fold; there is no fold.<EventType>"
  end
  if definition.initial and not next(definition.folds) then return "initial is for fold" end
  if definition.migrations and not definition.tables then return "migrations need tables" end
  if definition.partition and not definition.partitions then
    return "partition needs partitions: how many run at once"
  end
  if definition.lifecycle == "inline" then
    if definition.tables then
      return "an inline projection keeps documents; tables need lifecycle \"background\" or "
        .. "\"live\""
    end
    if definition.partitions then return "an inline projection has no partitions" end
    if definition.with_journals then
      return "the journals of processes cannot be followed inline; use lifecycle \"background\""
    end
  end
end

--- Checks what is complete now and composes the handlers; raises when something contradicts itself.
---@param definition table
function M.finish(definition)
  local fault = contradiction(definition)
  if fault then error(("projection %s: %s"):format(definition.name, fault), 0) end
  groups.compose(definition)
end

return M
