-- Purpose: what a forecast of the line needs, all of one moment: what runs, who waits, and the lanes of both. Reads only.
-- KEYS[1] {prefix}:schema
-- ARGV[2] most runs that are read, ARGV[3] most builds in line, from its beginning
-- Returns: {'line', runs, ('<id> <number of its lane> <background 0/1> <claimed> <shared limit or empty>')…,
--   builds in line, ('<id> <number of its lane> <background 0/1> <due> <not before or empty>')…,
--   lanes, ('<name> <set or -> <mean ms or -> <limit> <burst> <permits of its shared limit> <that limit or ->'
--     and, where a rule holds it, ' <until or -> <rule> <message>')…}
-- (Names hold no blanks. One text each: a second as many values would take Redis half as long again.)
operation('line', READS, function()
  local reply, size, lanes, numbers = { 'line' }, 1, {}, {}
  local function put(text)
    size = size + 1
    reply[size] = text
  end
  local function number_of(lane)
    local number = numbers[lane]
    if not number then
      lanes[#lanes + 1] = lane
      number = ms(#lanes - 1)
      numbers[lane] = number
    end
    return number
  end
  put('')
  local head = size
  for _, set in ipairs({ K.leases, K.orphans }) do
    for _, id in ipairs(call('ZRANGE', set, '0', ms(ARGV[2] - 1))) do
      local v = call('HMGET', base .. 'build:' .. id, 'lane', 'claimed', 'shared', 'bg')
      if v[1] and tonumber(v[2]) then
        put(id .. ' ' .. number_of(v[1]) .. (v[4] == '1' and ' 1 ' or ' 0 ') .. v[2] .. ' ' .. (v[3] or ''))
      end
    end
  end
  reply[head] = ms(size - head)
  put('')
  head = size
  local line = call('ZRANGE', K.queued, '0', ms(ARGV[3] - 1), 'WITHSCORES')
  for i = 1, #line, 2 do
    local id = line[i]
    local v = call('HMGET', base .. 'build:' .. id, 'lane', 'not_before', 'priority')
    if v[1] then
      put(id .. ' ' .. number_of(v[1]) .. (v[3] == 'background' and ' 1 ' or ' 0 ') .. ms(tonumber(line[i + 1])) .. ' '
        .. (v[2] or ''))
    end
  end
  reply[head] = ms(size - head)
  put(ms(#lanes))
  for _, lane in ipairs(lanes) do
    local stats = call('HMGET', base .. 'stats:' .. lane, 'at', 'mean')
    -- Permits in use are counted from the runs.
    local _, _, limit, burst, shared, shared_max = judge(lane, tonumber(stats[2]), 0)
    local text = lane .. ' ' .. (stats[1] or '-') .. ' ' .. (stats[2] or '-') .. ' ' .. ms(limit) .. ' '
      .. ms(shared and limit or burst) .. ' ' .. ms(shared_max or 0) .. ' ' .. (shared or '-')
    local r = resolve(lane)
    if r.hold then
      local over = r.hold['until']
      text = text .. ' ' .. (over and ms(over) or '-') .. ' ' .. r.hold_rule .. ' ' .. (r.hold.message or '')
    end
    put(text)
  end
  return reply
end)
