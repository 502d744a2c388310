// What is wrong now, as sentences; each names its cause and leads to the remedy.
import { html } from './vendor/preact.js';
import { now } from './api.js';
import { lanePath } from './parts.js';
import { clock, count, many, span } from './words.js';

const MANY_PEOPLE = 10;
const SHORT_PERCENT = 80;
const FULL_PERCENT = 95;

/** People by lane, from the first builds in line and those that run; the most first. */
export function peopleByLane(...pages) {
  const lanes = new Map();
  const seen = new Set();
  for (const build of pages.flatMap((page) => page?.builds || [])) {
    if (seen.has(build.id)) continue;
    seen.add(build.id);
    lanes.set(build.lane, (lanes.get(build.lane) || 0) + build.people);
  }
  return [...lanes].sort((a, b) => b[1] - a[1]);
}

function ofMachinery({ totals, aside }, workers, nodes) {
  const found = [];
  if (totals.workers === 0) {
    found.push({ tone: 'bad', text: 'No worker is running, so nothing is built.', href: '#/workers', link: 'Workers' });
  } else if (totals.nobody_takes) {
    found.push({ tone: 'bad', text: `No worker accepts builds: ${totals.nobody_takes}.`, href: '#/workers', link: 'Workers' });
  }
  for (const worker of workers?.workers || []) {
    if (worker.paused && !totals.nobody_takes) {
      found.push({ tone: 'warn', text: `Worker ${worker.host} has paused: ${worker.paused}.`, href: '#/workers', link: 'Workers' });
    }
  }
  for (const node of nodes?.nodes || []) {
    const what = node.cluster === 'process' ? 'Host' : 'Node';
    const text = `${what} ${node.node} is avoided until ${clock(node.until_ms)}, because builds of ${many(node.lanes, 'repository', 'repositories')} failed there: ${node.reason}.`;
    found.push({ tone: 'warn', text, href: '#/workers', link: 'Nodes' });
  }
  for (const item of aside || []) {
    found.push({ tone: 'warn', text: `${item.what} was set aside: ${item.why}. Run fairlane doctor.` });
  }
  if (totals.orphaned > 0) {
    found.push({ tone: 'warn', text: `${many(totals.orphaned, 'build')} lost the worker and ${totals.orphaned === 1 ? 'waits' : 'wait'} to be adopted.`, href: '#/builds?state=orphaned', link: 'Builds' });
  }
  return found;
}

function ofMemory({ memory }) {
  const percent = memory?.max_bytes ? Math.floor((100 * memory.used_bytes) / memory.max_bytes) : 0;
  if (percent < SHORT_PERCENT) return [];
  const effect = percent >= FULL_PERCENT ? 'no build starts' : 'logs are shortened, and new builds are refused at 85 %';
  return [{ tone: percent >= FULL_PERCENT ? 'bad' : 'warn', text: `Redis uses ${percent} % of its memory: ${effect}. Raise maxmemory, or run fairlane logs prune.` }];
}

/** The signature of the incident: more and more people wait, and no more builds run. */
function signature(samples) {
  const last = samples?.at(-1);
  const first = last && samples.findLast((sample) => last.at_ms - sample.at_ms >= 9.5 * 60_000);
  if (!first || last.people < MANY_PEOPLE || last.people < 1.3 * first.people || last.running > first.running) return null;
  return { from: first.people, to: last.people, running: last.running, ms: last.at_ms - first.at_ms };
}

function ofPeople({ totals, lanes }, people, samples) {
  const found = [];
  const grows = signature(samples);
  const [lane, of] = people[0] || [];
  const isMost = totals.people >= MANY_PEOPLE && of > totals.people / 2;
  const growth = grows && `People waiting grew from ${count(Math.round(grows.from))} to ${count(Math.round(grows.to))} in ${span(grows.ms)}, while no more builds run (${count(Math.round(grows.running))}).`;
  if (isMost) {
    const view = lanes.find((one) => one.lane === lane);
    const holds = view?.holder_since_ms ? ` Its ${many(view.permits, 'permit')} ${view.permits === 1 ? 'has' : 'have'} been held for up to ${span(now() - view.holder_since_ms)}.` : '';
    found.push({
      tone: grows ? 'bad' : 'warn',
      text: `${growth ? `${growth} ` : ''}${count(of)} of ${count(totals.people)} people wait for ${lane}.${holds} Other lanes are not held up by it.`,
      href: lanePath(lane),
      link: 'Lane',
    });
  } else if (growth) {
    found.push({ tone: 'bad', text: growth, href: '#/builds?state=queued', link: 'Builds' });
  }
  if (totals.lanes_held > 0) {
    found.push({ tone: 'info', text: `${many(totals.lanes_held, 'lane')} with waiting builds ${totals.lanes_held === 1 ? 'is' : 'are'} held by rules.`, href: '#/rules', link: 'Rules' });
  }
  return found;
}

export function problemsOf({ queue, workers, nodes, people, samples }) {
  return [...ofMachinery(queue, workers, nodes), ...ofMemory(queue), ...ofPeople(queue, people, samples)];
}

const SIGNS = { bad: ['✕', 'Problem'], warn: ['▲', 'Warning'], info: ['i', 'Note'] };

export function Problems({ all }) {
  if (all.length === 0) return html`<p class="note good" role="status"><span aria-hidden="true">✓</span> No problems.</p>`;
  return html`<ul class="problems" aria-label="Current problems">
    ${all.map(({ tone, text, href, link }) => html`<li key=${text.slice(0, 40)} class="note ${tone}">
      <span class="sign" aria-hidden="true">${SIGNS[tone][0]}</span>
      <span><span class="hidden">${SIGNS[tone][1]}: </span>${text} ${href && html`<a href=${href}>${link}<span aria-hidden="true"> →</span></a>`}</span>
    </li>`)}
  </ul>`;
}
