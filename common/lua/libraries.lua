-- Purpose: function libraries of other releases that no process has called for a day, to be removed.
-- KEYS[1] {prefix}:schema
-- items: name of a library that Redis has
-- Returns: {'libraries': unused}
operation('libraries', ALWAYS, function()
  local DAY_MS, READ_LAST = 86400000, '999'

  -- The release before this one does not register its library: while one of its processes lives, any
  -- unregistered library may be in use.
  local function silent_lives()
    for _, worker in ipairs(call('ZRANGE', K.workers, '0', READ_LAST)) do
      if not call('HGET', base .. 'worker:' .. worker, 'library') then return true end
    end
    for _, dispatcher in ipairs(call('ZRANGE', K.dispatchers, '0', READ_LAST)) do
      if call('HEXISTS', K.libraries, 'dispatcher:' .. dispatcher) == 0 then return true end
    end
    return false
  end

  local silent, unused = silent_lives(), {}
  for _, library in ipairs(items) do
    local used = tonumber(call('HGET', K.libraries, library.name))
    if not used or silent and call('HEXISTS', K.libraries, 'own:' .. library.name) == 0 then
      -- Its day starts now.
      call('HSET', K.libraries, library.name, NOW)
    elseif used < now - DAY_MS then
      unused[#unused + 1] = library.name
      call('HDEL', K.libraries, library.name, 'own:' .. library.name)
    end
  end
  return { 'libraries', 'unused', unused }
end, 'name')
