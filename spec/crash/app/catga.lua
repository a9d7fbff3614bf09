-- A life that finds most orders done looks at them in one go; on a busy machine that takes a while.
return { handler_timeout = "60s" }
