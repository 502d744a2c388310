-- Purpose: gives a worker orphans to adopt, then the builds that are next in line.
-- KEYS[1] {prefix}:schema
-- ARGV[2] worker, ARGV[3] place of its runs, ARGV[4] free slots, ARGV[5] lease ms, ARGV[6] request id
-- Returns: {'claimed', count, (id, epoch, adopted 0/1, fields)…, then the nodes to avoid…}
-- Invariants: I2, I3, I4, I5
local refused = gate()
if refused then return refused end
local worker, where_runs, want, lease, request = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local REPLACED_MAX = 16 -- stale heads mended by one call; the wake-up token carries on
local ORPHANS_LAST = '99' -- a hundred are looked at
local reply, taken = { 'claimed', '0' }, {}

local function give(id, epoch, adopted)
  taken[#taken + 1] = id .. ' ' .. epoch .. ' ' .. adopted
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = id, epoch, adopted
  reply[#reply + 1] = call('HGETALL', base .. 'build:' .. id)
end

local me = call('HMGET', base .. 'worker:' .. worker, 'claim', 'drain', 'draining', 'slots', 'nodes')
local avoided, only, probe_at = {}, nil, 0
if T.avoided > 0 then avoided, only, probe_at = node_tools().to_avoid(where_runs, tonumber(me[5]) or 0) end
local function answer()
  reply[2] = ms(#taken)
  for _, node in ipairs(avoided) do reply[#reply + 1] = node end
  return reply
end

if me[1] and string.sub(me[1], 1, #request + 1) == request .. ' ' then
  --- The answer to this request was lost: give what it gave, unless it is held no more.
  for id, epoch, adopted in string.gmatch(me[1], ' (%S+) (%S+) (%S+)') do
    if holds(load(id), epoch, worker) then give(id, epoch, adopted) end
  end
  return answer()
end

local expiry = ms(now + lease)
local function lease_to(id, b, state, ...)
  local last = tonumber(b.epoch) or 0
  local epoch = last < now and NOW or ms(last + 1)
  local seq = next_seq(b)
  call('ZADD', base .. 'leases', expiry, id)
  call('HSET', base .. 'build:' .. id, 'state', state, 'epoch', epoch, 'worker', worker, 'seq', seq, ...)
  tell(id, b.lane, state, seq)
  return epoch
end

local draining = me[2] == '1' or me[3] == '1'
local orphaned = draining and 0 or call('ZCARD', base .. 'orphans')
if orphaned > 0 then
  --- Runs that are alive already come first.
  local share = math.ceil(orphaned / math.max(1, call('ZCARD', base .. 'workers')))
  local most = math.max(want, share)
  for _, id in ipairs(call('ZRANGE', base .. 'orphans', '0', ORPHANS_LAST)) do
    if #taken >= most then break end
    local b = load(id)
    if b.place == where_runs then
      call('ZREM', base .. 'orphans', id)
      local epoch = lease_to(id, b, b.started and 'running' or 'starting')
      give(id, epoch, '1')
    end
  end
end

-- Takes the first build of a lane that may start one, if the lane really may; else mends its place.
local function take(lane, from)
  local stats = stats_of(lane)
  local where, permits = judge(lane, stats.mean)
  local id = where == from and call('ZPOPMIN', base .. 'lane:' .. lane)[1]
  if not id then
    -- Also where nothing remembers the lane in this set: it must not block those behind it.
    call('ZREM', base .. from, lane)
    place(lane, stats, permits)
    return false
  end
  local v = call('HMGET', base .. 'build:' .. id, 'epoch', 'seq', 'priority')
  local b = { lane = lane, epoch = v[1], seq = tonumber(v[2]) or 0 }
  local shared = shared_name(from)
  call('ZREM', base .. 'queued', id)
  call('ZADD', base .. 'permits:' .. lane, NOW, id)
  if shared then call('ZADD', base .. 'permits:shared:' .. shared, NOW, id) end
  local background = v[3] == 'background'
  if background then
    T.background = T.background + 1
    call('HINCRBY', base .. 'totals', 'background', '1')
  end
  local epoch = lease_to(id, b, 'starting', 'place', where_runs, 'claimed', NOW, 'shared', shared or '',
    'bg', background and '1' or '')
  place(lane, stats, permits + 1)
  give(id, epoch, '0')
  return true
end

-- The only node of the place fails builds: one now and then tells whether it still does.
local room = want
if only then room = math.min(want, probe_at > now and 0 or #taken + 1) end
local free, replaced, before = free_slots(), 0, #taken -- an adopted orphan was counted as busy before
while not draining and #taken < room and replaced < REPLACED_MAX do
  local lane, set = next_head(free)
  if not lane then break end
  local name = string.sub(lane, 1, 1) == '@' and string.sub(lane, 2)
  if name then
    set = 'lanes:shared:' .. name
    lane = call('ZRANGE', base .. set, '0', '0')[1]
    if not lane or call('ZCARD', base .. 'permits:shared:' .. name) >= shared_limit(name) then
      lane = nil
      refresh_shared(name)
    end
  end
  if lane and take(lane, set) then
    free = free - 1
  else
    replaced = replaced + 1
  end
end

if #taken > 0 then
  call('HSET', base .. 'worker:' .. worker, 'claim', request .. ' ' .. table.concat(taken, ' '))
  -- A worker that has not sent a heartbeat yet leaves nothing behind if it never does.
  if not me[4] then call('EXPIRE', base .. 'worker:' .. worker, 60) end
end
if only and #taken > before then call('HSET', base .. 'node:' .. only, 'probed', NOW) end
-- A worker that may not probe yet keeps the token: its own heartbeat says when it may.
if not only then wake(free) end
return answer()
