// Tokens over time, stacked by type or tier: drawn by uPlot, and told in a table.

const box = document.getElementById("chart-box");
const place = document.getElementById("chart");
const table = document.getElementById("chart-table");
const TYPES = [["output", "output"], ["input", "input"], ["cache_write", "cache write"], ["cache_read", "cache read"]];
const MOST = 7; // series; what is less than these is told together
const SPANS = { hours: ["hour", 48, 3600], days: ["day", 30, 86400], weeks: ["day", 182, 604800] };
const STALE = 30000;
const HEIGHT = 220;
const chosen = { span: "hours", by: "type" };
let drawn = null;
let at = 0;
let rows = null;
let asked = "";
let loading = null;

/** Draw what is chosen: anew when `again`, else only when what was drawn is old. */
export async function chart(again = false) {
  const wants = `${box.dataset.chain} ${chosen.span}`;
  if (!again && wants === asked && performance.now() - at < STALE) return;
  try {
    if (wants !== asked || performance.now() - at >= STALE) {
      at = performance.now();
      asked = wants;
      [rows] = await Promise.all([history(), (loading ??= uplot())]);
    }
    draw();
  } catch (error) {
    asked = "";
    place.textContent = "The history cannot be read now.";
  }
}

/** The library and its styles, when they are wanted first. */
function uplot() {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = box.dataset.style;
  const script = document.createElement("script");
  script.src = box.dataset.uplot;
  const both = [style, script].map((each) => new Promise((done, failed) => {
    each.onload = done;
    each.onerror = failed;
  }));
  document.head.append(style, script);
  return Promise.all(both);
}

async function history() {
  const [by, number] = SPANS[chosen.span];
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const start = new Date(Date.now() - number * (by === "hour" ? 3600000 : 86400000)).toISOString();
  const asks = new URLSearchParams({ by, start, timezone: zone, chain: box.dataset.chain });
  const answer = await fetch(`/usage/history?${asks}`);
  if (!answer.ok) throw new Error(String(answer.status));
  return (await answer.json()).rows;
}

/** Where the hour, day or week of a moment begins, in seconds. */
function begins(seconds) {
  const day = new Date(seconds * 1000);
  if (chosen.span === "hours") {
    day.setMinutes(0, 0, 0);
    return day / 1000;
  }
  day.setHours(0, 0, 0, 0);
  if (chosen.span === "weeks") day.setDate(day.getDate() - ((day.getDay() + 6) % 7));
  return day / 1000;
}

function next(seconds) {
  const day = new Date(seconds * 1000);
  if (chosen.span === "hours") day.setHours(day.getHours() + 1);
  else day.setDate(day.getDate() + (chosen.span === "days" ? 1 : 7));
  return day / 1000;
}

/** Moments, and for each series its name and a number for each moment. */
function sums() {
  const [by, number] = SPANS[chosen.span];
  const now = Date.now() / 1000;
  const times = [];
  for (let each = begins(now - number * (by === "hour" ? 3600 : 86400)); each <= now; each = next(each)) times.push(each);
  const found = new Map();
  const add = (name, time, count) => {
    const place = times.indexOf(time);
    if (place < 0 || !count) return;
    if (!found.has(name)) found.set(name, new Array(times.length).fill(0));
    found.get(name)[place] += count;
  };
  for (const row of rows) {
    const time = begins(Date.parse(row.start) / 1000);
    if (chosen.by === "type") for (const [key, name] of TYPES) add(name, time, row.tokens[key]);
    else add(row.tier ?? "not known", time, row.tokens.total);
  }
  const total = (numbers) => numbers.reduce((one, other) => one + other, 0);
  const series = [...found].sort((one, other) => total(other[1]) - total(one[1]));
  if (chosen.by === "type") series.sort((one, other) => order(one[0]) - order(other[0]));
  if (series.length > MOST) {
    const rest = series.splice(MOST - 1);
    series.push([`${rest.length} others`, times.map((_, place) => rest.reduce((sum, each) => sum + each[1][place], 0))]);
  }
  return [times, series];
}

/** How wide the chart may be. */
const room = () => Math.max(200, place.clientWidth - 24);

const order = (name) => TYPES.findIndex((each) => each[1] === name);

/** The colour that a name of the style sheet stands for now. */
function colour(name) {
  const probe = document.createElement("i");
  probe.className = `probe ${name}`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function short(number) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= size) return `${+(number / size).toPrecision(3)} ${unit}`;
  }
  return String(Math.round(number));
}

function said(seconds) {
  const options = chosen.span === "hours" ? { weekday: "short", hour: "2-digit", minute: "2-digit" } : { month: "short", day: "numeric" };
  const text = new Intl.DateTimeFormat(undefined, { ...options, hourCycle: "h23" }).format(new Date(seconds * 1000));
  return chosen.span === "weeks" ? `week of ${text}` : text;
}

function draw() {
  const [times, series] = sums();
  write(times, series);
  drawn?.destroy();
  drawn = null;
  place.replaceChildren();
  if (!series.length) {
    const none = document.createElement("p");
    none.className = "none";
    none.textContent = "Nothing was used in this time.";
    place.append(none);
    return;
  }
  // Bars that stand on each other: each is drawn from the bottom, the highest first.
  const heights = [];
  series.forEach(([, numbers], place) => heights.push(numbers.map((each, time) => each + (heights[place - 1]?.[time] ?? 0))));
  const bars = window.uPlot.paths.bars({ size: [0.75, 40], align: 1, gap: 1 });
  const shown = series.map(([name, numbers], number) => ({
    label: name,
    fill: colour(`s${number + 1}`),
    width: 0,
    paths: bars,
    points: { show: false },
    value: (_, __, ___, time) => (time == null ? short(numbers.reduce((one, other) => one + other, 0)) : short(numbers[time])),
  }));
  const ink = colour("ink");
  const line = colour("line");
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const last = times[times.length - 1];
  drawn = new window.uPlot(
    {
      width: room(),
      height: HEIGHT,
      scales: { x: { time: true, range: [times[0], next(last)] }, y: { range: (_, __, most) => [0, most * 1.05 || 1] } },
      axes: [
        { ...axis, grid: { show: false }, values: (_, ticks) => ticks.map((each) => label(each)), space: 70 },
        { ...axis, values: (_, ticks) => ticks.map(short), size: 54 },
      ],
      series: [{ label: "when", value: (_, time) => (time == null ? "all of it" : said(time)) }, ...shown.reverse()],
      cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
      legend: { live: true },
    },
    [times, ...heights.reverse()],
    place,
  );
}

function label(seconds) {
  const day = new Date(seconds * 1000);
  const hours = chosen.span === "hours" && (day.getHours() || day.getMinutes());
  const options = hours ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } : { month: "short", day: "numeric" };
  return new Intl.DateTimeFormat(undefined, options).format(day);
}

/** The same numbers in a table, newest first, without the moments at which nothing was used. */
function write(times, series) {
  const cell = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });
  const line = (...cells) => {
    const row = document.createElement("tr");
    row.append(...cells);
    return row;
  };
  const found = document.createElement("table");
  const head = line(cell("th", "From"), ...series.map(([name]) => cell("th", name)));
  for (const each of head.children) each.scope = "col";
  const used = times.map((time, at) => [time, at]).filter(([, at]) => series.some(([, numbers]) => numbers[at]));
  const lines = used.reverse().map(([time, at]) => {
    const first = cell("th", said(time));
    first.scope = "row";
    return line(first, ...series.map(([, numbers]) => cell("td", numbers[at].toLocaleString("en"))));
  });
  found.append(head, ...lines);
  table.replaceChildren(found);
}

box.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-group]");
  if (!button) return;
  for (const each of box.querySelectorAll(`[data-group=${button.dataset.group}]`)) {
    each.setAttribute("aria-pressed", String(each === button));
  }
  chosen[button.dataset.group] = button.dataset.value;
  chart(true);
});
new ResizeObserver(() => drawn && drawn.setSize({ width: room(), height: HEIGHT })).observe(place);
