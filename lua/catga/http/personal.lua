--- HTTP for persons whose data is encrypted.
---
---   GET /subjects[?prefix=&after=&max=&forgotten=1]   after: number of the last key
---   GET /subjects/{subject}[?after=&max=]             their events, decrypted; after: a position
---   POST /forget/{subject}                            destroys the key
local codec = require "catga.native.json"
local errors = require "catga.error"
local answers = require "catga.http.answer"
local personal = require "catga.personal"

local M = {}

local NUMBER_MAX = 2 ^ 53
local LIST_MAX = 10000

-- after and max of the query, or nothing and what to answer.
local function page_of(request)
  return answers.numbers_of(request.query, { after = { 0, NUMBER_MAX }, max = { 1, LIST_MAX } })
end

--- Persons in the order in which they got their keys.
function M.list(app, _, request)
  local page, status, kind, text = page_of(request)
  if not page then return status, kind, text end
  local list, err = personal.subjects(app, { prefix = request.query.prefix, after = page.after,
    max = page.max, forgotten = answers.is_set(request.query.forgotten) })
  if not list then return answers.refuse(err) end
  return answers.answer(200, codec.array(list))
end

local function refused(subject)
  if personal.subject_text(subject) then return nil end
  return errors.new("invalid", "a subject has 1 to 128 bytes")
end

--- Events that hold data of a person.
function M.events(app, subject, request)
  local page, status, kind, text = page_of(request)
  if not page then return status, kind, text end
  local err = refused(subject)
  if err then return answers.refuse(err) end
  local list, fault = personal.events(app, subject, page)
  if not list then return answers.refuse(fault) end
  return answers.answer(200, codec.array(list))
end

--- Forgets a person.
function M.forget(app, subject)
  local err = refused(subject)
  if err then return answers.refuse(err) end
  local result, fault = personal.forget(app, subject)
  if not result then return answers.refuse(fault) end
  return answers.answer(200, result)
end

return M
