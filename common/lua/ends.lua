-- Purpose: how builds and processes end: releasing permits, ending builds, putting them back into line.
--   Builds on lanes.lua.
local campaigns = {} -- campaigns.lua fills it

local function count_people(by) people_came = people_came + by end

-- A local process dies with its worker, so no other worker can take it over.
local function is_process(where) return string.sub(where or '', 1, 8) == 'process:' end

-- How many live workers a place has: those that can take over its runs.
local function workers_at(where)
  local WORKER_KEEP_MS = 60000 -- an older release drops a worker without taking it out of its place
  return call('ZCOUNT', base .. 'place:' .. where, ms(now - WORKER_KEEP_MS), '+inf')
end

local function drop_worker(id)
  local v = call('HMGET', base .. 'worker:' .. id, 'counted', 'place')
  local counted = tonumber(v[1]) or 0
  if v[2] then call('ZREM', base .. 'place:' .. v[2], id) end
  call('ZREM', K.workers, id)
  call('ZREM', K.timers, 'worker:' .. id)
  call('DEL', base .. 'worker:' .. id)
  slots_changed(-counted)
end

-- Orphans are in one set for all places and in one per place, so that the many orphans of one place do not
-- hide another's. `places` has the places that have, or had, orphans.
local function enter_orphan(id, where)
  call('ZADD', K.orphans, NOW, id)
  call('ZADD', base .. 'orphans:' .. where, NOW, id)
  call('ZADD', K.places, 'NX', NOW, where)
end

local function leave_orphans(id, where)
  call('ZREM', K.orphans, id)
  call('ZREM', base .. 'orphans:' .. (where or ''), id)
end

-- Releases a build's permit to push to its registry, or its place in the line for one.
local function leave_pushes(id, b)
  if not b.pushing then return end
  local line = base .. 'push-line:' .. b.pushing
  call('ZREM', base .. 'pushes:' .. b.pushing, id)
  call('ZREM', line, id)
  call('HDEL', base .. 'build:' .. id, 'pushing', 'push_since', 'push_go', 'push_heard')
  if call('ZCARD', line) > 0 then call('PUBLISH', K.orphans, 'push ' .. b.pushing) end
end

-- Releases what a build holds when it no longer runs.
local function give_back(id, b)
  b.slot_ms = (b.slot_ms or 0) + max(0, now - (tonumber(b.claimed) or now))
  if b.state == 'orphaned' then leave_orphans(id, b.place) else call('ZREM', K.leases, id) end
  call('ZREM', base .. 'permits:' .. b.lane, id)
  if b.shared then
    call('ZREM', base .. 'permits:shared:' .. b.shared, id)
    refresh_shared(b.shared)
  end
  leave_pushes(id, b)
  if b.bg then
    T.background = T.background - 1
    call('HINCRBY', K.totals, 'background', -1)
  end
end

-- Notes the log of an ended build, to be shortened when memory is low. If no worker finished the build, the
-- size is unknown.
local function note_log(id, b, fields)
  local bytes = among(fields, 'log_bytes') or b.epoch and '0' or ''
  if bytes == '' then return end
  call('ZADD', K.logs, NOW, id .. ' ' .. ms(b.attempt) .. ' ' .. bytes)
  if bytes ~= '0' then call('HINCRBY', K.totals, 'logs_bytes', bytes) end
end

-- Ends a build. `fields` are more fields to set; the caller has already removed the build from its sets.
local function end_build(id, b, state, fields)
  local MEMORY_S = { succeeded = '60', repository = '300', stuck = '300', infrastructure = '30' }
  local build = base .. 'build:' .. id
  local seq = next_seq(b)
  call('HSET', build, 'state', state, 'ended', NOW, 'seq', seq, 'slot_ms', ms(b.slot_ms or 0), unpack(fields))
  local of_its_life = b.emptied or b.secrets or b.sealed_for or b.not_before or b.note or b.shared or b.bg or b.cancelling
  if of_its_life then
    call('HDEL', build, 'secrets', 'sealed_for', 'not_before', 'note', 'shared', 'bg', 'cancelling')
  end
  call('EXPIRE', build, ms(KEEP_S))
  call('ZADD', K.ended, keep_record(id, b, state, fields), id)
  note_log(id, b, fields)
  local image = base .. 'image:' .. b.image
  if call('GET', image) == id then
    if state == 'cancelled' then
      call('DEL', image)
    else
      -- A class that only a newer release knows is remembered as briefly as an infrastructure failure.
      call('EXPIRE', image, MEMORY_S[state == 'failed' and b.class or state] or MEMORY_S.infrastructure)
    end
  end
  count_people(-b.people)
  call('DEL', base .. 'people:' .. id)
  -- Whoever cancelled it gave the reason, maybe long before the run was gone.
  local reason = among(fields, 'reason') or state == 'cancelled' and b.reason
  local cause = state == 'failed' and among(fields, 'cause')
  tell(id, b.lane, state, seq, among(fields, 'worker') or b.worker, state == 'failed' and b.class, reason, cause)
  if state == 'failed' then tally_failure('ended:failed', b.class, cause) else tally('ended:' .. state) end
  if T.campaigns > 0 then campaigns.note_end(id, b, state, reason or '', cause or '') end
end

-- Puts a build back into line for its next run. It must not hold a permit any more.
local function requeue(id, b, by, not_before, fields)
  local seq = next_seq(b)
  -- People and priority may have changed while it ran.
  b.due = ms(due_of(b.asked, b.expected, b.people, b.priority))
  call('HSET', base .. 'build:' .. id, 'state', 'queued', 'attempt', ms(b.attempt + 1), 'seq', seq,
    'worker', '', 'last_worker', b.worker or '', 'requeued_by', by, 'place', '', 'claimed', '', 'started', '',
    'note', '', 'shared', '', 'bg', '', 'due', b.due, 'slot_ms', ms(b.slot_ms), 'not_before', not_before and ms(not_before) or '', unpack(fields))
  enqueue(id, b.due)
  if not_before then
    call('ZADD', K.timers, ms(not_before), 'build:' .. id)
  else
    call('ZADD', base .. 'lane:' .. b.lane, b.due, id)
  end
  tell(id, b.lane, 'queued', seq, b.worker, among(fields, 'class'), among(fields, 'reason'), among(fields, 'cause'))
end

-- Counts the deaths of a run's workers within the hour, and notes which worker died: if that worker turns out
-- to be alive, renew subtracts the death again.
local function count_death(b)
  if now - b.adoptions_since > HOUR then b.adoptions, b.adoptions_since = 0, now end
  b.adoptions, b.lost_by = b.adoptions + 1, b.worker
end

local function is_killer(b) return b.adoptions > ADOPTIONS_MAX and now - b.adoptions_since <= HOUR end

-- A run that was lost through no fault of its build: no backoff, no attempt used.
local function lose(id, b, by, reason)
  give_back(id, b)
  -- A worker that releases its run properly has not died.
  if by == 'reap' then count_death(b) end
  if b.cancelling then
    end_build(id, b, 'cancelled', {})
  elseif is_killer(b) then
    b.class = 'stuck'
    end_build(id, b, 'failed', { 'class', 'stuck', 'cause', 'workers-died', 'reason',
      'its run was lost ' .. b.adoptions .. ' times within an hour: it may be killing its workers' })
  else
    requeue(id, b, by, nil, { 'reason', reason, 'adoptions', ms(b.adoptions),
      'adoptions_since', ms(b.adoptions_since), 'lost_by', b.lost_by or '' })
  end
  sort_lane(b.lane)
end

-- Marks a run for adoption; `by` is 'reap' or 'release'.
local function orphan(id, b, by)
  call('ZREM', K.leases, id)
  enter_orphan(id, b.place or '')
  local seq = next_seq(b)
  call('HSET', base .. 'build:' .. id, 'state', 'orphaned', 'seq', seq, 'orphaned_by', by)
  tell(id, b.lane, 'orphaned', seq, b.worker)
end

-- Tells the workers of a place that there are orphans.
local function call_for(where) call('PUBLISH', K.orphans, 'orphans ' .. where) end

-- Moves a queued build to the position in line that its people and priority give it.
local function rescore(id, b)
  local due = ms(due_of(b.asked, b.expected, b.people, b.priority))
  if due == b.due then return end
  call('HSET', base .. 'build:' .. id, 'due', due)
  enqueue(id, due, b.due)
  b.due = due
  if not b.not_before then
    call('ZADD', base .. 'lane:' .. b.lane, due, id)
    sort_lane(b.lane)
  end
end

-- A background build is now one that somebody waits for; the caller moves it in line.
local function make_interactive(id, b)
  b.priority = 'interactive'
  call('HSET', base .. 'build:' .. id, 'priority', 'interactive')
  if b.bg then
    b.bg = nil
    call('HINCRBY', K.totals, 'background', -1)
    T.background = T.background - 1
    call('HSET', base .. 'build:' .. id, 'bg', '')
  end
end

-- Takes a queued build out of line; the caller places its lane.
local function leave_line(id, b)
  dequeue(id)
  call('ZREM', base .. 'lane:' .. b.lane, id)
  call('ZREM', K.timers, 'build:' .. id)
end

-- Cancels a build that has not ended; `b` is its record. Returns 'cancelled' or 'stopping'.
local function stop(id, b, by, reason)
  if b.cancelling then return 'stopping' end
  if b.state == 'queued' then
    leave_line(id, b)
    end_build(id, b, 'cancelled', { 'reason', reason })
    sort_lane(b.lane)
    return 'cancelled'
  end
  -- The permit is held until the run is gone; a request in the meantime gets a new build.
  local image = base .. 'image:' .. b.image
  if call('GET', image) == id then call('DEL', image) end
  local seq = next_seq(b)
  call('HSET', base .. 'build:' .. id, 'cancelling', by, 'reason', reason, 'seq', seq)
  tell(id, b.lane, b.state, seq, b.worker, nil, reason)
  call('PUBLISH', K.orphans, 'cancel ' .. (b.worker or '') .. ' ' .. id)
  return 'stopping'
end

-- Notes for operators what was set aside (such as `build:<id>`) and why; they see it for `for_ms`.
local function set_aside(what, why, for_ms)
  local ASIDE_MAX = 1000
  if call('HLEN', K.aside) >= ASIDE_MAX then return end
  call('HSET', K.aside, what, cjson.encode({ at = now, ['until'] = now + for_ms, why = why }))
end

-- Removes what is left of a build whose record is gone or incomplete. The caller passes its lane if it knows
-- it.
local function forget(id, lane, why)
  local build, people = base .. 'build:' .. id, base .. 'people:' .. id
  local removed = dequeue(id) + call('ZREM', K.leases, id) + call('ZREM', K.orphans, id)
  call('ZREM', K.timers, 'build:' .. id)
  for _, where in ipairs(call('ZRANGE', K.places, 0, 99)) do call('ZREM', base .. 'orphans:' .. where, id) end
  if lane then
    removed = removed + call('ZREM', base .. 'lane:' .. lane, id) + call('ZREM', base .. 'permits:' .. lane, id)
  end
  -- A repeated call, or it was never here.
  if removed == 0 then return end
  local counts, sum = call('HGETALL', people), 0
  for i = 1, #counts, 2 do
    call('SREM', base .. 'watched:' .. counts[i], id)
    sum = sum + (tonumber(counts[i + 1]) or 0)
  end
  call('DEL', people)
  count_people(-sum)
  if call('EXISTS', build) == 1 then
    -- The record is kept, for operators who want to know what happened.
    call('EXPIRE', build, ms(KEEP_S))
    set_aside('build:' .. id, why, KEEP_S * 1000)
  end
  audit('fairlane', 'build forgotten', id, why)
end

local GONE = 'its record in Redis is gone, or lacks its state, lane or image'

-- Sets how many people watch a build through a dispatcher, and updates its position in line.
local function count_watchers(id, dispatcher, count)
  local people, watched = base .. 'people:' .. id, base .. 'watched:' .. dispatcher
  local b = load(id)
  if not is_whole(b) then forget(id, b.lane, GONE) end
  if not is_whole(b) or is_ended(b.state) then
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
  if b.people > b.peak then
    call('HSET', base .. 'build:' .. id, 'people', ms(b.people), 'peak', ms(b.people))
  else
    call('HSET', base .. 'build:' .. id, 'people', ms(b.people))
  end
  if b.state == 'queued' then rescore(id, b) end
end

-- Writes a rule back without its expired parts, or removes it if nothing is left. Sets its timer.
local function keep_rule(pattern, rule)
  resolved, unruled = {}, nil
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
    call('HSET', K.rules, pattern, cjson.encode(rule))
  else
    call('HDEL', K.rules, pattern)
  end
  if ends then
    call('ZADD', K.timers, ms(ends), 'rule:' .. pattern)
  else
    call('ZREM', K.timers, 'rule:' .. pattern)
  end
end

-- Lanes under a pattern may belong in other sets now: a single lane is moved at once, many in batches.
local function rule_changed(pattern)
  if string.sub(pattern, -1) == '*' then
    refresh_shared(pattern)
    sort_later(pattern)
  else
    sort_lane(pattern)
  end
end

