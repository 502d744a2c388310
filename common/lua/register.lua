-- Purpose: registers a run that Redis has lost, because it was emptied or because a failover lost the last
--   second. If Redis has newer data, it is kept.
-- KEYS[1] {prefix}:schema
-- W: id, epoch and holder (the worker) that the run carries, worker that registers it, place, lease ms, attempt, asked,
--   claimed, started or empty, node or empty, and what was asked for (see spec_fields)
-- Returns: {'held': id, epoch, fields} (another id: that build has taken over the run)
--   | {'taken': id} (that build has a run of its own) | {'ended': state} | {'stale'} | {'wait': left ms}
-- Invariants: I1, I3, I4, I12
operation('register', ALWAYS, function()
  local id, epoch, holder, worker, place = W.id, tonumber(W.epoch), W.holder, W.worker, W.place
  local lease, attempt, claimed, started, image = tonumber(W.lease), tonumber(W.attempt), W.claimed, W.started, W.image
  -- Until this long before the window's end only the holder may register its runs; after that, other workers
  -- may.
  local GRACE_MS = 5000

  local function live(b) return b.state == 'starting' or b.state == 'running' or b.state == 'orphaned' end
  local function held(build, of) return { 'held', 'id', build, 'epoch', of, 'fields', call('HGETALL', base .. 'build:' .. build) } end

  -- What a registration stores with its build, to recognize a repeated call.
  local function mark(token) return holder .. ' ' .. W.epoch .. ' ' .. token end
  local function marked(build, b)
    return live(b) and b.worker == worker and call('HGET', base .. 'build:' .. build, 'registered') == mark(b.epoch)
  end

  -- Grants the lease on a live build; its permits stay as they are.
  local function lease_to(build, b, token)
    local state = started ~= '' and 'running' or 'starting'
    b.seq = b.seq + 1
    if b.state == 'orphaned' then leave_orphans(build, b.place) end
    call('ZADD', K.leases, ms(now + lease), build)
    call('HSET', base .. 'build:' .. build, 'state', state, 'epoch', ms(token), 'worker', worker, 'place', place,
      'seq', ms(b.seq), 'attempt', ms(attempt), 'claimed', claimed, 'started', started, 'node', W.node,
      'registered', mark(ms(token)))
    tell(build, b.lane, state, b.seq, worker)
    return held(build, ms(token))
  end

  -- Gives the permits and the lease to a build that is in no set.
  local function hold(build, b, token)
    local stats = stats_of(b.lane)
    local _, permits, _, _, shared = judge(b.lane, stats)
    call('ZADD', base .. 'permits:' .. b.lane, claimed, build)
    if shared then call('ZADD', base .. 'permits:shared:' .. shared, claimed, build) end
    local background = b.priority == 'background'
    if background then
      T.background = T.background + 1
      call('HINCRBY', K.totals, 'background', 1)
    end
    call('HSET', base .. 'build:' .. build, 'shared', shared or '',
      'bg', background and '1' or '', 'not_before', '', 'note', '')
    local reply = lease_to(build, b, token)
    sort_lane(b.lane, stats, permits + 1)
    if shared then refresh_shared(shared) end
    wake()
    return reply
  end

  local b = load(id)
  if b.state and is_ended(b.state) then
    local to = call('HGET', base .. 'build:' .. id, 'moved')
    local after = to and load(to)
    if not (after and after.state) then return { 'ended', 'state', b.state } end
    if marked(to, after) then return held(to, after.epoch) end
    return { 'taken', 'id', to }
  end
  local known = tonumber(b.epoch) or 0
  if holds(b, W.epoch, worker) or marked(id, b) then
    -- A repeated call, or it was never lost. An orphan counts too: its holder was only slow.
    if b.state == 'orphaned' then
      started = b.started or started
      return lease_to(id, b, known)
    end
    call('ZADD', K.leases, ms(now + lease), id)
    return held(id, b.epoch)
  end
  if b.state and known >= epoch then return { 'stale' } end
  if worker ~= holder and T.refill_until - GRACE_MS > now then
    return { 'wait', 'left', ms(T.refill_until - GRACE_MS - now) }
  end

  -- The holder keeps its token; whoever takes over from it gets a later one.
  local token = worker == holder and epoch or max(epoch + 1, now)
  if live(b) then return lease_to(id, b, token) end
  if b.state == 'queued' then
    leave_line(id, b)
    return hold(id, b, token)
  end

  local lane, priority, asked = W.lane, W.priority, tonumber(W.asked)
  -- Only its record was lost; its other entries are removed, or they would count twice.
  forget(id, lane, GONE)
  local other = call('GET', base .. 'image:' .. image)
  local o = other and load(other) or {}
  if o.state and is_ended(o.state) then o = {} end
  local same = o.state and is_the_same(o, W)
  local expected = floor(stats_of(lane).mean or T.mean or MEAN_UNKNOWN)
  local build = base .. 'build:' .. id
  call('HSET', build, 'secrets', '', 'asked', ms(asked), 'due', ms(due_of(asked, expected, 0, priority)),
    'expected', ms(expected), 'people', '0', 'attempt', ms(attempt), 'seq', '1', 'epoch', W.epoch,
    unpack(spec_fields(W)))
  if not o.state then
    call('SET', base .. 'image:' .. image, id)
    return hold(id, { lane = lane, priority = priority, seq = 1, started = false }, token)
  end

  -- The image was requested again meanwhile: the people waiting for this build now wait for the new one.
  local function move(reason)
    call('HSET', build, 'state', 'cancelled', 'ended', NOW, 'moved', other, 'reason', reason .. other)
    call('EXPIRE', build, KEEP_S)
    call('ZADD', K.ended, keep_record(id, load(id), 'cancelled', {}), id)
    tell(id, lane, 'cancelled', 1, holder, nil, reason .. other)
    tally('ended:cancelled')
  end
  if o.state ~= 'queued' or not same then
    move('Redis had lost it; its image is being built by ')
    return { 'taken', 'id', other }
  end
  move('Redis had lost it; its run was taken over by ')
  leave_line(other, o)
  return hold(other, o, max(token, (tonumber(o.epoch) or 0) + 1))
end)
