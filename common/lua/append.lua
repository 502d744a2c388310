-- Purpose: appends lines to the log of a run: the head up to its limit, then a tail that is trimmed.
--   `fence` does the same, and also works when Redis is out of memory: it is for no lines, or for one.
-- KEYS[1] log stream, KEYS[2] its tail, KEYS[3] its meta hash; all in the log's own slot
-- W: epoch of the writer, last (id of the last entry as the writer knows it), head and tail (bytes of each), keep
--   seconds, channel, again (if a failover lost these entries: the former id of the last one). There is no time
--   argument: a log is in another Cluster slot than the queue and always uses Redis's clock.
-- items: t, a line's time, and its text
-- Returns: {'appended': last id} | {'behind': last id} | {'stale'}
-- Invariants: I4, I9
local function append(keys, args)
  read_words(args, 1, 't')
  local call = redis.call
  local ENTRY_BYTES = 32 -- what an entry costs beyond its text, so that empty lines count too
  local head, tail, meta = keys[1], keys[2], keys[3]
  local known = call('HMGET', meta, 'epoch', 'last', 'head_bytes', 'tail_bytes', 'dropped', 'head_full')
  local epoch, last = tonumber(known[1]) or 0, known[2] or '0-0'
  if tonumber(W.epoch) < epoch then return { 'stale' } end
  if W.last ~= last then return { 'behind', 'last', last } end

  local head_bytes, tail_bytes = tonumber(known[3]) or 0, tonumber(known[4]) or 0
  local dropped, head_full = tonumber(known[5]) or 0, known[6] == '1'
  local time = call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  -- Ids only grow, across both streams and even if a clock steps back.
  local again = W.again ~= ''
  local at, seq = string.match(again and W.again or last, '^(%d+)%-(%d+)$')
  at, seq = tonumber(at), tonumber(seq)
  if again then
    seq = seq - #items
  elseif now > at then
    at, seq = now, -1
  end

  for _, line in ipairs(items) do
    seq = seq + 1
    last = string.format('%.0f-%.0f', at, seq)
    local bytes = #line.t + #line.text + ENTRY_BYTES
    if not head_full and head_bytes + bytes > tonumber(W.head) then head_full = true end
    call('XADD', head_full and tail or head, last, 't', line.t, 'text', line.text)
    if head_full then tail_bytes = tail_bytes + bytes else head_bytes = head_bytes + bytes end
  end

  while tail_bytes > tonumber(W.tail) do
    local oldest = call('XRANGE', tail, '-', '+', 'COUNT', 20)
    if #oldest < 2 then break end
    local cut = {}
    for i, entry in ipairs(oldest) do
      if tail_bytes <= tonumber(W.tail) then break end
      cut[i] = entry[1]
      tail_bytes = tail_bytes - #entry[2][2] - #entry[2][4] - ENTRY_BYTES
    end
    dropped = dropped + #cut
    call('XDEL', tail, unpack(cut))
  end

  local first = head_full and call('XRANGE', tail, '-', '+', 'COUNT', 1)[1]
  call('HSET', meta, 'epoch', W.epoch, 'last', last, 'head_bytes', string.format('%.0f', head_bytes),
    'tail_bytes', string.format('%.0f', tail_bytes), 'dropped', string.format('%.0f', dropped),
    'head_full', head_full and '1' or '0', 'kept_from', dropped > 0 and first and first[1] or '')
  for _, key in ipairs(keys) do call('EXPIRE', key, W.keep) end
  call('PUBLISH', W.channel, last)
  return { 'appended', 'last', last }
end

register('append', ADDS, append)
register('fence', ALWAYS, append)
