-- Purpose: lets runs push their images, a limited number at once per registry; `give_back` releases the permit.
-- KEYS[1] {prefix}:schema
-- W: worker
-- items: id of a build, its epoch, registry of its image, pushing 0/1 (whether it pushes already, without a permit)
-- Returns: {'pushes': answers, of each item {'go'} | {'wait': pushing (how many do), ahead (how many are before it in line)} |
--   {'stale'}}
-- Invariants: I4, I9
local HEARD_MS = 5000 -- a build whose worker has not asked for this long holds up nobody
local LOOKED_AT = '100'

local function limit_of(registry)
  local read, own = pcall(cjson.decode, T.push_limits)
  return read and type(own) == 'table' and tonumber(own[registry]) or T.push_limit or math.huge
end

-- How many builds of the line are before this one and still ask; counts no further than `enough`.
local function ahead_of(line, id, enough)
  local ahead = 0
  for _, other in ipairs(call('ZRANGE', line, '0', LOOKED_AT)) do
    if other == id or ahead >= enough then return ahead end
    local heard = tonumber(call('HGET', base .. 'build:' .. other, 'push_heard'))
    if heard and now - heard <= HEARD_MS then ahead = ahead + 1 end
  end
  return enough
end

local function ask(id, epoch, registry, is_pushing)
  local b = load(id)
  if not holds(b, epoch, W.worker) then return { 'stale' } end
  local build = base .. 'build:' .. id
  local pushes, line = base .. 'pushes:' .. registry, base .. 'push-line:' .. registry
  if call('ZSCORE', pushes, id) then return { 'go' } end
  local since = tonumber(call('HGET', build, 'push_since')) or now
  call('ZADD', K.pushes, 'NX', NOW, registry)
  if not is_pushing then
    call('HSET', build, 'pushing', registry, 'push_since', ms(since), 'push_heard', NOW)
    call('ZADD', line, ms(since + (b.priority == 'background' and BACKGROUND or 0)), id)
    local taken = call('ZCARD', pushes)
    local free = limit_of(registry) - taken
    if free <= 0 or ahead_of(line, id, free) >= free then
      return { 'wait', 'pushing', ms(taken), 'ahead', ms(call('ZRANK', line, id)) }
    end
  end
  call('ZREM', line, id)
  call('ZADD', pushes, NOW, id)
  call('HSET', build, 'pushing', registry, 'push_since', ms(since), 'push_go', NOW)
  call('HDEL', build, 'push_heard')
  return { 'go' }
end

operation('push', ALWAYS, function()
  local answers = {}
  for i, item in ipairs(items) do answers[i] = ask(item.id, item.epoch, item.registry, item.pushing == '1') end
  return { 'pushes', 'answers', answers }
end, 'id')
