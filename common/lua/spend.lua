-- Purpose: counts a request against the limits of its client, which all dispatchers share.
-- KEYS[1] {prefix}:schema
-- ARGV[2…] for each limit: whose ('token:<name>' | 'address:<address>'), how many requests, within how many ms
-- Returns: {'spent'} | {'limited', whose, ms until one more may come}
-- A call whose answer is lost and that is repeated counts twice: it errs towards fewer.
-- Invariants: I9
operation('spend', ADDS, function()
  -- A key holds the time at which its client will have everything back; each request moves it by its share.
  local moved = {}
  for i = 2, #ARGV, 3 do
    local key, per = base .. 'spent:' .. ARGV[i], tonumber(ARGV[i + 2])
    local back = max(tonumber(call('GET', key)) or 0, now) + per / tonumber(ARGV[i + 1])
    local over = back - now - per
    -- What division loses is no reason to refuse.
    if over > 0.01 then return { 'limited', ARGV[i], ms(math.ceil(over)) } end
    moved[#moved + 1] = { key, back }
  end

  for _, client in ipairs(moved) do
    call('SET', client[1], format('%.3f', client[2]), 'PX', ms(math.ceil(client[2] - now)))
  end
  return { 'spent' }
end)
