-- Purpose: counts a request against the limits of its client, which all dispatchers share.
-- KEYS[1] {prefix}:schema
-- items: whose limit it is ('token:<name>' | 'address:<address>'), count of requests, per (ms)
-- Returns: {'spent'} | {'limited': whose, wait (ms until the next request is allowed)}
-- If an answer is lost and the call is repeated, it counts twice: the limit errs on the strict side.
-- Invariants: I9
operation('spend', ADDS, function()
  -- A key holds the time when its client's allowance will be full again; each request moves that time later.
  local moved = {}
  for _, limit in ipairs(items) do
    local key, per = base .. 'spent:' .. limit.whose, tonumber(limit.per)
    local back = max(tonumber(call('GET', key)) or 0, now) + per / tonumber(limit.count)
    local over = back - now - per
    -- A rounding error must not cause a refusal.
    if over > 0.01 then return { 'limited', 'whose', limit.whose, 'wait', ms(math.ceil(over)) } end
    moved[#moved + 1] = { key, back }
  end

  for _, client in ipairs(moved) do
    call('SET', client[1], format('%.3f', client[2]), 'PX', ms(math.ceil(client[2] - now)))
  end
  return { 'spent' }
end, 'whose')
