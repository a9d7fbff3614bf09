--- Query: how far a running process is, asked without disturbing it; also when it has ended.
local catga = require "catga"

local Cooking = catga.process "Cooking"

function Cooking:execute(recipe)
  self.done, self.of = 0, #recipe.steps
  for _, step in ipairs(recipe.steps) do
    self:cook(step)
    self.done = self.done + 1
    self:sleep("10m")
  end
  return "ready"
end

function Cooking:cook(step) return step end

function Cooking.queries:progress() -- Reads only.
  return { done = self.done, of = self.of }
end

catga.query("HowFar", function(query)
  return catga.processes.query(query.id, "progress")
end)
