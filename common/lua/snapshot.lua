-- Purpose: the queue in numbers, all of one moment. Reads only.
-- KEYS[1] {prefix}:schema
-- ARGV: none
-- Returns: {'snapshot', now, queued, leased, orphaned, workers, dispatchers, slots, people, background,
--   background max, mean ms or '', lanes ready, burst, full, held, oldest asked or '', ended, workers that
--   take builds, paused, why the first of them is or '', the only node of a place that is probed or '',
--   when it may be probed next or '', until when runs are registered anew or ''}
operation('snapshot', READS, function()
  local OLDEST_READ, WORKERS_READ = 200, 200
  local reply = { 'snapshot', NOW }
  local function put(value) reply[#reply + 1] = value end
  for _, set in ipairs({ 'queued', 'leases', 'orphans', 'workers', 'dispatchers' }) do put(ms(call('ZCARD', base .. set))) end
  put(ms(T.slots))
  put(ms(tonumber(call('HGET', K.totals, 'people')) or 0))
  put(ms(T.background))
  put(ms(T.background_max))
  put(T.mean and ms(T.mean) or '')
  for _, set in ipairs({ 'lanes', 'lanes:burst', 'lanes:full', 'lanes:held' }) do put(ms(call('ZCARD', base .. set))) end
  local oldest
  for _, id in ipairs(call('ZRANGE', K.queued, 0, OLDEST_READ - 1)) do
    local asked = tonumber(call('HGET', base .. 'build:' .. id, 'asked'))
    if asked and (not oldest or asked < oldest) then oldest = asked end
  end
  put(oldest and ms(oldest) or '')
  put(ms(call('ZCARD', K.ended)))
  -- Who takes no builds is looked at only where it may be what builds wait for.
  local taking, paused, why, only, probe_at = call('ZCARD', K.workers), 0, '', nil, nil
  if taking > 0 and (free_slots() <= 0 or T.avoided > 0) then
    taking = 0
    for _, worker in ipairs(call('ZRANGE', K.workers, 0, WORKERS_READ - 1)) do
      local v = call('HMGET', base .. 'worker:' .. worker, 'draining', 'drain', 'paused', 'place', 'nodes')
      if v[1] == '1' or v[2] == '1' then
        -- Its slots are not counted.
      elseif v[3] and v[3] ~= '' then
        paused, why = paused + 1, why == '' and v[3] or why
      else
        local _, node, at = nodes.to_avoid(v[4], tonumber(v[5]) or 0)
        if node then only, probe_at = node, at else taking = taking + 1 end
      end
    end
  end
  put(ms(taking))
  put(ms(paused))
  put(why)
  put(only or '')
  put(probe_at and ms(probe_at) or '')
  put(T.refill_until > now and ms(T.refill_until) or '')
  return reply
end)
