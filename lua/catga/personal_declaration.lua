--- Declarations of personal data: which fields of an event type are encrypted, and with whose key.
--- Checked when scripts are loaded.
local paths = require "catga.personal_path"

local M = {}

local FIELDS_MAX = 64 -- Of one type.

---@class catga.Personal
---@field type string
---@field at string              file:line of the declaration
---@field subject table|fun(data: any): any  a compiled path, or what the script gave
---@field subject_text string    for errors
---@field fields table[]         compiled paths

-- What a process writes is no event of the scripts: its records do not pass through here.
local JOURNAL_TYPES = "^Process(%u%a*)$"
local JOURNAL_ENDINGS = { Started = true, StepStarted = true, StepCompleted = true,
  StepFailed = true, TimerSet = true, TimerFired = true, CancelRequested = true,
  CompensationStarted = true, StepCompensated = true, CompensationAttemptFailed = true,
  Diverged = true, Completed = true, Compensated = true, Failed = true,
  CompensationFailed = true, Cancelled = true }

local function check_shape(at, name, spec)
  local where = ("%s: personal data of %s"):format(at, tostring(name))
  if type(name) ~= "string" or name == "" then
    error(at .. ": catga.personal needs the type of an event (a string that is not empty)", 0)
  end
  if JOURNAL_ENDINGS[name:match(JOURNAL_TYPES) or ""] then
    error(where .. ": records of a process's journal cannot be encrypted; keep personal data in "
      .. "events, and give processes the id of the person", 0)
  end
  if type(spec) ~= "table" then
    error(where .. ": give { subject = ..., fields = { ... } }", 0)
  end
  for field in pairs(spec) do
    if field ~= "subject" and field ~= "fields" then
      error(("%s: unknown field \"%s\"; it has subject and fields"):format(where,
        tostring(field)), 0)
    end
  end
  if type(spec.fields) ~= "table" or #spec.fields == 0 or #spec.fields > FIELDS_MAX then
    error(("%s: fields is a list of 1 to %d paths"):format(where, FIELDS_MAX), 0)
  end
  return where
end

local function compile_subject(where, subject)
  if type(subject) == "function" then return subject end
  if type(subject) ~= "string" then
    error(where .. ": subject is the path of the person's id, or a function of the data", 0)
  end
  local path, fault = paths.compile(subject)
  if not path or path.has_lists then
    error(("%s: subject: %s"):format(where, fault or "it must lead to one value, without []"), 0)
  end
  return path
end

local function compile_fields(where, fields)
  local compiled = {}
  for i, text in ipairs(fields) do
    local path, fault = paths.compile(text)
    if not path then error(where .. ": " .. fault, 0) end
    for _, other in ipairs(compiled) do
      if paths.overlap(path, other) then
        error(("%s: \"%s\" and \"%s\" overlap; one of them is enough"):format(where, other.text,
          text), 0)
      end
    end
    compiled[i] = path
  end
  return compiled
end

--- Declares what of an event type is personal. Raises for what is wrong, with file and line.
---@param registry catga.Registry
---@param at string    file:line of the declaration
---@param name string
---@param spec { subject: string|fun(data: any): any, fields: string[] }
function M.define(registry, at, name, spec)
  local where = check_shape(at, name, spec)
  registry.personal = registry.personal or {}
  local taken = registry.personal[name]
  if taken then error(("%s is declared already, at %s"):format(where, taken.at), 0) end
  registry.personal[name] = { type = name, at = at, subject = compile_subject(where, spec.subject),
    subject_text = type(spec.subject) == "string" and spec.subject or "the subject function",
    fields = compile_fields(where, spec.fields) }
end

return M
