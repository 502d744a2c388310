// Builds: search and filter.
import { html, useState } from './vendor/preact.js';
import { useFeed } from './api.js';
import { Ago, Campaign, Empty, Id, Lane, Loaded, Pages, State, Table } from './parts.js';
import { count, isEnded, many, shortRef, span } from './words.js';

const FILTERS = ['q', 'state', 'lane', 'since', 'class', 'cause'];
const STATES = ['queued', 'starting', 'running', 'orphaned', 'ended', 'succeeded', 'failed', 'cancelled'];
const TIMES = { '': 'any time', '1h': 'the last hour', '24h': 'the last day', '7d': 'the last 7 days' };

export function Builds({ query, go }) {
  const [cursors, setCursors] = useState([]);
  const filters = FILTERS.filter((name) => query.get(name)).map((name) => [name, query.get(name)]);
  const wanted = new URLSearchParams([...filters, ['limit', '100']]);
  const cursor = cursors.at(-1);
  if (cursor) wanted.set('cursor', cursor);
  const feed = useFeed(`v1/builds?${wanted}`, 3000);
  const page = feed.data;
  const set = (name, value) => {
    setCursors([]);
    const next = new URLSearchParams(filters.filter(([known]) => known !== name));
    if (value) next.set(name, value);
    go(`#/builds?${next}`);
  };
  return html`<h1 tabindex="-1">Builds</h1>
    <${Filters} query=${query} set=${set} />
    <${Loaded} feed=${feed} what="The list">${() => html`
      ${page.unreadable?.length > 0 && html`<p class="note warn">${many(page.unreadable.length, 'build')} cannot be read by this release: ${page.unreadable[0].why}</p>`}
      ${page.builds.length === 0 ? html`<${Empty}>No build matches${page.cursor ? ' on this page' : ''}.<//>` : html`<${Rows} builds=${page.builds} />`}
      <${Pages} cursors=${cursors} next=${page.cursor} set=${setCursors} />`}
    <//>`;
}

function Filters({ query, set }) {
  return html`<form class="filters" role="search" aria-label="Filter builds" onSubmit=${(event) => event.preventDefault()}>
    <label>State <select value=${query.get('state') || ''} onChange=${(event) => set('state', event.target.value)}>
      <option value="">all</option>
      ${STATES.map((state) => html`<option value=${state}>${state}</option>`)}
    </select></label>
    <label>Ended in <select value=${query.get('since') || ''} onChange=${(event) => set('since', event.target.value)}>
      ${Object.entries(TIMES).map(([value, name]) => html`<option value=${value}>${name}</option>`)}
    </select></label>
    <label>Text <input type="text" size="16" placeholder="part of a name" value=${query.get('q') || ''} onChange=${(event) => set('q', event.target.value.trim())} /></label>
    ${['class', 'cause'].filter((name) => query.get(name)).map((name) => html`<button type="button" onClick=${() => set(name, '')}>${name}: ${query.get(name)} <span aria-hidden="true">×</span><span class="hidden">remove</span></button>`)}
    <label>Lane or repository <input type="text" size="32" placeholder="github.com/owner/name" value=${query.get('lane') || ''} onChange=${(event) => set('lane', event.target.value.trim())} /></label>
    ${FILTERS.some((name) => query.get(name)) && html`<a href="#/builds">Show all</a>`}
  </form>`;
}

export function Rows({ builds, withLane = true }) {
  const heads = ['Build', 'State', ...(withLane ? ['Lane'] : []), 'Ref', ['People', 'num'], ['Asked', 'num'], ['Took', 'num'], 'Reason'];
  return html`<${Table} label="Builds" heads=${heads}>
    ${builds.map((build) => html`<tr key=${build.id} data-row>
      <th scope="row"><${Id} id=${build.id} /></th>
      <td><${State} state=${build.state} cancelling=${build.cancelling} />${build.campaign ? html` <span class="dim">campaign</span> <${Campaign} name=${build.campaign} />` : build.priority === 'background' && html` <span class="dim">background</span>`}</td>
      ${withLane && html`<td><${Lane} lane=${build.lane} /></td>`}
      <td class="mono" title=${build.ref}>${shortRef(build.ref)}</td>
      <td class="num">${isEnded(build.state) ? (build.peak_people === undefined ? '—' : count(build.peak_people)) : count(build.people)}</td>
      <td class="num"><${Ago} ms=${build.asked_ms} /> ago</td>
      <td class="num"><${Took} build=${build} /></td>
      <td class="words">${[build.class, build.cause !== 'other' && build.cause].filter(Boolean).join(', ')}${build.class && build.reason ? ': ' : ''}${build.reason || (isEnded(build.state) ? '' : build.note)}</td>
    </tr>`)}
  <//>`;
}

function Took({ build }) {
  const from = build.started_ms ?? build.claimed_ms;
  if (build.state === 'queued' || !from) return '—';
  return build.ended_ms ? span(build.ended_ms - from) : html`<${Ago} ms=${from} />`;
}
