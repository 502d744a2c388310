-- Purpose: what lanes wait for and what the queue knows of them. Reads only.
-- KEYS[1] {prefix}:schema
-- items: lane
-- Returns: {'lanes': lanes, of each: set or '', queued, permits, holder or '', since or '', limit, burst, shared or '',
--   shared_limit, shared_permits, hold and ban: the rule or '', with hold_message, hold_until or '' and so on, mean
--   ms or '', succeeded, failed, failed_at or '', failure, failed_mean ms of failures or ''}
operation('lane', READS, function()
  local lanes = {}
  for at, item in ipairs(items) do
    local lane, view = item.lane, {}
    local function put(name, value) view[#view + 1], view[#view + 2] = name, value end
    local function put_stop(kind, rule, stop)
      put(kind, rule or '')
      put(kind .. '_message', stop and stop.message or '')
      put(kind .. '_until', stop and stop['until'] and ms(stop['until']) or '')
    end
    local stats = stats_of(lane)
    local failures = call('HMGET', base .. 'stats:' .. lane, 'failed', 'failed_at', 'failure', 'failed_mean')
    local _, taken, limit, burst, shared, shared_max = judge(lane, stats)
    local r = resolve(lane)
    local holder = call('ZRANGE', base .. 'permits:' .. lane, 0, 0, 'WITHSCORES')
    put('set', stats.at or '')
    put('queued', ms(call('ZCARD', base .. 'lane:' .. lane)))
    put('permits', ms(taken))
    put('holder', holder[1] or '')
    put('since', holder[2] and ms(tonumber(holder[2])) or '')
    put('limit', ms(limit))
    put('burst', ms(shared and limit or burst))
    put('shared', shared or '')
    put('shared_limit', ms(shared_max or 0))
    put('shared_permits', shared and ms(call('ZCARD', base .. 'permits:shared:' .. shared)) or '0')
    put_stop('hold', r.hold_rule, r.hold)
    put_stop('ban', r.ban_rule, r.ban)
    put('mean', stats.mean and ms(stats.mean) or '')
    put('succeeded', ms(stats.succeeded))
    put('failed', failures[1] or '0')
    put('failed_at', failures[2] or '')
    put('failure', failures[3] or '')
    put('failed_mean', failures[4] or '')
    lanes[at] = view
  end
  return { 'lanes', 'lanes', lanes }
end, 'lane')
