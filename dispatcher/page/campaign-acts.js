// Acting on campaigns: each act says in numbers what it will do.
import { ask } from './api.js';
import { query, verb } from './act.js';
import { count, many, span } from './words.js';

export const at = (name) => `v1/campaigns/${encodeURIComponent(name)}`;
const look = async (name) => (await ask(at(name))).data;

async function change(name, body, reason) {
  await ask(`${at(name)}?${query({ reason })}`, { method: 'PATCH', body });
}

/** "12 items wait". */
const wait = (items) => `${many(items, 'item')} ${verb(items, 'waits', 'wait')}`;

/** What of a campaign runs and what is in line, as clauses. */
function now({ building, in_line: inLine = 0 }) {
  const running = building - inLine;
  return {
    runs: running ? `${many(running, 'running build')} ${verb(running, 'continues', 'continue')}` : 'none of its builds runs now',
    line: inLine ? `${many(inLine, 'build')} in line ${verb(inLine, 'goes', 'go')} back to the campaign` : 'none is in line',
    running,
  };
}

export const pause = (name) => async () => {
  const view = await look(name);
  const { runs, line } = now(view);
  return {
    title: `Pause ${name}`,
    effect: () => `It starts no build until it is resumed: ${wait(view.waiting + (view.in_line ?? 0))}. Now, ${runs}, and ${line}.`,
    run: ({ reason }) => change(name, { state: 'paused' }, reason),
  };
};

export const resume = (name) => async () => {
  const [view, queue] = await Promise.all([look(name), ask('v1/queue')]);
  const { totals } = queue.data;
  return {
    title: `${view.started_ms ? 'Resume' : 'Start'} ${name}`,
    effect: () => `It starts builds again: ${wait(view.waiting)}. ${pace(view, view.pacing, totals)}`,
    run: ({ reason }) => change(name, { state: 'running' }, reason),
  };
};

export const cancel = (name) => async () => {
  const view = await look(name);
  const { running } = now(view);
  const dropped = view.waiting + (view.in_line ?? 0) + view.joined;
  const rest = (stops) => (stops ? `${verb(running, 'is', 'are')} stopped` : `${verb(running, 'finishes', 'finish')}`);
  return {
    title: `Cancel ${name}`,
    effect: ({ running: stops }) => `${many(dropped, 'item')} will not be built${running ? `, and ${many(running, 'running build')} ${rest(stops)}` : ''}. ${many(view.built, 'image')} that it built ${verb(view.built, 'stays', 'stay')}. This cannot be undone.`,
    fields: running ? [{ name: 'running', label: 'Running builds', value: '', options: [['finish', ''], ['are stopped, unless people wait for them', 'true']] }] : [],
    run: async ({ running: stops, reason }) => void (await ask(`${at(name)}?${query({ running: stops, reason })}`, { method: 'DELETE' })),
  };
};

/** The pacing that the fields of its dialog mean; what is empty does not limit. */
function paced({ share, perHour, pauseWhenWaiting, hours, timeZone }) {
  const number = (text) => (text === '' ? null : Number(text));
  return {
    share: share === '' ? null : Number(share) / 100,
    per_hour: number(perHour),
    pause_when_waiting_ms: pauseWhenWaiting === '' ? null : Math.round(1000 * Number(pauseWhenWaiting)),
    hours: hours.trim() || null,
    time_zone: (hours.trim() && timeZone.trim()) || null,
  };
}

export const pacing = (name) => async () => {
  const [view, queue] = await Promise.all([look(name), ask('v1/queue')]);
  const { totals } = queue.data;
  const is = view.pacing;
  const zone = is.time_zone || (is.hours ? '' : Intl.DateTimeFormat().resolvedOptions().timeZone);
  return {
    title: `Pacing of ${name}`,
    effect: (values) => `${pace(view, paced(values), totals)} Builds that run continue.`,
    fields: [
      { name: 'share', label: 'Most slots at a time, in percent', type: 'number', min: 1, most: 100, step: 'any', value: is.share === undefined ? '' : String(Math.round(1e4 * is.share) / 100), hint: 'as the policy allows' },
      { name: 'perHour', label: 'Most starts an hour', type: 'number', min: 1, most: 10_000, value: String(is.per_hour ?? ''), hint: 'no limit' },
      { name: 'pauseWhenWaiting', label: 'Pauses while people wait longer than so many seconds', type: 'number', min: 1, most: 86_400, step: 'any', value: is.pause_when_waiting_ms === undefined ? '' : String(is.pause_when_waiting_ms / 1000), hint: 'no pause' },
      { name: 'hours', label: 'Hours of the day', value: is.hours || '', max: 11, hint: '22:00-06:00' },
      { name: 'timeZone', label: 'Time zone of these hours', value: zone, max: 64, hint: 'UTC' },
    ],
    run: async (values) => change(name, { pacing: paced(values) }, values.reason),
  };
};

/** What a pacing means now, in numbers. */
function pace(view, of, { slots, background_max: most }) {
  const own = of.share == null ? most : Math.min(most, Math.max(1, Math.floor(slots * of.share)));
  const left = view.waiting + view.building;
  const bySlots = own ? view.slot_seconds_left / Math.min(own, Math.max(1, left)) : 0;
  const byHour = of.per_hour ? (3600 * view.waiting) / of.per_hour : 0;
  const limits = [
    `at most ${count(own)} of ${many(slots, 'slot')} at a time`,
    of.per_hour && `at most ${many(of.per_hour, 'start')} an hour`,
    of.pause_when_waiting_ms && `none while people wait longer than ${span(of.pause_when_waiting_ms)}`,
    of.hours && `only ${of.hours} ${of.time_zone || 'UTC'}`,
  ].filter(Boolean);
  const time = own ? ` The rest takes about ${span(1000 * Math.max(bySlots, byHour))}${of.hours ? ' of these hours' : ''}, if people need no slots.` : ' There is no slot for it now.';
  return `It uses slots that nobody needs: ${limits.join(', ')}.${time}`;
}
