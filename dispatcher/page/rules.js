// Rules in force, and the audit log: who did what, when, why, and until when.
import { html, useState } from './vendor/preact.js';
import { useFeed } from './api.js';
import { Act, removeRule } from './act.js';
import { Ago, Empty, Lane, Loaded, Table } from './parts.js';
import { clock, many } from './words.js';

/** A rule in words, without its ends. */
function inWords({ limit, burst, together, ban, hold }) {
  const words = [];
  if (limit) words.push(`${together ? 'all lanes together ' : ''}at most ${many(limit, 'build')} at a time${burst > limit ? `, up to ${burst} while most slots are free` : ''}`);
  else if (burst) words.push(`up to ${many(burst, 'build')} while most slots are free`);
  if (hold) words.push(`held${hold.message ? `: ${hold.message}` : ''}`);
  if (ban) words.push(`banned${ban.message ? `: ${ban.message}` : ''}`);
  return words.join('; ');
}

function ends(rule) {
  const all = [];
  if (rule.until) all.push(`limit: ${clock(rule.until)}`);
  for (const kind of ['hold', 'ban']) {
    if (rule[kind]?.until) all.push(`${kind}: ${clock(rule[kind].until)}`);
    if (rule[kind]?.until_built) all.push(`${kind}: when a build succeeds`);
  }
  return all.join(', ') || 'until it is removed';
}

export function Rules() {
  const rules = useFeed('v1/rules', 3000);
  const set = useFeed('v1/audit?act=rule+set&limit=200', 5000).data;
  const why = (pattern) => set?.acts.find((act) => act.what === pattern)?.reason;
  return html`<h1 tabindex="-1">Rules and audit</h1>
    <h2>Rules in force</h2>
    <${Loaded} feed=${rules} what="The rules">${() => html`
      ${Object.entries(rules.data.unreadable || {}).map(([pattern, reason]) => html`<p class="note warn">The rule of ${pattern} cannot be read by this release: ${reason}</p>`)}
      ${Object.keys(rules.data.rules).length === 0 ? html`<${Empty}>No rule is in force. Open a lane to hold, limit or ban it.<//>` : html`
      <${Table} label="Rules in force" heads=${['Lanes', 'Rule', 'Until', 'By', 'Set', 'Why', ['Act', 'acts']]}>
        ${Object.entries(rules.data.rules).map(([pattern, rule]) => html`<tr key=${pattern} data-row>
          <th scope="row">${pattern.endsWith('*') ? pattern : html`<${Lane} lane=${pattern} />`}</th>
          <td class="words">${inWords(rule)}</td>
          <td>${ends(rule)}</td>
          <td>${rule.by}</td>
          <td>${rule.at ? html`<${Ago} ms=${rule.at} /> ago` : ''}</td>
          <td class="words">${why(pattern) || ''}</td>
          <td class="acts"><${Act} label="Remove" name="Remove the rule of ${pattern}" danger act=${removeRule(pattern, inWords(rule))} /></td>
        </tr>`)}
      <//>`}`}
    <//>
    <${Audit} />`;
}

const ACTS = ['rule set', 'rule removed', 'rule ended', 'ban overridden', 'cancel', 'promote', 'drain', 'undrain', 'policy set', 'logs pruned', 'campaign created', 'campaign started', 'campaign paused', 'campaign resumed', 'campaign pacing set', 'campaign cancelled', 'campaign ended', 'worker lost', 'node avoided', 'node taken back', 'node cleared', 'build forgotten', 'repaired'];

function Audit() {
  const [act, setAct] = useState('');
  const [cursors, setCursors] = useState([]);
  const wanted = new URLSearchParams({ limit: '50' });
  if (act) wanted.set('act', act);
  if (cursors.length) wanted.set('cursor', cursors.at(-1));
  const feed = useFeed(`v1/audit?${wanted}`, 5000);
  return html`<h2>Audit log</h2>
    <form class="filters" onSubmit=${(event) => event.preventDefault()}><label>Act <select value=${act} onChange=${(event) => (setAct(event.target.value), setCursors([]))}>
      <option value="">all</option>${ACTS.map((name) => html`<option value=${name}>${name}</option>`)}</select></label></form>
    <${Loaded} feed=${feed} what="The audit log">${() => html`
      ${feed.data.acts.length === 0 ? html`<${Empty}>Nothing of this kind is in the audit log.<//>` : html`
      <${Table} label="Audit log" heads=${['Time', 'Who', 'Act', 'What', 'Why', 'Details']}>
        ${feed.data.acts.map((one) => html`<tr key=${`${one.at_ms}${one.act}${one.what}`}>
          <td>${clock(one.at_ms, true)}</td><td>${one.by}</td><td>${one.act}</td>
          <td><${What} of=${one.what} /></td>
          <td class="words">${one.reason || ''}</td>
          <td class="words">${detail(one)}</td>
        </tr>`)}
      <//>`}
      <nav class="pages" aria-label="Pages">
        <button type="button" disabled=${!cursors.length} onClick=${() => setCursors(cursors.slice(0, -1))}>Newer</button>
        <button type="button" disabled=${!feed.data.cursor} onClick=${() => setCursors([...cursors, feed.data.cursor])}>Older</button>
      </nav>`}
    <//>`;
}

function What({ of }) {
  if (/^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(of)) return html`<a class="mono" href="#/build/${of}">${of}</a>`;
  if (/^[a-z0-9.-]+\/[^*]+$/.test(of) && of.includes('.')) return html`<${Lane} lane=${of} />`;
  return of;
}

function detail({ act, detail: text }) {
  if (!act.startsWith('rule') || !text.startsWith('{')) return text;
  try {
    const rule = JSON.parse(text);
    return `${inWords(rule)} (${ends(rule)})`;
  } catch {
    return text;
  }
}
