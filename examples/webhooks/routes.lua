--- Where webhooks go, by what is in them. `catga route explain` tells of one of them.
local catga = require "catga"

local function repository_of(payload) return payload.repository.full_name end

-- The name of the webhook: "github.pull_request" is "pull_request".
local function name_of(event) return event.type:match("^github%.(.*)$") end

-- Every payload as it came, in the stream of its repository, or of those that have none.
catga.route("github.>", { name = "archive" })
  :where("repository.full_name", "exists")
  :to_stream(function(payload) return "Repository-" .. repository_of(payload) end,
    function(_, event) return "archived." .. name_of(event) end)
  :otherwise()
  :to_stream("NoRepository", function(_, event) return "archived." .. name_of(event) end)

-- What the read models need of each.
catga.route("github.>", { name = "activity" })
  :transform(function(payload, event)
    local repository = payload.repository
    return { name = name_of(event), action = payload.action,
      repository = repository and repository.full_name, sender = payload.sender
        and payload.sender.login }
  end)
  :to("Activity")

-- Rules that are data: a table of them is found by the action, however long it is.
catga.routes.table({ "github.issues", "github.pull_request" }, {
  { field = "action", op = "==", value = "opened", to = "to-triage" },
  { field = "action", op = "in", value = { "closed", "deleted" }, to = "done" },
  { where = { { "action", "==", "labeled" }, { "label.name", "contains", "bug" } },
    to = "bugs" },
}, { name = "tickets" })

-- A push is taken apart into its commits, and put together again as one summary.
catga.route("github.push", { name = "commits" })
  :filter(function(payload) return #payload.commits > 0 end, "a push without commits")
  :split(function(payload)
    local list = {}
    for i, commit in ipairs(payload.commits) do
      list[i] = { id = commit.id, repository = repository_of(payload),
        changed = #commit.added + #commit.removed + #commit.modified }
    end
    return list
  end)
  :to("commit")

catga.route("commit", { name = "pushes" })
  :aggregate { by = "split", timeout = "1h", result = function(commits)
    local changed = 0
    for _, commit in ipairs(commits) do changed = changed + commit.changed end
    return { repository = commits[1].repository, commits = #commits, changed = changed }
  end }
  :to("push-summary")
