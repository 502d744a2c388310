// Campaigns: builds made ahead in the background; how far they are, what they cost, and what they are good for.
import { html, useEffect, useState } from './vendor/preact.js';
import { now, useFeed } from './api.js';
import { Act } from './act.js';
import { at, cancel, pacing, pause, resume } from './campaign-acts.js';
import { Ago, Bar, Campaign, Command, Empty, Id, Loaded, Pages, State, Table, campaignPath, useTick } from './parts.js';
import { clock, count, many, percent, slotHours, span } from './words.js';

const LOOK_MS = 3000;
const PAGE = 50;
const ITEM_STATES = ['waiting', 'building', 'joined', 'built', 'present', 'built_by_people', 'failed', 'cancelled'];
const words = (state) => state.replaceAll('_', ' ');

const done = (view) => view.built + view.present + view.built_by_people + view.failed + view.cancelled;
const isOver = (view) => view.ended_ms !== undefined;

/** Why it makes no build now, as a clause. */
const waits = (view) => (isOver(view) ? '' : view.waits || (view.state === 'cancelled' ? 'its last builds are running' : 'makes builds'));

export function Campaigns() {
  const feed = useFeed('v1/campaigns', LOOK_MS);
  return html`<h1 tabindex="-1">Campaigns</h1>
    <${Loaded} feed=${feed} what="The list">${() => html`
      ${feed.data.unreadable?.map((name) => html`<p class="note warn">The campaign ${name} cannot be read by this release; <code>fairlane doctor</code> says why.</p>`)}
      ${feed.data.campaigns.length === 0 ? html`<${Empty}>There are no campaigns. A campaign builds popular images ahead, on slots that nobody needs: <code>fairlane campaign plan</code>, then <code>fairlane campaign start</code>.<//>` : html`
      <${Table} label="Campaigns" heads=${['Campaign', 'State', 'Now', ['Done', 'num'], ['Done as a bar', 'hidden-text'], ['Failed', 'num'], ['Coverage', 'num'], ['Slot-hours', 'num'], 'Ends']}>
        ${feed.data.campaigns.map((view) => html`<tr key=${view.name} data-row>
          <th scope="row"><${Campaign} name=${view.name} /></th>
          <td><${State} state=${view.state} /></td>
          <td class="words">${waits(view)}</td>
          <td class="num">${count(done(view))} of ${count(view.items)}</td>
          <td class="wide-bar"><${Bar} of=${done(view)} max=${view.items} label="${done(view)} of ${view.items} items are done" /></td>
          <td class="num">${count(view.failed)}</td>
          <td class="num">${percent(view.coverage)}</td>
          <td class="num">${slotHours(view.slot_seconds).replace(' h', '')}</td>
          <td><${Ends} view=${view} /></td>
        </tr>`)}
      <//>`}`}
    <//>`;
}

/** When it ended, or is expected to. */
function Ends({ view }) {
  useTick();
  if (isOver(view)) return html`ended <${Ago} ms=${view.ended_ms} /> ago`;
  if (!view.expected_end_ms) return '—';
  const time = span(view.expected_end_ms - now());
  return view.state === 'loading' ? `${time} after its start` : `in about ${time}`;
}

/** When it is expected to end: a time, or '—', and in words. */
function ending(view) {
  if (view.state === 'paused') return ['—', 'known once it is resumed'];
  if (view.state === 'cancelled') return ['—', 'when its last builds have ended'];
  if (view.standing) return ['—', 'it goes on until it is cancelled'];
  if (!view.expected_end_ms) return ['—', 'there is no slot for it'];
  const time = span(view.expected_end_ms - now());
  if (view.state === 'loading') return ['—', `${time} after its start, if people need no slots`];
  return [clock(view.expected_end_ms), `in ${time}, if people need no slots`];
}

export function CampaignView({ name, query, go }) {
  const [over, setOver] = useState(false);
  const feed = useFeed(at(name), over ? 15_000 : LOOK_MS);
  const view = feed.data;
  useEffect(() => setOver(Boolean(view && isOver(view))), [view]);
  return html`<p class="crumb"><a href="#/campaigns">Campaigns</a> / Campaign</p>
    <h1 tabindex="-1">${name}</h1>
    <${Loaded} feed=${feed} what="The campaign">${() => html`
      <p><${State} state=${view.state} /></p>
      ${!over && html`<p class="why">${view.waits || view.state === 'cancelled' ? html`<span class="dim">It starts no build now:</span> ${waits(view)}.` : 'It starts builds on slots that nobody needs.'}</p>`}
      <${Acts} view=${view} />
      <${Tiles} view=${view} />
      <${Facts} view=${view} />
      ${view.building + view.joined > 0 && html`<${Building} name=${name} />`}
      ${view.failed > 0 && html`<${Failed} name=${name} failed=${view.failed} />`}
      <${Items} name=${name} state=${query.get('state') || ''} go=${go} />
      <details class="deeper"><summary>Dig deeper</summary>
        <${Command} label="The same in a terminal" text="fairlane campaign status ${name} -w" />
        <${Command} label="Wait in a script until enough images are there" text="fairlane campaign wait ${name} --coverage 0.9" />
        <${Command} label="Launches that found its images" text="fairlane campaign report ${name} --events EVENTS" />
        <${Command} label="What Redis has of it" text="redis-cli hgetall '{fairlane}:campaign:${name}'" />
      </details>`}
    <//>`;
}

function Acts({ view: { name, state } }) {
  if (state === 'ended' || state === 'cancelled') return null;
  return html`<div class="acts">
    ${state === 'running' ? html`<${Act} label="Pause" act=${pause(name)} />` : html`<${Act} key=${state} label=${state === 'paused' ? 'Resume' : 'Start'} act=${resume(name)} />`}
    <${Act} label="Change pacing" act=${pacing(name)} />
    <${Act} label="Cancel" danger act=${cancel(name)} />
  </div>`;
}

function Tiles({ view }) {
  useTick();
  const left = view.slot_seconds_left;
  const [end, when] = isOver(view) ? [clock(view.ended_ms), html`<${Ago} ms=${view.ended_ms} /> ago`] : ending(view);
  return html`<dl class="tiles">
    <div><dt>Coverage</dt><dd>${percent(view.coverage)}</dd>
      <dd><${Bar} of=${view.coverage} max=${1} label="${percent(view.coverage)} of expected launches" /></dd>
      <dd class="dim">${count(Math.round(view.launches_covered))} of ${count(Math.round(view.launches))} expected launches find their image</dd></div>
    <div><dt>Done</dt><dd>${count(done(view))} <small>of ${many(view.items, 'item')}</small></dd>
      <dd><${Bar} of=${done(view)} max=${view.items} label="${done(view)} of ${view.items} items are done" /></dd>
      <dd class="dim">${sums(view) || 'none yet'}</dd></div>
    <div><dt>${isOver(view) ? 'Ended' : 'Expected end'}</dt><dd>${end}</dd><dd class="dim">${when}</dd></div>
    <div><dt>Cost</dt><dd>${slotHours(view.slot_seconds)} <small>of slots</small></dd>
      <dd class="dim">${left && !isOver(view) ? `about ${slotHours(left)} are left` : 'all its builds together'}</dd></div>
    <div><dt>Saved</dt><dd>${count(Math.round(view.launches_built))} <small>${Math.round(view.launches_built) === 1 ? 'launch' : 'launches'}</small></dd>
      <dd class="dim">expected to find an image that it built</dd></div>
  </dl>`;
}

/** What became of its items, in words. */
function sums(view) {
  const parts = [
    [view.built, 'built'],
    [view.present, 'in the registry already'],
    [view.built_by_people, 'built for people'],
    [view.failed, 'failed'],
    [view.cancelled, 'cancelled'],
  ];
  return parts.filter(([number]) => number).map(([number, what]) => `${count(number)} ${what}`).join(', ');
}

function Facts({ view }) {
  const { share, per_hour: perHour, pause_when_waiting_ms: patience, hours, time_zone: zone } = view.pacing;
  const facts = [
    ['Created', html`<${Ago} ms=${view.created_ms} /> ago by ${view.by}`],
    view.started_ms && ['Started', html`<${Ago} ms=${view.started_ms} /> ago, at ${clock(view.started_ms)}`],
    ['Most slots at a time', share === undefined ? 'as the policy allows' : percent(share)],
    ['Most starts an hour', perHour ? count(perHour) : 'no limit'],
    ['Pauses while people wait', patience ? `longer than ${span(patience)}` : 'no'],
    ['Hours', hours ? `${hours} ${zone || 'UTC'}` : 'all day'],
  ].filter(Boolean);
  return html`<dl class="facts">${facts.map(([fact, value]) => html`<div key=${fact}><dt>${fact}</dt><dd>${value}</dd></div>`)}</dl>`;
}

const items = (name, parameters) => `${at(name)}/items?${new URLSearchParams(parameters)}`;
const Build = ({ id }) => (id ? html`<${Id} id=${id} />` : '—');
const what = (item) => item.spec || item.repo;

function Building({ name }) {
  const own = useFeed(items(name, { state: 'building', limit: PAGE }), LOOK_MS);
  const joined = useFeed(items(name, { state: 'joined', limit: PAGE }), LOOK_MS).data?.items || [];
  return html`<h2>In line or running</h2>
    <${Loaded} feed=${own} what="The builds">${() => html`
      <${Table} label="In line or running" heads=${['Build', 'For', 'Item', ['Expected launches', 'num'], ['Takes about', 'num']]}>
        ${[...own.data.items, ...joined].map((item) => html`<tr key=${item.number} data-row>
          <th scope="row"><${Build} id=${item.build} /></th>
          <td>${item.state === 'joined' ? 'people who asked for it' : 'the campaign'}</td>
          <td class="words">${what(item)}</td>
          <td class="num">${launches(item)}</td>
          <td class="num">${span(1000 * item.expected_seconds)}</td>
        </tr>`)}
      <//>`}<//>`;
}

const launches = ({ launches: number }) => (number < 10 ? number.toFixed(1) : count(Math.round(number)));

/** What failed, and why: sums by cause, then one by one. */
function Failed({ name, failed }) {
  const feed = useFeed(items(name, { state: 'failed' }), 10_000);
  return html`<h2>Failed</h2>
    <${Loaded} feed=${feed} what="The failures">${() => html`
      <p>${byCause(feed.data.items).map(([cause, number]) => `${cause} ${count(number)}`).join(', ')}${feed.data.cursor && ` (the first ${count(feed.data.items.length)} of ${count(failed)})`}</p>
      <${Table} label="Failed" heads=${['Build', 'Item', 'Cause', 'Reason', ['Expected launches', 'num']]}>
        ${feed.data.items.slice(0, PAGE).map((item) => html`<tr key=${item.number} data-row>
          <th scope="row"><${Build} id=${item.build} /></th>
          <td class="words">${what(item)}</td>
          <td>${item.cause || '—'}</td>
          <td class="words">${item.reason || ''}</td>
          <td class="num">${launches(item)}</td>
        </tr>`)}
      <//>
      ${failed > PAGE && html`<p class="dim">These are the first ${PAGE}; choose the state “failed” below for all.</p>`}`}<//>`;
}

function byCause(failures) {
  const numbers = new Map();
  for (const { cause = 'other' } of failures) numbers.set(cause, (numbers.get(cause) || 0) + 1);
  return [...numbers].sort(([, a], [, b]) => b - a);
}

function Items({ name, state, go }) {
  const [cursors, setCursors] = useState([]);
  const wanted = { limit: PAGE, ...(state && { state }), ...(cursors.length && { cursor: cursors.at(-1) }) };
  const feed = useFeed(items(name, wanted), 5000);
  const choose = (event) => {
    setCursors([]);
    go(`${campaignPath(name)}${event.target.value && `?state=${event.target.value}`}`);
  };
  return html`<h2>Items</h2>
    <form class="filters" role="search" aria-label="Filter items" onSubmit=${(event) => event.preventDefault()}><label>State <select value=${state} onChange=${choose}>
      <option value="">all</option>${ITEM_STATES.map((one) => html`<option value=${one}>${words(one)}</option>`)}</select></label></form>
    <${Loaded} feed=${feed} what="The items">${() => html`
      ${feed.data.items.length === 0 ? html`<${Empty}>No item is in this state${feed.data.cursor ? ' on this page' : ''}.<//>` : html`
      <${Table} label="Items" heads=${[['Number', 'num'], 'Item', 'Image', 'State', 'Build', ['Expected launches', 'num'], ['Slot time', 'num']]}>
        ${feed.data.items.map((item) => html`<tr key=${item.number}>
          <td class="num">${count(item.number + 1)}</td>
          <th scope="row" class="words">${what(item)}</th>
          <td class="words mono">${item.image}</td>
          <td><${State} state=${words(item.state)} /></td>
          <td><${Build} id=${item.build} /></td>
          <td class="num">${launches(item)}</td>
          <td class="num">${item.slot_seconds ? span(1000 * item.slot_seconds) : `about ${span(1000 * item.expected_seconds)}`}</td>
        </tr>`)}
      <//>`}
      <${Pages} cursors=${cursors} next=${feed.data.cursor} set=${setCursors} />`}<//>`;
}
