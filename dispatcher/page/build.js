// Build: where one build stands, what happened to it, and its log.
import { html, useEffect, useState } from './vendor/preact.js';
import { now, useFeed } from './api.js';
import { Act, cancel, promote } from './act.js';
import { Ago, Campaign, Command, Lane, Loaded, State, Table, buildPath } from './parts.js';
import { Chart } from './chart.js';
import { Log } from './log.js';
import { clock, count, isEnded, span } from './words.js';

export function BuildPage({ id }) {
  const [ended, setEnded] = useState(false);
  const feed = useFeed(`v1/builds/${id}`, ended ? 15_000 : 2000);
  const build = feed.data;
  useEffect(() => setEnded(Boolean(build && isEnded(build.state))), [build?.state]);
  return html`<p class="crumb"><a href="#/builds">Builds</a> / Build</p>
    ${feed.error?.status === 404 && html`<section aria-labelledby="log"><h2 id="log">Log</h2><${Log} key=${id} id=${id} whole /></section>`}
    <${Loaded} feed=${feed} what="The build">${() => html`
      <h1 tabindex="-1">${build.name || build.repo} <span class="mono dim">${build.ref.slice(0, 12)}</span></h1>
      <p><${State} state=${build.state} cancelling=${build.cancelling} /> <span class="dim">in lane</span> <${Lane} lane=${build.lane} /></p>
      ${build.why && html`<p class=${build.state === 'failed' ? 'note bad' : 'why'}>${build.why}</p>`}
      ${build.expired && html`<p class="note info">Only a short record of this build is left: its details are kept for a day, and its log too, unless logs are archived.</p>`}
      ${!isEnded(build.state) && html`<div class="acts">
        ${!build.cancelling && html`<${Act} label="Cancel" danger act=${cancel(id)} />`}
        ${build.priority === 'background' && html`<${Act} label="Promote" act=${promote(id)} />`}
      </div>`}
      ${build.moved && html`<p class="note info">Redis was emptied; <a href=${buildPath(build.moved)}>another build</a> took over the run.</p>`}
      <${Facts} build=${build} />
      <${Timeline} build=${build} />
      <${People} build=${build} />
      <section aria-labelledby="log"><h2 id="log">Log</h2><${Log} key=${id} id=${id} whole=${build.expired} /></section>
      <${Deeper} build=${build} />`}
    <//>`;
}

function Facts({ build }) {
  const facts = [
    !isEnded(build.state) && ['People waiting', count(build.people)],
    build.position && ['Position in line', `${count(build.position)} of ${count(build.line)}`],
    build.eta_seconds !== undefined && ['Ready in about', span(build.eta_seconds * 1000)],
    ['Asked', html`<${Ago} ms=${build.asked_ms} /> ago, at ${clock(build.asked_ms)}`],
    build.claimed_ms && build.started_ms && ['Started', html`${clock(build.started_ms, true)}`],
    build.ended_ms && ['Ended', html`<${Ago} ms=${build.ended_ms} /> ago, at ${clock(build.ended_ms)}`],
    build.ended_ms && build.started_ms && ['Took', span(build.ended_ms - build.started_ms)],
    !build.ended_ms && ['Expected to take', span(build.expected_seconds * 1000)],
    ['Priority', build.priority],
    build.campaign && ['Campaign', html`<${Campaign} name=${build.campaign} />`],
    build.attempts === undefined && ['Attempt', `${build.attempt}${build.run > build.attempt ? ` (run ${build.run})` : ''}`],
    build.worker && ['Worker', build.worker],
    build.place && ['Place', build.place],
    build.avoid_nodes?.length && ['Avoids', build.avoid_nodes.join(', ')],
    build.node && ['Node', build.node],
    build.attempts !== undefined && ['Attempts', count(build.attempts)],
    build.slot_seconds !== undefined && ['Slot time', span(build.slot_seconds * 1000)],
    build.peak_people !== undefined && ['Most people', count(build.peak_people)],
  ].filter(Boolean);
  return html`<dl class="facts">
    ${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
    <div class="wide"><dt>Image</dt><dd class="mono">${build.image}</dd></div>
    <div class="wide"><dt>Repository</dt><dd class="mono">${build.repo} @ ${build.ref}</dd></div>
    ${build.repo2docker_args?.length > 0 && html`<div class="wide"><dt>Arguments</dt><dd class="mono">${build.repo2docker_args.join(' ')}</dd></div>`}
    ${Object.entries(build.labels || {}).map(([name, value]) => html`<div class="wide"><dt>Label ${name}</dt><dd class="mono">${value}</dd></div>`)}
  </dl>`;
}

/** What happened to the build, oldest first; asked for again only when something has changed. */
function Timeline({ build }) {
  const feed = useFeed(`v1/activity?build=${build.id}&since=${build.asked_ms - 1000}&limit=100`, isEnded(build.state) ? 60_000 : 4000);
  const changes = [...(feed.data?.changes || [])].reverse();
  let run = 0;
  const steps = changes.map((change, at) => {
    if (change.state === 'starting') run += 1;
    const next = changes[at + 1];
    return { ...change, run, lasted: next ? next.at_ms - change.at_ms : null };
  });
  return html`<section aria-labelledby="steps"><h2 id="steps">What happened</h2>
    <${Loaded} feed=${feed} what="The timeline">${() => html`
      <${Table} label="What happened" heads=${['Time', 'State', ['Run', 'num'], ['Lasted', 'num'], 'Worker', 'Node', 'Cause']}>
        ${steps.map((step) => html`<tr key=${step.seq}>
          <td>${clock(step.at_ms, true)}</td>
          <td><${State} state=${step.state} /></td>
          <td class="num">${step.run || '—'}</td>
          <td class="num">${step.lasted === null ? (isEnded(step.state) ? '' : html`<${Ago} ms=${step.at_ms} />`) : span(step.lasted)}</td>
          <td class="mono">${step.worker || ''}</td>
          <td>${step.node || ''}</td>
          <td class="words">${causeOf(step)}</td>
        </tr>`)}
      <//>
      ${steps.length === 0 && html`<p class="dim">Redis keeps the latest 50,000 changes; those of this build are older.</p>`}`}
    <//>
    ${build.reason && !isEnded(build.state) && html`<p class="note info below"><span><b>${build.class ? `Last failure (${build.class})` : 'Reason'}:</b> ${build.reason}</span></p>`}
  </section>`;
}

/** A failure's cause with the words for it; the cause leads to all builds that failed for it. */
function causeOf({ class: kind, cause, reason }) {
  const link = cause && cause !== 'other' && html`<a href="#/builds?state=failed&cause=${cause}">${cause}</a>`;
  return html`${[kind, link].filter(Boolean).map((part, at) => html`${at > 0 && ', '}${part}`)}${kind && reason && ': '}${reason || ''}`;
}

/** How many people have waited, by build, since this tab has looked at it: the queue keeps only the present number. */
const seen = new Map();
const CURVE = [{ label: 'people waiting', color: '--people', fill: '--people-fill', scale: 'people', value: (value) => count(value) }];

function People({ build }) {
  const points = seen.get(build.id) || [[], []];
  const last = points[0].at(-1) || 0;
  if (!isEnded(build.state) && now() / 1000 - last >= 1.5) {
    seen.set(build.id, [[...points[0], now() / 1000].slice(-5000), [...points[1], build.people].slice(-5000)]);
  }
  const data = seen.get(build.id);
  const most = data ? Math.max(...data[1]) : 0;
  if (!data || data[0].length < 3 || most === 0) return null;
  return html`<section class="panel" aria-labelledby="people"><h2 id="people">People waiting since you opened this build</h2>
    <${Chart} label="People waiting. Now ${build.people}, at most ${most}." data=${data} series=${CURVE} height=${110} />
  </section>`;
}

/** The exact commands for digging deeper. */
function Deeper({ build }) {
  const [, namespace] = /^k8s:[^/]*\/(.+)$/.exec(build.place || '') || [];
  const pods = namespace && `kubectl -n ${namespace} `;
  return html`<details class="deeper"><summary>Dig deeper</summary>
    <${Command} label="Why it is in its state" text="fairlane why ${build.id}" />
    <${Command} label="Everything that Redis has" text="redis-cli hgetall '{fairlane}:build:${build.id}'" />
    <${Command} label="Its lane's permits" text="redis-cli zrange '{fairlane}:permits:${build.lane}' 0 -1 withscores" />
    ${pods && html`
      <${Command} label="Its pods" text="${pods}get pods -l fairlane/build=${build.id} -o wide" />
      <${Command} label="Its pod's events" text="${pods}describe pods -l fairlane/build=${build.id}" />
      <${Command} label="Its pod's log" text="${pods}logs -l fairlane/build=${build.id} --tail=-1 --timestamps" />`}
    ${!pods && build.worker && html`<p class="dim">The run is a process of its worker, so there is no pod.</p>`}
  </details>`;
}
