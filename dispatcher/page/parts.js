// Small pieces that all views use.
import { html, useEffect, useRef, useState } from './vendor/preact.js';
import { now } from './api.js';
import { STATES, shortId, span } from './words.js';

export function useTick(every = 1000) {
  const [, show] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || show((count) => count + 1), every);
    return () => clearInterval(timer);
  }, [every]);
}

/** How long ago something was, kept up to date. */
export function Ago({ ms }) {
  useTick();
  return ms ? html`<time datetime=${new Date(ms).toISOString()} title=${new Date(ms).toLocaleString()}>${span(now() - ms)}</time>` : '—';
}

export function State({ state, cancelling }) {
  const { sign, tone } = STATES[state] || { sign: '?', tone: 'quiet' };
  return html`<span class="state ${tone}"><span aria-hidden="true">${sign}</span> ${cancelling ? `${state}, stopping` : state}</span>`;
}

export const buildPath = (id) => `#/build/${id}`;
export const lanePath = (lane) => `#/lane/${encodeURI(lane).replace(/[?#]/g, encodeURIComponent)}`;
/** Goes through the pages of a list; `cursors` are those of the pages up to this one, `next` that of the next. */
export const Pages = ({ cursors, next, set }) => html`<nav class="pages" aria-label="Pages">
  <button type="button" disabled=${!cursors.length} onClick=${() => set(cursors.slice(0, -1))}>Previous</button>
  <span>Page ${cursors.length + 1}</span>
  <button type="button" disabled=${!next} onClick=${() => set([...cursors, next])}>Next</button>
</nav>`;

export const campaignPath = (name) => `#/campaign/${name}`;
export const Campaign = ({ name }) => html`<a href=${campaignPath(name)}>${name}</a>`;
export const Lane = ({ lane }) => html`<a class="lane" href=${lanePath(lane)}>${lane}</a>`;
export const Id = ({ id }) => html`<a class="mono" href=${buildPath(id)} title=${id}>${shortId(id)}</a>`;

/** Loading, a refusal, or what `children` makes of the data; always one element, so that it keeps its place. */
export function Loaded({ feed, what, children }) {
  if (feed.data !== undefined) return html`<div>${children()}</div>`;
  if (feed.error) return html`<div class="note bad" role="alert"><span><b>${what} cannot be shown.</b> ${feed.error.message}</span></div>`;
  return html`<div class="dim" aria-busy="true">Loading ${what.toLowerCase()} …</div>`;
}

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

/** A table that scrolls by itself if it is wider than the page. */
export function Table({ label, heads, children }) {
  return html`<div class="scroll" tabindex="0" role="group" aria-label=${label}>
    <table>
      <thead><tr>${heads.map((head) => {
        const [text, kind] = Array.isArray(head) ? head : [head, ''];
        if (kind === 'hidden-text') return html`<th scope="col"><span class="hidden">${text}</span></th>`;
        return html`<th scope="col" class=${kind}>${text}</th>`;
      })}</tr></thead>
      <tbody>${children}</tbody>
    </table>
  </div>`;
}

/** A share as a bar; its text says the same. */
export function Bar({ of, max, label }) {
  const share = max > 0 ? Math.min(100, (100 * of) / max) : 0;
  const ref = useRef(null);
  useEffect(() => {
    ref.current.style.width = `${share}%`;
  }, [share]);
  return html`<span class="bar" role="img" aria-label=${label}><span ref=${ref}></span></span>`;
}

/** A dialog that keeps the focus until it is closed. */
export function Dialog({ title, onClose, children }) {
  const ref = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    ref.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog ref=${ref} aria-labelledby="dialog-title" onClose=${onClose}>
    <h2 id="dialog-title">${title}</h2>
    ${children}
  </dialog>`;
}

/** A command to copy. */
export function Command({ text, label }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(text).catch(() => {});
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<div class="command">
    <span class="dim">${label}</span>
    <code tabindex="0">${text}</code>
    <button type="button" class="small" onClick=${copy} aria-label="Copy: ${label}">${copied ? 'copied' : 'copy'}</button>
  </div>`;
}
