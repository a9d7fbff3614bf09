--- The read models: what happened in each repository, and how often each webhook came.
local catga = require "catga"

local repositories = catga.projection "Repositories"

function repositories.on.Activity(activity, model)
  if not activity.repository then return end
  model:update(activity.repository, function(doc)
    doc.events = (doc.events or 0) + 1
    doc.by_name = doc.by_name or {}
    doc.by_name[activity.name] = (doc.by_name[activity.name] or 0) + 1
    doc.last = activity.name
  end)
end

local counts = catga.projection "WebhookCounts"

function counts.on.Activity(activity, model)
  model:update(activity.name, function(doc) doc.count = (doc.count or 0) + 1 end)
end

--- What happened in a repository: { full_name = "octo-org/octo-repo" }.
catga.query("Repository", function(query)
  return catga.model("Repositories"):get(query.full_name)
end)

--- How often a webhook came: { name = "push" }.
catga.query("WebhookCount", function(query)
  local doc = catga.model("WebhookCounts"):get(query.name)
  return doc and doc.count or 0
end)
