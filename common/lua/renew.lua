-- Purpose: a worker's heartbeat: renews its leases and registers it with its slots.
-- KEYS[1] {prefix}:schema
-- W: worker, host, version, place, slots, running, ending 0/1, lease ms, paused (the reason) or empty, nodes
--   (how many it knows)
-- items: id of a build, its epoch
-- Returns: {'renewed': born, standing 'drained' or 'avoided' (its host is) or empty, startable 0/1, orphans of its
--   place, verdicts on the items, each 'kept'|'cancel'|'stale'|'unknown', avoid: the nodes to avoid, push_limit
--   or empty, push_limits (of single registries, as JSON) or empty}
-- Invariants: I3, I4
operation('renew', ALWAYS, function()
  local worker, where, lease, paused, host = W.worker, W.place, tonumber(W.lease), W.paused, W.host
  local expiry, verdicts, renewed = ms(now + lease), {}, {}
  for _, lease_of in ipairs(items) do
    local id, epoch = lease_of.id, lease_of.epoch
    local v = call('HMGET', base .. 'build:' .. id, 'state', 'epoch', 'worker', 'cancelling', 'lost_by', 'adoptions')
    if holds({ state = v[1], epoch = v[2], worker = v[3] }, epoch, worker) then
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
      -- Redis does not know a lease this new, so it has lost the build or the claim.
      local lost = not v[1] or (tonumber(v[2]) or 0) < tonumber(epoch)
      verdicts[#verdicts + 1] = lost and 'unknown' or 'stale'
      if v[5] == worker then
        -- The worker was counted as dead for this run, but it was only slow.
        call('HSET', base .. 'build:' .. id, 'adoptions', ms(max(0, (tonumber(v[6]) or 0) - 1)), 'lost_by', '')
      end
    end
  end
  if renewed[1] then call('ZADD', K.leases, unpack(renewed)) end

  local key = base .. 'worker:' .. worker
  local known = call('HMGET', key, 'counted', 'drain')
  -- An operator drained it; an earlier release stores that only in the worker's own record.
  local drained = known[2] == '1' or call('HEXISTS', K.drained, host) == 1
  local ending = W.ending == '1'
  local shut, avoided, only, probe_at = nodes.for_worker(where, tonumber(W.nodes) or 0, host)
  local counted = ending and 0 or tonumber(W.slots)
  -- A drained, paused or avoided worker has no free slots; its runs go on.
  if drained or shut or paused ~= '' then counted = min(counted, tonumber(W.running)) end
  local change = counted - (tonumber(known[1]) or 0)
  call('HSET', key, 'host', host, 'version', W.version, 'place', where, 'slots', W.slots, 'running', W.running,
    'draining', W.ending, 'drain', drained and '1' or '0', 'counted', ms(counted), 'paused', paused, 'nodes', W.nodes,
    'library', LIBRARY)
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
  local standing = drained and 'drained' or shut and 'avoided' or ''
  return { 'renewed', 'born', call('GET', K.born) or '', 'standing', standing, 'startable', startable and '1' or '0',
    'orphans', ms(mine), 'verdicts', verdicts, 'avoid', avoided,
    'push_limit', T.push_limit and ms(T.push_limit) or '', 'push_limits', T.push_limits }
end, 'id')
