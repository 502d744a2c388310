-- Purpose: a worker's heartbeat: renews its leases and registers it with its slots.
-- KEYS[1] {prefix}:schema
-- ARGV[2] worker, ARGV[3] host, ARGV[4] version, ARGV[5] place, ARGV[6] slots, ARGV[7] running,
--   ARGV[8] ending 0/1, ARGV[9] lease ms, ARGV[10] why it is paused or empty, ARGV[11] nodes that it
--   knows of, then (id, epoch)…
-- Returns: {'renewed', born, 'drained' or 'avoided' (its host is) or empty, startable 0/1, orphans of its place, ('kept'|'cancel'|'stale'|'unknown')…,
--   then the nodes to avoid…}
-- Invariants: I3, I4
operation('renew', ALWAYS, function()
  local worker, where, lease, paused = ARGV[2], ARGV[5], tonumber(ARGV[9]), ARGV[10]
  local expiry, verdicts, renewed = ms(now + lease), {}, {}
  for i = 12, #ARGV, 2 do
    local id = ARGV[i]
    local v = call('HMGET', base .. 'build:' .. id, 'state', 'epoch', 'worker', 'cancelling', 'lost_by', 'adoptions')
    if holds({ state = v[1], epoch = v[2], worker = v[3] }, ARGV[i + 1], worker) then
      if v[1] == 'orphaned' then
        local b = load(id)
        -- Nobody has adopted it: its holder was only slow.
        local seq = next_seq(b)
        local state = b.started and 'running' or 'starting'
        leave_orphans(id, b.place)
        call('HSET', base .. 'build:' .. id, 'state', state, 'seq', seq)
        tell(id, b.lane, state, seq, worker)
      end
      renewed[#renewed + 1], renewed[#renewed + 2] = expiry, id
      verdicts[#verdicts + 1] = v[4] and v[4] ~= '' and 'cancel' or 'kept'
    else
      -- Redis knows of no lease as late as this one: it has lost the build, or the claim.
      local lost = not v[1] or (tonumber(v[2]) or 0) < tonumber(ARGV[i + 1])
      verdicts[#verdicts + 1] = lost and 'unknown' or 'stale'
      if v[5] == worker then
        -- Its death was counted against this run: it was only slow.
        call('HSET', base .. 'build:' .. id, 'adoptions', ms(max(0, (tonumber(v[6]) or 0) - 1)), 'lost_by', '')
      end
    end
  end
  if renewed[1] then call('ZADD', K.leases, unpack(renewed)) end

  local key = base .. 'worker:' .. worker
  local known = call('HMGET', key, 'counted', 'drain')
  -- An operator drained it; an earlier release notes that with the worker alone.
  local drained = known[2] == '1' or call('HEXISTS', K.drained, ARGV[3]) == 1
  local ending = ARGV[8] == '1'
  local shut, avoided, only, probe_at = nodes.for_worker(where, tonumber(ARGV[11]) or 0, ARGV[3])
  local counted = ending and 0 or tonumber(ARGV[6])
  -- One that is drained, paused or avoided has no free slots; what it runs goes on.
  if drained or shut or paused ~= '' then counted = min(counted, tonumber(ARGV[7])) end
  local change = counted - (tonumber(known[1]) or 0)
  call('HSET', key, 'host', ARGV[3], 'version', ARGV[4], 'place', where, 'slots', ARGV[6], 'running', ARGV[7],
    'draining', ARGV[8], 'drain', drained and '1' or '0', 'counted', ms(counted), 'paused', paused, 'nodes', ARGV[11])
  call('EXPIRE', key, KEEP_S)
  call('ZADD', K.workers, NOW, worker)
  if not is_process(where) then call('ZADD', base .. 'place:' .. where, NOW, worker) end
  call('ZADD', K.timers, expiry, 'worker:' .. worker)
  if change ~= 0 then
    slots_changed(change)
    wake()
  end

  local orphaned = call('ZCARD', K.orphans)
  local mine = orphaned > 0 and call('ZCOUNT', base .. 'orphans:' .. where, '-inf', NOW) or 0
  local startable = not ending and not drained and not shut and paused == '' and next_head(free_slots(orphaned)) ~= nil
  if only and probe_at > now then startable = false end
  for _, node in ipairs(avoided) do verdicts[#verdicts + 1] = node end
  local standing = drained and 'drained' or shut and 'avoided' or ''
  return { 'renewed', call('GET', K.born) or '', standing, startable and '1' or '0',
    ms(mine), unpack(verdicts) }
end)
