return { outbox_concurrency = 1000, outbox_max = 100000000 }
