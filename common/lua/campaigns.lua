-- Purpose: campaigns: named lists of builds to be made in the background. Their items do not stand in line: each is
--   in exactly one of a campaign's sets: `todo`, `open` (its build was put into line by feed.lua), `joined` (somebody
--   else's build makes its image) or `done`. Nothing here makes another operation fail: a key that somebody has
--   spoilt costs the campaign, and no build.
--   Builds on enter.lua. (`campaigns` itself is declared in ends.lua, which ends builds.)

campaigns.OPEN_MAX = 100      -- campaigns that have not ended
campaigns.ITEMS_MAX = 100000  -- items of one
campaigns.SHOWN_MS = 600000   -- how long operators see that one could not be handled
local CAMPAIGN_KEEP_S = '2592000' -- 30 days: how long an ended one stays
local CLEARED = 1000          -- items of a cancelled campaign that one call drops
local COVERED = { built = true, present = true, people = true }

-- The key of a campaign, or of one of its parts.
function campaigns.key(name, part) return base .. 'campaign:' .. name .. (part and ':' .. part or '') end

-- Runs `act` for one campaign; returns whether it could, and its result. If not, operators see why, and the others
-- go on.
function campaigns.alone(name, act, ...)
  local done, result = pcall(act, ...)
  if done then return true, result end
  set_aside('campaign:' .. name, type(result) == 'table' and result.err or tostring(result), campaigns.SHOWN_MS)
  return false
end

-- How many campaigns have not ended is among the totals, so that without any the queue does nothing for them.
function campaigns.count()
  T.campaigns = call('ZCARD', K['campaigns:open'])
  call('HSET', K.totals, 'campaigns', ms(T.campaigns))
end

-- An item from its JSON; empty if it cannot be read.
function campaigns.item(text)
  local read, of = pcall(cjson.decode, text or '')
  local sound = read and type(of) == 'table' and type(of.image) == 'string' and type(of.lane) == 'string'
    and type(of.repo) == 'string' and type(of.ref) == 'string'
  if not sound then return {} end
  of.launches, of.expected_seconds = tonumber(of.launches) or 1, tonumber(of.expected_seconds) or 0
  return of
end

-- The campaigns that want an image, as pairs of name and item.
local function wanting(image)
  local pairs_of = {}
  for name, item in string.gmatch(call('HGET', K['campaign-images'], image) or '', '(%S+) (%S+)') do
    pairs_of[#pairs_of + 1] = { name, item }
  end
  return pairs_of
end

-- Notes that an item wants an image, or with `gone` that it no longer does.
function campaigns.want(image, name, item, gone)
  local kept = {}
  for _, one in ipairs(wanting(image)) do
    if one[1] ~= name then kept[#kept + 1] = one[1] .. ' ' .. one[2] end
  end
  if not gone then kept[#kept + 1] = name .. ' ' .. item end
  if kept[1] then
    call('HSET', K['campaign-images'], image, table.concat(kept, ' '))
  else
    call('HDEL', K['campaign-images'], image)
  end
end

-- The item of a campaign that wants an image, or nil.
function campaigns.item_of(image, name)
  for _, one in ipairs(wanting(image)) do
    if one[1] == name then return one[2] end
  end
end

-- Ends a campaign that has nothing left to do, unless it gets more items (loading, standing).
function campaigns.close_if_done(name)
  local key = campaigns.key(name)
  local v = call('HMGET', key, 'state', 'standing', 'started')
  local state = v[1]
  if state == 'loading' or (v[2] and state ~= 'cancelled') then return end
  for part, size in pairs({ todo = 'ZCARD', open = 'HLEN', joined = 'HLEN' }) do
    if call(size, key .. ':' .. part) > 0 then return end
  end
  if call('ZREM', K['campaigns:open'], name) == 0 then return end
  campaigns.count()
  local parts = { '', ':todo', ':items', ':open', ':joined', ':done', ':failed', ':starts' }
  if not v[3] then
    -- It was cancelled before it was started: its name is free again.
    for _, part in ipairs(parts) do call('UNLINK', key .. part) end
    call('ZREM', K.campaigns, name)
    return
  end
  call('HSET', key, 'state', state == 'cancelled' and state or 'ended', 'ended', NOW, 'why', '')
  for _, part in ipairs(parts) do call('EXPIRE', key .. part, CAMPAIGN_KEEP_S) end
  local sums = call('HMGET', key, 'items', 'built', 'present', 'people', 'failed', 'cancelled')
  local function number(at) return sums[at] or '0' end
  audit('fairlane', 'campaign ended', name, number(2) .. ' built, ' .. number(3) .. ' already in the registry, '
    .. number(4) .. ' built for people, ' .. number(5) .. ' failed, ' .. number(6) .. ' cancelled')
end

-- An item is done. `how`: built, present (in the registry already), people (built because somebody asked), failed,
-- cancelled. `facts`: slot_ms, cause and reason of its build `id`.
function campaigns.settle(name, item, how, id, facts)
  local key, of = campaigns.key(name), campaigns.item(call('HGET', campaigns.key(name, 'items'), item))
  local note = cjson.encode({ how = how, at = now, build = id, slot_ms = facts.slot_ms or 0, cause = facts.cause or '',
    reason = string.sub(facts.reason or '', 1, 300) })
  if call('HSETNX', key .. ':done', item, note) == 0 then return end
  call('ZREM', key .. ':todo', item)
  call('HDEL', key .. ':open', item)
  call('HDEL', key .. ':joined', item)
  if of.image then campaigns.want(of.image, name, item, true) end
  call('HINCRBY', key, how, '1')
  call('HINCRBY', key, 'left_ms', ms(-floor((of.expected_seconds or 0) * 1000)))
  if (facts.slot_ms or 0) > 0 then call('HINCRBY', key, 'slot_ms', ms(facts.slot_ms)) end
  if COVERED[how] then call('HINCRBYFLOAT', key, 'covered', format('%.6f', of.launches or 1)) end
  if how == 'built' then call('HINCRBYFLOAT', key, 'covered_built', format('%.6f', of.launches or 1)) end
  if how == 'failed' then call('ZADD', key .. ':failed', NOW, item) end
  -- No run was needed, so it does not count against the limit per hour.
  if how == 'present' then call('ZREM', key .. ':starts', id) end
  campaigns.close_if_done(name)
end

-- An item is to be built after all.
local function back_to_do(name, item, set)
  local key = campaigns.key(name)
  local id = call('HGET', key .. ':' .. set, item)
  call('HDEL', key .. ':' .. set, item)
  call('ZADD', key .. ':todo', item, item)
  if id then call('ZREM', key .. ':starts', id) end
end

-- A build that makes an item's image has ended. `class` of a failure; `moved`: the build that took it over.
function campaigns.note(name, item, id, state, facts, class, moved)
  local key = campaigns.key(name)
  local own = call('HGET', key .. ':open', item) == id
  local joined = not own and call('HGET', key .. ':joined', item) == id
  if state == 'succeeded' then
    local how = 'people'
    if own then how = facts.reason ~= '' and 'present' or 'built' else facts = { reason = facts.reason } end
    campaigns.settle(name, item, how, id, facts)
  elseif moved and (own or joined) then
    call('HDEL', key .. ':open', item)
    call('HSET', key .. ':joined', item, moved)
  elseif own then
    campaigns.settle(name, item, state, id, facts)
  elseif joined and class == 'repository' then
    facts.slot_ms = 0
    campaigns.settle(name, item, 'failed', id, facts)
  elseif joined then
    back_to_do(name, item, 'joined')
  end
end

-- A build has ended: see end_build.
function campaigns.note_end(id, b, state, reason, cause)
  campaigns.alone('images', function()
    for _, one in ipairs(wanting(b.image)) do
      campaigns.alone(one[1], campaigns.note, one[1], one[2], id, state,
        { slot_ms = b.slot_ms, cause = cause, reason = reason }, b.class)
    end
  end)
end

-- Looks at some of the builds that a campaign waits for: a process of an older release does not report their ends,
-- and a record may have been deleted by hand.
function campaigns.look_after(name, set, count)
  local key = campaigns.key(name)
  local some = call('HRANDFIELD', key .. ':' .. set, ms(count), 'WITHVALUES')
  for i = 1, #some, 2 do
    local item, id = some[i], some[i + 1]
    local v = call('HMGET', base .. 'build:' .. id, 'state', 'class', 'cause', 'reason', 'slot_ms', 'moved')
    if not v[1] then
      back_to_do(name, item, set)
    elseif is_ended(v[1]) then
      -- A success after a failed attempt still has that attempt's reason.
      local reason = v[1] == 'succeeded' and v[2] and '' or v[4] or ''
      campaigns.note(name, item, id, v[1], { slot_ms = tonumber(v[5]), cause = v[3] or '', reason = reason }, v[2], v[6])
    end
  end
end

-- Takes the builds of a campaign out of line that have not started and that nobody waits for; their items are to be
-- built later. Returns how many.
function campaigns.take_back(name, by, reason)
  local open, taken = call('HGETALL', campaigns.key(name, 'open')), 0
  for i = 1, #open, 2 do
    local id = open[i + 1]
    local b = load(id)
    if is_whole(b) and b.state == 'queued' and b.priority == 'background' and b.people == 0 then
      back_to_do(name, open[i], 'open')
      stop(id, b, by, reason)
      taken = taken + 1
    end
  end
  return taken
end

-- Drops some of the items that a cancelled campaign has not begun.
function campaigns.clear(name)
  local key = campaigns.key(name)
  for _, set in ipairs({ 'todo', 'joined' }) do
    local items = set == 'todo' and call('ZRANGE', key .. ':todo', '0', ms(CLEARED - 1)) or call('HKEYS', key .. ':joined')
    for _, item in ipairs(items) do
      local of = campaigns.item(call('HGET', key .. ':items', item))
      if of.image then campaigns.want(of.image, name, item, true) end
      call(set == 'todo' and 'ZREM' or 'HDEL', key .. ':' .. set, item)
    end
  end
  campaigns.close_if_done(name)
end
