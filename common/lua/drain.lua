-- Purpose: an operator stops a worker from claiming builds, or undoes that. The drain applies to the name of
--   the worker's host or pod: so it survives a restart, and applies to all workers with that name.
-- KEYS[1] {prefix}:schema
-- W: worker (a worker's id or such a name), drain 1/0, by whom, because (why, for the audit) or absent
-- Returns: {'drain': name, live workers of that name} | {'unknown'}
local WORKERS_LAST, NAMES_READ = '999', '1000'

-- The name of a worker that is not alive any more, where it was drained under that name.
local function drained_as(asked)
  if call('HEXISTS', K.drained, asked) == 1 then return asked end
  local page = call('HSCAN', K.drained, '0', 'COUNT', NAMES_READ)[2]
  for i = 1, #page, 2 do
    if cjson.decode(page[i + 1]).worker == asked then return page[i] end
  end
end

operation('drain', ALWAYS, function()
  local asked, drain, by = W.worker, W.drain == '1', W.by
  local hosts, by_id, by_name = {}, nil, nil
  local ids = call('ZRANGE', K.workers, '0', WORKERS_LAST)
  for i, id in ipairs(ids) do
    hosts[i] = call('HGET', base .. 'worker:' .. id, 'host') or ''
    if id == asked then by_id = hosts[i] end
    if hosts[i] == asked then by_name = asked end
  end
  local name = by_id or by_name or drained_as(asked)
  if not name then return { 'unknown' } end
  audit(by, drain and 'drain' or 'undrain', name, name ~= asked and asked or '')
  if drain then
    call('HSET', K.drained, name, cjson.encode({ at = now, by = by, worker = asked }))
  else
    call('HDEL', K.drained, name)
  end
  local workers = {}
  for i, id in ipairs(ids) do
    if hosts[i] == name then
      -- Claims refuse it from now on; its slots change with its next heartbeat.
      call('HSET', base .. 'worker:' .. id, 'drain', drain and '1' or '0')
      workers[#workers + 1] = id
    end
  end
  return { 'drain', 'name', name, 'workers', workers }
end)
