// Curves over time, with uPlot.
import { html, useEffect, useRef } from './vendor/preact.js';

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Columns for uPlot; a step without a sample is a gap, not a zero. */
export function columns(samples, step, fields) {
  const [x, ...ys] = [[], ...fields.map(() => [])];
  let before = null;
  for (const sample of samples) {
    if (before !== null && sample.at_ms - before > 1.5 * step) {
      x.push((before + step) / 1000);
      ys.forEach((y) => y.push(null));
    }
    before = sample.at_ms;
    x.push(sample.at_ms / 1000);
    fields.forEach((field, at) => ys[at].push(field(sample)));
  }
  return [x, ...ys];
}

/**
 * Curves: `series` of `{label, color, dash, fill, scale, value}`, `data` as columns. Each is told from the others by
 * its dashes and its label, too.
 */
export function Chart({ label, data, series, height = 220, from, to }) {
  const box = useRef(null);
  const plot = useRef(null);

  useEffect(() => {
    const draw = () => {
      plot.current?.destroy();
      const line = css('--line');
      const text = css('--dim');
      const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: '11px system-ui' };
      const scales = [...new Set(series.map((one) => one.scale))];
      plot.current = new uPlot(
        {
          width: box.current.clientWidth,
          height,
          cursor: { y: false },
          legend: { live: true },
          // Without a pointer over the chart, its legend shows the latest sample.
          hooks: { setCursor: [(chart) => chart.cursor.left < 0 && latest(chart)] },
          scales: {
            x: { time: true, range: (_, low, high) => [from?.() ?? low, to?.() ?? high] },
            ...Object.fromEntries(scales.map((name) => [name, { range: (_, low, high) => [0, Math.max(high * 1.1, 4)] }])),
          },
          axes: [
            { ...axis, values: times, space: 60 },
            ...scales.map((name, at) => ({ ...axis, scale: name, side: at ? 1 : 3, size: 44, grid: at ? { show: false } : axis.grid })),
          ],
          series: [
            { label: 'time', value: (_, at) => (at === null ? '—' : new Date(at * 1000).toLocaleString()) },
            ...series.map((one) => ({
              label: one.label,
              scale: one.scale,
              stroke: css(one.color),
              fill: one.fill && css(one.fill),
              width: 2,
              dash: one.dash,
              points: { show: false },
              value: (_, value) => (value === null ? '—' : one.value(value)),
            })),
          ],
        },
        data,
        box.current,
      );
      latest(plot.current);
    };
    draw();
    const sizes = new ResizeObserver(() => plot.current?.setSize({ width: box.current.clientWidth, height }));
    sizes.observe(box.current);
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', draw);
    document.addEventListener('theme', draw);
    return () => {
      sizes.disconnect();
      dark.removeEventListener('change', draw);
      document.removeEventListener('theme', draw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [series]);

  useEffect(() => {
    plot.current?.setData(data);
    if (plot.current) latest(plot.current);
  }, [data]);
  return html`<div class="chart" role="img" aria-label=${label} ref=${box}></div>`;
}

const latest = (chart) => chart.data[0].length && chart.setLegend({ idx: chart.data[0].length - 1 });

function times(_, splits, __, ___, step) {
  const pad = (value) => String(value).padStart(2, '0');
  return splits.map((at) => {
    const date = new Date(at * 1000);
    const time = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
    if (step >= 86400 || time === '00:00') return `${date.toLocaleDateString(undefined, { weekday: 'short' })} ${date.getDate()}`;
    return time;
  });
}
