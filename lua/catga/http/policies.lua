--- HTTP for handlers and policies.
---
---   GET /handlers    GET /handlers/{name}     what stands around them, outermost first
---   GET /policies    GET /policies/{name}     what they remember
local codec = require "catga.native.json"
local answers = require "catga.http.answer"
local explain = require "catga.policy.explain"

local M = {}

-- Lists stay lists when they are empty.
local function mark_handler(one)
  for _, part in ipairs(one.pipeline) do
    if part.options then codec.array(part.options) end
  end
  codec.array(one.pipeline)
  return one
end

local function mark_policy(one)
  codec.array(one.kinds)
  if one.used_by then codec.array(one.used_by) end
  if one.rules then codec.array(one.rules) end
  return one
end

local function answer_list(list, mark)
  for _, one in ipairs(list) do mark(one) end
  return answers.answer(200, codec.array(list))
end

--- All handlers.
function M.handlers(app) return answer_list(explain.handlers(app), mark_handler) end

--- The handlers of one message.
function M.handler(app, name)
  local told, err = explain.handler(app, name)
  if not told then return answers.refuse(err) end
  for _, one in ipairs(told.handlers) do mark_handler(one) end
  return answers.answer(200, told)
end

--- All that policies remember.
function M.policies(app) return answer_list(explain.policies(app), mark_policy) end

--- What one remembers.
function M.policy(app, name)
  local one, err = explain.policy(app, name)
  if not one then return answers.refuse(err) end
  return answers.answer(200, mark_policy(one))
end

return M
