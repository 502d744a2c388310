// Lane: all builds of one repository, and what holds them back.
import { html } from './vendor/preact.js';
import { useFeed } from './api.js';
import { Act, ban, hold, limit, release, unban, unlimit } from './act.js';
import { Ago, Bar, Empty, Id, Loaded } from './parts.js';
import { Rows } from './builds.js';
import { clock, count, holdsBack, many, span } from './words.js';

export function LaneView({ lane }) {
  const feed = useFeed(`v1/lanes/${lane.split('/').map(encodeURIComponent).join('/')}`, 2000);
  const totals = useFeed('v1/queue', 2000).data?.totals;
  const builds = useFeed(`v1/builds?lane=${encodeURIComponent(lane)}&limit=50`, 3000);
  const view = feed.data;
  return html`<p class="crumb"><a href="#/">Now</a> / Lane</p>
    <h1 tabindex="-1">${lane}</h1>
    <${Loaded} feed=${feed} what="The lane">${() => html`
      <p class="why">${many(view.queued, 'build')} in line. <span class="dim">What holds it back:</span> ${holdsBack(view, totals)}.</p>
      <${Acts} lane=${lane} view=${view} />
      <dl class="tiles">
        <div><dt>Waiting</dt><dd>${count(view.queued)}</dd><dd class="dim">builds in line</dd></div>
        <div><dt>Permits</dt><dd>${count(view.permits)} <small>of ${count(view.limit)}${view.burst > view.limit ? `, or ${view.burst} while most slots are free` : ''}</small></dd>
          <dd><${Bar} of=${view.permits} max=${view.limit} label="${view.permits} of ${view.limit} permits in use" /></dd></div>
        <div><dt>Held longest</dt><dd>${view.holder ? html`<${Ago} ms=${view.holder_since_ms} />` : '—'}</dd>
          <dd class="dim">${view.holder ? html`by <${Id} id=${view.holder} />` : 'no permit is in use'}</dd></div>
        <div><dt>A build takes</dt><dd>${view.mean_seconds ? span(view.mean_seconds * 1000) : '—'}</dd>
          <dd class="dim">${many(view.succeeded, 'success', 'successes')}, ${many(view.failed, 'failure')}</dd></div>
      </dl>
      ${view.last_failure && html`<p class="note info"><span class="sign" aria-hidden="true">i</span><span>Last failure, ${clock(view.last_failure_ms)}: ${view.last_failure}</span></p>`}`}
    <//>
    <h2>Builds</h2>
    <${Loaded} feed=${builds} what="The builds">${() => (builds.data.builds.length ? html`<${Rows} builds=${builds.data.builds} withLane=${false} />` : html`<${Empty}>No build of this lane is known.<//>`)}<//>`;
}

/** What can be done to the lane by a rule of its own; a rule of a pattern is changed where all rules are. */
function Acts({ lane, view }) {
  const { data } = useFeed('v1/rules', 3000);
  const own = data?.rules[lane] || {};
  const general = [view.held, view.banned].filter((stop) => stop && stop.pattern !== lane);
  return html`<div class="acts">
    ${own.hold ? html`<${Act} label="Release" act=${release(lane)} />` : html`<${Act} label="Hold" act=${hold(lane)} />`}
    <${Act} label="Limit" act=${limit(lane, view)} />
    ${own.limit && html`<${Act} label="Remove limit" act=${unlimit(lane)} />`}
    ${own.ban ? html`<${Act} label="Lift ban" act=${unban(lane)} />` : html`<${Act} label="Ban" danger act=${ban(lane)} />`}
    ${general.map((stop) => html`<span class="dim">A rule of ${stop.pattern} applies, too; see <a href="#/rules">Rules</a>.</span>`)}
  </div>`;
}
