-- Purpose: shortens the log of an ended build to its first and its last lines.
-- KEYS[1] log stream, KEYS[2] its tail, KEYS[3] its meta hash; all in the log's own slot
-- W: first and last, bytes of the first and of the last lines
-- Returns: {'shortened': bytes that are left}
-- Invariants: I9
register('shorten', ALWAYS, function(keys, args)
  read_words(args, 1)
  local first_bytes, last_bytes = tonumber(W.first), tonumber(W.last)
  local call = redis.call
  local ENTRY_BYTES, PAGE = 32, 100
  local head, tail, meta = keys[1], keys[2], keys[3]
  local known = call('HMGET', meta, 'head_bytes', 'tail_bytes', 'dropped')
  local bytes = (tonumber(known[1]) or 0) + (tonumber(known[2]) or 0)
  if bytes <= first_bytes + last_bytes then return { 'shortened', 'bytes', string.format('%.0f', bytes) } end

  -- Reads entries from one end of a stream while they fit into `room`; also returns whether those were all.
  local function take(into, room, key, command, from)
    while true do
      local page = call(command, key, from, command == 'XRANGE' and '+' or '-', 'COUNT', PAGE)
      for _, entry in ipairs(page) do
        local size = #entry[2][2] + #entry[2][4] + ENTRY_BYTES
        if into.bytes + size > room then return false end
        into.bytes, into[#into + 1] = into.bytes + size, entry
      end
      if #page < PAGE then return true end
      from = '(' .. page[#page][1]
    end
  end

  local first, last = { bytes = 0 }, { bytes = 0 }
  local count = call('XLEN', head) + call('XLEN', tail)
  if take(last, last_bytes, tail, 'XREVRANGE', '+') then take(last, last_bytes, head, 'XREVRANGE', '+') end
  take(first, first_bytes, head, 'XRANGE', '-')
  local ttl = call('PTTL', meta)
  -- Removing single entries from a stream frees little memory.
  call('UNLINK', head, tail)
  for _, entry in ipairs(first) do call('XADD', head, entry[1], unpack(entry[2])) end
  for i = #last, 1, -1 do call('XADD', tail, last[i][1], unpack(last[i][2])) end
  local dropped = (tonumber(known[3]) or 0) + count - #first - #last
  call('HSET', meta, 'head_bytes', string.format('%.0f', first.bytes), 'tail_bytes', string.format('%.0f', last.bytes),
    'dropped', string.format('%.0f', dropped), 'head_full', '1', 'pruned', '1',
    'kept_from', last[1] and last[#last][1] or '')
  if ttl > 0 then for _, key in ipairs(keys) do call('PEXPIRE', key, ttl) end end
  return { 'shortened', 'bytes', string.format('%.0f', first.bytes + last.bytes) }
end)
