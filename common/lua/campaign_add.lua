-- Purpose: adds items to a campaign. A repeated call adds nothing.
-- KEYS[1] {prefix}:schema
-- W: name, first: how many items the campaign has before these
-- items: image, item as JSON: repo, ref, image, lane, launches, expected_seconds, spec, args (JSON), no_push
-- Returns: {'added': items} | {'unknown'} | {'ended': state} | {'misfit': items} | {'duplicate': at, item}
--   | {'full': max}
operation('campaign_add', ADDS, function()
  local name, key, first = W.name, campaigns.key(W.name), tonumber(W.first)
  local v = call('HMGET', key, 'state', 'items')
  if not v[1] then return { 'unknown' } end
  local count = tonumber(v[2]) or 0
  if first + #items <= count then return { 'added', 'items', ms(count) } end
  if v[1] == 'ended' or v[1] == 'cancelled' then return { 'ended', 'state', v[1] } end
  if first ~= count then return { 'misfit', 'items', ms(count) } end
  if count + #items > campaigns.ITEMS_MAX then return { 'full', 'max', ms(campaigns.ITEMS_MAX) } end
  local here = {}
  for at, item in ipairs(items) do
    local other = here[item.image] or campaigns.item_of(item.image, name)
    if other then return { 'duplicate', 'at', ms(at - 1), 'item', other } end
    here[item.image] = ms(first + at - 1)
  end
  local left_ms, launches = 0, 0
  for at, item in ipairs(items) do
    local number = ms(first + at - 1)
    call('HSET', key .. ':items', number, item.item)
    call('ZADD', key .. ':todo', number, number)
    campaigns.want(item.image, name, number)
    local of = campaigns.item(item.item)
    left_ms, launches = left_ms + floor((of.expected_seconds or 0) * 1000), launches + (of.launches or 1)
  end
  call('HINCRBY', key, 'left_ms', ms(left_ms))
  call('HINCRBYFLOAT', key, 'item_launches', format('%.6f', launches))
  call('HSET', key, 'items', ms(count + #items))
  return { 'added', 'items', ms(count + #items) }
end, 'image')
