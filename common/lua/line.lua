-- Purpose: everything a forecast of the line needs, as one snapshot: running builds, waiting builds, and
--   their lanes. Reads only.
-- KEYS[1] {prefix}:schema
-- W: runs, how many are read at most; waiting, how many builds in line, from its beginning
-- Returns: {'line': runs, each '<id> <number of its lane> <background 0/1> <claimed> <shared limit or empty> <people>',
--   waiting, each '<id> <number of its lane> <background 0/1> <due> <not before or empty> <people> <asked>',
--   lanes, each '<name> <set or -> <mean ms or -> <limit> <burst> <permits of its shared limit> <that limit or ->'
--     and, where a rule holds it, ' <until or -> <rule> <message>'}
-- (Names contain no spaces. Each is one string, because separate values would take Redis half as long again.)
operation('line', READS, function()
  local runs, waiting, lanes, numbers = {}, {}, {}, {}
  local function number_of(lane)
    local number = numbers[lane]
    if not number then
      lanes[#lanes + 1] = lane
      number = ms(#lanes - 1)
      numbers[lane] = number
    end
    return number
  end
  for _, set in ipairs({ K.leases, K.orphans }) do
    for _, id in ipairs(call('ZRANGE', set, '0', ms(W.runs - 1))) do
      local v = call('HMGET', base .. 'build:' .. id, 'lane', 'claimed', 'shared', 'bg', 'people')
      if v[1] and tonumber(v[2]) then
        runs[#runs + 1] = id .. ' ' .. number_of(v[1]) .. (v[4] == '1' and ' 1 ' or ' 0 ') .. v[2] .. ' '
          .. (v[3] or '') .. ' ' .. (v[5] or '0')
      end
    end
  end
  local line = call('ZRANGE', K.queued, '0', ms(W.waiting - 1), 'WITHSCORES')
  for i = 1, #line, 2 do
    local id = line[i]
    local v = call('HMGET', base .. 'build:' .. id, 'lane', 'not_before', 'priority', 'people', 'asked')
    if v[1] then
      waiting[#waiting + 1] = id .. ' ' .. number_of(v[1]) .. (v[3] == 'background' and ' 1 ' or ' 0 ')
        .. ms(tonumber(line[i + 1])) .. ' ' .. (v[2] or '') .. ' ' .. (v[4] or '0') .. ' ' .. (v[5] or '0')
    end
  end
  local facts = {}
  for at, lane in ipairs(lanes) do
    local stats = stats_of(lane)
    -- Permits in use are counted from the runs.
    local _, _, limit, burst, shared, shared_max = judge(lane, stats, 0)
    local text = lane .. ' ' .. (stats.at or '-') .. ' ' .. (stats.mean and ms(stats.mean) or '-') .. ' ' .. ms(limit) .. ' '
      .. ms(shared and limit or burst) .. ' ' .. ms(shared_max or 0) .. ' ' .. (shared or '-')
    local r = resolve(lane)
    if r.hold then
      local over = r.hold['until']
      text = text .. ' ' .. (over and ms(over) or '-') .. ' ' .. r.hold_rule .. ' ' .. (r.hold.message or '')
    end
    facts[at] = text
  end
  return { 'line', 'runs', runs, 'waiting', waiting, 'lanes', facts }
end)
