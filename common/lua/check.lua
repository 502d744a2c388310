-- Purpose: compares every set with the builds' states. Reads only.
-- KEYS[1] {prefix}:schema
-- W: most: how many entries are read of each set, at most
-- Returns: {'checked': entries compared, problems}
operation('check', READS, function()
  local last = tonumber(W.most) - 1
  local problems, checked = {}, 0
  local function expect(fits, ...)
    if not fits and #problems < 50 then problems[#problems + 1] = table.concat({ ... }) end
  end
  local function score(set, member) return call('ZSCORE', base .. set, member) end
  local function each(set, visit)
    local page = call('ZRANGE', base .. set, 0, last, 'WITHSCORES')
    for i = 1, #page, 2 do
      checked = checked + 1
      visit(page[i], page[i + 1])
    end
    return #page / 2
  end
  local whole = true -- whether all sets were read completely: only then can counts be compared
  local function complete(set, read) if call('ZCARD', base .. set) ~= read then whole = false end end

  local people = 0
  -- What must be true of every build that has not ended.
  local function open_build(id, b)
    people = people + b.people
    expect(call('TTL', base .. 'build:' .. id) == -1, id, ' is ', b.state, ' and about to be forgotten')
    expect(not score('ended', id), id, ' is ', b.state, ' and stands among the ended')
  end

  local lanes, in_lanes, backing_off = {}, 0, 0
  complete('queued', each('queued', function(id, due)
    local b = load(id)
    expect(b.state == 'queued', 'queued holds ', id, ', which is ', b.state or 'missing')
    if b.state ~= 'queued' then return end
    open_build(id, b)
    expect(b.due == due, 'queued has another due for ', id, ' than the build')
    if b.not_before then
      backing_off = backing_off + 1
      expect(score('timers', 'build:' .. id), id, ' backs off without a timer')
      expect(not score('lane:' .. b.lane, id), id, ' backs off and stands in its lane')
    else
      expect(score('lane:' .. b.lane, id) == due, id, ' does not stand in its lane with its due')
      lanes[b.lane] = true
    end
    expect(not score('permits:' .. b.lane, id), id, ' is queued and holds a permit')
  end))
  for lane in pairs(lanes) do
    local head = call('ZRANGE', base .. 'lane:' .. lane, 0, 0, 'WITHSCORES')
    local at = call('HGET', base .. 'stats:' .. lane, 'at')
    in_lanes = in_lanes + call('ZCARD', base .. 'lane:' .. lane)
    expect(at, lane, ' has queued builds and is in no set')
    if at then expect(score(at, lane) == head[2], lane, ' is not in ', at, ' with the due of its first build') end
  end
  if whole then
    expect(in_lanes + backing_off == call('ZCARD', K.queued), 'lanes and backoffs do not add up to queued')
  end
  for _, set in ipairs({ 'lanes', 'lanes:burst', 'lanes:full', 'lanes:held' }) do
    each(set, function(lane)
      local name = string.match(lane, '^@(.*)$')
      if name then
        expect(call('ZCARD', base .. 'lanes:shared:' .. name) > 0, set, ' holds ', lane, ' without lanes')
      else
        expect(call('HGET', base .. 'stats:' .. lane, 'at') == set, set, ' holds ', lane, ', which is elsewhere')
        expect(call('ZCARD', base .. 'lane:' .. lane) > 0, set, ' holds ', lane, ' without queued builds')
      end
    end)
  end

  local permits, background, pushing = {}, 0, 0
  local function live(set, fits)
    local seen = each(set, function(id)
      local b = load(id)
      expect(fits[b.state], set, ' holds ', id, ', which is ', b.state or 'missing')
      if not b.lane then return end
      open_build(id, b)
      expect(score('permits:' .. b.lane, id), id, ' is live without a permit')
      expect(b.worker, id, ' is live without a worker')
      if b.shared then expect(score('permits:shared:' .. b.shared, id), id, ' has no permit of ', b.shared) end
      if b.pushing then
        pushing = pushing + 1
        local holds, waits = score('pushes:' .. b.pushing, id), score('push-line:' .. b.pushing, id)
        expect(holds and not waits or waits and not holds, id, ' neither pushes to ', b.pushing, ' nor waits for that')
        expect(score('pushes', b.pushing), 'nobody knows that builds push to ', b.pushing)
      end
      if b.bg then background = background + 1 end
      expect(not score('queued', id), id, ' is live and queued')
      permits[b.lane] = (permits[b.lane] or 0) + 1
    end)
    complete(set, seen)
  end
  live('leases', { starting = true, running = true })
  live('orphans', { orphaned = true })
  local pushes = 0
  complete('pushes', each('pushes', function(registry)
    for _, set in ipairs({ 'pushes:' .. registry, 'push-line:' .. registry }) do
      pushes = pushes + call('ZCARD', base .. set)
    end
  end))
  local at_places = 0
  for _, where in ipairs(call('ZRANGE', K.places, 0, last)) do
    at_places = at_places + each('orphans:' .. where, function(id)
      expect(score('orphans', id), 'orphans:', where, ' holds ', id, ', which is no orphan')
      expect(call('HGET', base .. 'build:' .. id, 'place') == where, id, ' is of another place than ', where)
    end)
  end
  if whole then
    expect(pushes == pushing, 'registries have ', ms(pushes), ' pushes, live builds ', ms(pushing))
    expect(at_places == call('ZCARD', K.orphans), 'the orphans of all places do not add up to orphans')
    for lane, count in pairs(permits) do
      expect(call('ZCARD', base .. 'permits:' .. lane) == count, lane, ' has permits that no live build holds')
    end
    expect(T.background == background, 'totals count ', ms(T.background), ' background builds, there are ', ms(background))
  end

  complete('nodes', each('nodes', function(node)
    expect(score('timers', 'node:' .. node), node, ' is avoided without a timer')
    expect(call('EXISTS', base .. 'node:' .. node) == 1, node, ' is avoided and nobody knows why')
  end))
  expect(T.avoided == call('ZCARD', K.nodes), 'totals count ', ms(T.avoided), ' avoided nodes')

  local slots = 0
  complete('workers', each('workers', function(worker)
    slots = slots + (tonumber(call('HGET', base .. 'worker:' .. worker, 'counted')) or 0)
  end))
  if whole then
    expect(T.slots == slots, 'totals count ', ms(T.slots), ' slots, workers have ', ms(slots))
    local counted = tonumber(call('HGET', K.totals, 'people')) or 0
    expect(counted == people, 'totals count ', ms(counted), ' people, there are ', ms(people))
  end
  -- Each item of a campaign is in exactly one of its sets.
  complete('campaigns:open', each('campaigns:open', function(name)
    local key, items = 'campaign:' .. name, {}
    local function seen(item, set)
      expect(not items[item], name, ': item ', item, ' is in ', items[item] or '', ' and in ', set)
      items[item] = set
    end
    local whole_campaign = true
    each(key .. ':todo', function(item)
      seen(item, 'todo')
      expect(call('HEXISTS', base .. key .. ':items', item) == 1, name, ': nothing is known of item ', item)
    end)
    for _, set in ipairs({ 'open', 'joined', 'done' }) do
      if call('HLEN', base .. key .. ':' .. set) > last then whole_campaign = false end
      for _, item in ipairs(whole_campaign and call('HKEYS', base .. key .. ':' .. set) or {}) do seen(item, set) end
    end
    local v = call('HMGET', base .. key, 'items', 'state', 'built', 'present', 'people', 'failed', 'cancelled')
    local found, done = 0, 0
    for _ in pairs(items) do found = found + 1 end
    for i = 3, 7 do done = done + (tonumber(v[i]) or 0) end
    expect(v[2] ~= 'ended', name, ' has ended and is open')
    if whole_campaign and call('ZCARD', base .. key .. ':todo') <= last and v[2] ~= 'cancelled' then
      expect(ms(found) == v[1], name, ' has ', v[1], ' items, its sets have ', ms(found))
    end
    expect(done == call('HLEN', base .. key .. ':done'), name, ' counts ', ms(done), ' items that are done')
  end))
  expect(T.campaigns == call('ZCARD', K['campaigns:open']), 'totals count ', ms(T.campaigns), ' campaigns')
  each('ended', function(id)
    local state = call('HGET', base .. 'build:' .. id, 'state')
    expect(not state or is_ended(state), 'ended holds ', id, ', which is ', state or '')
  end)
  return { 'checked', 'entries', ms(checked), 'problems', problems }
end)
