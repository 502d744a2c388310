// What is wrong now, as the dispatcher says it; each problem leads to the view that shows more.
import { html } from './vendor/preact.js';

const SIGNS = { bad: ['✕', 'Problem'], warning: ['▲', 'Warning'], note: ['i', 'Note'] };
const TONES = { bad: 'bad', warning: 'warn', note: 'info' };

export function Problems({ all }) {
  if (all.length === 0) return html`<p class="note good" role="status"><span aria-hidden="true">✓</span> No problems.</p>`;
  return html`<ul class="problems" aria-label="Current problems">
    ${all.map(({ severity, sentence, link }) => html`<li class="note ${TONES[severity]}">
      <span class="sign" aria-hidden="true">${SIGNS[severity][0]}</span>
      <span><span class="hidden">${SIGNS[severity][1]}: </span>${sentence} ${link && html`<a href=${link}>Show<span aria-hidden="true"> →</span></a>`}</span>
    </li>`)}
  </ul>`;
}
