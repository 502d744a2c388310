-- Purpose: which logs of ended builds to shorten, then remove, to free memory; oldest first. Without logs, removes
--   records of ended builds.
-- KEYS[1] {prefix}:schema
-- W: max (bytes that all of them may take) or empty, need (bytes to free in any case), age (ms after which
--   they are removed) or empty, cut (bytes of a shortened log), most (logs per call), timed 1 for once a
--   second over all processes
-- Returns: {'due': bytes of all, entries of the index, each with what to do: act 'cut'|'drop'}
-- Invariants: I9
operation('logs_due', ALWAYS, function()
  local EVERY_MS, RECORDS = 900, 1000
  local cut_bytes, most = tonumber(W.cut), tonumber(W.most)
  local v = call('HMGET', K.totals, 'logs_bytes', 'logs_cut_bytes', 'logs_at')
  local total, short, at = tonumber(v[1]) or 0, tonumber(v[2]) or 0, tonumber(v[3])
  local count_all = call('ZCARD', K.logs) + call('ZCARD', K['logs:cut'])
  if count_all == 0 and (total ~= 0 or short ~= 0) then
    -- Somebody has deleted the index.
    call('HDEL', K.totals, 'logs_bytes', 'logs_cut_bytes')
    total, short = 0, 0
  end
  local entries = {}
  local reply = { 'due', 'bytes', ms(max(0, total)), 'entries', entries }
  if W.timed == '1' then
    if at and now >= at and now - at < EVERY_MS then return reply end
    call('HSET', K.totals, 'logs_at', NOW)
  end

  local count, over = 0, max(tonumber(W.need), W.max == '' and 0 or total - tonumber(W.max))
  local taken, pages = { logs = 0, ['logs:cut'] = 0 }, {}
  local function bytes_of(entry) return tonumber(string.match(entry, '(%d+)$')) or 0 end

  -- The oldest entry of a set that was not taken.
  local function oldest(set)
    pages[set] = pages[set] or call('ZRANGE', base .. set, 0, most - 1)
    return pages[set][taken[set] + 1]
  end

  local function take(act, set, entry)
    local bytes = bytes_of(entry)
    local left = act == 'cut' and min(bytes, cut_bytes) or 0
    taken[set], count = taken[set] + 1, count + 1
    total, over = total - bytes + left, over - bytes + left
    short = short + left - (set == 'logs:cut' and bytes or 0)
    entries[count] = { 'act', act, 'entry', entry }
  end

  if W.age ~= '' then
    for _, set in ipairs({ 'logs:cut', 'logs' }) do
      local limit = ms(most - count)
      for _, entry in ipairs(call('ZRANGEBYSCORE', base .. set, '-inf', ms(now - tonumber(W.age)), 'LIMIT', 0, limit)) do
        take('drop', set, entry)
      end
    end
  end
  -- Half of the budget is for the newest logs in full, half for shortened older ones.
  while over > 0 and count < most do
    local whole, cut = oldest('logs'), oldest('logs:cut')
    if whole and (total - short > short or not cut) then
      take('cut', 'logs', whole)
    elseif cut then
      take('drop', 'logs:cut', cut)
    else
      break
    end
  end
  -- Redis is low on memory, and there is no log to remove: then the oldest records of ended builds go.
  if W.timed == '1' and tonumber(W.need) > 0 and count == 0 then
    local records = call('XLEN', K.past)
    if records > 0 then call('XTRIM', K.past, 'MAXLEN', '~', ms(max(0, records - RECORDS))) end
  end
  return reply
end)
