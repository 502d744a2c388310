-- Purpose: the queue in numbers, all of one moment. Reads only.
-- KEYS[1] {prefix}:schema
-- ARGV: none
-- Returns: {'snapshot', now, queued, leased, orphaned, workers, dispatchers, slots, people, background,
--   background max, mean ms or '', lanes ready, burst, full, held, oldest asked or '', ended}
local refused = gate()
if refused then return refused end
local OLDEST_READ = 200
local reply = { 'snapshot', NOW }
local function put(value) reply[#reply + 1] = value end
for _, set in ipairs({ 'queued', 'leases', 'orphans', 'workers', 'dispatchers' }) do put(ms(call('ZCARD', base .. set))) end
put(ms(T.slots))
put(ms(tonumber(call('HGET', base .. 'totals', 'people')) or 0))
put(ms(T.background))
put(ms(T.background_max))
put(T.mean and ms(T.mean) or '')
for _, set in ipairs({ 'lanes', 'lanes:burst', 'lanes:full', 'lanes:held' }) do put(ms(call('ZCARD', base .. set))) end
local oldest
for _, id in ipairs(call('ZRANGE', base .. 'queued', 0, OLDEST_READ - 1)) do
  local asked = tonumber(call('HGET', base .. 'build:' .. id, 'asked'))
  if asked and (not oldest or asked < oldest) then oldest = asked end
end
put(oldest and ms(oldest) or '')
put(ms(call('ZCARD', base .. 'ended')))
return reply
