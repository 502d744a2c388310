-- Purpose: what is kept of the past: counters of what happened, a sample of the queue a minute, and a small record of
--   each ended build. The library puts the words that a cause may be in front of all files, as CAUSES. Nothing here
--   makes an operation fail: a key that somebody has spoilt costs history, and no build.
--   Builds on lanes.lua.

local KEEP_PAST_MS = 604800000 -- 7 days: how long samples and records stay
local CLASSES = { repository = true, infrastructure = true, stuck = true }

-- A cause as it is stored: one that this release does not know is `other`, so that there are only so many.
local function known_cause(cause) return CAUSES[cause] and cause or 'other' end

-- Counts an event, or several at once. Each is counted at the one place where it happens, which a repeated call does
-- not reach.
local function tally(event, times) tallied[event] = (tallied[event] or 0) + (times or 1) end

local function tally_failure(kind, class, cause)
  tally(kind .. ':' .. (CLASSES[class] and class or 'other') .. ':' .. known_cause(cause))
end

-- Keeps a record of a build that has ended, and returns the time under which it is found again: the build's end,
-- unless the clock was set back. What another field says is left empty: most repositories are named by their lane,
-- and most images end in the ref. `ended` are the fields that its end has set.
local function keep_record(id, b, state, ended)
  local PAST_MAX, REASON_MAX = '70000', 120
  local function of(name) return among(ended, name) or b[name] end
  local failed, class = state == 'failed', of('class')
  local repo = b.repo or ''
  if repo == 'https://' .. b.lane then repo = '' end
  local ref = b.ref or ''
  if string.sub(b.image, -#ref - 1) == ':' .. ref then ref = '' end
  -- A success after a failed attempt still has that attempt's reason.
  local reason = (failed or state == 'cancelled' or not class) and of('reason')
  local attempts = b.epoch and b.failures + b.stuck + 1 or 0
  local function add(at)
    return redis.pcall('XADD', K.past, 'MAXLEN', '~', PAST_MAX, at, 'id', id, 'state', state, 'lane', b.lane,
      'repo', repo, 'ref', ref, 'image', b.image, 'background', b.priority == 'background' and '1' or '', 'asked', ms(b.asked),
      'started', b.started or '', 'attempts', ms(attempts), 'slot_ms', ms(b.slot_ms), 'peak', ms(b.peak),
      'node', of('node') or '', 'class', failed and class or '', 'cause', failed and of('cause') or '',
      'reason', reason and string.sub(reason, 1, REASON_MAX) or '')
  end
  if type(add(NOW .. '-*')) == 'string' then return NOW end
  -- The clock was set back, or this is Redis 6.2, which cannot complete an id.
  local latest = redis.pcall('XREVRANGE', K.past, '+', '-', 'COUNT', '1')[1]
  local at, seq = string.match(latest and latest[1] or '', '^(%d+)%-(%d+)$')
  if not at or tonumber(at) < now then at, seq = NOW, -1 end
  add(at .. '-' .. ms(seq + 1))
  return at
end

-- When the longest-waiting build was asked for: it is among the first interactive or the first background builds,
-- or the repair walk has seen it.
local function oldest_asked()
  local OLDEST_READ = 200
  local oldest
  local function look_at(id)
    local v = call('HMGET', base .. 'build:' .. id, 'asked', 'state')
    local asked = v[2] == 'queued' and tonumber(v[1])
    if asked and (not oldest or asked < oldest) then oldest = asked end
  end
  local behind = ms(now + BACKGROUND / 2)
  for _, range in ipairs({ { '-inf', behind }, { behind, '+inf' } }) do
    for _, id in ipairs(call('ZRANGEBYSCORE', K.queued, range[1], range[2], 'LIMIT', 0, OLDEST_READ)) do look_at(id) end
  end
  local walked = call('HGET', K.totals, 'oldest')
  if walked and walked ~= '' then look_at(walked) end
  return oldest
end

local take_sample -- once a minute, as a part of reaping

do
  local MINUTE, SET_BACK_MS = 60000, 300000
  local SET_READ, LANES_READ = 500, 3000 -- most lanes looked at in one set, and in all
  local RULES_READ, FORGET = 1000, 1000
  local left -- lanes that this sample may still look at

  -- How many builds wait in the lanes of a set. Of a large set a random part is counted, and taken for the whole.
  local function builds_in(set)
    local size = call('ZCARD', base .. set)
    local read = min(size, SET_READ, left)
    if read == 0 then return 0 end
    left = left - read
    local lanes = read == size and call('ZRANGE', base .. set, '0', '-1')
      or call('ZRANDMEMBER', base .. set, ms(read))
    local builds = 0
    for _, lane in ipairs(lanes) do builds = builds + call('ZCARD', base .. 'lane:' .. lane) end
    return builds * size / read
  end

  -- How many builds wait, by what the next build of their lane waits for. Those in no lane back off.
  local function waiting(queued)
    left = LANES_READ
    local by = { slot = builds_in('lanes'), permit = builds_in('lanes:burst') + builds_in('lanes:full'), shared = 0,
      held = builds_in('lanes:held') }
    local names = call('HKEYS', K.rules)
    names[min(#names, RULES_READ) + 1] = 'slow'
    for i = 1, min(#names, RULES_READ + 1) do
      local builds = builds_in('lanes:shared:' .. names[i])
      -- It is among the lanes while it has a free permit.
      if builds > 0 and call('ZSCORE', K.lanes, '@' .. names[i]) then
        by.slot = by.slot + builds
      else
        by.shared = by.shared + builds
      end
    end
    local counted = by.slot + by.permit + by.shared + by.held
    local scale = counted > queued and queued / counted or 1
    for what, builds in pairs(by) do by[what] = ms(floor(builds * scale + 0.5)) end
    by.backoff = ms(max(0, floor(queued - counted * scale + 0.5)))
    return by
  end

  -- The counters that a sample has: started, succeeded, cancelled, failures by class.
  local function counted()
    local sums, all = { 0, 0, 0, 0, 0, 0 }, redis.pcall('HGETALL', K.counts)
    local PLACES = { started = 1, succeeded = 2, cancelled = 3, repository = 4, infrastructure = 5, stuck = 6 }
    for i = 1, #all, 2 do
      local name = all[i]
      local place = PLACES[string.match(name, '^ended:failed:(%a+):') or string.match(name, '^ended:(%a+)$')
        or string.match(name, '^(started):')]
      if place then sums[place] = sums[place] + (tonumber(all[i + 1]) or 0) end
    end
    return sums
  end

  -- The clock was ahead and has been set right: what it wrote ahead of time goes.
  local function forget_ahead(minute)
    local ahead = call('XREVRANGE', K.history, '+', ms(minute), 'COUNT', ms(FORGET))
    for i = 1, #ahead do ahead[i] = ahead[i][1] end
    if not ahead[1] then return true end
    call('XDEL', K.history, unpack(ahead))
    if #ahead == FORGET then return false end
    local latest = call('XREVRANGE', K.history, '+', '-', 'COUNT', '1')[1]
    local last = latest and latest[1] or '0-1'
    local set = redis.pcall('XSETID', K.history, last, 'ENTRIESADDED', call('XLEN', K.history), 'MAXDELETEDID', '0-0')
    -- Redis 6.2 does not count what was added and deleted.
    if set.err then set = redis.pcall('XSETID', K.history, last) end
    -- Valkey refuses an id that is lower than a deleted one.
    if set.err then
      local kept = call('XRANGE', K.history, '-', '+')
      call('DEL', K.history)
      for _, sample in ipairs(kept) do call('XADD', K.history, sample[1], unpack(sample[2])) end
    end
    return true
  end

  -- Ended builds are found by their id for as long as there is a record, or their hash.
  local function forget_past()
    local oldest_kept = ms(now - KEEP_PAST_MS)
    call('XTRIM', K.past, 'MINID', '~', oldest_kept)
    local first = call('XRANGE', K.past, '-', '+', 'COUNT', '1')[1]
    local from = first and tonumber(string.match(first[1], '^%d+')) or now
    local before = ms(min(now - KEEP_S * 1000, max(now - KEEP_PAST_MS, from - 1)))
    local old = call('ZRANGEBYSCORE', K.ended, '-inf', before, 'LIMIT', '0', ms(FORGET))
    if old[1] then call('ZREM', K.ended, unpack(old)) end
  end

  -- `noted` is what the latest sample left behind: its minute and the counters as they were.
  function take_sample(noted)
    settle()
    local minute = now - now % MINUTE
    local at = tonumber(string.match(noted or '', '^%d+')) or 0
    if minute <= at and at - minute < SET_BACK_MS then return end
    if minute < at and not forget_ahead(minute) then return end
    local sums, before = counted(), {}
    for number in string.gmatch(noted or '', ' (%d+)') do before[#before + 1] = tonumber(number) end
    call('HSET', K.totals, 'sampled', ms(minute) .. string.format((' %d'):rep(6), unpack(sums)))
    for i, sum in ipairs(sums) do
      -- A counter that was deleted by hand begins again.
      local since = before[i] or 0
      sums[i] = ms(sum >= since and sum - since or sum)
    end
    local queued, oldest = call('ZCARD', K.queued), oldest_asked()
    local by = waiting(queued)
    local people = max(0, tonumber(call('HGET', K.totals, 'people')) or 0)
    call('XADD', K.history, 'MINID', '~', ms(now - KEEP_PAST_MS), ms(minute) .. '-0', 'people', ms(people),
      'running', ms(call('ZCARD', K.leases) + call('ZCARD', K.orphans)), 'slots', ms(max(0, T.slots)),
      'oldest_s', ms(oldest and max(0, floor((now - oldest) / 1000)) or 0), 'slot', by.slot, 'permit', by.permit,
      'shared', by.shared, 'held', by.held, 'backoff', by.backoff, 'started', sums[1], 'succeeded', sums[2],
      'cancelled', sums[3], 'repository', sums[4], 'infrastructure', sums[5], 'stuck', sums[6])
    forget_past()
  end
end
