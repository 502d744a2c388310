-- Purpose: which set a lane belongs in: its rules, its permits, and the one function that puts it there.
--   Builds on prelude.lua.

-- The position in line: quick builds, and builds that many people wait for, go first; the longer the line,
-- the stronger the effect. Nothing requested more than `overtake_max` later can overtake. A build of mean
-- duration for one person is delayed by all of `overtake_max` if 20 builds per slot are in line, by a fifth
-- of it in a short line.
local function due_of(asked, expected, people, priority)
  local put_off = 0
  if T.order ~= 'first-come' then
    local share = expected / ((T.mean or MEAN_UNKNOWN) * max(1, min(people, T.people_max)))
    in_line = in_line or call('ZCOUNT', K.queued, '-inf', ms(now + BACKGROUND / 2))
    local pressure = max(0.2, in_line / (20 * max(1, T.slots)))
    put_off = floor(T.overtake_max * min(1, share * share * share * pressure))
  end
  local due = asked + put_off
  if priority == 'background' then due = due + BACKGROUND end
  return due
end

-- The only two that write `queued`, so that `in_line` stays right.
-- `former` is the due of a build that was there already: it may have been a background build until now.
local function enqueue(id, due, former)
  local behind = now + BACKGROUND / 2
  call('ZADD', K.queued, due, id)
  if in_line and tonumber(due) <= behind and (not former or tonumber(former) > behind) then in_line = in_line + 1 end
end

local function dequeue(id)
  in_line = nil
  return call('ZREM', K.queued, id)
end

-- The patterns that a rule for this lane can have, most specific first.
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

-- The fields that a rule can have, and their types.
local RULE_TYPES = { limit = 'number', burst = 'number', together = 'boolean', hold = 'table', ban = 'table',
  ['until'] = 'number', at = 'number', message = 'string', until_built = 'boolean' }

local function is_sound(part)
  for name, kind in pairs(RULE_TYPES) do
    if part[name] == cjson.null then part[name] = nil end
    if part[name] ~= nil and type(part[name]) ~= kind then return false end
  end
  return true
end

-- Parses a rule; nil if it is invalid: it is then skipped, and shown to operators.
local function rule_of(text)
  if not text then return nil end
  local read, rule = pcall(cjson.decode, text)
  local sound = read and type(rule) == 'table' and is_sound(rule)
    and (not rule.hold or is_sound(rule.hold)) and (not rule.ban or is_sound(rule.ban))
  return sound and rule or nil
end

local function in_force(stop) return stop and (not stop['until'] or stop['until'] > now) end

-- What the rules say about a lane: each field comes from the most specific rule that sets it. `own` is the
-- text of the lane's own rule. A call caches the result by lane in `resolved`, and in `unruled` if there are
-- no rules at all; code that changes a rule empties both.
local function resolve(lane)
  if resolved[lane] then return resolved[lane] end
  if unruled == nil then unruled = call('HLEN', K.rules) == 0 and {} end
  if unruled then return unruled end
  local names = rule_names(lane)
  local texts = call('HMGET', K.rules, unpack(names))
  local r = { own = texts[1] }
  for i, name in ipairs(names) do
    local rule = rule_of(texts[i])
    if rule then
      if in_force(rule) then
        if rule.together and rule.limit then
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
  resolved[lane] = r
  return r
end

-- The stored facts about a lane: the set it is in, its mean duration, how often it was built, and how many quick
-- builds it takes until it no longer counts as slow.
local function stats_of(lane)
  local v = call('HMGET', base .. 'stats:' .. lane, 'at', 'mean', 'succeeded', 'slow')
  return { at = v[1], mean = tonumber(v[2]), succeeded = tonumber(v[3]) or 0, slow = tonumber(v[4]) or 0 }
end

local function is_long(took) return T.slow_after > 0 and took >= T.slow_after end

-- A lane is slow if its builds are long on average, or if one of its latest builds was. The mean alone would
-- find it out much too late: the quick commits of a repository hide a slow one.
local function is_slow(stats) return T.slow_after > 0 and stats.slow > 0 or is_long(stats.mean or 0) end

-- How long a build has been running, in ms.
local function age_of(b) return now - (tonumber(b.claimed) or now) end

-- A build of this lane is long, and so its next builds may be.
local function note_slow(stats, lane)
  local QUICK_AGAIN = 4 -- it was slow by chance if so many builds in a row are quick
  if stats.slow == QUICK_AGAIN then return end
  stats.slow = QUICK_AGAIN
  call('HSET', base .. 'stats:' .. lane, 'slow', ms(QUICK_AGAIN))
end

-- The set for a lane with queued builds, and the facts that decide it: permits in use, its limit and burst,
-- its shared limit's name and size. The caller passes `taken` if it knows it.
local function judge(lane, stats, taken)
  local r = resolve(lane)
  taken = taken or call('ZCARD', base .. 'permits:' .. lane)
  local limit = r.limit or T.limit
  local burst = max(r.burst or T.burst, limit)
  local shared, shared_max = r.shared, r.shared_limit
  if not shared and is_slow(stats) then shared, shared_max = 'slow', T.slow_limit end
  local where
  if r.hold then
    where = 'lanes:held'
  elseif shared then
    -- It does not borrow, because that would take permits from the lanes it shares the limit with.
    where = taken < limit and 'lanes:shared:' .. shared or 'lanes:full'
  elseif taken < limit then
    where = 'lanes'
  else
    where = taken < burst and 'lanes:burst' or 'lanes:full'
  end
  return where, taken, limit, burst, shared, shared_max
end

local function shared_limit(name)
  if name == 'slow' then return T.slow_limit end
  local rule = rule_of(call('HGET', K.rules, name))
  -- Its rule is gone, so it no longer limits anything; its lanes are being moved to other sets.
  return rule and rule.together and in_force(rule) and rule.limit or math.huge
end

-- A shared limit is one member of `lanes`, with the score of its first lane, while it has a free permit.
local function refresh_shared(name)
  local head = call('ZRANGE', base .. 'lanes:shared:' .. name, '0', '0', 'WITHSCORES')
  if head[1] and call('ZCARD', base .. 'permits:shared:' .. name) < shared_limit(name) then
    call('ZADD', K.lanes, head[2], '@' .. name)
  else
    call('ZREM', K.lanes, '@' .. name)
  end
end

local function shared_name(set) return set and string.match(set, '^lanes:shared:(.*)$') end

-- THE step: puts a lane into the set it belongs in. Only this writes the `lanes…` sets. The caller passes on
-- what it has just read or written: the lane's stats, how many permits it holds. Returns whether the lane
-- moved.
local function sort_lane(lane, known, taken)
  local head = call('ZRANGE', base .. 'lane:' .. lane, '0', '0', 'WITHSCORES')
  local stats = base .. 'stats:' .. lane
  known = known or stats_of(lane)
  local at = known.at
  local where
  if head[1] then where = judge(lane, known, taken) end
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
  return at ~= (where or false)
end

-- A build joined a lane that is in the set `at`: the lane stays in that set; its score changes only if the
-- build is now its first.
local function came_in(lane, at, id, due)
  if call('ZRANK', base .. 'lane:' .. lane, id) ~= 0 then return end
  call('ZADD', base .. at, due, lane)
  local shared = shared_name(at)
  if shared then refresh_shared(shared) end
end

-- The lane whose first build is next, and its set. `free` is how many of all slots are free.
local function next_head(free)
  -- Nothing starts until workers have registered their runs: the build might be running already.
  if T.refill_until > now then return nil end
  local head = call('ZRANGE', K.lanes, '0', '0', 'WITHSCORES')
  local lane, score, set = head[1], tonumber(head[2]), 'lanes'
  if free * 2 > T.slots then
    local burst = call('ZRANGE', K['lanes:burst'], '0', '0', 'WITHSCORES')
    if burst[1] and (not lane or tonumber(burst[2]) < score) then
      lane, score, set = burst[1], tonumber(burst[2]), 'lanes:burst'
    end
  end
  if lane and score > now + BACKGROUND / 2 and T.background >= T.background_max then return nil end
  return lane, set
end

-- How many of all slots are free. The caller passes `orphaned` if it knows it.
local function free_slots(orphaned)
  return T.slots - call('ZCARD', K.leases) - (orphaned or call('ZCARD', K.orphans))
end

-- Leaves a wake-up token for one worker if a build could start now. The worker that takes it claims, and its
-- claim leaves the next one. While a token is in the list, no worker is waiting, so one is enough.
local function wake(free)
  if call('LLEN', K.wake) > 0 then return end
  -- Even if the sum of free slots is 0: adopted runs, draining workers and orphans that no worker here can
  -- adopt may make the sum too low while a worker is idle.
  if next_head(free or free_slots()) then call('RPUSH', K.wake, NOW) end
end

-- Lanes under a pattern are moved in batches, during reaps. The timer records the progress: the name of the
-- set and the cursor in it. (Names contain no spaces.) It is called `place`, as in earlier releases, whose
-- reapers would not serve another name.
local function sort_later(pattern, set, cursor)
  call('ZADD', K.timers, NOW, 'place:' .. (cursor or '0') .. ':' .. (set or 'lanes') .. ' ' .. pattern)
end

local function slots_changed(by)
  if by == 0 then return end
  local before = T.limit
  call('HINCRBY', K.totals, 'slots', by)
  forget_totals()
  if T.limit ~= before then sort_later('*') end
  refresh_shared('slow')
end

