-- Purpose: the yardstick for a finish: four commands that end the job that has been leased longest.
--   It needs no id, so redis-benchmark can send it.
-- KEYS[1] base of the bare queue's keys
-- ARGV[1] when
-- Returns: the job's id | nil
local call, base = redis.call, KEYS[1]
local id = call('ZPOPMIN', base .. 'leases')[1]
if not id then return nil end
call('HSET', base .. 'job:' .. id, 'state', 'succeeded', 'ended', ARGV[1])
call('EXPIRE', base .. 'job:' .. id, '86400')
call('ZADD', base .. 'ended', ARGV[1], id)
return id
