-- Purpose: gives a worker orphans to adopt, then the builds that are next in line.
-- KEYS[1] {prefix}:schema
-- W: worker, place of its runs, free slots, lease ms, request id
-- Returns: {'claimed': orphans of its place that are left, standing (why it gets nothing new: 'drained', 'avoided' (its
--   host is), 'unknown' (it must send a heartbeat first) or empty), builds: of each its id, epoch, adopted 0/1, state,
--   seq, claimed, orphaned (since when, or empty), and its fields as they were before; avoid: the nodes to avoid}
-- Invariants: I2, I3, I4, I5
local REPLACED_MAX = 16 -- stale heads repaired by one call; the next claim does the rest
local ADOPT_MAX = 100   -- orphans that one call returns; the worker calls again at once
local WORKERS_LOOKED_AT = '200'
local KEPT_MAX = 8      -- how many builds of a lane are kept for other hosts
local worker, place, expiry -- who claims, the place of its runs, until when
local builds, taken, count       -- the claimed builds; the same as stored with the worker; how many
local host, passed               -- the claiming host, if it can fail builds; lanes kept for other hosts
local started                    -- how many builds this call has started, by priority

local function hand_over(id, epoch, adopted, state, seq, claimed, fields, orphaned)
  count = count + 1
  builds[count] = packed({ 'id', id, 'epoch', epoch, 'adopted', adopted, 'state', state, 'seq', seq, 'claimed', claimed,
    'orphaned', orphaned or '', 'fields', fields })
  taken[count] = id .. ' ' .. epoch .. ' ' .. adopted
end

local function fields_of(id) return call('HGETALL', base .. 'build:' .. id) end

-- The epoch after this one, for a build's next token.
local function epoch_after(last)
  last = tonumber(last) or 0
  return last < now and NOW or ms(last + 1)
end

local function lease_to(id, lane, state, epoch, seq, ...)
  call('ZADD', K.leases, expiry, id)
  call('HSET', base .. 'build:' .. id, 'state', state, 'epoch', epoch, 'worker', worker, 'seq', seq, ...)
  tell(id, lane, state, seq, worker)
end

-- If the answer to this request was lost: returns the same builds and renews their leases, except those no
-- longer held. An orphan among them must be adopted like any other.
local function repeat_answer(noted)
  for id, epoch, adopted in string.gmatch(noted, ' (%S+) (%S+) (%S+)') do
    local b = load(id)
    if holds(b, epoch, worker) and b.state ~= 'orphaned' then
      call('ZADD', K.leases, expiry, id)
      hand_over(id, epoch, adopted, b.state, ms(b.seq), b.claimed or '', fields_of(id))
    end
  end
end

local function adopt_one(id)
  local b = load(id)
  if not is_whole(b) then return forget(id, b.lane, GONE) end
  if b.state ~= 'orphaned' or b.place ~= place then
    -- An older release, which does not know places, has adopted it.
    call('ZREM', base .. 'orphans:' .. place, id)
    return
  end
  -- A late worker that takes its own run back has not died, nor has one that handed it over.
  local died = b.orphaned_by == 'reap' and b.worker ~= worker
  if died then count_death(b) end
  if died and is_killer(b) then return lose(id, b, 'claim', '') end
  local orphaned = call('ZSCORE', K.orphans, id)
  leave_orphans(id, place)
  local state, epoch, seq = b.started and 'running' or 'starting', epoch_after(b.epoch), next_seq(b)
  lease_to(id, b.lane, state, epoch, seq, 'adoptions', ms(b.adoptions),
    'adoptions_since', ms(b.adoptions_since), 'lost_by', b.lost_by or '')
  tally('adopted')
  hand_over(id, epoch, '1', state, seq, b.claimed or '', fields_of(id), orphaned and ms(tonumber(orphaned)))
end

-- Adopts the worker's share of the orphans of its place, even if it is full. Returns how many are left.
local function adopt(want)
  local mine = base .. 'orphans:' .. place
  local waiting = call('ZCOUNT', mine, '-inf', NOW)
  if waiting == 0 then return 0 end
  local share = math.ceil(waiting / max(1, workers_at(place)))
  local most = min(max(want, share), ADOPT_MAX)
  for _, id in ipairs(call('ZRANGEBYSCORE', mine, '-inf', NOW, 'LIMIT', '0', ms(most))) do adopt_one(id) end
  return call('ZCOUNT', mine, '-inf', NOW)
end

-- Whether another worker of this place can adopt orphans.
local function another_adopts()
  for _, id in ipairs(call('ZRANGE', base .. 'place:' .. place, '0', WORKERS_LOOKED_AT)) do
    local v = id ~= worker and call('HMGET', base .. 'worker:' .. id, 'slots', 'drain', 'draining')
    if v and v[1] and v[2] ~= '1' and v[3] ~= '1' then return true end
  end
  return false
end

-- The first build of a lane that this host may run. Builds that failed on it are kept for other hosts for a
-- while.
local function first_of(lane)
  local kept, id, fields, b = {}, nil, nil, nil
  repeat
    local head = call('ZPOPMIN', base .. 'lane:' .. lane)
    id, fields = head[1], {}
    if id then fields = fields_of(id) end
    b = { state = false, lane = false, image = false, priority = false, epoch = false, seq = false, elsewhere = false,
      failed_on = false }
    for i = 1, #fields, 2 do
      if b[fields[i]] == false then b[fields[i]] = fields[i + 1] end
    end
    local elsewhere = tonumber(b.elsewhere)
    if not (host and b.failed_on and b.failed_on ~= '' and elsewhere and elsewhere > now)
      or not nodes.is_for_others(b.failed_on, host) then break end
    kept[#kept + 1], kept[#kept + 2] = head[2], id
    id = nil
  until #kept >= 2 * KEPT_MAX
  if kept[1] then call('ZADD', base .. 'lane:' .. lane, unpack(kept)) end
  return id, fields, b, kept[1] ~= nil
end

-- Takes the first build of a lane, if the lane may start one; otherwise puts the lane into the right set.
local function take(lane, from)
  local stats = stats_of(lane)
  local where, permits = judge(lane, stats)
  local id, fields, b, kept
  if where == from then id, fields, b, kept = first_of(lane) end
  if kept and not id then
    -- The lane is left out while this call looks at the others.
    call('ZREM', base .. from, lane)
    local shared = shared_name(from)
    if shared then refresh_shared(shared) end
    passed[#passed + 1] = lane
    return false
  end
  if not id then
    -- Even if no record says that the lane is in this set: it must not block those behind it.
    call('ZREM', base .. from, lane)
    sort_lane(lane, stats, permits)
    return false
  end
  if not is_whole(b) or b.lane ~= lane or b.state ~= 'queued' then
    -- Its record is gone, or it is not a queued build of this lane.
    if not is_whole(b) then forget(id, lane, GONE) end
    sort_lane(lane, stats, permits)
    return false
  end
  local shared, background = shared_name(from), b.priority == 'background'
  local epoch, seq = epoch_after(b.epoch), ms((tonumber(b.seq) or 0) + 1)
  dequeue(id)
  call('ZADD', base .. 'permits:' .. lane, NOW, id)
  if shared then call('ZADD', base .. 'permits:shared:' .. shared, NOW, id) end
  if background then
    T.background = T.background + 1
    call('HINCRBY', K.totals, 'background', '1')
  end
  lease_to(id, lane, 'starting', epoch, seq, 'place', place, 'claimed', NOW)
  if shared or background then
    call('HSET', base .. 'build:' .. id, 'shared', shared or '', 'bg', background and '1' or '')
  end
  sort_lane(lane, stats, permits + 1)
  local kind = background and 'background' or 'interactive'
  started[kind] = started[kind] + 1
  hand_over(id, epoch, '0', 'starting', seq, NOW, fields)
  return true
end

-- The first lane under a shared limit, if that limit has a permit left.
local function first_under(name)
  local lane = call('ZRANGE', base .. 'lanes:shared:' .. name, '0', '0')[1]
  if lane and call('ZCARD', base .. 'permits:shared:' .. name) < shared_limit(name) then return lane end
  refresh_shared(name)
end

-- Takes builds while there is room; `free` slots of all are free.
local function take_next(room, free)
  local replaced = 0
  while count < room and replaced < REPLACED_MAX do
    local lane, set = next_head(free)
    if not lane then break end
    if string.sub(lane, 1, 1) == '@' then
      local name = string.sub(lane, 2)
      lane, set = first_under(name), 'lanes:shared:' .. name
    end
    if lane and take(lane, set) then free = free - 1 else replaced = replaced + 1 end
  end
  return free
end

operation('claim', ALWAYS, function()
  worker, place, expiry = W.worker, W.place, ms(now + tonumber(W.lease))
  builds, taken, count, started = {}, {}, 0, { interactive = 0, background = 0 }
  local want, request, orphans = tonumber(W.free), W.request, 0
  local me = call('HMGET', base .. 'worker:' .. worker, 'claim', 'drain', 'draining', 'slots', 'nodes', 'host')
  host, passed = is_process(place) and me[6], {}
  local shut, avoided, only, probe_at = nodes.for_worker(place, tonumber(me[5]) or 0, me[6])
  local noted, drained, ending = me[1], me[2] == '1', me[3] == '1'
  -- A worker whose heartbeat expired may have been drained since; its next heartbeat will tell.
  local known = me[4]
  local standing = not known and 'unknown' or drained and 'drained' or shut and 'avoided' or ''
  if noted and string.sub(noted, 1, #request + 1) == request .. ' ' then
    repeat_answer(noted)
  else
    local orphaned = call('ZCARD', K.orphans)
    local free = free_slots(orphaned) -- an orphan counts as busy, adopted or not
    if known and drained and not ending then
      -- It follows its own runs, and adopts orphans only if no other worker would.
      if orphaned > 0 and not another_adopts() then orphans = adopt(0) end
    elseif known and not ending and not shut then
      if orphaned > 0 then orphans = adopt(want) end
      local adopted, room = count, want
      -- The only node of the place fails builds: a build now and then tests whether it still does.
      if only then room = min(want, probe_at > now and 0 or adopted + 1) end
      free = take_next(room, free)
      for kind, times in pairs(started) do
        if times > 0 then tally('started:' .. kind, times) end
      end
      if only and count > adopted then call('HSET', base .. 'node:' .. only, 'probed', NOW) end
    end
    if count > 0 then
      call('HSET', base .. 'worker:' .. worker, 'claim', request .. ' ' .. table.concat(taken, ' '))
    end
    -- A worker that may not probe yet keeps the token: its own heartbeat says when it may.
    if not only then wake(free) end
    -- After wake(): a token for these lanes would come back to this host. Others see them at their next
    -- heartbeat.
    for _, lane in ipairs(passed) do sort_lane(lane) end
  end
  return { 'claimed', 'orphans', ms(orphans), 'standing', standing, 'builds', builds, 'avoid', avoided }
end)
