// The dashboard: events of /dashboard/live in, charts and tables out.  No text from the server becomes markup.
"use strict";

const byId = (id) => document.getElementById(id);
const COLOURS = 7;
const SHOWN_COMMANDS = 6;
const SPAN_MIN_S = 60; // of a chart, however little there is to show
const RUNNING_MS = 100; // what runs for less would only flicker

let shown = null; // what points have: series, percentiles, edges_s
let points = [];
let command = "";
let event = "";
let glance = null;
let report = null;

// Numbers

const SCALES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  for (const [scale, letter] of SCALES) if (Math.abs(value) >= scale) return (value / scale).toFixed(1) + letter;
  return Number.isInteger(value) ? String(value) : value.toFixed(value < 10 ? 2 : 1);
}
function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (Math.abs(value) >= 1024 && place < units.length - 1) { value /= 1024; place++; }
  return value.toFixed(place && value < 100 ? 1 : 0) + " " + units[place];
}
function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1) return value.toFixed(2) + " s";
  if (value >= 1e-3) return (value * 1e3).toFixed(value < 1e-2 ? 2 : 0) + " ms";
  return (value * 1e6).toFixed(value < 1e-5 ? 1 : 0) + " µs";
}
const percent = (value) => (value === null || value === undefined ? "–" : (value * 100).toFixed(1) + " %");

function age(elapsed_s) {
  for (const [unit_s, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
    if (elapsed_s >= unit_s) return Math.floor(elapsed_s / unit_s) + " " + unit;
  return Math.max(0, Math.floor(elapsed_s)) + " s";
}

// Colours are the stylesheet's, so that both themes are said in one place.
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// Charts

const charts = {};

function chart(name, series, options) {
  const target = byId("chart-" + name);
  if (charts[name]) charts[name].destroy();
  const format = options.format;
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") } };
  const built = new uPlot({
    width: target.clientWidth || 300,
    height: 200,
    cursor: { sync: { key: "time" }, drag: { x: false, y: false } },
    legend: { live: true },
    scales: { x: { time: true, range: (_, low, high) => [Math.min(low, high - SPAN_MIN_S), high] }, y: options.log ? { distr: 3 } : { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.05 : 1] } },
    axes: [axis, { ...axis, size: 76, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : format(tick))) }],
    series: [{ label: "time" }, ...series.map((label, place) => ({
      label,
      stroke: colour("s" + (place % COLOURS)),
      width: 1.5,
      points: { show: false },
      paths: options.bars ? uPlot.paths.bars({ size: [0.8, 12] }) : undefined,
      fill: options.bars ? colour("s0") : undefined,
      value: (_, value) => (value === null ? "–" : format(value)),
    }))],
  }, [[], ...series.map(() => [])], target);
  built.labels = series.join("\n");
  charts[name] = built;
  return built;
}

// A second without a point is a gap: the data loop was stuck, or the server was not there.
function timeline() {
  const times = [];
  const rows = [];
  let last = null;
  for (const point of points) {
    if (last !== null && point.time_s - last > 2) { times.push(last + 1); rows.push(null); }
    times.push(point.time_s);
    rows.push(point);
    last = point.time_s;
  }
  return [times, rows];
}

function draw(name, labels, columns, times, options) {
  const built = charts[name] && charts[name].labels === labels.join("\n") ? charts[name] : chart(name, labels, options);
  built.setData([times, ...columns]);
}

const place = (name) => shown.series.findIndex((series) => series[0] === name);
const values = (rows, name) => { const at = place(name); return rows.map((row) => (row ? row.values[at] : null)); };

function busiest() {
  const calls = new Map();
  for (const point of points) for (const name in point.commands)
    if (name) calls.set(name, (calls.get(name) || 0) + point.commands[name][0]);
  return [...calls].sort((a, b) => b[1] - a[1]).map(([name]) => name);
}

function drawCharts() {
  if (!shown || !points.length) return;
  const [times, rows] = timeline();
  const names = busiest();
  const top = names.slice(0, SHOWN_COMMANDS);
  const columns = top.map((name) => rows.map((row) => (row ? (row.commands[name] || [0])[0] : null)));
  const rest = rows.map((row, at) => {
    if (!row) return null;
    const all = row.commands[""] ? row.commands[""][0] : 0;
    return Math.max(0, all - columns.reduce((sum, column) => sum + column[at], 0));
  });
  const hasRest = names.length > SHOWN_COMMANDS;
  draw("operations", hasRest ? [...top, "others"] : top.length ? top : ["commands"],
    hasRest ? [...columns, rest] : top.length ? columns : [rest], times, { format: short });
  chooseFrom(names);
  const latency = shown.percentiles.map((_, at) => rows.map((row) => {
    const found = row && row.commands[command];
    return found ? found[2 + at] || null : null;
  }));
  draw("latency", shown.percentiles.map((value) => "p" + value), latency, times, { format: seconds, log: true });
  draw("memory", ["data set", "process"], [values(rows, "memory"), values(rows, "rss")], times, { format: bytes });
  draw("network", ["in", "out"], [values(rows, "bytes_in"), values(rows, "bytes_out")], times, { format: (value) => bytes(value) + "/s" });
  draw("hits", ["hit ratio"], [values(rows, "hit_ratio")], times, { format: percent });
  draw("keys", ["expired", "evicted"], [values(rows, "expired"), values(rows, "evicted")], times, { format: short });
  draw("loop", ["busy", "late (s)"], [values(rows, "cpu"), values(rows, "loop_lag")], times, { format: short });
  draw("errors", ["errors", "connections"], [values(rows, "errors"), values(rows, "connections")], times, { format: short });
  drawStorage(times, rows);
  drawHeat(times, rows);
}

// Only where there is an engine under the keys.
function drawStorage(times, rows) {
  const panels = document.querySelectorAll(".storage");
  const isThere = values(rows, "storage_files").some((value) => value !== null);
  for (const panel of panels) panel.hidden = !isThere;
  if (!isThere) return;
  const columns = (...names) => names.map((name) => values(rows, "storage_" + name));
  const rate = (value) => bytes(value) + "/s";
  draw("storage-io", ["written", "read", "flushed", "compacted"], columns("written", "read", "flushed", "compacted"), times, { format: rate });
  draw("storage-hits", ["keys in memory", "blocks in its cache"], columns("hit_ratio", "block_hit_ratio"), times, { format: percent });
  draw("storage-cold", ["per second"], columns("cold"), times, { format: short });
  draw("storage-busy", ["writing", "held up"], columns("commit", "stalled"), times, { format: percent });
  draw("storage-cache", ["keys and values", "to be written"], columns("cache", "dirty"), times, { format: bytes });
  draw("storage-files", ["files", "to be compacted"], columns("files", "pending"), times, { format: bytes });
}

function chooseFrom(names) {
  const select = byId("command");
  const wanted = ["", ...[...names].sort()];
  if (wanted.length === select.options.length && wanted.every((name, at) => select.options[at].value === name)) return;
  select.replaceChildren(...wanted.map((name) => new Option(name || "all commands", name, false, name === command)));
}

function drawHeat(times, rows) {
  const canvas = byId("heat");
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.clearRect(0, 0, width, height);
  const left = 56, bottom = 20;
  const edges = shown.edges_s.length + 1;
  const start = times[0], span = Math.max(60, times[times.length - 1] - start + 1);
  const cellWidth = (width - left) / span, cellHeight = (height - bottom) / edges;
  let most = 1;
  for (const row of rows) if (row && row.commands[command]) most = Math.max(most, ...row.commands[command][5].slice(1));
  const heat = colour("heat");
  rows.forEach((row, at) => {
    const found = row && row.commands[command];
    if (!found) return;
    const [first, ...counts] = found[5];
    counts.forEach((count, step) => {
      if (!count) return;
      // By magnitude, or the few slow calls would not be seen beside the many fast ones.
      pen.fillStyle = `rgba(${heat}, ${0.15 + 0.85 * Math.log1p(count) / Math.log1p(most)})`;
      pen.fillRect(left + (times[at] - start) * cellWidth, height - bottom - (first + step + 1) * cellHeight, Math.max(1, cellWidth), cellHeight - 1);
    });
  });
  pen.fillStyle = colour("soft");
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  shown.edges_s.forEach((edge, at) => {
    if (Math.abs(Math.log10(edge) - Math.round(Math.log10(edge))) < 1e-9)
      pen.fillText(seconds(edge).replace(".00", "").replace(".0", ""), 0, height - bottom - (at + 1) * cellHeight);
  });
  pen.textBaseline = "bottom";
  for (let mark = 0; mark <= 3; mark++) {
    const time = new Date((start + span * mark / 3) * 1000);
    pen.textAlign = mark === 0 ? "left" : mark === 3 ? "right" : "center";
    pen.fillText(time.toLocaleTimeString(), left + (width - left) * mark / 3, height);
  }
}

// Tables

function cell(kind, text, className) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (className) made.className = className;
  if (className === "text") made.title = text;
  return made;
}

function fill(id, columns, rows, none) {
  const table = byId(id);
  if (!rows.length) {
    table.replaceChildren();
    const line = table.createTBody().insertRow();
    line.append(cell("td", none, "none"));
    return;
  }
  const head = document.createElement("thead");
  const line = head.insertRow();
  for (const [label, , kind] of columns) {
    const title = cell("th", label, kind === "number" ? kind : "");
    title.scope = "col";
    line.append(title);
  }
  const body = document.createElement("tbody");
  for (const row of rows) {
    const made = body.insertRow();
    for (const [, read, kind] of columns) made.append(cell("td", read(row), kind));
  }
  table.replaceChildren(head, body);
}

function drawTables() {
  if (!glance) return;
  const now_s = Date.now() / 1000;
  fill("hot", [
    ["key", (row) => row.key, "text"],
    ["db", (row) => row.db, "number"],
    ["reads/s", (row) => short(row.reads_per_s), "number"],
    ["writes/s", (row) => short(row.writes_per_s), "number"],
    ["of all", (row) => percent(row.share), "number"],
    ["of the loop", (row) => percent(row.cpu_share), "number"],
    ["network/s", (row) => bytes(row.net_bytes_per_s), "number"],
    ["mostly by", (row) => row.client, "text"],
  ], glance.hot_keys, "No key was used.");
  fill("slow", [
    ["ago", (row) => age(now_s - row.time_s), "number"],
    ["took", (row) => seconds(row.elapsed_us / 1e6), "number"],
    ["request", (row) => row.words.join(" "), "text"],
    ["client", (row) => row.client_name || row.client, "text"],
    ["id", (row) => row.id, "number"],
  ], glance.slow_log, "Nothing was slow.");
  fill("clients", [
    ["id", (row) => row.id, "number"],
    ["address", (row) => row.address, "text"],
    ["name", (row) => row.name, "text"],
    ["user", (row) => row.user, "text"],
    ["last command", (row) => row.command, "text"],
    ["idle", (row) => age(row.idle_s), "number"],
    ["age", (row) => age(row.age_s), "number"],
    ["memory", (row) => bytes(row.memory_bytes), "number"],
    ["unsent", (row) => bytes(row.output_bytes), "number"],
  ], glance.clients, "Nobody is connected.");
  fill("blame", [
    ["who", (row) => row.name, "text"],
    ["keys like", (row) => row.key_prefix, "text"],
    ["client", (row) => row.client, "text"],
    ["reads held up", (row) => short(row.victims), "number"],
    ["waited in all", (row) => seconds(row.waited_s), "number"],
    ["at least", (row) => seconds(row.waited_s_min), "number"],
    ["at most", (row) => seconds(row.waited_s_max), "number"],
    ["of all waiting", (row) => percent(row.share), "number"],
  ], glance.blame, "Nobody waited for anybody.");
  drawEvents();
}

// Whose doing something was.
function named(culprit) {
  return [culprit.command, culprit.key && `key ${culprit.key}`, culprit.client && `client ${culprit.client}`].filter(Boolean).join(", ");
}

function drawEvents() {
  const events = glance.latency_events;
  const box = byId("events");
  if (!events.length) {
    box.replaceChildren(cell("p", "Nothing took longer than latency-monitor-threshold.", "none"));
    byId("event-worst").textContent = "";
    byId("chart-event").hidden = true;
    return;
  }
  byId("chart-event").hidden = false;
  if (!events.some((row) => row.name === event)) event = events[0].name;
  const wanted = events.map((row) => `${row.name}: ${row.count}, at most ${row.max_ms} ms`);
  if (box.dataset.wanted !== wanted.join() + event) {
    const focused = box.contains(document.activeElement) ? document.activeElement.value : "";
    box.replaceChildren(...events.map((row, at) => {
      const button = cell("button", wanted[at]);
      button.type = "button";
      button.value = row.name;
      button.setAttribute("aria-pressed", String(row.name === event));
      button.addEventListener("click", () => { event = row.name; drawEvents(); });
      return button;
    }));
    box.dataset.wanted = wanted.join() + event;
    for (const button of box.children) if (button.value === focused) button.focus();
  }
  const row = events.find((found) => found.name === event);
  const worst = named(row.worst);
  byId("event-worst").textContent = worst ? `The worst: ${worst}.` : "";
  // Up to now: a single point would be given years.
  draw("event", ["most in a second"], [[...row.samples.map((sample) => sample[1]), null]],
    [...row.samples.map((sample) => sample[0]), Math.floor(Date.now() / 1000)], { format: (value) => value + " ms", bars: true });
}

function drawFindings() {
  if (!report) return;
  const list = byId("findings-list");
  const findings = report.findings;
  const wanted = JSON.stringify(findings);
  if (list.dataset.wanted === wanted) return;
  list.dataset.wanted = wanted;
  if (!findings.length) {
    list.replaceChildren(cell("p", "Nothing to complain about.", "none"));
    return;
  }
  list.replaceChildren(...findings.map((finding) => {
    const box = cell("article", "", "finding " + finding.severity);
    box.append(cell("h3", `${finding.severity}: ${finding.id}`));
    const culprit = named(finding.culprit);
    for (const text of [finding.evidence.text, culprit && `Culprit: ${culprit}`, finding.why]) if (text) box.append(cell("p", text));
    if (finding.run) {
      const line = document.createElement("p");
      const code = cell("code", finding.run);
      const button = cell("button", "Copy");
      button.type = "button";
      button.setAttribute("aria-label", "Copy " + finding.run);
      button.addEventListener("click", () => copy(code, button));
      line.append("Run ", code, " ", button);
      box.append(line);
    }
    if (finding.advice) box.append(cell("p", finding.advice));
    if (finding.verify) box.append(cell("p", finding.verify, "hint"));
    return box;
  }));
}

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Without TLS there is no clipboard for scripts: it is selected, at least.
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
    return;
  }
  button.textContent = "Copied";
}

// Tracked metrics: asked for by the page itself, since only it knows which of them somebody looks at.

const TRACKED_MS = 10_000;
const TRACKED_POINTS = 360; // of a chart, about
const NAMES_MAX = 1000;
const TRACKED_LINES = { points: ["value"], rate: ["value"], gauge: ["value"], stats: ["p50", "p99", "max"] };
let tracked = null; // the last answer, and what was asked

async function ask(path, query) {
  const answer = await fetch(path + "?" + new URLSearchParams(query));
  const values = await answer.json();
  if (!answer.ok) throw new Error(values.error);
  return values;
}

async function askForNames() {
  const { keys } = await ask("/keys", { count: NAMES_MAX });
  const list = byId("tracked-keys");
  if (list.dataset.wanted === keys.join()) return;
  list.dataset.wanted = keys.join();
  list.replaceChildren(...keys.map((key) => new Option(key, key)));
  const input = byId("tracked-key");
  if (!input.value && keys.length) input.value = keys[0];
}

async function askForTracked() {
  const hint = byId("tracked-hint");
  try {
    await askForNames();
    const key = byId("tracked-key").value, type = byId("tracked-type").value, span_s = Number(byId("tracked-span").value);
    if (!key) {
      tracked = null;
      hint.textContent = "Nothing was tracked.";
    } else {
      const period = Math.max(10, Math.ceil(span_s / TRACKED_POINTS / 60) * 60);
      const from = Math.floor((Date.now() / 1000 - span_s) / period) * period * 1000;
      const fill = type === "points" || type === "rate" ? "zero" : "none";
      const { values } = await ask("/read", { key, type, from, period, fill });
      tracked = { values, names: TRACKED_LINES[type], type };
      hint.textContent = values.length ? `By ${period === 60 ? "minute" : period + " s"}.` : "Nothing in this time.";
    }
  } catch (error) {
    tracked = null;
    hint.textContent = error.message;
  }
  drawTracked();
}

function drawTracked() {
  const target = byId("chart-tracked");
  target.hidden = !tracked || !tracked.values.length;
  if (target.hidden) return;
  const times = tracked.values.map((row) => row.from / 1000);
  draw("tracked", tracked.names, tracked.names.map((name) => tracked.values.map((row) => row[name])), times,
    { format: short, bars: tracked.type === "points" });
}

// Tiles, health

function drawTiles() {
  const point = points[points.length - 1];
  if (!point) return;
  const value = (name) => point.values[place(name)];
  const all = point.commands[""];
  byId("tile-commands").textContent = short(Math.round(value("commands")));
  byId("tile-p99").textContent = all ? seconds(all[3]) : "–";
  byId("tile-hits").textContent = percent(value("hit_ratio"));
  byId("tile-memory").textContent = bytes(value("memory"));
  byId("tile-rss").textContent = "of " + bytes(value("rss"));
  byId("tile-clients").textContent = short(value("clients"));
  byId("tile-cpu").textContent = percent(value("cpu"));
  byId("tile-lag").textContent = seconds(value("loop_lag"));
}

function drawNow(now) {
  const pill = byId("health");
  pill.textContent = now.status === "ok" ? now.health : now.status;
  pill.className = "pill " + now.health;
  const reasons = Object.entries(now.checks).filter(([, check]) => check.status !== "ok").map(([name, check]) => `${name}: ${check.reason}`);
  const line = byId("running");
  const running = now.running;
  const parts = reasons;
  if (running && running.elapsed_ms >= RUNNING_MS) {
    const what = running.command ? running.command + (running.key_prefix ? " " + running.key_prefix : "") : "the requests of client " + running.client_id;
    parts.unshift(`Running for ${seconds(running.elapsed_ms / 1e3)}: ${what}${running.client ? " for " + running.client : ""}`);
  }
  line.hidden = !parts.length;
  line.textContent = parts.join(" · ");
  if (shown) byId("about").textContent = `${shown.version}, ${shown.kernel} kernel, up ${age((now.time_ms - shown.started_ms) / 1000)}`;
}

// Events: drawn once a frame at most, however many come.

let isDue = false;
function drawSoon() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    drawCharts();
    drawTiles();
    drawTables();
    drawFindings();
    if (!charts.tracked) drawTracked();
  });
}

function rebuild() {
  for (const name of Object.keys(charts)) { charts[name].destroy(); delete charts[name]; }
  drawSoon();
}

function listen() {
  const source = new EventSource("/dashboard/live");
  source.addEventListener("shown", (message) => { shown = JSON.parse(message.data); points = []; });
  source.addEventListener("point", (message) => {
    points.push(JSON.parse(message.data));
    if (points.length > shown.points_max) points.shift();
    drawSoon();
  });
  source.addEventListener("glance", (message) => { glance = JSON.parse(message.data); drawSoon(); });
  source.addEventListener("report", (message) => { report = JSON.parse(message.data); drawSoon(); });
  source.addEventListener("now", (message) => drawNow(JSON.parse(message.data)));
  source.addEventListener("error", () => {
    byId("health").textContent = "no connection";
    byId("health").className = "pill unhealthy";
  });
}

for (const id of ["tracked-key", "tracked-type", "tracked-span"]) byId(id).addEventListener("change", askForTracked);
byId("tracked-type").addEventListener("change", () => { if (charts.tracked) { charts.tracked.destroy(); delete charts.tracked; } });
setInterval(() => { if (!document.hidden) askForTracked(); }, TRACKED_MS);
askForTracked();
byId("command").addEventListener("change", (change) => { command = change.target.value; drawSoon(); });
byId("theme").addEventListener("click", () => {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
  rebuild();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", rebuild);
let resizing = 0;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(rebuild, 150); });
listen();
