-- Purpose: the queue's numbers, as one snapshot. Reads only.
-- KEYS[1] {prefix}:schema
-- W: nothing
-- Returns: {'snapshot': now, what is in queued, leases, orphans, workers, dispatchers, ended and the sets of lanes,
--   slots, people, background, background_max, mean ms or '', oldest (when it was asked for) or '', taking (workers
--   that take builds), paused, why the first of them is or '', only (the only node of a place that is probed, as
--   cluster/node) or '', probe_at (when it may be probed next) or '', avoided nodes, refill_until (until when
--   runs are registered again) or '', aside (how much was set aside), repairs (how often something was
--   repaired), logs_bytes of ended builds, log_lines_missing (lines that logs lack because Redis did not take them),
--   pushing, push_waiting: builds that push under a limit, and those that wait for that, campaigns (that run),
--   campaign_builds (builds of campaigns, also of paused ones, that are in line or run)}
operation('snapshot', READS, function()
  local WORKERS_READ, REGISTRIES_READ = 200, 100
  local reply = { 'snapshot', 'now', NOW }
  local function put(name, value) reply[#reply + 1], reply[#reply + 2] = name, value end
  for _, set in ipairs({ 'queued', 'leases', 'orphans', 'workers', 'dispatchers' }) do put(set, ms(call('ZCARD', base .. set))) end
  -- A counter that has drifted below zero will be repaired soon.
  put('slots', ms(max(0, T.slots)))
  put('people', ms(max(0, tonumber(call('HGET', K.totals, 'people')) or 0)))
  put('background', ms(max(0, T.background)))
  put('background_max', ms(T.background_max))
  put('mean', T.mean and ms(T.mean) or '')
  for _, set in ipairs({ 'lanes', 'lanes:burst', 'lanes:full', 'lanes:held' }) do put(set, ms(call('ZCARD', base .. set))) end
  local oldest = oldest_asked()
  put('oldest', oldest and ms(oldest) or '')
  put('ended', ms(call('ZCARD', K.ended)))
  -- Workers that accept no builds are examined only if builds may be waiting because of them.
  local probes = {} -- by place and number of nodes: most workers have both in common
  local taking, paused, why, only, probe_at = call('ZCARD', K.workers), 0, '', nil, nil
  if taking > 0 and (free_slots() <= 0 or T.avoided > 0) then
    taking = 0
    for _, worker in ipairs(call('ZRANGE', K.workers, 0, WORKERS_READ - 1)) do
      local v = call('HMGET', base .. 'worker:' .. worker, 'draining', 'drain', 'paused', 'place', 'nodes', 'host')
      if v[1] == '1' or v[2] == '1' then
        -- It ends, or an operator drained it.
      elseif v[3] and v[3] ~= '' then
        paused, why = paused + 1, why == '' and v[3] or why
      else
        local shut, _, node, at = nodes.for_worker(v[4], tonumber(v[5]) or 0, v[6], probes)
        if node then only, probe_at = node, at elseif not shut then taking = taking + 1 end
      end
    end
  end
  put('taking', ms(taking))
  put('paused', ms(paused))
  put('why', why)
  put('only', only or '')
  put('probe_at', probe_at and ms(probe_at) or '')
  put('avoided', ms(T.avoided))
  put('refill_until', T.refill_until > now and ms(T.refill_until) or '')
  put('aside', ms(call('HLEN', K.aside)))
  local v = call('HMGET', K.totals, 'repairs', 'logs_bytes', 'log_lines_missing')
  put('repairs', v[1] or '0')
  put('logs_bytes', ms(max(0, tonumber(v[2]) or 0)))
  put('log_lines_missing', v[3] or '0')
  local pushing, waiting = 0, 0
  for _, registry in ipairs(call('ZRANGE', K.pushes, 0, REGISTRIES_READ - 1)) do
    pushing = pushing + call('ZCARD', base .. 'pushes:' .. registry)
    waiting = waiting + call('ZCARD', base .. 'push-line:' .. registry)
  end
  put('pushing', ms(pushing))
  put('push_waiting', ms(waiting))
  local run, builds = 0, 0
  if T.campaigns > 0 then
    for _, name in ipairs(call('ZRANGE', K['campaigns:open'], '0', ms(campaigns.OPEN_MAX - 1))) do
      -- One that somebody has spoilt is not counted.
      pcall(function()
        if call('HGET', campaigns.key(name), 'state') == 'running' then run = run + 1 end
        builds = builds + call('HLEN', campaigns.key(name, 'open'))
      end)
    end
  end
  put('campaigns', ms(run))
  put('campaign_builds', ms(builds))
  return reply
end)
