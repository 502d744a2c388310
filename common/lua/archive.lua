-- Purpose: which logs of ended builds to archive next, and what became of those that were taken before. Any dispatcher
--   may ask; a log that one of them copies is given to no other for a while.
-- KEYS[1] {prefix}:schema
-- W: most (builds to take), hold ms (for how long nobody else gets them), patience ms (how long after a build's end its
--   log is given up)
-- items: id of a build, result 'done'|'none' (there is no log)|'again'|'lost', wait ms (until the next attempt), why it
--   could not be archived or empty
-- Returns: {'archive': waiting (how many are left), taken (ids), lost (ids of builds whose logs were given up)}
-- Invariants: I9
operation('archive', ALWAYS, function()
  local FIRST_MS, PAGE = 1000, 500 -- the last lines may be stored a moment after the build's end
  local state, lost, taken = K['archive:state'], {}, {}

  local function give_up(id, why)
    call('ZREM', K.archive, id)
    call('HINCRBY', state, 'lost', '1')
    call('HSET', state, 'lost_at', NOW, 'lost_why', why)
    lost[#lost + 1] = id
  end

  for _, item in ipairs(items) do
    local id = item.id
    if item.result == 'again' then
      call('ZADD', K.archive, 'XX', ms(now + tonumber(item.wait)), id)
      if item.why ~= '' then call('HSET', state, 'error', item.why, 'error_at', NOW) end
    elseif item.result == 'lost' then
      if call('ZSCORE', K.archive, id) then give_up(id, item.why) end
    else
      call('ZREM', K.archive, id)
      if item.result == 'done' then
        call('HDEL', state, 'error', 'error_at')
        if call('EXISTS', base .. 'build:' .. id) == 1 then call('HSET', base .. 'build:' .. id, 'archived', NOW) end
      end
    end
  end

  -- What has ended since the latest call. Builds that end later in this very millisecond are for the next one.
  local from = tonumber(call('HGET', state, 'from')) or now - KEEP_S * 1000
  local ended = call('ZRANGEBYSCORE', K.ended, '(' .. ms(from), ms(now - 1), 'WITHSCORES', 'LIMIT', '0', ms(PAGE))
  for i = 1, #ended, 2 do call('ZADD', K.archive, 'NX', ms(tonumber(ended[i + 1]) + FIRST_MS), ended[i]) end
  if ended[1] then
    local last = tonumber(ended[#ended])
    -- A full page may have left out builds of its last millisecond.
    call('HSET', state, 'from', ms(#ended == 2 * PAGE and last - 1 or last))
  end

  for _, id in ipairs(call('ZRANGEBYSCORE', K.archive, '-inf', NOW, 'LIMIT', '0', W.most)) do
    local at = tonumber(call('HGET', base .. 'build:' .. id, 'ended'))
    if not at then
      give_up(id, 'its record has expired')
    elseif now - at > tonumber(W.patience) then
      give_up(id, call('HGET', state, 'error') or 'no dispatcher archived it in time')
    else
      call('ZADD', K.archive, ms(now + tonumber(W.hold)), id)
      taken[#taken + 1] = id
    end
  end
  return { 'archive', 'waiting', ms(call('ZCARD', K.archive)), 'taken', taken, 'lost', lost }
end, 'id')
