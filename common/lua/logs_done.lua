-- Purpose: notes which logs of ended builds were shortened or removed.
-- KEYS[1] {prefix}:schema
-- W: by (who is named in the audit stream) or empty; what and detail for that entry
-- items: entry of the index, left (bytes that are left) or empty if the log is gone
-- Returns: {'done': freed bytes}
-- Invariants: I9
operation('logs_done', ALWAYS, function()
  local whole, short = 0, 0 -- by how much the sums change
  for _, item in ipairs(items) do
    local entry, left = item.entry, item.left
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
  if W.by ~= '' then audit(W.by, 'logs pruned', W.what, W.detail) end
  return { 'done', 'freed', ms(-(whole + short)) }
end, 'entry')
