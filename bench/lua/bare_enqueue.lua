-- Purpose: the yardstick for a submit: five commands that enqueue a job, and nothing else.
-- KEYS[1] base of the bare queue's keys
-- ARGV[1] score, ARGV[2] payload
-- Returns: the job's id
local call, base = redis.call, KEYS[1]
local id = call('INCR', base .. 'ids')
call('HSET', base .. 'job:' .. id, 'payload', ARGV[2], 'state', 'queued', 'asked', ARGV[1])
call('ZADD', base .. 'queued', ARGV[1], id)
call('HINCRBY', base .. 'totals', 'enqueued', '1')
call('XADD', base .. 'events', 'MAXLEN', '~', '10000', '*', 'job', id, 'state', 'queued')
return id
