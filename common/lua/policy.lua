-- Purpose: the policy in force, and who set it. Reads only.
-- KEYS[1] {prefix}:schema
-- W: nothing
-- Returns: {'policy': limit, burst, overtake_max ms, slow_after ms, slow_limit, people_max, background_share, order,
--   push_limit or empty, push_limits (of single registries, as JSON) or empty, set (what was set as JSON) or empty, by whom or empty, at (when) or empty}
operation('policy', READS, function()
  local v = call('HMGET', K.totals, 'background_share', 'policy', 'policy_by', 'policy_at')
  return { 'policy', 'limit', ms(T.limit), 'burst', ms(T.burst), 'overtake_max', ms(T.overtake_max),
    'slow_after', ms(T.slow_after), 'slow_limit', ms(T.slow_limit), 'people_max', ms(T.people_max),
    'background_share', v[1] or '0.75', 'order', T.order,
    'push_limit', T.push_limit and ms(T.push_limit) or '', 'push_limits', T.push_limits, 'set', v[2] or '', 'by', v[3] or '', 'at', v[4] or '' }
end)
