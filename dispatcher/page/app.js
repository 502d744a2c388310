// The frame of the page: which view is shown, the search, the keys, and whether the data is fresh.
import { html, render, useEffect, useRef, useState } from './vendor/preact.js';
import { link, session, signIn, signOut } from './api.js';
import { Dialog, buildPath, lanePath, useTick } from './parts.js';
import { BuildPage } from './build.js';
import { Builds } from './builds.js';
import { CampaignView, Campaigns } from './campaigns.js';
import { Capacity } from './capacity.js';
import { LaneView } from './lane.js';
import { Now } from './now.js';
import { Rules } from './rules.js';
import { Workers } from './workers.js';
import { span } from './words.js';

const NAV = [
  ['Now', '#/', 'n'],
  ['Builds', '#/builds', 'b'],
  ['Workers', '#/workers', 'w'],
  ['Rules', '#/rules', 'r'],
  ['Capacity', '#/capacity', 'c'],
  ['Campaigns', '#/campaigns', 'a'],
];
const STALE_MS = 8000;
const go = (hash) => {
  location.hash = hash;
};

/** The view's name, its argument and its parameters. */
function route() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...rest] = path.split('/');
  return { name: name || 'now', rest: decodeURIComponent(rest.join('/')), query: new URLSearchParams(query) };
}

function useRoute() {
  const [at, set] = useState(route);
  useEffect(() => {
    const changed = () => set(route());
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return at;
}

function View({ at }) {
  if (at.name === 'now') return html`<${Now} />`;
  if (at.name === 'builds') return html`<${Builds} key=${at.query.toString()} query=${at.query} go=${go} />`;
  if (at.name === 'build') return html`<${BuildPage} key=${at.rest} id=${at.rest} />`;
  if (at.name === 'lane') return html`<${LaneView} key=${at.rest} lane=${at.rest} />`;
  if (at.name === 'workers') return html`<${Workers} />`;
  if (at.name === 'capacity') return html`<${Capacity} query=${at.query} go=${go} />`;
  if (at.name === 'campaigns') return html`<${Campaigns} />`;
  if (at.name === 'campaign') return html`<${CampaignView} key=${at.rest} name=${at.rest} query=${at.query} go=${go} />`;
  if (at.name === 'rules') return html`<${Rules} />`;
  return html`<h1 tabindex="-1">No such view</h1><p><a href="#/">Go to Now</a></p>`;
}

function App() {
  const at = useRoute();
  const who = session.use();
  const [helps, setHelps] = useState(false);
  const main = useRef(null);
  useKeys(() => setHelps(true));
  useEffect(() => {
    document.title = `${at.rest || at.name.replace(/^./, (first) => first.toUpperCase())} · Fairlane`;
    scrollTo(0, 0);
    main.current?.querySelector('h1')?.focus({ preventScroll: true });
  }, [at.name, at.rest]);
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to content</a>
    <${Header} at=${at} onHelp=${() => setHelps(true)} />
    <${Stale} />
    <main id="main" ref=${main} tabindex="-1">
      ${who.wanted !== undefined ? html`<${SignIn} why=${who.wanted} />` : who.known ? html`<${View} at=${at} />` : html`<p class="dim" aria-busy="true">Connecting …</p>`}
    </main>
    ${helps && html`<${Help} onClose=${() => setHelps(false)} />`}`;
}

function Header({ at, onHelp }) {
  const who = session.use();
  return html`<header>
    <a class="brand" href="#/"><svg viewBox="0 0 32 32" width="20" height="20" aria-hidden="true"><rect width="32" height="32" rx="7" /><path d="M7 10h18M7 16h11M7 22h15" /></svg>Fairlane</a>
    <nav aria-label="Views">${NAV.map(([name, href]) => html`<a key=${name} href=${href} aria-current=${href.slice(2) === (at.name === 'now' ? '' : at.name) ? 'page' : null}>${name}</a>`)}</nav>
    <${Search} />
    <div class="right">
      <${Fresh} />
      ${who.name && html`<span class="dim who" title="Scopes: ${who.scopes.join(', ')}">${who.name}${who.scopes.includes('operate') ? '' : ' (read only)'}</span>`}
      ${who.signed_in && html`<button type="button" class="small" onClick=${signOut}>Sign out</button>`}
      <${Theme} />
      <button type="button" class="small" onClick=${onHelp} aria-label="Help">?</button>
    </div>
  </header>`;
}

function Search() {
  const search = (event) => {
    event.preventDefault();
    const text = event.target.elements.q.value.trim();
    if (!text) return;
    event.target.reset();
    event.target.elements.q.blur();
    if (/^[0-9a-f]{8}-[0-9a-f-]{27}$/i.test(text)) go(buildPath(text.toLowerCase()));
    else if (/^([a-z]+:\/\/)?[a-z0-9-]+(\.[a-z0-9-]+)+\/.+/i.test(text)) go(lanePath(text.replace(/^[a-z]+:\/\//i, '').replace(/\.git$/, '').replace(/\/+$/, '').toLowerCase()));
    else go(`#/builds?${new URLSearchParams({ q: text })}`);
  };
  return html`<form role="search" aria-label="Search" onSubmit=${search}>
    <input id="search" name="q" type="search" autocomplete="off" spellcheck=${false} aria-label="Search: build id, repository, or a part of a name" placeholder="Build id, repository, or a part of it  ( / )" />
  </form>`;
}

/** Whether data arrives. */
function Fresh() {
  useTick();
  const { at, error } = link.use();
  const age = Date.now() - at;
  const isFresh = at > 0 && !error && age < STALE_MS;
  return html`<span class="fresh ${isFresh ? 'good' : 'warn'}"><span aria-hidden="true">${isFresh ? '●' : '▲'}</span> ${isFresh ? 'live' : at ? `${span(age)} old` : 'no data'}</span>`;
}

function Stale() {
  useTick();
  const { at, error } = link.use();
  const who = session.use();
  if (who.wanted !== undefined) return null;
  if (!error && (at === 0 || Date.now() - at < STALE_MS)) return null;
  const cause = !error || !error.status ? 'The dispatcher does not answer' : error.message;
  return html`<p class="stale" role="alert">${cause.replace(/\.$/, '')}. ${at ? `What you see is ${span(Date.now() - at)} old. ` : ''}The page keeps trying.</p>`;
}

function SignIn({ why }) {
  const [said, setSaid] = useState(why);
  const submit = async (event) => {
    event.preventDefault();
    const token = event.target.elements.token.value.trim();
    const error = token && (await signIn(token));
    if (error) setSaid(error.message);
  };
  return html`<section class="sign-in"><h1 tabindex="-1">Sign in</h1>
    <p>This dispatcher needs a token with the scope <code>read</code>. To act, use one with <code>operate</code>, too. The page keeps the token until you close this tab.</p>
    ${said && html`<p class="note bad" role="alert">${said}</p>`}
    <form onSubmit=${submit}><label>Token <input name="token" type="password" autocomplete="off" required size="40" /></label> <button type="submit" class="main">Sign in</button></form>
  </section>`;
}

const THEMES = { auto: '◐', light: '○', dark: '●' };
function Theme() {
  const [theme, set] = useState(() => localStorage.getItem('fairlane-theme') || 'auto');
  useEffect(() => {
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    localStorage.setItem('fairlane-theme', theme);
    document.dispatchEvent(new Event('theme'));
  }, [theme]);
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(theme) + 1) % 3];
  return html`<button type="button" class="small" onClick=${() => set(next)} aria-label="Colors: ${theme}; change to ${next}" title="Colors: ${theme}">${THEMES[theme]}</button>`;
}

const KEYS = [
  ['/', 'search'],
  ['↑ ↓', 'move between rows of a table, or J and K'],
  ['Enter', 'open the row'],
  ['g n', 'go to Now; g b to Builds, g w to Workers, g r to Rules, g c to Capacity, g a to Campaigns'],
  ['Esc', 'leave the search, close a dialog'],
  ['?', 'this help'],
];

function Help({ onClose }) {
  return html`<${Dialog} title="Keys" onClose=${onClose}>
    <dl class="keys">${KEYS.map(([key, what]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl>
    <form method="dialog"><button class="main">Close</button></form>
  <//>`;
}

function useKeys(onHelp) {
  useEffect(() => {
    let before = '';
    const pressed = (event) => {
      const { key, target } = event;
      const isText = /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
      if (key === 'Escape' && isText) target.blur();
      if (isText || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
      const place = before === 'g' && NAV.find(([, , letter]) => letter === key);
      before = key;
      if (place) go(place[1]);
      else if (key === '/') document.getElementById('search').focus();
      else if (key === '?') onHelp();
      else if (['ArrowDown', 'ArrowUp', 'j', 'k'].includes(key) && !target.closest?.('.log')) move(['ArrowDown', 'j'].includes(key) ? 1 : -1);
      else return;
      event.preventDefault();
    };
    addEventListener('keydown', pressed);
    return () => removeEventListener('keydown', pressed);
  }, []);
}

/** Moves the focus to the first link of the next row. */
function move(by) {
  const rows = [...document.querySelectorAll('[data-row]')];
  if (!rows.length) return scrollBy(0, 60 * by);
  const at = rows.indexOf(document.activeElement.closest('[data-row]'));
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, at + by));
  rows[next].querySelector('a')?.focus();
}

/** Until the dispatcher has said who we are. */
async function connect() {
  const error = await signIn();
  if (error && error.status !== 401) setTimeout(connect, 2000);
}

render(html`<${App} />`, document.getElementById('app'));
connect();
