-- Purpose: puts new builds into line, for people (submit.lua) and for campaigns (feed.lua).
--   Builds on heal.lua.

local function expected_of(stats) return floor(stats.mean or T.mean or MEAN_UNKNOWN) end

-- A new build, with what is asked for (see spec_fields). The caller passes the lane's stats, and how
-- many people wait. Returns how long the build is expected to take.
local function enter_line(id, asked, stats, people)
  local build, lane, expects = base .. 'build:' .. id, asked.lane, expected_of(stats)
  local in_lane = base .. 'lane:' .. lane
  local due, expected, waiting = ms(due_of(now, expects, people, asked.priority)), ms(expects), people == 1 and '1' or '0'
  -- Written out, because a list that is put together costs as much as some commands.
  call('HSET', build, 'state', 'queued', 'asked', NOW, 'due', due, 'expected', expected, 'people', waiting,
    'peak', waiting, 'attempt', '1', 'seq', '1', 'lane', lane, 'image', asked.image, 'repo', asked.repo,
    'ref', asked.ref, 'args', asked.args, 'priority', asked.priority, 'push', asked.push)
  if asked.name ~= '' or asked.labels ~= '' then call('HSET', build, 'name', asked.name, 'labels', asked.labels) end
  if asked.more ~= '' then call('HSET', build, 'more', asked.more) end
  if asked.secrets ~= '' then call('HSET', build, 'secrets', asked.secrets) end
  if asked.force == '1' then call('HSET', build, 'forced', '1') end
  if asked.campaign ~= '' then call('HSET', build, 'campaign', asked.campaign) end
  call('SET', base .. 'image:' .. asked.image, id)
  enqueue(id, due)
  call('ZADD', in_lane, due, id)
  if stats.at then
    came_in(lane, stats.at, id, due)
  else
    -- No other build of the lane waits.
    local taken = call('ZCARD', base .. 'permits:' .. lane)
    if taken > 0 then
      check_permits(lane)
      taken = nil
    end
    sort_lane(lane, stats, taken)
  end
  tell(id, lane, 'queued', '1')
  return expected
end
