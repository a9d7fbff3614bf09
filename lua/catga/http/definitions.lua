--- HTTP for definitions of processes.
---
---   GET /process-definitions           all, by name
---   GET /process-definitions/{name}
local codec = require "catga.native.json"
local answers = require "catga.http.answer"
local definition = require "catga.process.definition"

local M = {}

-- Lists stay lists when they are empty.
local function answer_of(one)
  codec.array(one.steps)
  return one
end

--- The definition of one process.
function M.show(app, name)
  local one, err = definition.of(app.registry, name)
  if not one then return answers.refuse(err) end
  return answers.answer(200, answer_of(one))
end

--- The definitions of all.
function M.list(app)
  local list = definition.list(app.registry)
  for _, one in ipairs(list) do answer_of(one) end
  return answers.answer(200, codec.array(list))
end

return M
