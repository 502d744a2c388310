-- Purpose: what is known of campaigns, newest first. Reads only.
-- KEYS[1] {prefix}:schema
-- W: name of one, or empty for all; open 1 for those that have not ended; most: how many at most
-- Returns: {'campaigns': now, slots, background_max, campaigns, of each: name, fields (those of its hash), todo, open, joined
--   (how many items are in these sets), builds (ids of some that were put into line), in_line (of one: how many of its
--   builds are in line), unreadable (names)}
operation('campaigns_view', READS, function()
  local found, unreadable = {}, {}
  local names = W.name ~= '' and { W.name }
    or call('ZREVRANGE', W.open == '1' and K['campaigns:open'] or K.campaigns, '0', ms(W.most - 1))
  for _, name in ipairs(names) do
    local key = campaigns.key(name)
    local sound = pcall(function()
      local fields = call('HGETALL', key)
      if not fields[1] then return end
      local builds, in_line = call('HRANDFIELD', key .. ':open', '50', 'WITHVALUES'), 0
      for _, id in ipairs(W.name ~= '' and call('HVALS', key .. ':open') or {}) do
        if call('HGET', base .. 'build:' .. id, 'state') == 'queued' then in_line = in_line + 1 end
      end
      found[#found + 1] = { 'name', name, 'fields', fields, 'todo', ms(call('ZCARD', key .. ':todo')),
        'open', ms(call('HLEN', key .. ':open')), 'joined', ms(call('HLEN', key .. ':joined')), 'builds', builds,
        'in_line', W.name ~= '' and ms(in_line) or '' }
    end)
    if not sound then unreadable[#unreadable + 1] = name end
  end
  return { 'campaigns', 'now', NOW, 'slots', ms(max(0, T.slots)), 'background_max', ms(T.background_max),
    'campaigns', found, 'unreadable', unreadable }
end)
