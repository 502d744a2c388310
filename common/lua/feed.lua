-- Purpose: puts the next items of campaigns into line as background builds, only as many as could start at this
--   moment and leave a quarter of the slots free: none while anything in line could. Any number of dispatchers call
--   it, each about once a second.
-- KEYS[1] {prefix}:schema
-- W: ids, of new builds, separated by spaces: at most this many are made
-- items: name of a campaign that has hours, those hours as the caller read them, until (when that answer changes),
--   open 0/1 (whether it may feed now)
-- Returns: {'fed': fed (how many builds were made), open (campaigns that have not ended), now, hours: of each campaign that
--   has some: name, hours, zone}
-- Invariants: I2, I5
local LOOKED_AT, LOOKED_FURTHER, LOOKED_AFTER, PEOPLE_LOOKED_AT = 20, 30, 20, 10
local BROKEN = 'broken' -- operators see why (set_aside)
local free, room -- slots that are free; builds that may be made
local ids, used  -- of new builds; how many of them are used
local lines      -- how many builds this call has put into each lane, and under each shared limit

-- How long the first of those who wait for a slot has waited: builds of people whose lanes have a permit.
local function people_wait()
  local longest = 0
  local lanes = call('ZRANGEBYSCORE', K.lanes, '-inf', ms(now + BACKGROUND / 2), 'LIMIT', '0', ms(PEOPLE_LOOKED_AT))
  for _, lane in ipairs(lanes) do
    local shared = string.match(lane, '^@(.*)$')
    if shared then lane = call('ZRANGE', base .. 'lanes:shared:' .. shared, '0', '0')[1] or '' end
    local first = call('ZRANGE', base .. 'lane:' .. lane, '0', '0')[1]
    local asked = first and tonumber(call('HGET', base .. 'build:' .. first, 'asked'))
    if asked then longest = max(longest, now - asked) end
  end
  return longest
end

-- Why a campaign makes no build now, or nil: see Feeding in queue/campaigns.
local function held_up(c)
  if c.hours and not c.may_feed then return 'hours' end
  if c.per_hour then
    call('ZREMRANGEBYSCORE', c.key .. ':starts', '-inf', ms(now - HOUR))
    if call('ZCARD', c.key .. ':starts') >= c.per_hour then
      local first = call('ZRANGE', c.key .. ':starts', '0', '0', 'WITHSCORES')[2]
      return 'per-hour ' .. ms(tonumber(first) + HOUR)
    end
  end
  if c.patience then
    if people_wait() > c.patience then
      c.waited_at = now
      call('HSET', c.key, 'waited_at', NOW)
    end
    -- For as long again, so that it does not begin anew between two waits.
    if c.waited_at and c.waited_at + c.patience > now then return 'people ' .. ms(c.waited_at + c.patience) end
  end
  if c.running >= c.most then return 'share ' .. ms(c.most) end
end

local function reason_of(c)
  local sound, why = campaigns.alone(c.name, held_up, c)
  return not sound and BROKEN or why
end

-- Whether an item's lane may start one more build, and would not have to borrow for it.
local function has_room(lane, stats)
  local rule = resolve(lane)
  if rule.ban or rule.hold then return false end
  local _, taken, limit, _, shared, shared_max = judge(lane, stats)
  if taken + call('ZCARD', base .. 'lane:' .. lane) >= limit then return false end
  if not shared then return true end
  local used = call('ZCARD', base .. 'permits:shared:' .. shared) + (lines[shared] or 0)
  if used >= shared_max then return false end
  lines[shared] = (lines[shared] or 0) + 1
  return true
end

-- What is to become of an item whose image was asked for already: nil if it may be built.
local function known_of(c, item, of)
  local id = call('GET', base .. 'image:' .. of.image)
  local b = id and load(id) or {}
  if not is_whole(b) then return end
  if not is_ended(b.state) then
    call('ZREM', c.key .. ':todo', item)
    call('HSET', c.key .. ':joined', item, id)
    return 'joined'
  end
  local v = call('HMGET', base .. 'build:' .. id, 'class', 'cause', 'reason')
  if b.state == 'succeeded' then
    campaigns.settle(c.name, item, 'people', id, {})
  elseif b.state == 'failed' and v[1] == 'repository' then
    campaigns.settle(c.name, item, 'failed', id, { cause = v[2], reason = v[3] })
  end
  -- Anything else is forgotten soon, and tried then.
  return 'ended'
end

-- What is asked for, as submit.lua gets it.
local function request_of(c, of)
  return setmetatable({
    lane = of.lane, image = of.image, repo = of.repo, ref = of.ref, args = of.args or '[]', priority = 'background',
    push = of.no_push and '' or '1', campaign = c.name,
  }, lacking)
end

-- The next items of a campaign: the best ones, and some after those that were passed over.
local function look(c)
  local todo = c.key .. ':todo'
  local page = call('ZRANGE', todo, '0', ms(LOOKED_AT - 1))
  c.further = {}
  if #page == LOOKED_AT then
    local from = LOOKED_AT + (tonumber(call('HGET', c.key, 'skip')) or 0)
    local more = call('ZRANGE', todo, ms(from), ms(from + LOOKED_FURTHER - 1))
    for _, item in ipairs(more) do page[#page + 1] = item end
    c.next_skip = #more == LOOKED_FURTHER and from + LOOKED_FURTHER - LOOKED_AT or 0
  end
  c.page, c.at = page, 0
  c.texts = page[1] and call('HMGET', c.key .. ':items', unpack(page)) or {}
end

-- Makes the next build of a campaign; false if it has no item that could start.
local function feed_one(c)
  if not c.page then look(c) end
  while c.at < #c.page do
    c.at = c.at + 1
    local item, text = c.page[c.at], c.texts[c.at]
    local of, id = campaigns.item(text), ids[used + 1]
    if not of.image then
      campaigns.settle(c.name, item, 'failed', '', { reason = 'its entry in Redis cannot be read' })
    elseif not known_of(c, item, of) then
      local stats = stats_of(of.lane)
      if has_room(of.lane, stats) then
        used = used + 1
        call('ZREM', c.key .. ':todo', item)
        call('HSET', c.key .. ':open', item, id)
        if c.per_hour then call('ZADD', c.key .. ':starts', NOW, id) end
        enter_line(id, request_of(c, of), stats, 0)
        c.running = c.running + 1
        return true
      end
    end
  end
  -- The next call looks further.
  if c.next_skip then call('HSET', c.key, 'skip', ms(c.next_skip)) end
  return false
end

-- A campaign, after what happened to its builds has been noted.
local function read(name)
  local key = campaigns.key(name)
  local state = call('HGET', key, 'state')
  if not state then
    -- Deleted by hand.
    call('ZREM', K['campaigns:open'], name)
    campaigns.count()
    return
  end
  campaigns.look_after(name, 'open', LOOKED_AFTER)
  campaigns.look_after(name, 'joined', LOOKED_AFTER)
  -- A build that its worker lost stands in line again.
  if state ~= 'running' then campaigns.take_back(name, 'fairlane', 'its campaign ' .. name .. ' is ' .. state) end
  if state == 'cancelled' then campaigns.clear(name) end
  local v = call('HMGET', key, 'share', 'per_hour', 'pause_when_waiting', 'hours', 'time_zone', 'window', 'waited_at', 'why',
    'state', 'standing')
  local share = tonumber(v[1])
  return {
    name = name, key = key, state = v[9], per_hour = tonumber(v[2]), patience = tonumber(v[3]),
    hours = v[4] and v[4] .. ' ' .. (v[5] or 'UTC'), zone = v[5] or 'UTC', span = v[4], waited_at = tonumber(v[7]),
    why = v[8] or '', standing = v[10], running = call('HLEN', key .. ':open'), todo = call('ZCARD', key .. ':todo'),
    most = share and max(1, floor(T.slots * share)) or math.huge,
  }
end

-- Why a campaign without items to be built makes no build.
local function at_its_end(c)
  if c.todo == 0 then return c.standing and c.running == 0 and 'idle' or 'last' end
end

-- Says why a campaign makes no build now.
local function say(c, why)
  if c.why ~= why then call('HSET', c.key, 'why', why) end
end

-- Why no campaign makes a build now, or nil.
local function all_held_up()
  free = free_slots()
  -- So many slots stay free for people who come while these builds run.
  local spare = max(0, min(T.slots - T.background_max, floor(T.slots / 4)))
  room = min(free - spare, T.background_max - T.background, #ids)
  if T.refill_until > now then return 'refilling' end
  if free <= 0 then return 'slots' end
  if T.background >= T.background_max then return 'background ' .. ms(T.background_max) end
  if free <= spare then return 'slots ' .. ms(free) end
  -- What stands in line goes first.
  if next_head(free) then return 'line' end
end

-- Feeds the campaign that has the fewest builds at once, until there is no room.
local function feed_fairly(ready)
  local fed = 0
  while fed < room and ready[1] do
    table.sort(ready, function(a, b)
      if a.running ~= b.running then return a.running < b.running end
      return a.rank < b.rank
    end)
    local c = ready[1]
    local sound, made = campaigns.alone(c.name, feed_one, c)
    if made then fed, c.fed = fed + 1, true end
    local why = not sound and BROKEN or reason_of(c)
    if not made or why then
      table.remove(ready, 1)
      say(c, why or c.fed and '' or 'lanes')
    end
  end
  for _, c in ipairs(ready) do say(c, c.fed and '' or 'slots') end
  return fed
end

operation('feed', ADDS, function()
  local answer, hours, ready, fed = {}, {}, {}, 0
  if T.campaigns == 0 then return { 'fed', 'fed', '0', 'open', '0', 'now', NOW, 'hours', hours } end
  ids, used, lines = {}, 0, {}
  for id in string.gmatch(W.ids, '%S+') do
    if call('EXISTS', base .. 'build:' .. id) == 0 then ids[#ids + 1] = id end
  end
  for _, window in ipairs(items) do
    if tonumber(window['until']) > now then answer[window.name] = window end
  end
  local waits
  for rank, name in ipairs(call('ZRANGE', K['campaigns:open'], '0', ms(campaigns.OPEN_MAX - 1))) do
    local _, c = campaigns.alone(name, read, name)
    if c and c.hours then hours[#hours + 1] = { 'name', name, 'hours', c.span, 'zone', c.zone } end
    if c and c.state == 'running' then
      local window = answer[name]
      c.rank, c.may_feed = rank, window and window.hours == c.hours and window.open == '1'
      if waits == nil then waits = all_held_up() or false end
      local why = at_its_end(c) or reason_of(c) or waits
      if why then say(c, why) else ready[#ready + 1] = c end
    end
  end
  if ready[1] then fed = feed_fairly(ready) end
  if fed > 0 then wake() end
  return { 'fed', 'fed', ms(fed), 'open', ms(T.campaigns), 'now', NOW, 'hours', hours }
end, 'name')
