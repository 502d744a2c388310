-- Purpose: the yardstick of a finish: four commands that end a job.
-- KEYS[1] base of the bare queue's keys
-- ARGV[1] id, ARGV[2] when
-- Returns: 1 if it was leased
local call, base = redis.call, KEYS[1]
local held = call('ZREM', base .. 'leases', ARGV[1])
call('HSET', base .. 'job:' .. ARGV[1], 'state', 'succeeded', 'ended', ARGV[2])
call('EXPIRE', base .. 'job:' .. ARGV[1], 86400)
call('ZADD', base .. 'ended', ARGV[2], ARGV[1])
return held
