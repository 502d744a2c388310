-- Purpose: sets, replaces or removes the rule of a lane or pattern.
-- KEYS[1] {prefix}:schema
-- W: pattern, rule JSON or empty to remove it, by whom, because (why, for the audit) or absent
-- Returns: {'changed': existed 0/1, live (builds of the lane, queued ones too)}
-- Invariants: I2, I5
operation('set_rule', ALWAYS, function()
  local pattern, text, by = W.pattern, W.rule, W.by
  local before = call('HGET', K.rules, pattern)
  if text ~= '' then
    audit(by, 'rule set', pattern, text)
  elseif before then
    -- What was removed: nothing else remembers it.
    audit(by, 'rule removed', pattern, before)
  end
  local rule = {}
  if text ~= '' then
    rule = cjson.decode(text)
    rule.by, rule.at = by, now
  end
  keep_rule(pattern, rule)
  rule_changed(pattern)
  wake()
  local live = call('ZCARD', base .. 'lane:' .. pattern) + call('ZCARD', base .. 'permits:' .. pattern)
  return { 'changed', 'existed', before and '1' or '0', 'live', ms(live) }
end)
