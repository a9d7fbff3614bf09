--- Dynamic steps: which steps run, and how they are called in the journal, comes from the input.
local catga = require "catga"

local Dynamic = catga.process "Dynamic"

local STEPS = { greet = true, shout = true } -- What an input may ask for.

function Dynamic:execute(input)
  local text = input.text
  for _, name in ipairs(input.steps) do
    if STEPS[name] then
      text = self[name](self, text)
    else
      local before = text
      text = self:step("say " .. name, function() return before .. " " .. name end)
    end
  end
  return text
end

function Dynamic:greet(text) return "Hello, " .. text end

function Dynamic:shout(text) return text:upper() .. "!" end
