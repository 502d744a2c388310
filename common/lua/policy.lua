-- Purpose: the policy in force, and who set it. Reads only.
-- KEYS[1] {prefix}:schema
-- ARGV: none
-- Returns: {'policy', limit, burst, overtake max ms, patience, slow after ms, slow limit, people max, background share,
--   order, what was set as JSON or empty, by whom or empty, when or empty}
operation('policy', READS, function()
  local v = call('HMGET', K.totals, 'patience', 'background_share', 'order', 'policy', 'policy_by', 'policy_at')
  return { 'policy', ms(T.limit), ms(T.burst), ms(T.overtake_max), v[1] or '30', ms(T.slow_after), ms(T.slow_limit),
    ms(T.people_max), v[2] or '0.75', v[3] or 'fair', v[4] or '', v[5] or '', v[6] or '' }
end)
