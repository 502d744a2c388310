-- Purpose: notes which logs of ended builds were shortened or removed.
-- KEYS[1] {prefix}:schema
-- ARGV[2] who is to be noted in the audit for it or empty, ARGV[3] what and ARGV[4] the detail there, then (entry of
--   the index, bytes that are left or empty: it is gone)…
-- Returns: {'done', bytes that were freed}
-- Invariants: I9
operation('logs_done', ALWAYS, function()
  local whole, short = 0, 0 -- by how much the sums change
  for i = 5, #ARGV, 2 do
    local entry, left = ARGV[i], ARGV[i + 1]
    local id, run, bytes = string.match(entry, '^(%S+) (%d+) (%d+)$')
    local ended = call('ZSCORE', K.logs, entry) or call('ZSCORE', K['logs:cut'], entry)
    if not id then call('ZREM', K.logs, entry) end
    -- Another process has done the same, and noted it.
    if id and ended then
      if call('ZREM', K.logs, entry) == 1 then
        whole = whole - tonumber(bytes)
      else
        call('ZREM', K['logs:cut'], entry)
        short = short - tonumber(bytes)
      end
      if left ~= '' then
        call('ZADD', K['logs:cut'], ended, id .. ' ' .. run .. ' ' .. left)
        short = short + tonumber(left)
      end
      if call('EXISTS', base .. 'build:' .. id) == 1 then
        call('HSET', base .. 'build:' .. id, 'log_pruned', left == '' and 'gone' or 'cut')
      end
    end
  end
  call('HINCRBY', K.totals, 'logs_bytes', ms(whole + short))
  call('HINCRBY', K.totals, 'logs_cut_bytes', ms(short))
  if ARGV[2] ~= '' then audit(ARGV[2], 'logs pruned', ARGV[3], ARGV[4]) end
  return { 'done', ms(-(whole + short)) }
end)
