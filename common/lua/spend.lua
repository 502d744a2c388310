-- Purpose: counts a request against the limits of its client, which all dispatchers share.
-- KEYS[1] {prefix}:schema
-- items: whose a limit is ('token:<name>' | 'address:<address>'), count of requests, per so many ms
-- Returns: {'spent'} | {'limited': whose, wait ms until one more may come}
-- A call whose answer is lost and that is repeated counts twice: it errs towards fewer.
-- Invariants: I9
operation('spend', ADDS, function()
  -- A key holds the time at which its client will have everything back; each request moves it by its share.
  local moved = {}
  for _, limit in ipairs(items) do
    local key, per = base .. 'spent:' .. limit.whose, tonumber(limit.per)
    local back = max(tonumber(call('GET', key)) or 0, now) + per / tonumber(limit.count)
    local over = back - now - per
    -- What division loses is no reason to refuse.
    if over > 0.01 then return { 'limited', 'whose', limit.whose, 'wait', ms(math.ceil(over)) } end
    moved[#moved + 1] = { key, back }
  end

  for _, client in ipairs(moved) do
    call('SET', client[1], format('%.3f', client[2]), 'PX', ms(math.ceil(client[2] - now)))
  end
  return { 'spent' }
end, 'whose')
