-- Purpose: what lanes wait for and what the queue knows of them. Reads only.
-- KEYS[1] {prefix}:schema
-- ARGV[2…] lanes
-- Returns: {'lanes', (set or '', queued, permits, holder or '', since or '', limit, burst, shared or '',
--   shared limit, shared permits, hold rule or '', message, until or '', ban rule or '', message,
--   until or '', mean ms or '', succeeded, failed, failed at or '', failure,
--   mean ms of failures or '')…}
operation('lane', READS, function()
  local reply = { 'lanes' }
  local function put(value) reply[#reply + 1] = value end
  local function put_stop(rule, stop)
    put(rule or '')
    put(stop and stop.message or '')
    put(stop and stop['until'] and ms(stop['until']) or '')
  end
  for i = 2, #ARGV do
    local lane = ARGV[i]
    local stats = call('HMGET', base .. 'stats:' .. lane, 'at', 'mean', 'succeeded', 'failed', 'failed_at', 'failure',
      'failed_mean')
    local _, taken, limit, burst, shared, shared_max = judge(lane, tonumber(stats[2]))
    local r = resolve(lane)
    local holder = call('ZRANGE', base .. 'permits:' .. lane, 0, 0, 'WITHSCORES')
    put(stats[1] or '')
    put(ms(call('ZCARD', base .. 'lane:' .. lane)))
    put(ms(taken))
    put(holder[1] or '')
    put(holder[2] and ms(tonumber(holder[2])) or '')
    put(ms(limit))
    put(ms(shared and limit or burst))
    put(shared or '')
    put(ms(shared_max or 0))
    put(shared and ms(call('ZCARD', base .. 'permits:shared:' .. shared)) or '0')
    put_stop(r.hold_rule, r.hold)
    put_stop(r.ban_rule, r.ban)
    put(stats[2] or '')
    put(stats[3] or '0')
    put(stats[4] or '0')
    put(stats[5] or '')
    put(stats[6] or '')
    put(stats[7] or '')
  end
  return reply
end)
