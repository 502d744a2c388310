-- Purpose: makes a run known again that Redis has lost, because it was emptied or failed over without
--   its last second. What Redis knows better stays as it is.
-- KEYS[1] {prefix}:schema
-- ARGV[2] id, ARGV[3] epoch and ARGV[4] worker that the run carries, ARGV[5] worker that registers it,
--   ARGV[6] place, ARGV[7] lease ms, ARGV[8] attempt, ARGV[9] asked, ARGV[10] claimed, ARGV[11] started or
--   empty, ARGV[12] node or empty, ARGV[13] image, ARGV[14] repo, ARGV[15] ref, ARGV[16] lane,
--   ARGV[17] name, ARGV[18] priority, ARGV[19] args JSON, ARGV[20] push 0/1, ARGV[21] labels JSON
-- Returns: {'held', id, epoch, fields} (another id: that build has taken over the run)
--   | {'taken', id} (that build has a run of its own) | {'ended', state} | {'stale'} | {'wait', ms}
-- Invariants: I1, I3, I4, I12
operation('register', ALWAYS, function()
  local id, epoch, holder, worker, where_runs = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
  local lease, attempt, claimed, started, image = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[10], ARGV[11], ARGV[13]
  -- A holder may come itself until so long before the window's end; then others may register what it ran.
  local GRACE_MS = 5000

  local function live(b) return b.state == 'starting' or b.state == 'running' or b.state == 'orphaned' end
  local function held(build, of) return { 'held', build, of, call('HGETALL', base .. 'build:' .. build) } end

  -- What a registration leaves with its build, so that it is known when it is repeated.
  local function mark(token) return holder .. ' ' .. ARGV[3] .. ' ' .. token end
  local function marked(build, b)
    return live(b) and b.worker == worker and call('HGET', base .. 'build:' .. build, 'registered') == mark(b.epoch)
  end

  -- Gives the lease on a live build, whose permits are as they are.
  local function lease_to(build, b, token)
    local state = started ~= '' and 'running' or 'starting'
    b.seq = b.seq + 1
    if b.state == 'orphaned' then leave_orphans(build, b.place) end
    call('ZADD', K.leases, ms(now + lease), build)
    call('HSET', base .. 'build:' .. build, 'state', state, 'epoch', ms(token), 'worker', worker, 'place', where_runs,
      'seq', ms(b.seq), 'attempt', ms(attempt), 'claimed', claimed, 'started', started, 'node', ARGV[12],
      'registered', mark(ms(token)))
    tell(build, b.lane, state, b.seq, worker)
    return held(build, ms(token))
  end

  -- Gives a build that is in no set its permits and the lease.
  local function hold(build, b, token)
    local stats = stats_of(b.lane)
    local _, permits, _, _, shared = judge(b.lane, stats.mean)
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
    place(b.lane, stats, permits + 1)
    if shared then refresh_shared(shared) end
    wake()
    return reply
  end

  local b = load(id)
  if b.state and is_ended(b.state) then
    local to = call('HGET', base .. 'build:' .. id, 'moved')
    local after = to and load(to)
    if not (after and after.state) then return { 'ended', b.state } end
    if marked(to, after) then return held(to, after.epoch) end
    return { 'taken', to }
  end
  local known = tonumber(b.epoch) or 0
  if holds(b, ARGV[3], worker) or marked(id, b) then
    -- Said before, or never lost. Also when it was orphaned: its holder was only slow.
    if b.state == 'orphaned' then
      started = b.started or started
      return lease_to(id, b, known)
    end
    call('ZADD', K.leases, ms(now + lease), id)
    return held(id, b.epoch)
  end
  if b.state and known >= epoch then return { 'stale' } end
  if worker ~= holder and T.refill_until - GRACE_MS > now then
    return { 'wait', ms(T.refill_until - GRACE_MS - now) }
  end

  -- The holder keeps its token; whoever takes over from it gets a later one.
  local token = worker == holder and epoch or max(epoch + 1, now)
  if live(b) then return lease_to(id, b, token) end
  if b.state == 'queued' then
    leave_line(id, b)
    return hold(id, b, token)
  end

  local lane, priority, asked = ARGV[16], ARGV[18], tonumber(ARGV[9])
  -- Only its record was lost: what else there is of it would count twice.
  forget(id, lane, GONE)
  local other = call('GET', base .. 'image:' .. image)
  local o = other and load(other) or {}
  if o.state and is_ended(o.state) then o = {} end
  local asked_for = o.state and call('HMGET', base .. 'build:' .. other, 'repo', 'ref', 'args')
  local same = asked_for and asked_for[1] == ARGV[14] and asked_for[2] == ARGV[15] and asked_for[3] == ARGV[19]
  local expected = floor(stats_of(lane).mean or T.mean or MEAN_UNKNOWN)
  local build = base .. 'build:' .. id
  call('HSET', build, 'lane', lane, 'repo', ARGV[14], 'ref', ARGV[15], 'image', image, 'name', ARGV[17],
    'priority', priority, 'args', ARGV[19], 'push', ARGV[20], 'labels', ARGV[21], 'secrets', '', 'asked', ms(asked),
    'due', ms(due_of(asked, expected, 0, priority)), 'expected', ms(expected), 'people', '0', 'attempt', ms(attempt),
    'seq', '1', 'epoch', ARGV[3])
  if not o.state then
    call('SET', base .. 'image:' .. image, id)
    return hold(id, { lane = lane, priority = priority, seq = 1, started = false }, token)
  end

  -- The image was asked for anew meanwhile: those who wait for this build wait for that one from now on.
  local function move(reason)
    call('HSET', build, 'state', 'cancelled', 'ended', NOW, 'moved', other, 'reason', reason .. other)
    call('EXPIRE', build, KEEP_S)
    call('ZADD', K.ended, NOW, id)
    tell(id, lane, 'cancelled', 1, holder, nil, reason .. other)
  end
  if o.state ~= 'queued' or not same then
    move('Redis had lost it; its image is being built by ')
    return { 'taken', other }
  end
  move('Redis had lost it; its run was taken over by ')
  leave_line(other, o)
  return hold(other, o, max(token, (tonumber(o.epoch) or 0) + 1))
end)
