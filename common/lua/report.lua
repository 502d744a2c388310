-- Purpose: the holder says that its runs are alive, or what they wait for.
-- KEYS[1] {prefix}:schema
-- W: worker
-- items: id, epoch, running 0/1, note or empty
-- Returns: {'each': answers: {'held': cancelling 0/1} | {'stale'} | {'broken': error}}
-- Invariants: I4
local function report(run)
  local id, running, note = run.id, run.running == '1', run.note
  local build = base .. 'build:' .. id
  local v = call('HMGET', build, 'state', 'epoch', 'worker', 'lane', 'seq', 'started', 'cancelling', 'note')
  local b = { state = v[1], epoch = v[2], worker = v[3], seq = tonumber(v[5]) or 0 }
  if not holds(b, run.epoch, W.worker) then return { 'stale' } end
  local held = { 'held', 'cancelling', (v[7] or '') ~= '' and '1' or '0' }
  local starts = running and (v[6] or '') == ''
  if running and not starts and note == (v[8] or '') then return held end
  if starts and b.state == 'starting' then b.state = 'running' end
  local seq = next_seq(b)
  if starts then
    call('HSET', build, 'state', b.state, 'seq', seq, 'note', note, 'started', NOW)
  else
    call('HSET', build, 'state', b.state, 'seq', seq, 'note', note)
  end
  tell(id, v[4], b.state, seq, b.worker)
  return held
end

local function new_item() return { id = '', epoch = '', running = '', note = '' } end

operation('report', ALWAYS, function() return each_item(report) end, 'id', new_item)
