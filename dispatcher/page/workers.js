// Workers and nodes: who builds, who does not, and why.
import { html } from './vendor/preact.js';
import { useFeed } from './api.js';
import { Act, clearNode, drain, undrain } from './act.js';
import { Ago, Bar, Empty, Loaded, Table } from './parts.js';
import { clock, count } from './words.js';

export function Workers() {
  const workers = useFeed('v1/workers', 3000);
  const nodes = useFeed('v1/nodes', 3000);
  return html`<h1 tabindex="-1">Workers and nodes</h1>
    <${Loaded} feed=${workers} what="The workers">${() => html`
      ${workers.data.workers.length === 0 ? html`<${Empty}>No worker is running. Start one: <code>fairlane worker --slots 4</code><//>` : html`
      <${Table} label="Workers" heads=${['Worker', 'State', ['Running', 'num'], 'Slots', 'Place', 'Release', ['Seen', 'num'], ['Act', 'acts']]}>
        ${workers.data.workers.map((worker) => html`<${Worker} key=${worker.id} worker=${worker} />`)}
      <//>`}
      ${workers.data.cursor && html`<p class="dim">More workers run; see <code>fairlane workers</code>.</p>`}
      ${workers.data.drained?.length > 0 && html`<h2>Drained names without a worker</h2>
      <${Table} label="Drained names" heads=${['Name', 'Drained by', 'Since', ['Act', 'acts']]}>
        ${workers.data.drained.map(({ name, by, since_ms: since }) => html`<tr key=${name} data-row>
          <th scope="row">${name}</th><td>${by}</td><td><${Ago} ms=${since} /> ago</td>
          <td class="acts"><${Act} label="Use again" name="Use ${name} again" act=${undrain(name)} /></td></tr>`)}
      <//>`}`}
    <//>
    <h2>Avoided nodes and hosts</h2>
    <${Loaded} feed=${nodes} what="The nodes">${() => (nodes.data.nodes.length === 0 ? html`<${Empty}>No node is avoided.<//>` : html`
      <${Table} label="Avoided nodes" heads=${['Node', 'Cluster', ['Repositories', 'num'], 'Since', 'Until', 'Why', ['Act', 'acts']]}>
        ${nodes.data.nodes.map((node) => html`<tr key=${node.cluster + node.node} data-row>
          <th scope="row">${node.node}</th>
          <td>${node.cluster === 'process' ? 'host of process workers' : node.cluster}</td>
          <td class="num">${count(node.lanes)}</td>
          <td><${Ago} ms=${node.since_ms} /> ago</td>
          <td>${clock(node.until_ms)}</td>
          <td class="words">${node.reason}</td>
          <td class="acts"><${Act} label="Use again" name="Use ${node.node} again" act=${clearNode(node)} /></td>
        </tr>`)}
      <//>`)}<//>`;
}

/** What a worker does now, as a sign, a tone and words. */
function doing(worker) {
  if (worker.drained) return ['⊘', 'warn', `drained by ${worker.drained.by}`];
  if (worker.draining) return ['⊘', 'quiet', 'shutting down'];
  if (worker.paused) return ['▲', 'warn', `paused: ${worker.paused}`];
  if (worker.avoided) return ['▲', 'warn', `avoided until ${clock(worker.avoided.until_ms)}: ${worker.avoided.reason}`];
  return ['●', 'good', 'accepts builds'];
}

function Worker({ worker }) {
  const [sign, tone, words] = doing(worker);
  return html`<tr data-row>
    <th scope="row">${worker.host}<br /><span class="mono dim">${worker.id}</span></th>
    <td class="words"><span class="state ${tone}"><span aria-hidden="true">${sign}</span></span> ${words}</td>
    <td class="num">${count(worker.running)}</td>
    <td>${count(worker.slots)} <${Bar} of=${worker.running} max=${worker.slots} label="${worker.running} of ${worker.slots} slots in use" /></td>
    <td>${worker.place.startsWith('process:') ? 'processes' : worker.place}${worker.nodes ? html`<br /><span class="dim">${count(worker.nodes)} nodes</span>` : ''}</td>
    <td>${worker.version}</td>
    <td class="num"><${Ago} ms=${worker.seen_ms} /> ago</td>
    <td class="acts">${worker.drained ? html`<${Act} label="Use again" name="Use ${worker.host} again" act=${undrain(worker.host)} />` : html`<${Act} label="Drain" name="Drain ${worker.host}" act=${drain(worker.host)} />`}</td>
  </tr>`;
}
