--- HTTP for routes.
---
---   GET /routes             all rules
---   GET /route-sets         the sets and their readers
---   POST /route-explanations {"type","data","metadata"?,"stream"?}   what would become of it
local codec = require "catga.native.json"
local answers = require "catga.http.answer"
local face = require "catga.route.face"

local M = {}

--- All rules.
function M.list(app) return answers.answer(200, codec.array(face.list_of(app))) end

--- The sets.
function M.sets(app) return answers.answer(200, codec.array(face.status_of(app))) end

--- What would become of a message.
function M.explain(app, _, request)
  local result, err = require("catga.route.explain").explain(app, request.data)
  if not result then return answers.refuse(err) end
  return answers.answer(200, result)
end

return M
