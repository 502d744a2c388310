-- Purpose: the policy in force, and who set it. Reads only.
-- KEYS[1] {prefix}:schema
-- ARGV: none
-- Returns: {'policy', limit, burst, overtake max ms, slow after ms, slow limit, people max, background share, order,
--   what was set as JSON or empty, by whom or empty, when or empty}
operation('policy', READS, function()
  local v = call('HMGET', K.totals, 'background_share', 'policy', 'policy_by', 'policy_at')
  return { 'policy', ms(T.limit), ms(T.burst), ms(T.overtake_max), ms(T.slow_after), ms(T.slow_limit),
    ms(T.people_max), v[1] or '0.75', T.order, v[2] or '', v[3] or '', v[4] or '' }
end)
