// Numbers, times and states in words.

const number = new Intl.NumberFormat('en-US');
export const count = (value) => number.format(value ?? 0);
export const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;

/** A duration with its two largest units: "3 d 4 h", "12 min", "40 s". */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10 && seconds % 60) return `${minutes} min ${seconds % 60} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${Math.floor(hours / 24)} d`;
}

const pad = (value) => String(value).padStart(2, '0');
/** A time of the day, with the date if it is not today's. */
export function clock(ms, withSeconds = false) {
  const at = new Date(ms);
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}${withSeconds ? `:${pad(at.getSeconds())}` : ''}`;
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? time : `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${time}`;
}

export const shortId = (id) => (id || '').slice(-8);
export const shortRef = (ref) => (/^[0-9a-f]{40}$/.test(ref || '') ? ref.slice(0, 10) : ref);

/** A sign and a word for each state: color alone says nothing. */
export const STATES = {
  queued: { sign: '○', tone: 'quiet' },
  starting: { sign: '◔', tone: 'live' },
  running: { sign: '●', tone: 'live' },
  orphaned: { sign: '◌', tone: 'warn' },
  succeeded: { sign: '✓', tone: 'good' },
  failed: { sign: '✕', tone: 'bad' },
  cancelled: { sign: '⊘', tone: 'quiet' },
  // Of campaigns.
  loading: { sign: '◌', tone: 'quiet' },
  paused: { sign: '▲', tone: 'warn' },
  ended: { sign: '✓', tone: 'good' },
  // Of a campaign's items.
  waiting: { sign: '○', tone: 'quiet' },
  building: { sign: '●', tone: 'live' },
  joined: { sign: '●', tone: 'live' },
  built: { sign: '✓', tone: 'good' },
  present: { sign: '✓', tone: 'good' },
  'built by people': { sign: '✓', tone: 'good' },
};
export const isEnded = (state) => ['succeeded', 'failed', 'cancelled'].includes(state);

/** A part of a whole in percent, with one digit where it matters. */
export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 1 ? 1 : 0)} %`;
export const slotHours = (seconds) => `${(seconds / 3600).toFixed(seconds < 36_000 ? 2 : 0)} h`;

const until = (stop) => (stop.until_ms ? `, until ${clock(stop.until_ms)}` : '');

/** What holds a lane back. */
export function holdsBack(lane, totals) {
  const { permits, limit, burst, shared, held, banned, queued } = lane;
  const ban = banned ? `new requests are refused (rule ${banned.pattern}${until(banned)})` : '';
  const also = (text) => (ban ? `${text}; ${ban}` : text);
  const waits = lane.waits_for || '';
  if (held) return also(`held by rule ${held.pattern}${until(held)}${held.message ? `: ${held.message}` : ''}`);
  if (!queued) return ban || (permits ? 'nothing more waits' : 'nothing waits');
  if (waits === 'held') return also('held by a rule');
  const most = Math.max(permits, limit);
  if (waits === 'full') return also(most === 1 ? 'its permit is in use' : `all its ${count(most)} permits are in use`);
  if (waits === 'burst') {
    return also(`${limit === 1 ? 'its permit is' : `its ${count(limit)} permits are`} in use; up to ${count(burst)} while more than half of all slots are free`);
  }
  if (waits.startsWith('shared')) {
    const name = shared?.name === 'slow' ? 'slow lanes share their permits' : `permits shared by ${shared?.name}`;
    return also(shared ? `${name}: ${count(shared.permits)} of ${count(shared.limit)} in use` : 'a shared limit is used up');
  }
  if (totals?.nobody_takes) return also('no worker accepts builds');
  if (totals && totals.leased >= totals.slots) return also('waits for a free slot');
  return also('starts next');
}

/** Where a build's run is, in words. */
export function whereabouts(build) {
  if (build.note) return build.note;
  return build.worker ? `on ${build.worker}` : '';
}
