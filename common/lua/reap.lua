-- Purpose: handles what is due, a bounded amount per call: expired leases, backoffs and rules that end,
--   processes that are gone, lanes to be moved; once a minute a sample of the queue, and old ones to be forgotten.
-- KEYS[1] {prefix}:schema
-- W: lease ms: how long nothing is orphaned after a silence
-- Returns: {'reaped': sleep ms, orphaned, lost, timers, campaigns (that have not ended)}
-- Invariants: I1, I2, I3, I9
operation('reap', ALWAYS, function()
  local BATCH, SILENCE_MS, SLEEP_MAX_MS, ORPHAN_MS, FOREIGN_MS = 100, 3000, 1000, 600000, 1000

  -- If nobody reaped for a while, Redis was away, not the workers: they get one lease to come back.
  local seen = call('HMGET', K.totals, 'reaped', 'quiet_until', 'sampled')
  local quiet_until = tonumber(seen[2]) or 0
  -- Written by a clock that was ahead and has been set right.
  if quiet_until > now + tonumber(W.lease) then quiet_until = 0 end
  if quiet_until == 0 and seen[1] and now - tonumber(seen[1]) > SILENCE_MS then
    quiet_until = now + tonumber(W.lease)
  elseif quiet_until <= now then
    -- A new quiet time can only start after this reap. If reaps are rare, each comes after a silence; without
    -- this, nothing would ever be orphaned.
    quiet_until = 0
  end
  call('HSET', K.totals, 'reaped', NOW, 'quiet_until', ms(quiet_until))
  call('HSET', K.libraries, LIBRARY, NOW, 'own:' .. LIBRARY, '1')

  local orphaned, lost, called = 0, 0, {}
  local AGAIN_MS, SHOWN_MS = 60000, 600000

  -- Handles one item in isolation: if it fails, it is set aside and the others continue.
  local function alone(what, put_off, act, ...)
    local done, failure = pcall(act, ...)
    if done then return end
    set_aside(what, type(failure) == 'table' and failure.err or tostring(failure), SHOWN_MS)
    put_off()
  end

  local KNOWN = { starting = true, running = true, orphaned = true, queued = true }

  local function run_out(id)
    local b = load(id)
    if not is_whole(b) then
      forget(id, b.lane, GONE)
    elseif is_ended(b.state) then
      call('ZREM', K.leases, id)
    elseif not KNOWN[b.state] then
      error('it is ' .. b.state .. ', a state that this release does not know')
    elseif is_process(b.place) then
      -- The supervisor ended the run before its lease ended; no other worker could adopt it.
      tally('leases_lost')
      lose(id, b, 'reap', 'its worker ' .. (b.worker or '') .. ' was lost, and its run with it')
      lost = lost + 1
    else
      tally('leases_lost')
      orphan(id, b, 'reap')
      orphaned = orphaned + 1
      called[b.place or ''] = true
    end
  end

  local function give_up_one(id, where)
    local b = load(id)
    if not is_whole(b) then
      forget(id, b.lane, GONE)
    elseif b.state ~= 'orphaned' then
      call('ZREM', base .. 'orphans:' .. where, id)
    else
      lose(id, b, 'release', 'no other worker of its cluster and namespace took over the run')
      lost = lost + 1
    end
  end

  -- Workers of other places cannot adopt runs of a place that has no worker left.
  local function give_up(where)
    local mine = base .. 'orphans:' .. where
    if call('ZCARD', mine) == 0 then
      call('ZREM', K.places, where)
    elseif workers_at(where) == 0 and call('ZCARD', K.workers) > 0 then
      for _, id in ipairs(call('ZRANGEBYSCORE', mine, '-inf', ms(now - ORPHAN_MS), 'LIMIT', 0, BATCH)) do
        alone('build:' .. id, function() call('ZADD', mine, NOW, id) end, give_up_one, id, where)
      end
    end
  end

  if now >= quiet_until then
    for _, id in ipairs(call('ZRANGEBYSCORE', K.leases, '-inf', NOW, 'LIMIT', 0, BATCH)) do
      alone('build:' .. id, function() call('ZADD', K.leases, 'XX', ms(now + AGAIN_MS), id) end, run_out, id)
    end
    for where in pairs(called) do call_for(where) end
    for _, where in ipairs(call('ZRANGE', K.places, 0, BATCH - 1)) do give_up(where) end
  end

  local due = {}
  function due.build(id)
    local b = load(id)
    if not is_whole(b) then return forget(id, b.lane, GONE) end
    if b.state == 'queued' and b.not_before then
      call('HDEL', base .. 'build:' .. id, 'not_before')
      call('ZADD', base .. 'lane:' .. b.lane, b.due, id)
      sort_lane(b.lane)
    end
  end

  -- One that shuts down takes its leave, so this one died, froze or is cut off.
  function due.worker(id)
    if call('EXISTS', base .. 'worker:' .. id) == 1 then audit('fairlane', 'worker lost', id, 'it sent no heartbeat') end
    drop_worker(id)
  end

  function due.dispatcher(id)
    call('ZREM', K.dispatchers, id)
    call('HDEL', K.libraries, 'dispatcher:' .. id)
    local watched = call('SRANDMEMBER', base .. 'watched:' .. id, BATCH)
    for _, build in ipairs(watched) do
      if not pcall(count_watchers, build, id, 0) then call('SREM', base .. 'watched:' .. id, build) end
    end
    if #watched == BATCH then call('ZADD', K.timers, NOW, 'dispatcher:' .. id) end
  end

  function due.node(node)
    nodes.take_back(node)
    audit('fairlane', 'node taken back', node, 'the time for avoiding it has passed')
  end

  function due.rule(pattern)
    local text = call('HGET', K.rules, pattern)
    if not text then return end
    local rule = rule_of(text)
    if not rule then error('the rule of ' .. pattern .. ' cannot be read') end
    audit('fairlane', 'rule ended', pattern, 'it expired')
    keep_rule(pattern, rule)
    rule_changed(pattern)
  end

  -- The set after this one, of those that lanes under a pattern may be in; nil after the last. Which rules have
  -- a shared limit may change on the way, so their sets come in the order of their names. Earlier releases know
  -- only the first ones.
  local function set_after(set, pattern)
    local first = { 'lanes', 'lanes:burst', 'lanes:full', 'lanes:held', 'lanes:shared:slow' }
    for i, name in ipairs(rule_names(pattern)) do
      -- The first is the pattern itself, which comes again as the most specific of its own.
      if i > 1 then first[#first + 1] = 'lanes:shared:' .. name end
    end
    for at, name in ipairs(first) do
      if name == set and first[at + 1] then return first[at + 1] end
    end
    local last, lead, found = first[#first], string.sub(pattern, 1, -2), nil
    for _, name in ipairs(call('HKEYS', K.rules)) do
      local shared = 'lanes:shared:' .. name
      if #name > #pattern and string.sub(name, 1, #lead) == lead and (set == last or shared > set)
        and (not found or shared < found) and call('EXISTS', base .. shared) == 1 then
        found = shared
      end
    end
    return found
  end

  -- Continues moving the lanes under a pattern: `rest` is the cursor, the set and the pattern.
  function due.place(rest)
    local cursor, set, pattern = string.match(rest, '^(%d+):(%S+) (.*)$')
    local lead = string.sub(pattern, 1, -2)
    local page = call('ZSCAN', base .. set, cursor, 'COUNT', BATCH)
    for i = 1, #page[2], 2 do
      local lane = page[2][i]
      if string.sub(lane, 1, 1) == '@' then
        refresh_shared(string.sub(lane, 2))
      elseif string.sub(lane, 1, #lead) == lead then
        sort_lane(lane)
      end
    end
    if page[1] ~= '0' then return sort_later(pattern, set, page[1]) end
    local following = set_after(set, pattern)
    if following then sort_later(pattern, following) end
  end

  -- An older release counts the sets.
  function due.replace(rest) sort_later(string.match(rest, '^%d+:%d+:(.*)$')) end

  -- Its only purpose is that a reap happens at this time.
  function due.refill() end

  local timers = call('ZRANGEBYSCORE', K.timers, '-inf', NOW, 'LIMIT', 0, BATCH)
  -- Each of these is a whole batch: one per call, so that a reap stays bounded.
  local BATCHES, batched, handled = { place = true, dispatcher = true }, false, 0
  for _, timer in ipairs(timers) do
    local kind, rest = string.match(timer, '^([%w-]+):(.*)$')
    if now < quiet_until and (kind == 'worker' or kind == 'dispatcher') then
      -- They get the same time to come back as leases.
      call('ZADD', K.timers, ms(quiet_until), timer)
    elseif not due[kind] then
      -- A newer release's: one of its processes reaps, too.
      call('ZADD', K.timers, ms(now + FOREIGN_MS), timer)
    elseif not (BATCHES[kind] and batched) then
      call('ZREM', K.timers, timer)
      batched = batched or BATCHES[kind]
      handled = handled + 1
      alone('timer:' .. timer, function() call('ZADD', K.timers, ms(now + AGAIN_MS), timer) end, due[kind], rest)
    end
  end

  alone('history', function() end, take_sample, seen[3])
  alone('repair', function() end, heal)
  wake()

  local next_due = now + SLEEP_MAX_MS
  for _, set in ipairs({ 'leases', 'timers' }) do
    local head = call('ZRANGE', base .. set, 0, 0, 'WITHSCORES')
    if head[1] then next_due = min(next_due, max(tonumber(head[2]), set == 'leases' and quiet_until or 0)) end
  end
  return { 'reaped', 'sleep', ms(max(0, next_due - now)), 'orphaned', ms(orphaned), 'lost', ms(lost), 'timers', ms(handled),
    'campaigns', ms(T.campaigns) }
end)
