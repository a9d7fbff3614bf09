--- Retry: a step that raises is tried again, with growing pauses; one that raises catga.error is
--- not, unless the error says `retryable`.
local catga = require "catga"

local Weather = catga.process "Weather"

Weather.settings = { fetch = { attempts = 5, backoff = "2s", timeout = "20s" } }

function Weather:execute(place)
  local ok, answer = pcall(function() return self:fetch(place.name) end)
  if ok then return { place = place.name, sky = answer } end
  return { place = place.name, failure = answer.code }
end

function Weather:fetch(name)
  return self:send("AskWeather", { name = name })
end

-- Stands for a call of a service.
catga.command("AskWeather", function(cmd)
  if cmd.name == "Atlantis" then return nil, catga.error("no_such_place") end      -- For good.
  if cmd.name == "Oz" then return nil, catga.error("busy", "later", { retryable = true }) end
  return "cloudy"
end)
