-- Purpose: the yardstick for a claim: four commands that lease the first job.
-- KEYS[1] base of the bare queue's keys
-- ARGV[1] expiry of the lease
-- Returns: {id, fields} | nil
local call, base = redis.call, KEYS[1]
local id = call('ZPOPMIN', base .. 'queued')[1]
if not id then return nil end
call('ZADD', base .. 'leases', ARGV[1], id)
call('HSET', base .. 'job:' .. id, 'state', 'running', 'expiry', ARGV[1])
return { id, call('HGETALL', base .. 'job:' .. id) }
