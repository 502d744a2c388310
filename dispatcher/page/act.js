// Acting: each act says what it will do, and asks once, with a reason for the audit log.
import { html, useEffect, useRef, useState } from './vendor/preact.js';
import { ask, may, now, refresh, session } from './api.js';
import { Dialog } from './parts.js';
import { clock, count, many } from './words.js';

/** A button that opens an act's dialog; absent without the scope. `act` is made when the dialog opens. */
export function Act({ label, name, act, danger }) {
  session.use();
  const [open, setOpen] = useState(false);
  if (!may('operate')) return null;
  return html`<span><button type="button" aria-label=${name} onClick=${() => setOpen(true)}>${label}</button>
    ${open && html`<${Asking} make=${act} label=${label} danger=${danger} onClose=${() => setOpen(false)} />`}</span>`;
}

const TIMES = [
  ['30 minutes', 30 * 60e3],
  ['1 hour', 3600e3],
  ['6 hours', 6 * 3600e3],
  ['1 day', 24 * 3600e3],
  ['7 days', 7 * 24 * 3600e3],
];

/** `make` gives `{title, effect, fields, run}`: `effect` and `run` get the values of the fields. */
function Asking({ make, label, danger, onClose }) {
  const [act, setAct] = useState(null);
  const [values, setValues] = useState({ reason: '' });
  const [said, setSaid] = useState(null);
  const [busy, setBusy] = useState(false);
  const form = useRef(null);
  useEffect(() => {
    make().then(
      (made) => {
        setAct(made);
        setValues((before) => ({ ...Object.fromEntries(made.fields?.map((field) => [field.name, field.value ?? '']) || []), ...before }));
      },
      (error) => setSaid(error.message),
    );
  }, []);
  useEffect(() => form.current?.querySelector('input, select')?.focus(), [act]);
  const submit = async (event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setSaid(null);
    try {
      const warning = await act.run(values);
      refresh();
      if (warning) setSaid(warning);
      else onClose();
    } catch (error) {
      // Whatever was tried, what is shown next is what is true now.
      refresh();
      setSaid(error.status ? error.message : `${error.message}; it is not known whether it was done`);
    }
    setBusy(false);
  };
  const put = (name) => ({ target: { value } }) => setValues((before) => ({ ...before, [name]: value }));
  return html`<${Dialog} title=${act?.title || label} onClose=${onClose}>
    <form ref=${form} class="asking" onSubmit=${submit}>
      ${act ? html`<p class="effect" id="effect">${act.effect(values)}</p>` : !said && html`<p class="dim" aria-busy="true">Looking at what this would do …</p>`}
      ${act?.fields?.map((field) => html`<${Field} key=${field.name} field=${field} value=${values[field.name]} onInput=${put(field.name)} />`)}
      ${act && html`<${Field} field=${{ name: 'reason', label: act.reasonLabel || 'Reason, for the audit log', max: 500 }} value=${values.reason} onInput=${put('reason')} />`}
      ${said && html`<p class="note bad" role="alert">${said}</p>`}
      <p class="buttons"><button type="button" onClick=${onClose}>Close</button>
        <button type="submit" class="main ${danger ? 'danger' : ''}" disabled=${!act || busy} aria-describedby="effect">${busy ? 'Working …' : label}</button></p>
    </form>
  <//>`;
}

function Field({ field: { name, label, options, type = 'text', max, min, most, step, required, hint }, value, onInput }) {
  if (options) {
    return html`<label>${label} <select name=${name} value=${value} onChange=${onInput}>${options.map(([word, of]) => html`<option value=${of}>${word}</option>`)}</select></label>`;
  }
  return html`<label>${label} <input name=${name} type=${type} value=${value ?? ''} onInput=${onInput} maxlength=${max} min=${min} max=${most} step=${step} placeholder=${hint} required=${required} autocomplete="off" /></label>`;
}

export const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString();
const until = (length) => (Number(length) ? now() + Number(length) : undefined);
const forTime = (end) => ({ name: 'length', label: 'For', value: '3600000', options: [...TIMES, [end, '']] });
const toWhen = (length) => (Number(length) ? ` until ${clock(now() + Number(length))}` : '');

/** What of a lane waits and runs, counted now. */
async function census(lane) {
  const { builds, cursor } = (await ask(`v1/builds?${query({ lane, limit: 200 })}`)).data;
  const of = (...states) => builds.filter((build) => states.includes(build.state));
  const waiting = of('queued');
  const running = of('starting', 'running', 'orphaned');
  const people = (some) => some.reduce((sum, build) => sum + build.people, 0);
  const more = cursor && waiting.length === builds.length ? 'at least ' : '';
  const are = (some, what) => `${more}${many(some.length, `${what} build`)} (${many(people(some), 'person', 'people')})`;
  const goesOn = running.length === 0 ? 'none runs now' : `${more}${many(running.length, 'running build')} ${verb(running.length, 'continues', 'continue')}`;
  return { waiting: are(waiting, 'waiting'), goesOn, waits: waiting.length };
}

export const verb = (number, one, more) => (number === 1 ? one : more);

/** The rule of exactly this pattern, without who set it and when. */
async function ruleOf(pattern) {
  const { by, at, ...rule } = (await ask('v1/rules')).data.rules[pattern] || {};
  return rule;
}

async function setRule(pattern, change, reason) {
  const rule = { ...(await ruleOf(pattern)), ...change };
  const isEmpty = !rule.limit && !rule.burst && !rule.hold && !rule.ban;
  const path = `v1/rules?${query({ pattern, reason })}`;
  const body = JSON.parse(JSON.stringify(rule));
  const answer = isEmpty ? await ask(path, { method: 'DELETE' }) : await ask(path, { method: 'PUT', body });
  return answer.data.warning;
}

const messageField = { name: 'message', label: 'Message for people who wait or ask', max: 1000 };

export const hold = (lane) => async () => {
  const found = await census(lane);
  return {
    title: `Hold ${lane}`,
    effect: ({ length }) => `${found.waiting} will not start${toWhen(length)}; ${found.goesOn}. New requests wait, too.`,
    fields: [forTime('until it is released'), messageField],
    run: ({ length, message, reason }) => setRule(lane, { hold: { message: message || undefined, until: until(length) } }, reason),
  };
};

export const release = (lane) => async () => {
  const found = await census(lane);
  return {
    title: `Release ${lane}`,
    effect: () => `${found.waiting} may start again, in their order and within the lane's limit.`,
    run: ({ reason }) => setRule(lane, { hold: undefined }, reason),
  };
};

export const limit = (lane, view) => async () => {
  const found = await census(lane);
  return {
    title: `Limit ${lane}`,
    effect: ({ limit, length }) => `At most ${many(Number(limit) || 1, 'build')} of the lane will run at a time${toWhen(length)}; now it is ${count(view.limit)}. ${found.waiting} in line; ${found.goesOn}, even beyond the limit.`,
    fields: [{ name: 'limit', label: 'Builds at a time', type: 'number', min: 1, value: view.limit, required: true }, forTime('until it is changed')],
    run: ({ limit, length, reason }) => setRule(lane, { limit: Number(limit), burst: undefined, until: until(length) }, reason),
  };
};

export const unlimit = (lane) => async () => ({
  title: `Remove the limit of ${lane}`,
  effect: () => 'The lane gets the limit of a more general rule, or of the policy.',
  run: ({ reason }) => setRule(lane, { limit: undefined, burst: undefined, until: undefined, together: undefined }, reason),
});

export const ban = (lane) => async () => {
  const found = await census(lane);
  const times = forTime('until it is lifted');
  times.options.push(['until a build succeeds', 'built']);
  return {
    title: `Ban ${lane}`,
    effect: ({ length }) => `New requests will be refused${length === 'built' ? ' until a build of the lane succeeds' : toWhen(length)}. ${found.waiting} will still start; ${found.goesOn}.`,
    fields: [times, messageField],
    run: ({ length, message, reason }) => setRule(lane, { ban: { message: message || undefined, until: until(length), until_built: length === 'built' } }, reason),
  };
};

export const unban = (lane) => async () => ({
  title: `Lift the ban of ${lane}`,
  effect: () => 'New requests will be accepted again.',
  run: ({ reason }) => setRule(lane, { ban: undefined }, reason),
});

export const removeRule = (pattern, words) => async () => ({
  title: `Remove the rule of ${pattern}`,
  effect: () => `This ends at once: ${words}.`,
  run: async ({ reason }) => (await ask(`v1/rules?${query({ pattern, reason })}`, { method: 'DELETE' })).data.warning,
});

export const cancel = (id) => async () => {
  const build = (await ask(`v1/builds/${id}`)).data;
  const isQueued = build.state === 'queued';
  return {
    title: 'Cancel this build',
    effect: () => `${isQueued ? 'It leaves the line' : 'Its run is stopped'}, and ${many(build.people, 'person', 'people')} who ${verb(build.people, 'waits', 'wait')} for it ${verb(build.people, 'is', 'are')} told. Whoever asks again starts a new build.`,
    reasonLabel: 'Reason, for the audit log and the people who wait',
    run: async ({ reason }) => void (await ask(`v1/builds/${id}?${query({ reason })}`, { method: 'DELETE' })),
  };
};

export const promote = (id) => async () => {
  const build = (await ask(`v1/builds/${id}`)).data;
  return {
    title: 'Promote this build',
    effect: () => `It becomes interactive${build.position ? `, and leaves position ${count(build.position)} of ${count(build.line)}` : ''}: it no longer waits behind all builds that people wait for, and no longer counts as a background build.`,
    run: async ({ reason }) => void (await ask(`v1/builds/${id}/promote?${query({ reason })}`, { method: 'POST' })),
  };
};

export const drain = (host) => async () => {
  const { totals } = (await ask('v1/queue')).data;
  const workers = (await ask('v1/workers')).data.workers.filter((worker) => worker.host === host);
  const sum = (of) => workers.reduce((total, worker) => total + of(worker), 0);
  const running = sum((worker) => worker.running);
  const rest = totals.slots - sum((worker) => (worker.paused ? 0 : worker.slots - worker.running));
  return {
    title: `Drain ${host}`,
    effect: () => `${many(workers.length, 'worker')} of this name ${verb(workers.length, 'claims', 'claim')} no more builds, even after a restart; ${running ? `${many(running, 'running build')} ${verb(running, 'continues', 'continue')}` : 'none runs there'}. Slots go from ${count(totals.slots)} to ${count(rest)}; ${many(totals.queued, 'build')} ${verb(totals.queued, 'waits', 'wait')}.`,
    run: ({ reason }) => setDrain(host, true, reason),
  };
};

export const undrain = (host) => async () => ({
  title: `Use ${host} again`,
  effect: () => 'Its workers claim builds again.',
  run: ({ reason }) => setDrain(host, false, reason),
});

async function setDrain(host, isOn, reason) {
  await ask(`v1/workers/${encodeURIComponent(host)}/drain?${query({ reason })}`, { method: 'POST', body: { drain: isOn } });
}

export const clearNode = (node) => async () => ({
  title: `Use ${node.node} again`,
  effect: () => `Builds go there again at once, and its failures with ${many(node.lanes, 'repository', 'repositories')} are forgotten. Without this, it is used again at ${clock(node.until_ms)}.`,
  run: async ({ reason }) => void (await ask(`v1/nodes/${encodeURIComponent(node.node)}?${query({ cluster: node.cluster, reason })}`, { method: 'DELETE' })),
});
