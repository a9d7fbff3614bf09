--- Receives webhooks: each is checked, and becomes one event, `github.<name of the webhook>`.
---
--- The sender gives the id of the delivery as Idempotency-Key, so a webhook that is delivered twice
--- is one event.
local catga = require "catga"

catga.command {
  name = "ReceiveWebhook",
  idempotent = true,
  input = {
    event = function(value)
      return type(value) == "string" and value:find("^[%l%d_]+$") ~= nil,
        "must be the name of a webhook, such as pull_request"
    end,
    payload = {
      action = "string?",
      repository = function(value)
        return value == nil or type(value) == "table" and type(value.full_name) == "string",
          "must be an object with full_name"
      end,
    },
  },
  handle = function(cmd) return catga.publish("github." .. cmd.event, cmd.payload) end,
}
