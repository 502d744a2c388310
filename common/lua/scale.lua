-- Purpose: how many slots the queue could use now, for an autoscaler. Reads only.
-- KEYS[1] {prefix}:schema
-- W: most (lanes to read; each lane beyond that counts as one build)
-- Returns: {'scale': queued, startable, running, slots, wanted}
operation('scale', READS, function()
  local most = tonumber(W.most)
  local people, background = 0, 0

  -- Adds the builds that a lane has permits for, interactive ones first.
  local function add(lane, room)
    local queued = call('ZCARD', base .. 'lane:' .. lane)
    local urgent = call('ZCOUNT', base .. 'lane:' .. lane, '-inf', ms(now + BACKGROUND / 2))
    people = people + min(urgent, room)
    background = background + min(queued - urgent, max(0, room - urgent))
    return min(queued, room)
  end

  local function room_of(lane)
    local _, taken, limit = judge(lane, stats_of(lane))
    return max(0, limit - taken)
  end

  local read = 0
  for _, lane in ipairs(call('ZRANGE', K.lanes, '0', ms(most - 1))) do
    local name = string.match(lane, '^@(.*)$')
    if name then
      local left = shared_limit(name) - call('ZCARD', base .. 'permits:shared:' .. name)
      for _, shared in ipairs(call('ZRANGE', base .. 'lanes:shared:' .. name, '0', ms(most - 1))) do
        if left <= 0 or read >= most then break end
        read = read + 1
        left = left - add(shared, min(left, room_of(shared)))
      end
    else
      read = read + 1
      add(lane, room_of(lane))
    end
  end
  people = people + max(0, call('ZCARD', K.lanes) - most)

  local running, share = call('ZCARD', K.leases) + call('ZCARD', K.orphans), T.background_share
  if share == 0 then background = 0 end
  local wanted = running + people + background
  -- Background builds get only their share of the slots, rounded down, but at least one slot.
  local most_background = T.background + background
  if background > 0 and most_background > 1 then
    local slots = math.ceil(most_background / share)
    if floor(slots * share) < most_background then slots = slots + 1 end
    wanted = max(wanted, slots)
  end
  return { 'scale', 'queued', ms(call('ZCARD', K.queued)), 'startable', ms(people + background),
    'running', ms(running), 'slots', ms(T.slots), 'wanted', ms(wanted) }
end)
