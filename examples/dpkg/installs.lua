--- The stream: packages that became installed, by minute of the log's own clock.
local catga = require "catga"

local function by_one(count) return count + 1 end

catga.stream("PackageInstalled", { durable = "installs", event_time = "at", lateness = "1m",
  idle_timeout = "2s" })
  :tumbling("1m"):reduce(by_one, 0)
  :select(function(count, _, window) return { minute = window.start, count = count } end)
  :late({ append = "LateInstalls", type = "InstallLate" })
  :to({ append = "InstallsByMinute", type = "InstallsInMinute" })

local Minutes = catga.projection "Minutes"
Minutes.version = 1

-- "2026-01-02 03:04", as the log writes it.
local function text_of(ms) return os.date("!%Y-%m-%d %H:%M", ms / 1000) end

local function add(model, ms, count)
  model:update(text_of(ms), function(doc)
    doc.minute, doc.count = text_of(ms), (doc.count or 0) + count
  end)
end

function Minutes.on.InstallsInMinute(event, model) add(model, event.minute, event.count) end
-- The log's clock was set back: what came too late for its minute is counted all the same.
function Minutes.on.InstallLate(event, model) add(model, event.at, 1) end

--- Packages that became installed in a minute: "2026-01-02 03:04"; without one: all minutes.
catga.query("InstallsInMinute", function(query)
  if query.minute then
    local doc = catga.model("Minutes"):get(query.minute)
    return { minute = query.minute, count = doc and doc.count or 0 }
  end
  return assert(catga.model("Minutes"):find({}, { max = 10000 }))
end)
