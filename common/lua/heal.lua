-- Purpose: repairs inconsistencies, a few at a time: records that were deleted by hand, sets that an error
--   left half changed, counters that have drifted. Each reap takes a step, at most once a second over all
--   processes.
--   Builds on ends.lua.
local heal          -- the next step
local check_permits -- checks those of one lane right away

do
  local STEP_MS, BUILDS, LANES, MEMBERS = 1000, 50, 10, 20
  local COUNTED_MAX = 300 -- a counter is recounted if it counts at most this many entries
  local repairs           -- how many things this step has repaired

  local function mended(what, how)
    repairs = repairs + 1
    audit('fairlane', 'repaired', what, how)
  end

  local function note_repairs()
    if repairs == 0 then return end
    call('HINCRBY', K.totals, 'repairs', repairs)
    wake()
  end

  local LIVE = { starting = true, running = true, orphaned = true }

  -- Whether this release knows a state; builds in a state that only a newer release knows are left alone.
  local function is_known(state) return LIVE[state] or state == 'queued' or is_ended(state) end

  -- Whether a build in a set has a complete record and belongs in that set.
  local function fits(id, b, set, states)
    if not is_whole(b) then
      forget(id, b.lane, GONE)
      repairs = repairs + 1
      return false
    end
    if states[b.state] then return true end
    if not is_known(b.state) then return false end
    call('ZREM', base .. set, id)
    mended(id, 'it stood in ' .. set .. ' and is ' .. b.state)
    return false
  end

  -- A permit's holder: a live build, whose lease or orphan's place is known.
  local function holder(id, set)
    local b = load(id)
    if b.state and not is_known(b.state) then return end
    if not LIVE[b.state] then
      call('ZREM', base .. set, id)
      return mended(id, 'it held a permit in ' .. set .. ' and did not run')
    end
    if not call('ZSCORE', K.leases, id) and not call('ZSCORE', K.orphans, id) then
      call('ZADD', K.leases, NOW, id)
      mended(id, 'it ran without a lease')
    end
  end

  -- The permits of a lane: a build whose record was deleted by hand leaves its permit behind.
  local function permits(name)
    for _, id in ipairs(call('ZRANGE', base .. 'permits:' .. name, 0, LANES - 1)) do
      holder(id, 'permits:' .. name)
    end
  end

  local function permit(id, b)
    if call('ZADD', base .. 'permits:' .. b.lane, 'NX', b.claimed or NOW, id) == 1 then
      mended(id, 'it ran without a permit of ' .. b.lane)
      sort_lane(b.lane)
    end
    if call('ZCARD', base .. 'permits:' .. b.lane) > 1 then permits(b.lane) end
  end

  local visit = {}

  function visit.queued(id)
    local b = load(id)
    if not fits(id, b, 'queued', { queued = true }) then return end
    local oldest = tonumber(call('HGET', K.totals, 'walk_oldest'))
    if not oldest or b.asked < oldest then
      call('HSET', K.totals, 'walk_oldest', ms(b.asked), 'walk_oldest_id', id)
    end
    if b.not_before then
      -- Its lane is in no set that the walk goes through.
      permits(b.lane)
      if call('ZADD', K.timers, 'NX', b.not_before, 'build:' .. id) == 1 then
        mended(id, 'it backed off without a timer')
      end
    elseif call('ZADD', base .. 'lane:' .. b.lane, 'NX', b.due or NOW, id) == 1 then
      mended(id, 'it waited and did not stand in ' .. b.lane)
      sort_lane(b.lane)
    end
  end

  -- A build that says it pushes and is in no set of its registry: if it waits, its worker enters it again.
  local function push(id, b)
    local registry = b.pushing
    if not registry or call('ZSCORE', base .. 'pushes:' .. registry, id)
      or call('ZSCORE', base .. 'push-line:' .. registry, id) then return end
    leave_pushes(id, b)
    mended(id, 'it neither pushed to ' .. registry .. ' nor waited for that')
  end

  -- A build that has been running for long makes its lane slow now, not when it ends, and counts for the limit
  -- that slow lanes share.
  local function long(id, b)
    if b.shared or not is_long(age_of(b)) or resolve(b.lane).shared then return end
    local stats = stats_of(b.lane)
    note_slow(stats, b.lane)
    call('EXPIRE', base .. 'stats:' .. b.lane, STATS_KEEP_S)
    call('ZADD', base .. 'permits:shared:slow', b.claimed, id)
    call('HSET', base .. 'build:' .. id, 'shared', 'slow')
    sort_lane(b.lane, stats)
    refresh_shared('slow')
  end

  function visit.leases(id)
    local b = load(id)
    if not fits(id, b, 'leases', { starting = true, running = true }) then return end
    permit(id, b)
    push(id, b)
    long(id, b)
  end

  function visit.orphans(id)
    local b = load(id)
    if not fits(id, b, 'orphans', { orphaned = true }) then return end
    permit(id, b)
    push(id, b)
    long(id, b)
    -- An older release does not keep them per place.
    local where = b.place or ''
    if call('ZADD', base .. 'orphans:' .. where, 'NX', NOW, id) == 1 then call_for(where) end
    call('ZADD', K.places, 'NX', NOW, where)
  end

  -- Whether lanes are being moved after a change: until that is done, some are still in their old set.
  local function being_sorted()
    for _, timer in ipairs(call('ZRANGEBYSCORE', K.timers, '-inf', NOW, 'LIMIT', 0, BUILDS)) do
      if string.match(timer, '^place:') then return true end
    end
    return false
  end

  -- Checks the first builds of a lane, and in a long lane also some others, different ones each time.
  local function members(name)
    local key = base .. 'lane:' .. name
    local ids, rest = call('ZRANGE', key, 0, MEMBERS - 1), call('ZCARD', key) - MEMBERS
    if rest > 0 then
      local at = MEMBERS + floor(now / STEP_MS) * MEMBERS % rest
      for _, id in ipairs(call('ZRANGE', key, at, at + MEMBERS - 1)) do ids[#ids + 1] = id end
    end
    return ids
  end

  local function lane(name)
    permits(name)
    for _, id in ipairs(members(name)) do
      local state = call('HGET', base .. 'build:' .. id, 'state')
      if not state then
        forget(id, name, GONE)
        repairs = repairs + 1
      elseif state ~= 'queued' and is_known(state) then
        call('ZREM', base .. 'lane:' .. name, id)
        mended(id, 'it stood in ' .. name .. ' and is ' .. state)
      end
    end
    if sort_lane(name) and not being_sorted() then mended(name, 'it stood in the wrong set') end
  end

  local function shared(name)
    local set = 'permits:shared:' .. name
    for _, id in ipairs(call('ZRANGE', base .. set, 0, BUILDS - 1)) do holder(id, set) end
    refresh_shared(name)
    for _, one in ipairs(call('ZRANGE', base .. 'lanes:shared:' .. name, 0, LANES - 1)) do lane(one) end
  end

  -- The builds that push to a registry, and those that wait for that; the oldest are the ones left behind.
  function visit.pushes(registry)
    local left = 0
    for _, set in ipairs({ 'pushes:' .. registry, 'push-line:' .. registry }) do
      for _, id in ipairs(call('ZRANGE', base .. set, 0, MEMBERS - 1)) do
        local b = load(id)
        if not (b.state and not is_known(b.state)) and not (LIVE[b.state] and b.pushing == registry) then
          call('ZREM', base .. set, id)
          mended(id, 'it stood in ' .. set .. ' and did not run')
        end
      end
      left = left + call('ZCARD', base .. set)
    end
    if left == 0 then call('ZREM', K.pushes, registry) end
  end

  -- The lanes of a set. A lane whose record names another set, or none, does not know that it stands in this one.
  local function lanes_of(set)
    return function(name)
      if string.sub(name, 1, 1) == '@' then return refresh_shared(string.sub(name, 2)) end
      lane(name)
      if call('HGET', base .. 'stats:' .. name, 'at') ~= set and call('ZREM', base .. set, name) == 1 then
        mended(name, 'it stood in ' .. set .. ', too')
      end
    end
  end
  visit.lanes, visit['lanes:burst'] = lanes_of('lanes'), lanes_of('lanes:burst')
  visit['lanes:full'], visit['lanes:held'] = lanes_of('lanes:full'), lanes_of('lanes:held')

  local function set_total(name, found)
    local known = tonumber(call('HGET', K.totals, name)) or 0
    if known == found then return end
    call('HSET', K.totals, name, ms(found))
    mended(name, 'totals counted ' .. ms(known) .. ', there are ' .. ms(found))
    forget_totals()
  end

  -- The sum of a value over the members of sets, where these are few enough.
  local function recount(total, sets, prefix, value)
    settle()
    local members = 0
    for _, set in ipairs(sets) do members = members + call('ZCARD', base .. set) end
    if members > COUNTED_MAX then return end
    local sum = 0
    for _, set in ipairs(sets) do
      for _, id in ipairs(call('ZRANGE', base .. set, 0, -1)) do
        local one = value(base .. prefix .. id)
        -- A build without a record is still counted; forget() subtracts it.
        if not one then return end
        sum = sum + one
      end
    end
    set_total(total, sum)
  end

  local function slots_of(worker) return tonumber(call('HGET', worker, 'counted')) or 0 end

  local function people_of(build)
    local v = call('HMGET', build, 'state', 'people')
    return v[1] and (tonumber(v[2]) or 0)
  end

  local function background_of(build)
    local v = call('HMGET', build, 'state', 'bg')
    return v[1] and (v[2] and v[2] ~= '' and 1 or 0)
  end

  -- Steps that do not walk a set.
  local single = {
    slots = function()
      local before = T.limit
      recount('slots', { 'workers' }, 'worker:', slots_of)
      if T.limit ~= before then sort_later('*') end
    end,
    people = function() recount('people', { 'queued', 'leases', 'orphans' }, 'build:', people_of) end,
    background = function() recount('background', { 'leases', 'orphans' }, 'build:', background_of) end,
    avoided = function() set_total('avoided', call('ZCARD', K.nodes)) end,
    campaigns = function() set_total('campaigns', call('ZCARD', K['campaigns:open'])) end,
    slow = function() shared('slow') end,
    aside = function()
      local page = call('HSCAN', K.aside, 0, 'COUNT', BUILDS)[2]
      for i = 1, #page, 2 do
        local read, note = pcall(cjson.decode, page[i + 1])
        if not read or type(note) ~= 'table' or (tonumber(note['until']) or 0) <= now then
          call('HDEL', K.aside, page[i])
        end
      end
    end,
    -- All lanes' shared limits.
    rules = function()
      for _, name in ipairs(call('HKEYS', K.rules)) do
        local rule = rule_of(call('HGET', K.rules, name))
        if rule and rule.together then shared(name) end
      end
    end,
  }

  -- A recount comes right after the sets that it counts: a build without a record delays the recount until
  -- the walk through its set has removed it. In another order, a counter would wait for nearly two walks.
  local WALK = { 'queued', 'leases', 'orphans', 'slots', 'people', 'background', 'lanes', 'lanes:burst', 'lanes:full',
    'lanes:held', 'slow', 'rules', 'avoided', 'aside', 'campaigns', 'pushes' }

  local function after(step)
    for at, name in ipairs(WALK) do
      if name == step then return WALK[at + 1] or WALK[1] end
    end
    return WALK[1]
  end

  -- One step of the walk, at this offset; returns the next offset.
  local function take(step, offset)
    if single[step] then
      single[step]()
      return after(step), 0
    end
    if not visit[step] then return WALK[1], 0 end
    local count = (step == 'pushes' or string.sub(step, 1, 5) == 'lanes') and LANES or BUILDS
    if step == 'queued' and offset == 0 then call('HDEL', K.totals, 'walk_oldest', 'walk_oldest_id') end
    local page = call('ZRANGE', base .. step, offset, offset + count - 1)
    for _, one in ipairs(page) do visit[step](one) end
    if #page == count then return step, offset + count end
    if step == 'queued' then
      -- The build that has waited longest, as of this walk.
      local v = call('HMGET', K.totals, 'walk_oldest_id')
      call('HSET', K.totals, 'oldest', v[1] or '')
    end
    return after(step), 0
  end

  -- While runs are being registered, those still unknown would look like drift.
  function heal()
    if T.refill_until > now then return end
    local v = call('HMGET', K.totals, 'healed', 'walk', 'walk_at')
    if v[1] and now - tonumber(v[1]) < STEP_MS and now >= tonumber(v[1]) then return end
    repairs = 0
    local step, offset = v[2] or WALK[1], tonumber(v[3]) or 0
    -- Two at a time: a lane that moves from set to set may be passed by once, and must be seen by the next walk.
    for _ = 1, 2 do
      -- If a step fails, the walk continues after it.
      call('HSET', K.totals, 'healed', NOW, 'walk', after(step), 'walk_at', '0')
      step, offset = take(step, offset)
      call('HSET', K.totals, 'walk', step, 'walk_at', ms(offset))
    end
    note_repairs()
  end

  -- The walk skips a lane without queued or live builds, where a build deleted by hand may have left a
  -- permit.
  function check_permits(name)
    repairs = 0
    permits(name)
    note_repairs()
  end
end
