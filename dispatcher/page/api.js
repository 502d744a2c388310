// Talks to the dispatcher: the token, single requests, and feeds: data that is asked for again and again.
import { useEffect, useState } from './vendor/preact.js';

// The page may be shown below any path, so every address is relative to the page's own folder.
const folder = new URL('.', document.baseURI);
const KEY = 'fairlane-token';
const WAIT_MS = 10_000;

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the dispatcher answered with status ${status}`);
    this.status = status;
    this.kind = String(problem.type || '').replace('urn:fairlane:error:', '');
    this.field = problem.field;
  }
}

/** The time by Redis's clock, which all `_ms` fields use. */
let ahead = 0;
export const now = () => Date.now() + ahead;

/** A value that components can watch. */
function observable(value) {
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      value = next;
      watchers.forEach((watcher) => watcher(value));
    },
    use() {
      const [, show] = useState(0);
      useEffect(() => {
        const watcher = () => show((count) => count + 1);
        watchers.add(watcher);
        return () => watchers.delete(watcher);
      }, []);
      return value;
    },
  };
}

/** Who we are: `{known, name, scopes, signed_in}`, or `{wanted: why}` while a token is needed. */
export const session = observable({ known: false });
/** Whether data arrives: `{at, error}`, by this machine's clock. */
export const link = observable({ at: 0, error: null });

export const may = (scope) => session.get().scopes?.includes(scope) ?? false;

function saved() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function headers(more) {
  const token = saved();
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

/** One request. Throws `Refused`, or another error if the dispatcher does not answer. */
export async function ask(path, { method = 'GET', body, age, tag } = {}) {
  const wanted = headers({ Accept: 'application/json' });
  if (body !== undefined) wanted['Content-Type'] = 'application/json';
  if (age) wanted['Cache-Control'] = `max-age=${age}`;
  if (tag) wanted['If-None-Match'] = tag;
  const signal = AbortSignal.timeout(WAIT_MS);
  const options = { method, headers: wanted, signal, cache: 'no-store', body: body && JSON.stringify(body) };
  const response = await fetch(new URL(path, folder), options);
  if (response.status === 304) return { same: true };
  const isJson = (response.headers.get('content-type') || '').includes('json');
  if (!isJson) throw new Error('the answer is not from a dispatcher; is a proxy or a login page in between?');
  const data = await response.json();
  if (!response.ok) throw new Refused(response.status, data);
  const clock = data.totals?.now_ms ?? data.now_ms;
  if (clock) ahead = clock - Date.now();
  return { data, tag: response.headers.get('etag') };
}

/** Opens a stream of server-sent events; an EventSource could not send the token. */
export function stream(path, lastId, signal) {
  const wanted = headers({ Accept: 'text/event-stream' });
  if (lastId) wanted['Last-Event-ID'] = lastId;
  return fetch(new URL(path, folder), { headers: wanted, signal, cache: 'no-store' });
}

/** Asks who we are; with a token, uses it from now on if it is good. */
export async function signIn(token) {
  const before = saved();
  if (token) sessionStorage.setItem(KEY, token);
  try {
    session.set({ known: true, ...(await ask('v1/whoami')).data });
    refresh();
    return null;
  } catch (error) {
    if (token) before ? sessionStorage.setItem(KEY, before) : sessionStorage.removeItem(KEY);
    if (error.status === 401) session.set({ known: true, wanted: token || before ? error.message : '' });
    else link.set({ ...link.get(), error });
    return error;
  }
}

export function signOut() {
  sessionStorage.removeItem(KEY);
  session.set({ known: true, wanted: '' });
}

/** What is asked for again and again, by path. Components that want the same share it. */
const feeds = new Map();

class Feed {
  constructor(path, every) {
    Object.assign(this, { path, every, state: {}, watchers: new Set(), timer: null, tag: null, busy: false });
  }

  async poll(age) {
    if (this.busy) return;
    this.busy = true;
    clearTimeout(this.timer);
    const began = Date.now();
    try {
      const answer = await ask(this.path, { age, tag: this.tag });
      if (!answer.same) {
        this.tag = answer.tag;
        this.state = { data: answer.data };
      } else if (this.state.error) {
        this.state = { data: this.state.data };
      }
      link.set({ at: Date.now(), error: null });
    } catch (error) {
      if (error.status === 401) session.set({ known: true, wanted: error.message });
      // A refusal of this one path is shown where its data would be.
      const isAway = !error.status || error.status >= 500;
      if (isAway) link.set({ ...link.get(), error });
      this.state = { data: isAway ? this.state.data : undefined, error };
      this.tag = null;
    }
    this.busy = false;
    this.watchers.forEach((watcher) => watcher());
    this.plan(Math.max(200, this.every - (Date.now() - began)));
  }

  plan(wait) {
    clearTimeout(this.timer);
    if (this.watchers.size > 0 && !document.hidden && !session.get().wanted) {
      this.timer = setTimeout(() => this.poll(Math.ceil(this.every / 1000)), wait);
    }
  }
}

/** Fresh data of a path, asked for every so many milliseconds: `{data, error}`. No path: nothing. */
export function useFeed(path, every) {
  const [, show] = useState(0);
  useEffect(() => {
    if (!path) return undefined;
    const watcher = () => show((count) => count + 1);
    let feed = feeds.get(path);
    if (!feed) feeds.set(path, (feed = new Feed(path, every)));
    feed.every = every;
    feed.watchers.add(watcher);
    // Data of a view that was open a moment ago is shown until newer data is here.
    feed.poll(Math.ceil(every / 1000));
    watcher();
    return () => {
      feed.watchers.delete(watcher);
      if (feed.watchers.size === 0) clearTimeout(feed.timer);
    };
  }, [path, every]);
  return (path && feeds.get(path)?.state) || {};
}

/** Asks for everything anew, past all caches: after an act, or when the page is looked at again. */
export function refresh() {
  for (const [path, feed] of feeds) {
    if (feed.watchers.size > 0) feed.poll();
    else feeds.delete(path);
  }
}

document.addEventListener('visibilitychange', () => document.hidden || refresh());
window.addEventListener('online', refresh);
