// Now: what waits, for what, since when and because of whom.
import { html, useMemo, useState } from './vendor/preact.js';
import { now, useFeed } from './api.js';
import { Chart, columns } from './chart.js';
import { Ago, Bar, Campaign, Empty, Id, Lane, Loaded, State, Table } from './parts.js';
import { Problems } from './problems.js';
import { count, holdsBack, many, shortRef, span, whereabouts } from './words.js';

const LOOK_MS = 2000;
const SPANS = { '1h': ['1 hour', 3600e3, '1m'], '24h': ['24 hours', 24 * 3600e3, '10m'], '7d': ['7 days', 7 * 24 * 3600e3, '1h'] };

export function Now() {
  const queue = useFeed('v1/queue', LOOK_MS);
  const line = useFeed('v1/builds?limit=200', 5000).data;
  const running = useFeed('v1/builds?state=running', LOOK_MS).data;
  const starting = useFeed('v1/builds?state=starting', LOOK_MS).data;
  const recent = useFeed('v1/history?since=1h&step=1m', 30_000).data;
  // Without the line, the sums would be too small.
  const people = line ? peopleByLane(line, running, starting) : new Map();
  return html`<h1 tabindex="-1">Now</h1>
    <${Loaded} feed=${queue} what="The queue">${() => html`
      <${Problems} all=${queue.data.problems} />
      <${Campaigns} totals=${queue.data.totals} />
      <${Tiles} queue=${queue.data} sample=${recent?.samples?.at(-1)} />
      <${History} />
      <${Lanes} queue=${queue.data} people=${people} />
      <${Live} builds=${[...(running?.builds || []), ...(starting?.builds || [])]} totals=${queue.data.totals} />`}
    <//>`;
}

function Campaigns({ totals: { campaigns, campaign_builds: builds } }) {
  if (!campaigns && !builds) return null;
  return html`<p class="note info"><span class="sign" aria-hidden="true">i</span><span>${many(campaigns, 'campaign')} ${campaigns === 1 ? 'runs' : 'run'}; ${many(builds, 'build')} of campaigns ${builds === 1 ? 'is' : 'are'} in line or ${builds === 1 ? 'runs' : 'run'}. <a href="#/campaigns">Show<span aria-hidden="true"> →</span></a></span></p>`;
}

/** How many people wait for each lane, from the first builds in line and those that run. */
function peopleByLane(...pages) {
  const lanes = new Map();
  const seen = new Set();
  for (const build of pages.flatMap((page) => page?.builds || [])) {
    if (seen.has(build.id)) continue;
    seen.add(build.id);
    lanes.set(build.lane, (lanes.get(build.lane) || 0) + build.people);
  }
  return lanes;
}

function Tiles({ queue: { totals, memory }, sample }) {
  const waiting = sample?.waiting;
  const parts = waiting && [
    ['for a slot', waiting.slot],
    ['for a permit', waiting.permit],
    ['for a shared limit', waiting.shared],
    ['held', waiting.held],
    ['backing off', waiting.backoff],
  ].filter(([, value]) => value >= 0.5);
  const inUse = totals.leased;
  return html`<dl class="tiles">
    <div><dt>People waiting</dt><dd>${count(totals.people)}</dd><dd class="dim">on ${many(totals.dispatchers, 'dispatcher')}</dd></div>
    <div><dt>Builds waiting</dt><dd><a href="#/builds?state=queued">${count(totals.queued)}</a></dd>
      <dd class="dim">${parts?.length && totals.queued ? parts.map(([word, value]) => `${Math.round(value)} ${word}`).join(', ') : `in ${many(totals.lanes_ready + totals.lanes_burst + totals.lanes_full + totals.lanes_held, 'lane')}`}</dd></div>
    <div><dt>Running</dt><dd>${count(inUse)} <small>of ${many(totals.slots, 'slot')}</small></dd>
      <dd><${Bar} of=${inUse} max=${totals.slots} label="${inUse} of ${totals.slots} slots in use" /></dd></div>
    <div><dt>Oldest wait</dt><dd>${totals.oldest_wait_seconds === undefined ? '—' : span(totals.oldest_wait_seconds * 1000)}</dd>
      <dd class="dim">${totals.mean_seconds ? `a build takes ${span(totals.mean_seconds * 1000)}` : 'no build has ended yet'}</dd></div>
  </dl>`;
}

const CURVES = [
  { label: 'people waiting', color: '--people', fill: '--people-fill', scale: 'people', value: (value) => count(Math.round(value)) },
  { label: 'builds running', color: '--running', dash: [7, 4], scale: 'builds', value: (value) => value.toFixed(1) },
];

/** The two curves whose parting was the incident. */
function History() {
  const [span, setSpan] = useState('1h');
  const [, length, step] = SPANS[span];
  const { data, error } = useFeed(`v1/history?since=${span}&step=${step}`, 30_000);
  const drawn = useMemo(() => columns(data?.samples || [], data?.step_ms || 60_000, [(at) => at.people, (at) => at.running]), [data]);
  const series = useMemo(() => [...CURVES], [span]);
  const last = data?.samples?.at(-1);
  const most = data?.samples?.reduce((max, sample) => (sample.people > max.people ? sample : max), { people: 0 });
  const label = last
    ? `People waiting and builds running over ${SPANS[span][0]}. Latest: ${Math.round(last.people)} people, ${Math.round(last.running)} builds. Most people: ${Math.round(most.people)}.`
    : 'No samples yet.';
  return html`<section class="panel" aria-labelledby="curves">
    <div class="head"><h2 id="curves">People waiting and builds running</h2>
      <div class="choice" role="group" aria-label="Time span">
        ${Object.entries(SPANS).map(([key, [name]]) => html`<button type="button" key=${key} aria-pressed=${key === span} onClick=${() => setSpan(key)}>${name}</button>`)}
      </div></div>
    ${error && !data ? html`<p class="note bad">The history cannot be shown: ${error.message}</p>` : html`<${Chart} key=${span} label=${label} data=${drawn} series=${series} from=${() => (now() - length) / 1000} to=${() => now() / 1000} />`}
    ${data && !data.samples.length && html`<p class="dim">One sample a minute is kept. The first one will be here soon.</p>`}
  </section>`;
}

function Lanes({ queue: { lanes, totals, more_lanes: more }, people }) {
  return html`<section aria-labelledby="lanes"><h2 id="lanes">Lanes in line</h2>
    ${lanes.length === 0 ? html`<${Empty}>Nothing waits, and nothing runs.<//>` : html`
    <${Table} label="Lanes in line" heads=${['Lane', ['Waiting', 'num'], ['People', 'num'], ['Permits', 'num'], 'Held longest by', 'What holds it back']}>
      ${lanes.map((lane) => html`<tr key=${lane.lane} data-row>
        <th scope="row"><${Lane} lane=${lane.lane} /></th>
        <td class="num">${count(lane.queued)}</td>
        <td class="num">${people.has(lane.lane) ? count(people.get(lane.lane)) : '—'}</td>
        <td class="num">${count(lane.permits)} of ${count(lane.limit)}${lane.permits > lane.limit && html` <span class="dim">(${count(lane.permits - lane.limit)} borrowed)</span>`}</td>
        <td>${lane.holder ? html`<${Id} id=${lane.holder} /> for <${Ago} ms=${lane.holder_since_ms} />` : html`<span class="dim">nobody</span>`}</td>
        <td class="words">${holdsBack(lane, totals)}</td>
      </tr>`)}
    <//>`}
    ${more && html`<p><a href="#/builds?state=queued">More lanes wait; see all builds in line</a></p>`}
  </section>`;
}

function Live({ builds, totals }) {
  return html`<section aria-labelledby="live"><h2 id="live">Running builds</h2>
    ${builds.length === 0 ? html`<${Empty}>${totals.leased ? 'Loading …' : 'No build runs.'}<//>` : html`
    <${Table} label="Running builds" heads=${['Build', 'State', 'Lane', 'Ref', ['People', 'num'], ['For', 'num'], ['Expected', 'num'], 'Where']}>
      ${builds.map((build) => html`<tr key=${build.id} data-row>
        <th scope="row"><${Id} id=${build.id} /></th>
        <td><${State} state=${build.state} cancelling=${build.cancelling} /></td>
        <td><${Lane} lane=${build.lane} /></td>
        <td class="mono">${shortRef(build.ref)}</td>
        <td class="num">${count(build.people)}</td>
        <td class="num"><${Ago} ms=${build.claimed_ms} /></td>
        <td class="num">${span(build.expected_seconds * 1000)}</td>
        <td class="words">${whereabouts(build)}${build.campaign && html` <span class="dim">for campaign</span> <${Campaign} name=${build.campaign} />`}</td>
      </tr>`)}
    <//>`}
  </section>`;
}
