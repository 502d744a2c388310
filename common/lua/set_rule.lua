-- Purpose: sets, replaces or removes the rule of a lane or pattern.
-- KEYS[1] {prefix}:schema
-- ARGV[2] pattern, ARGV[3] rule JSON, or empty to remove it, ARGV[4] by whom
-- Returns: {'changed', existed 0/1, builds of the lane queued or live}
-- Invariants: I2, I5
operation('set_rule', ALWAYS, function()
  local pattern, text, by = ARGV[2], ARGV[3], ARGV[4]
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
  return { 'changed', before and '1' or '0', ms(live) }
end)
