-- Purpose: what every script of the queue shares: the clock, the gate, the rules of a lane, the one
--   step that puts a lane into its set, and the ends of builds. Compiled in front of each script.
-- KEYS[1] {prefix}:schema. All other keys carry the same hash tag and are computed from it.
-- ARGV[1] time in Unix ms for a simulated queue, empty for Redis's own clock.
-- Returns: nothing by itself; gate() gives {'emptied'}, {'schema', found} or {'refilling'}.
local call = redis.call
local base = string.sub(KEYS[1], 1, -7)

local BACKGROUND = 1e12          -- ms; puts background builds behind all interactive ones
local KEEP_S = 86400             -- how long ended builds stay
local STATS_KEEP_S = 180 * 86400 -- how long a lane's durations stay after its latest build
local EVENTS_MAX = 10000
local AUDIT_MAX = 100000
local HOUR = 3600000
local ADOPTIONS_MAX = 5          -- a run that is lost more often within an hour kills its workers
local DURATION_MAX = 7200000     -- longer builds count as two hours: one must not spoil the mean
local MEMORY_S = { succeeded = 60, repository = 300, stuck = 300, infrastructure = 30 }

local now
if ARGV[1] == '' then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
else
  now = tonumber(ARGV[1])
end

-- Numbers leave Lua as text: tostring gives 1.764e+12, and replies cut numbers to integers.
local function ms(number) return string.format('%.0f', number) end
local NOW = ms(now)

local T -- totals and policy, read once
local function totals()
  local v = call('HMGET', base .. 'totals', 'slots', 'background', 'mean', 'patience', 'overtake_max', 'limit',
    'burst', 'slow_after', 'slow_limit', 'people_max', 'drained', 'refill_until')
  T = { slots = tonumber(v[1]) or 0, background = tonumber(v[2]) or 0, mean = tonumber(v[3]) }
  T.patience = tonumber(v[4]) or 30
  T.overtake_max = tonumber(v[5]) or 4 * HOUR
  T.fixed_limit = tonumber(v[6])
  T.limit = T.fixed_limit or (T.slots < 4 and 1 or 2)
  T.burst = math.max(tonumber(v[7]) or 3, T.limit)
  T.slow_after = tonumber(v[8]) or HOUR
  T.slow_limit = tonumber(v[9]) or math.max(1, math.floor(T.slots / 2))
  T.people_max = tonumber(v[10]) or 200
  T.drained = tonumber(v[11]) or 0
  T.refill_until = tonumber(v[12])
  T.background_max = math.max(1, math.floor(T.slots * 3 / 4))
end

-- What keeps this script from running at all, or nil.
local function gate()
  local schema = call('GET', KEYS[1])
  if not schema then return { 'emptied' } end
  if string.match(schema, '^(%d+)%.') ~= '1' then return { 'schema', schema } end
  if ARGV[1] ~= '' and call('EXISTS', base .. 'simulation') == 0 then
    return redis.error_reply('ERR a time was given to a queue that is not simulated')
  end
  totals()
end

local function is_ended(state) return state == 'succeeded' or state == 'failed' or state == 'cancelled' end

local FIELDS = { 'state', 'epoch', 'worker', 'lane', 'image', 'seq', 'people', 'attempt', 'due', 'priority', 'shared',
  'place', 'cancelling', 'bg', 'failures', 'stuck', 'started', 'claimed', 'asked', 'expected', 'not_before',
  'adoptions', 'adoptions_since', 'last_worker', 'requeued_by', 'avoid' }
local NUMBERS = { seq = 0, people = 0, attempt = 1, failures = 0, stuck = 0, adoptions = 0, adoptions_since = 0,
  asked = 0, expected = 0 }

-- A build's fields; empty ones are absent, counters are numbers.
local function load(id)
  local values = call('HMGET', base .. 'build:' .. id, unpack(FIELDS))
  local b = {}
  for i, field in ipairs(FIELDS) do
    if values[i] and values[i] ~= '' then b[field] = values[i] end
  end
  for field, default in pairs(NUMBERS) do b[field] = tonumber(b[field]) or default end
  return b
end

-- Whether (epoch, worker) is the build's token.
local function holds(b, epoch, worker)
  return (b.state == 'starting' or b.state == 'running' or b.state == 'orphaned')
    and b.epoch == epoch and b.worker == worker
end

local function tell(id, lane, state, seq)
  call('XADD', base .. 'events', 'MAXLEN', '~', EVENTS_MAX, '*',
    'build', id, 'lane', lane, 'state', state, 'seq', ms(seq))
end

local function audit(by, act, what, detail)
  call('XADD', base .. 'audit', 'MAXLEN', '~', AUDIT_MAX, '*',
    'at', NOW, 'by', by, 'act', act, 'what', what, 'detail', detail)
end

-- The place in line: long builds wait longer, popular ones less, nobody without bound.
local function due_of(asked, expected, people, priority)
  local crowd = math.max(1, math.min(people, T.people_max))
  local due = asked + math.floor(math.min(T.patience * expected / crowd, T.overtake_max))
  if priority == 'background' then due = due + BACKGROUND end
  return due
end

-- The names under which a rule for this lane may stand, most specific first.
local function rule_names(lane)
  local cuts, at = {}, 0
  while #cuts < 4 do
    at = string.find(lane, '/', at + 1, true)
    if not at then break end
    cuts[#cuts + 1] = at
  end
  local names = { lane }
  for i = #cuts, 1, -1 do names[#names + 1] = string.sub(lane, 1, cuts[i]) .. '*' end
  names[#names + 1] = '*'
  return names
end

local function in_force(stop) return stop and (not stop['until'] or stop['until'] > now) end

-- What the rules say of a lane: each part from the most specific rule that sets it.
local function resolve(lane)
  local names = rule_names(lane)
  local texts = call('HMGET', base .. 'rules', unpack(names))
  local r = {}
  for i, name in ipairs(names) do
    if texts[i] then
      local rule = cjson.decode(texts[i])
      if in_force(rule) then
        if rule.together then
          if not r.shared then r.shared, r.shared_limit = name, rule.limit end
        else
          local limit_here = not r.limit and rule.limit
          if not r.burst then r.burst = rule.burst or (limit_here and rule.limit) or nil end
          if limit_here then r.limit = rule.limit end
        end
      end
      if not r.hold and in_force(rule.hold) then r.hold, r.hold_rule = rule.hold, name end
      if not r.ban and in_force(rule.ban) then r.ban, r.ban_rule = rule.ban, name end
    end
  end
  return r
end

-- Where a lane with queued builds belongs (r.where), and the facts that decide it.
local function judge(lane, mean)
  local r = resolve(lane)
  r.taken = call('ZCARD', base .. 'permits:' .. lane)
  r.limit = r.limit or T.limit
  r.burst = math.max(r.burst or T.burst, r.limit)
  if not r.shared and T.slow_after > 0 and (tonumber(mean) or 0) >= T.slow_after then
    r.shared, r.shared_limit = 'slow', T.slow_limit
  end
  if r.hold then
    r.where = 'lanes:held'
  elseif r.shared then
    -- It does not borrow: what it could borrow belongs to the lanes that it shares with.
    r.where = r.taken < r.limit and 'lanes:shared:' .. r.shared or 'lanes:full'
  elseif r.taken < r.limit then
    r.where = 'lanes'
  else
    r.where = r.taken < r.burst and 'lanes:burst' or 'lanes:full'
  end
  return r
end

local function shared_limit(name)
  if name == 'slow' then return T.slow_limit end
  local text = call('HGET', base .. 'rules', name)
  local rule = text and cjson.decode(text)
  -- Without its rule nothing limits it any more; its lanes are on their way to other sets.
  return rule and rule.together and in_force(rule) and rule.limit or math.huge
end

-- A shared limit stands in `lanes` as one member, scored with its first lane, while it has a permit.
local function refresh_shared(name)
  local head = call('ZRANGE', base .. 'lanes:shared:' .. name, 0, 0, 'WITHSCORES')
  if head[1] and call('ZCARD', base .. 'permits:shared:' .. name) < shared_limit(name) then
    call('ZADD', base .. 'lanes', head[2], '@' .. name)
  else
    call('ZREM', base .. 'lanes', '@' .. name)
  end
end

local function shared_name(set) return set and string.match(set, '^lanes:shared:(.*)$') end

-- THE step: puts a lane where it belongs. The only writer of the `lanes…` sets.
local function place(lane)
  local head = call('ZRANGE', base .. 'lane:' .. lane, 0, 0, 'WITHSCORES')
  local stats = base .. 'stats:' .. lane
  local known = call('HMGET', stats, 'at', 'mean')
  local at, where = known[1], nil
  if head[1] then where = judge(lane, known[2]).where end
  if at and at ~= where then call('ZREM', base .. at, lane) end
  if where then
    call('ZADD', base .. where, head[2], lane)
    if at ~= where then call('HSET', stats, 'at', where) end
  elseif at then
    call('HDEL', stats, 'at')
  end
  local left, entered = shared_name(at), shared_name(where)
  if left and left ~= entered then refresh_shared(left) end
  if entered then refresh_shared(entered) end
end

-- The lane whose first build is next, and the set it comes from; `free` slots of all are free.
local function next_head(free)
  local head = call('ZRANGE', base .. 'lanes', 0, 0, 'WITHSCORES')
  local lane, score, set = head[1], tonumber(head[2]), 'lanes'
  if free * 2 > T.slots then
    local burst = call('ZRANGE', base .. 'lanes:burst', 0, 0, 'WITHSCORES')
    if burst[1] and (not lane or tonumber(burst[2]) < score) then
      lane, score, set = burst[1], tonumber(burst[2]), 'lanes:burst'
    end
  end
  if lane and score > now + BACKGROUND / 2 and T.background >= T.background_max then return nil end
  return lane, set
end

local function free_slots()
  return T.slots - call('ZCARD', base .. 'leases') - call('ZCARD', base .. 'orphans')
end

-- Leaves a token for one worker if a build could start now. At most one token a worker: the one
-- that takes it claims, and its claim leaves the next.
local function wake()
  local free = free_slots()
  -- Draining workers hold leases and have no slots in the sum: others may be free all the same.
  if free <= 0 and T.drained == 0 then return end
  if not next_head(free) then return end
  if call('LLEN', base .. 'wake') < call('ZCARD', base .. 'workers') then call('RPUSH', base .. 'wake', NOW) end
end

-- Lanes under a pattern are placed anew in batches, by whoever reaps: the timer carries the cursor.
local function replace_later(pattern) call('ZADD', base .. 'timers', NOW, 'replace:1:0:' .. pattern) end

local function slots_changed(by)
  if by == 0 then return end
  local before = T.limit
  call('HINCRBY', base .. 'totals', 'slots', by)
  totals()
  if T.limit ~= before then replace_later('*') end
  refresh_shared('slow')
end

local function count_people(by)
  if by ~= 0 then call('HINCRBY', base .. 'totals', 'people', by) end
end

local function drop_worker(id)
  local known = call('HMGET', base .. 'worker:' .. id, 'counted', 'drained')
  call('ZREM', base .. 'workers', id)
  call('ZREM', base .. 'timers', 'worker:' .. id)
  call('DEL', base .. 'worker:' .. id)
  if known[2] == '1' then call('HINCRBY', base .. 'totals', 'drained', -1) end
  slots_changed(-(tonumber(known[1]) or 0))
end

-- Gives back what a build that no longer runs holds.
local function give_back(id, b)
  call('ZREM', base .. 'leases', id)
  call('ZREM', base .. 'orphans', id)
  call('ZREM', base .. 'permits:' .. b.lane, id)
  if b.shared then
    call('ZREM', base .. 'permits:shared:' .. b.shared, id)
    refresh_shared(b.shared)
  end
  if b.bg then
    T.background = T.background - 1
    call('HINCRBY', base .. 'totals', 'background', -1)
  end
end

-- Ends a build. `fields` are further ones to set; the caller has taken it out of its sets.
local function end_build(id, b, state, fields)
  local build = base .. 'build:' .. id
  b.seq = b.seq + 1
  call('HSET', build, 'state', state, 'ended', NOW, 'seq', ms(b.seq), unpack(fields))
  call('HDEL', build, 'secrets', 'not_before', 'note', 'shared', 'bg', 'cancelling')
  call('EXPIRE', build, KEEP_S)
  call('ZADD', base .. 'ended', NOW, id)
  local image = base .. 'image:' .. b.image
  if call('GET', image) == id then
    if state == 'cancelled' then
      call('DEL', image)
    else
      call('EXPIRE', image, MEMORY_S[state == 'failed' and b.class or state])
    end
  end
  count_people(-b.people)
  call('DEL', base .. 'people:' .. id)
  tell(id, b.lane, state, b.seq)
end

-- Puts a build back into line as its next attempt. It holds no permit any more.
local function requeue(id, b, by, not_before, fields)
  b.seq = b.seq + 1
  call('HSET', base .. 'build:' .. id, 'state', 'queued', 'attempt', ms(b.attempt + 1), 'seq', ms(b.seq),
    'worker', '', 'last_worker', b.worker or '', 'requeued_by', by, 'place', '', 'claimed', '', 'started', '',
    'note', '', 'shared', '', 'bg', '', 'not_before', not_before and ms(not_before) or '', unpack(fields))
  call('ZADD', base .. 'queued', b.due, id)
  if not_before then
    call('ZADD', base .. 'timers', ms(not_before), 'build:' .. id)
  else
    call('ZADD', base .. 'lane:' .. b.lane, b.due, id)
  end
  tell(id, b.lane, 'queued', b.seq)
end

-- Counts an adoption or a loss within the hour.
local function count_adoption(b)
  if now - b.adoptions_since > HOUR then b.adoptions, b.adoptions_since = 0, now end
  b.adoptions = b.adoptions + 1
end

-- A run that died for no fault of its build: no backoff, no attempt used.
local function lose(id, b, by, reason)
  give_back(id, b)
  count_adoption(b)
  if b.cancelling then
    end_build(id, b, 'cancelled', {})
  elseif b.adoptions > ADOPTIONS_MAX then
    b.class = 'stuck'
    end_build(id, b, 'failed', { 'class', 'stuck', 'reason',
      'its run was lost ' .. b.adoptions .. ' times within an hour: it may be killing its workers' })
  else
    requeue(id, b, by, nil, { 'reason', reason, 'adoptions', ms(b.adoptions), 'adoptions_since', ms(b.adoptions_since) })
  end
  place(b.lane)
end

local function orphan(id, b)
  call('ZREM', base .. 'leases', id)
  call('ZADD', base .. 'orphans', NOW, id)
  b.seq = b.seq + 1
  call('HSET', base .. 'build:' .. id, 'state', 'orphaned', 'seq', ms(b.seq))
  tell(id, b.lane, 'orphaned', b.seq)
end

-- At maxmemory Redis lets a script pass once it has written something that needs no memory.
local function write_first() call('ZREM', base .. 'leases', '') end

-- Sets how many watch a build through a dispatcher; its place in line follows.
local function count_watchers(id, dispatcher, count)
  local people, watched = base .. 'people:' .. id, base .. 'watched:' .. dispatcher
  local b = load(id)
  if not b.state or is_ended(b.state) then
    call('HDEL', people, dispatcher)
    call('SREM', watched, id)
    return
  end
  local change = count - (tonumber(call('HGET', people, dispatcher)) or 0)
  if count > 0 then
    call('HSET', people, dispatcher, ms(count))
    call('SADD', watched, id)
  else
    call('HDEL', people, dispatcher)
    call('SREM', watched, id)
  end
  if change == 0 then return end
  count_people(change)
  b.people = b.people + change
  local due = b.due
  if b.state == 'queued' then due = ms(due_of(b.asked, b.expected, b.people, b.priority)) end
  call('HSET', base .. 'build:' .. id, 'people', ms(b.people), 'due', due)
  if due ~= b.due then
    call('ZADD', base .. 'queued', due, id)
    if not b.not_before then
      call('ZADD', base .. 'lane:' .. b.lane, due, id)
      place(b.lane)
    end
  end
end

-- Writes a rule back without what is over; removes it when nothing is left. Sets its timer.
local function keep_rule(pattern, rule)
  for _, part in ipairs({ 'ban', 'hold' }) do
    if rule[part] and not in_force(rule[part]) then rule[part] = nil end
  end
  if not in_force(rule) then rule.limit, rule.burst, rule.together, rule['until'] = nil, nil, nil, nil end
  local ends = rule['until']
  for _, part in ipairs({ 'ban', 'hold' }) do
    local over = rule[part] and rule[part]['until']
    if over and (not ends or over < ends) then ends = over end
  end
  if rule.limit or rule.burst or rule.ban or rule.hold then
    call('HSET', base .. 'rules', pattern, cjson.encode(rule))
  else
    call('HDEL', base .. 'rules', pattern)
  end
  if ends then
    call('ZADD', base .. 'timers', ms(ends), 'rule:' .. pattern)
  else
    call('ZREM', base .. 'timers', 'rule:' .. pattern)
  end
end

-- Lanes under a pattern belong elsewhere now: one lane at once, many in batches.
local function rule_changed(pattern)
  if string.sub(pattern, -1) == '*' then
    refresh_shared(pattern)
    replace_later(pattern)
  else
    place(pattern)
  end
end

