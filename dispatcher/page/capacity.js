// Capacity: who used the slots, and what failed, where and why.
import { html, useEffect, useState } from './vendor/preact.js';
import { ask, useFeed } from './api.js';
import { Bar, Empty, Lane, Loaded, Table } from './parts.js';
import { count, span } from './words.js';

const SPANS = { '1h': '1 hour', '24h': '24 hours', '7d': '7 days' };
const PAGES_MAX = 10;

export function Capacity({ query, go }) {
  const since = SPANS[query.get('since')] ? query.get('since') : '24h';
  const lanes = useFeed(`v1/lanes?order=slot_hours&since=${since}&limit=30`, 30_000);
  const most = lanes.data?.lanes?.[0]?.slot_hours || 0;
  return html`<div class="head"><h1 tabindex="-1">Capacity</h1>
      <div class="choice" role="group" aria-label="Time span">${Object.entries(SPANS).map(([key, name]) => html`<button type="button" key=${key} aria-pressed=${key === since} onClick=${() => go(`#/capacity?since=${key}`)}>${name}</button>`)}</div></div>
    <h2>Lanes by slot-hours</h2>
    <${Loaded} feed=${lanes} what="The list">${() => (lanes.data.lanes.length === 0 ? html`<${Empty}>No build ended in this time.<//>` : html`
      <${Table} label="Lanes by slot-hours" heads=${['Lane', ['Slot-hours', 'num'], ['Share', 'num'], ['Share as a bar', 'hidden-text'], ['Builds', 'num'], ['Succeeded', 'num'], ['Failed', 'num'], ['Cancelled', 'num'], ['Mean', 'num']]}>
        ${lanes.data.lanes.map((lane) => html`<tr key=${lane.lane} data-row>
          <th scope="row"><${Lane} lane=${lane.lane} /></th>
          <td class="num">${lane.slot_hours.toFixed(lane.slot_hours < 10 ? 2 : 0)}</td>
          <td class="num">${Math.round(100 * lane.share)} %</td>
          <td class="wide-bar"><${Bar} of=${lane.slot_hours} max=${most * 1.001} label="${Math.round(100 * lane.share)} % of all slot-hours" /></td>
          <td class="num">${count(lane.builds)}</td><td class="num">${count(lane.succeeded)}</td>
          <td class="num">${count(lane.failed)}</td><td class="num">${count(lane.cancelled)}</td>
          <td class="num">${lane.mean_s ? span(lane.mean_s * 1000) : '—'}</td>
        </tr>`)}
      <//>`)}<//>
    <${Failures} key=${since} since=${since} />`;
}

/** All failed builds of that time, at most so many pages. */
function useFailed(since) {
  const [state, set] = useState({});
  useEffect(() => {
    let isOpen = true;
    (async () => {
      const builds = [];
      let cursor = '';
      for (let page = 0; page < PAGES_MAX && isOpen; page += 1) {
        const { data } = await ask(`v1/builds?state=failed&since=${since}&limit=200${cursor && `&cursor=${encodeURIComponent(cursor)}`}`, { age: 10 });
        builds.push(...data.builds);
        cursor = data.cursor;
        if (!cursor) break;
      }
      if (isOpen) set({ data: { builds, isPart: Boolean(cursor) } });
    })().catch((error) => isOpen && set({ error }));
    return () => {
      isOpen = false;
    };
  }, [since]);
  return state;
}

function tally(builds, key) {
  const groups = new Map();
  for (const build of builds) {
    const name = key(build);
    const group = groups.get(name) || { name, builds: 0, lanes: new Set() };
    group.builds += 1;
    group.lanes.add(build.lane);
    groups.set(name, group);
  }
  return [...groups.values()].sort((a, b) => b.builds - a.builds);
}

function Failures({ since }) {
  const feed = useFailed(since);
  return html`<${Loaded} feed=${feed} what="The failures">${() => html`
    ${feed.data.isPart && html`<p class="note info">Only the latest ${count(feed.data.builds.length)} failures are counted.</p>`}
    <${Groups} title="Failures by cause" head="Cause" groups=${tally(feed.data.builds, (build) => build.cause || 'other')} since=${since}
      link=${(name) => `#/builds?state=failed&since=${since}&cause=${encodeURIComponent(name)}`} />
    <${Groups} title="Failures by node" head="Node or host" groups=${tally(feed.data.builds, (build) => build.node || 'unknown')} />`}
  <//>`;
}

function Groups({ title, head, groups, link }) {
  const most = groups[0]?.builds || 0;
  return html`<h2>${title}</h2>
    ${groups.length === 0 ? html`<${Empty}>No build failed in this time.<//>` : html`
    <${Table} label=${title} heads=${[head, ['Builds', 'num'], ['Builds as a bar', 'hidden-text'], ['Lanes', 'num']]}>
      ${groups.map(({ name, builds, lanes }) => html`<tr key=${name} data-row>
        <th scope="row">${link ? html`<a href=${link(name)}>${name}</a>` : name}</th>
        <td class="num">${count(builds)}</td>
        <td class="wide-bar"><${Bar} of=${builds} max=${most * 1.001} label="${builds} builds" /></td>
        <td class="num">${count(lanes.size)}</td>
      </tr>`)}
    <//>`}`;
}
