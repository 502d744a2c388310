// The log of a build, live. Only the rows that can be seen are drawn, so a fast log does not slow the page down.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from './vendor/preact.js';
import { Refused, stream } from './api.js';
import { Lines, isError } from './log-lines.js';
import { count } from './words.js';

const ROW = 19;
const SPARE = 30;

/** Reads the events of a build, over and over if the connection breaks; stops after its end. */
async function read(id, take, signal) {
  let last = null;
  let wait = 1000;
  while (!signal.aborted) {
    try {
      const response = await stream(`v1/builds/${id}/events?watchers=0`, last, signal);
      if (!response.ok) throw new Refused(response.status, await response.json());
      take({ kind: 'open' });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const parts = (rest + value).split('\n\n');
        rest = parts.pop();
        for (const part of parts) {
          const event = parse(part);
          if (event.id) last = event.id;
          const data = event.data && JSON.parse(event.data);
          if (event.kind === 'notice' && data?.kind === 'log-removed') return await readWhole(id, take, signal);
          if (data) take({ kind: event.kind, data });
          if (event.kind === 'end' || event.kind === 'moved') return;
        }
        wait = 1000;
      }
    } catch (error) {
      if (signal.aborted) return;
      take({ kind: 'broken', error });
      if (error.status && error.status < 500 && error.status !== 429) return;
    }
    await new Promise((later) => setTimeout(later, wait));
    wait = Math.min(10_000, wait * 2);
  }
}

/** Reads a log that is over as a whole: Redis has forgotten it, but it may be archived. */
async function readWhole(id, take, signal) {
  try {
    const response = await stream(`v1/builds/${id}/log`, null, signal);
    if (!response.ok) throw new Refused(response.status, await response.json());
    const lines = (await response.text()).replace(/\n$/, '').split('\n');
    take({ kind: 'log', data: { lines: lines.map((text) => ({ text })) } });
    take({ kind: 'end' });
  } catch (error) {
    if (!signal.aborted) take({ kind: 'broken', error });
  }
}

function parse(text) {
  const event = {};
  for (const line of text.split('\n')) {
    const [, name, value] = /^(id|event|data): ?(.*)$/.exec(line) || [];
    if (name) event[name === 'event' ? 'kind' : name] = value;
  }
  return event;
}

export function Log({ id, onEnd, whole }) {
  const lines = useMemo(() => new Lines(), [id]);
  const [status, setStatus] = useState('connecting …');
  const [, draw] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    let asked = false;
    // However fast lines come, the page is drawn at most once a frame.
    const later = () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        draw((number) => number + 1);
      });
    };
    const take = ({ kind, data, error }) => {
      if (kind === 'log') data.lines.forEach((line) => lines.add(line.text));
      else if (kind === 'notice') lines.note(data.text);
      else if (kind === 'open') setStatus('following');
      else if (kind === 'broken') setStatus(error.status ? error.message : 'the connection broke; trying again …');
      else if (kind === 'end' || kind === 'moved') {
        setStatus('complete');
        onEnd?.();
      }
      later();
    };
    (whole ? readWhole : read)(id, take, stop.signal);
    return () => stop.abort();
  }, [id]);
  return html`<${View} id=${id} lines=${lines} status=${status} />`;
}

function View({ id, lines, status }) {
  const box = useRef(null);
  const [top, setTop] = useState(0);
  const [follow, setFollow] = useState(true);
  const [wanted, setWanted] = useState('');
  const [mark, setMark] = useState(-1);
  const rows = lines.rows;
  const height = box.current?.clientHeight || 480;
  const first = Math.max(0, Math.floor(top / ROW) - SPARE);
  const last = Math.min(rows.length, Math.ceil((top + height) / ROW) + SPARE);

  useLayoutEffect(() => {
    // As high as the log, up to most of the window.
    box.current.style.height = `min(70vh, 46rem, ${14 + ROW * Math.max(8, rows.length)}px)`;
    if (follow) box.current.scrollTop = box.current.scrollHeight;
  }, [rows.length, follow]);

  const scrolled = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    setTop(scrollTop);
    setFollow(scrollHeight - scrollTop - clientHeight < 2 * ROW);
  };
  const show = (row) => {
    setFollow(false);
    setMark(row);
    box.current.scrollTop = Math.max(0, row * ROW - height / 3);
  };
  const found = useFound(rows, wanted);
  const step = (by) => {
    if (!found.length) return;
    const at = by > 0 ? found.find((row) => row > mark) ?? found[0] : found.findLast((row) => row < mark) ?? found.at(-1);
    show(at);
  };
  const error = () => {
    const at = rows.findIndex(isError);
    if (at >= 0) show(at);
    else setMark(-2);
  };
  return html`<div class="log-tools" role="toolbar" aria-label="Log">
      <input type="search" aria-label="Search in the log" placeholder="Search in the log" value=${wanted}
        onInput=${(event) => setWanted(event.target.value)}
        onKeyDown=${(event) => event.key === 'Enter' && (event.preventDefault(), step(event.shiftKey ? -1 : 1))} />
      ${wanted && html`<span class="dim" role="status">${count(found.length)} ${found.length === 1 ? 'match' : 'matches'}</span>`}
      <button type="button" onClick=${() => step(-1)} disabled=${!found.length} aria-label="Previous match">↑</button>
      <button type="button" onClick=${() => step(1)} disabled=${!found.length} aria-label="Next match">↓</button>
      <button type="button" onClick=${error}>First error</button>
      <button type="button" aria-pressed=${follow} onClick=${() => setFollow(!follow)}>Follow</button>
      <button type="button" onClick=${() => download(id)}>Download</button>
      <span class="dim" role="status">${mark === -2 ? 'no line looks like an error' : `${count(lines.count)} lines, ${status}`}</span>
    </div>
    <div class="log" ref=${box} onScroll=${scrolled} tabindex="0" role="log" aria-label="Log of the build" aria-live="off">
      ${lines.dropped > 0 && html`<p class="dim">The first ${count(lines.dropped)} rows are not shown; download the log to see them.</p>`}
      <${Window} rows=${rows} first=${first} last=${last} mark=${mark} wanted=${wanted.toLowerCase()} />
    </div>`;
}

/** Rows with the text; only new rows are searched. */
function useFound(rows, wanted) {
  const memory = useRef({ wanted: '', upTo: 0, found: [], first: null });
  const known = memory.current;
  if (known.wanted !== wanted || known.rows !== rows || known.first !== rows[0]) {
    Object.assign(known, { wanted, rows, upTo: 0, found: [], first: rows[0] });
  }
  if (wanted) {
    const text = wanted.toLowerCase();
    for (; known.upTo < rows.length; known.upTo += 1) {
      if (rows[known.upTo].text.toLowerCase().includes(text)) known.found.push(known.upTo);
    }
  }
  return known.found;
}

function Window({ rows, first, last, mark, wanted }) {
  const space = useRef(null);
  useLayoutEffect(() => {
    space.current.style.height = `${rows.length * ROW}px`;
    space.current.firstChild.style.transform = `translateY(${first * ROW}px)`;
  }, [rows.length, first]);
  return html`<div ref=${space} class="log-space"><div class="log-rows">
    ${rows.slice(first, last).map((row, at) => html`<${Row} key=${first + at} row=${row} marked=${first + at === mark} wanted=${wanted} />`)}
  </div></div>`;
}

function Row({ row, marked, wanted }) {
  const isFound = wanted && row.text.toLowerCase().includes(wanted);
  const kind = `${row.note ? 'of-us' : ''} ${marked ? 'marked' : ''} ${isFound ? 'found' : ''}`;
  return html`<div class="log-row ${kind}"><span class="number" aria-hidden="true">${row.line || ''}</span><span class="text">${row.spans ? row.spans.map((span) => html`<${Span} ...${span} />`) : row.text}</span></div>`;
}

function Span({ text, bold, faint, italic, underline, fg, bg }) {
  const words = [bold && 'bold', faint && 'faint', italic && 'italic', underline && 'underline'];
  if (fg && fg.class_name !== 'truecolor') words.push(`${fg.class_name}-fg`);
  if (bg && bg.class_name !== 'truecolor') words.push(`${bg.class_name}-bg`);
  const style = {};
  if (fg?.class_name === 'truecolor') style.color = `rgb(${fg.rgb.join(',')})`;
  if (bg?.class_name === 'truecolor') style.backgroundColor = `rgb(${bg.rgb.join(',')})`;
  return html`<span class=${words.filter(Boolean).join(' ')} style=${style}>${text}</span>`;
}

/** The log as the dispatcher has it, with its colors; a link could not send the token. */
async function download(id) {
  const response = await stream(`v1/builds/${id}/log`);
  if (!response.ok) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(await response.blob());
  link.download = `fairlane-${id}.log`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
