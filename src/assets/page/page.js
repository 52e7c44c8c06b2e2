// The live page of the admin port. It asks for JSON and draws; names are text nodes only, and every list is bounded.
"use strict";

const LOOK_EVERY_MS = 1000; // figures and plots
const LISTS_EVERY_MS = 2000; // groups, sockets, closed ones
const ANSWER_WITHIN_MS = 5000;
const SECONDS = 600; // of the plots
const ROWS = 20; // of the lists above
const NAMES = 100; // of streams and of groups at once
const NAMES_MAX = 1000;
const ITEMS = 50;
const NAME_CHARS = 120;
const VALUE_CHARS = 200; // of a value in a table
const SHOW_EVERY_MS = 200; // what was heard of a watched group
const EVENTS_SHOWN = 100; // of a watched group; so many wait to be shown, more are counted only
const EVENTS_A_LOOK = 20; // what the box has room for
const FLASHES_A_LOOK = 5; // of more nobody sees which are new

const byId = (id) => document.getElementById(id);

/// An element with these texts and elements in it.
function make(tag, attributes = {}, ...content) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...content);
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// ---- numbers for people

const plain = new Intl.NumberFormat("en");
const number = (n) => (n == null ? "–" : plain.format(Math.round(n)));

function scaled(n, step, units) {
  let unit = 0;
  while (Math.abs(n) >= step && unit < units.length - 1) { n /= step; unit += 1; }
  const digits = unit === 0 ? (Number.isInteger(n) ? 0 : 1) : Math.abs(n) < 10 ? 2 : Math.abs(n) < 100 ? 1 : 0;
  return [n.toFixed(digits), units[unit]];
}
const short = (n) => (n == null ? "–" : scaled(n, 1000, ["", "k", "M", "G"]).join(""));
const bytesOf = (n) => scaled(n ?? 0, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
const bytes = (n) => (n == null ? "–" : bytesOf(n).join(" "));

function duration(ms) {
  if (ms == null) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${(ms / 1000).toFixed(1)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}
function micros(us) {
  if (us == null) return "–";
  if (us < 1000) return `${Math.round(us)} µs`;
  return us < 1e6 ? `${+(us / 1000).toPrecision(3)} ms` : `${+(us / 1e6).toPrecision(3)} s`;
}
const brief = (name) => (name.length > NAME_CHARS ? `${name.slice(0, NAME_CHARS)}…` : name);
const clockFormat = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" }); // made once: making one takes long
const clock = (ms) => clockFormat.format(ms);

// ---- asking

let token = sessionStorage.getItem("token");

async function ask(path, body) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const method = body === undefined ? "GET" : "POST";
  const answer = await fetch(path, { method, body, headers, signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  const told = await answer.json();
  if (answer.status === 401) askForToken();
  if (!answer.ok) throw new Error(told.error ?? `status ${answer.status}`);
  return told;
}

function askForToken() {
  token = null;
  sessionStorage.removeItem("token");
  if (!byId("ask-token").open) byId("ask-token").showModal();
}
byId("ask-token").addEventListener("close", () => {
  token = byId("token").value.trim();
  byId("token").value = "";
  sessionStorage.setItem("token", token);
  look();
  lookAtLists();
  findStreams();
});

const query = (values) => new URLSearchParams(values).toString();
const groupLink = (key) => `#/${key.map(encodeURIComponent).join("/")}`;

// ---- tables: rows are kept by key and change in place, so that a focus or a selection stays

function table(id, columns) {
  const recycles = columns.every(({ title }) => title !== ""); // buttons are of one row
  const element = byId(id);
  const head = make("tr");
  for (const { title, kind } of columns) head.append(make("th", { scope: "col", class: kind ?? "" }, title));
  const body = make("tbody");
  element.append(make("thead", {}, head), body);
  const rows = new Map();
  return (data, { keyOf, classOf = () => "", none = "None." }) => {
    const wanted = new Set(data.map(keyOf));
    const spare = []; // rows of what is gone are those of what is new
    for (const [key, row] of rows) if (!wanted.has(key)) { row.remove(); rows.delete(key); if (recycles) spare.push(row); }
    body.querySelector(".empty")?.closest("tr").remove();
    data.forEach((each, place) => {
      const key = keyOf(each);
      let row = rows.get(key);
      if (!row) {
        row = spare.pop();
        if (!row) {
          row = make("tr");
          for (const { kind } of columns) row.append(make("td", { class: kind ?? "" }));
        }
        rows.set(key, row);
      }
      if (body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null);
      const classes = classOf(each);
      if (row.className !== classes) row.className = classes;
      columns.forEach(({ show }, column) => fill(row.children[column], show(each)));
    });
    if (data.length === 0) body.append(make("tr", {}, make("td", { class: "empty", colspan: columns.length }, none)));
  };
}

/// A cell: a text, a link as [text, address], or elements that are made once.
function fill(cell, shown) {
  if (Array.isArray(shown)) {
    const [text, href] = shown;
    let link = cell.firstElementChild;
    if (!link) cell.replaceChildren((link = make("a")));
    if (link.getAttribute("href") !== href) link.setAttribute("href", href);
    setText(link, text);
  } else if (typeof shown === "function") {
    if (!cell.firstElementChild) cell.append(...shown());
  } else setText(cell, shown);
}

/// Facts as a list of terms; texts change in place.
function facts(element, pairs) {
  while (element.children.length > pairs.length) element.lastElementChild.remove();
  pairs.forEach(([term, value, unit = "", warns = false], place) => {
    let pair = element.children[place];
    if (!pair) element.append((pair = make("div", {}, make("dt"), make("dd", {}, make("span"), make("small")))));
    pair.classList.toggle("warns", warns);
    setText(pair.firstElementChild, term);
    setText(pair.lastElementChild.firstElementChild, value);
    setText(pair.lastElementChild.lastElementChild, unit);
  });
}

// ---- plots

let colours = {}; // kept, since asking for one makes the browser lay out what has changed
const colour = (name) => colours[name];
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const named = ["muted", "grid", "line-1", "line-2", "line-3", "line-4", "line-5", "line-6"];
  colours = Object.fromEntries(named.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  colours.font = getComputedStyle(document.body).fontFamily;
}
const past = { at: [], series: {} };
let cursorAt = null; // the second that the pointer is on

const percent = (n) => (n == null ? "–" : `${Math.round(n * 100)} %`);
const PLOTS = [
  { title: "Events a second", show: short, lines: () => [["events", "events", 1]] },
  { title: "Deliveries a second", show: short, lines: () => [["deliveries", "deliveries", 1]] },
  { title: "Time on a core, by thread", show: percent, lines: cpuLines, least: 0.1 },
  { title: "Event until written", show: micros, logarithmic: true, lines: () => [["delivery_p50_us", "p50", 1], ["delivery_p99_us", "p99", 2]] },
  { title: "Call until answered", show: micros, logarithmic: true, lines: () => [["call_p50_us", "p50", 1], ["call_p99_us", "p99", 2]] },
  { title: "Connections", show: short, lines: () => [["connections", "connections", 1], ["blocked", "blocked", 5]] },
];

function threadNames() {
  return Object.keys(past.series).filter((name) => name.startsWith("cpu:") && past.series[name].some((n) => n != null));
}
/// Few threads have a line each; of many workers all look alike, and the key names the busiest.
function cpuLines() {
  const names = threadNames().map((name) => name.slice(4)).filter((name) => /^(worker-\d+|engine|store|admin)$/.test(name));
  const workers = names.filter((name) => name.startsWith("worker-"));
  const others = names.filter((name) => !name.startsWith("worker-"));
  const alike = workers.length > 3;
  const lines = workers.map((name, at) => [`cpu:${name}`, alike ? (at === 0 ? "busiest worker" : null) : name, alike ? 1 : at + 1]);
  const from = alike ? 2 : workers.length + 1;
  return lines.concat(others.map((name, at) => [`cpu:${name}`, name, Math.min(from + at, 6)]));
}

function makePlots() {
  for (const plot of PLOTS) {
    plot.canvas = make("canvas", { role: "img" });
    plot.key = make("figcaption");
    byId("plots").append(make("figure", {}, plot.key, plot.canvas));
    plot.canvas.addEventListener("pointermove", (event) => { cursorAt = secondAt(plot, event.offsetX); drawPlots(); });
    plot.canvas.addEventListener("pointerleave", () => { cursorAt = null; drawPlots(); });
  }
}

const LEFT = 54;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 18;
const lastAt = () => past.at[past.at.length - 1];

function secondAt(plot, x) {
  const width = plot.canvas.clientWidth - LEFT - RIGHT;
  const at = lastAt() - (1 - (x - LEFT) / width) * SECONDS * 1000;
  let best = null;
  past.at.forEach((ms, place) => { if (best == null || Math.abs(ms - at) < Math.abs(past.at[best] - at)) best = place; });
  return best != null && Math.abs(past.at[best] - at) < 3000 ? best : null;
}

/// Round steps between 0 and the most, or whole powers of ten.
function ticksOf(plot, values) {
  if (plot.logarithmic) {
    const low = Math.floor(Math.log10(Math.max(Math.min(...values), 10)));
    const high = Math.max(Math.ceil(Math.log10(Math.max(...values, 10))), low + 1);
    return Array.from({ length: high - low + 1 }, (_, at) => 10 ** (low + at));
  }
  const most = Math.max(...values, plot.least ?? 1);
  const rough = most / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const whole = plot.show === short && step < 1 ? 1 : step;
  return Array.from({ length: Math.ceil(most / whole - 1e-9) + 1 }, (_, at) => at * whole);
}

function drawPlots() {
  const sizes = PLOTS.map(({ canvas }) => [canvas.clientWidth, canvas.clientHeight]); // before anything changes
  PLOTS.forEach((plot, at) => drawPlot(plot, sizes[at]));
  setText(byId("cursor"), cursorAt == null ? "" : `at ${clock(past.at[cursorAt])}`);
}

function drawPlot(plot, [width, height]) {
  const { canvas } = plot;
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = `11px ${colours.font}`;
  const lines = plot.lines().map(([name, label, hue]) => ({ label, hue, values: past.series[name] ?? [] }));
  const known = lines.flatMap(({ values }) => values.filter((n) => n != null && !(plot.logarithmic && n <= 0)));
  const ticks = ticksOf(plot, known.length ? known : [1]);
  const scale = plot.logarithmic ? (n) => Math.log10(Math.max(n, ticks[0])) : (n) => n;
  const [low, high] = [scale(ticks[0]), scale(ticks[ticks.length - 1])];
  const y = (n) => TOP + (1 - (scale(n) - low) / (high - low)) * (height - TOP - BOTTOM);
  const end = lastAt() ?? Date.now();
  const x = (ms) => LEFT + (1 - (end - ms) / (SECONDS * 1000)) * (width - LEFT - RIGHT);

  pen.lineWidth = 1;
  pen.fillStyle = colour("muted");
  pen.strokeStyle = colour("grid");
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (const tick of ticks) {
    const at = Math.round(y(tick)) + 0.5;
    pen.beginPath();
    pen.moveTo(LEFT, at);
    pen.lineTo(width - RIGHT, at);
    pen.stroke();
    pen.fillText(plot.show(tick).replace(/\.0+(?=\D|$)/, ""), LEFT - 6, at);
  }
  pen.textBaseline = "alphabetic";
  for (let minute = 0; minute <= 10; minute += 2) {
    pen.textAlign = minute === 0 ? "right" : "center";
    pen.fillText(minute === 0 ? "now" : `−${minute} min`, x(end - minute * 60000), height - 4);
  }
  if (known.length === 0) {
    pen.textAlign = "center";
    pen.fillText("nothing yet", (LEFT + width - RIGHT) / 2, (TOP + height - BOTTOM) / 2);
  }
  for (const { values, hue } of lines) {
    pen.strokeStyle = colour(`line-${hue}`);
    pen.lineWidth = 1.4;
    pen.lineJoin = "round";
    pen.lineCap = "round"; // one second alone is a dot
    pen.beginPath();
    let draws = false;
    values.forEach((n, place) => {
      const gap = n == null || (place > 0 && past.at[place] - past.at[place - 1] > 5000);
      if (n != null) {
        if (draws && !gap) pen.lineTo(x(past.at[place]), y(n));
        else { pen.moveTo(x(past.at[place]), y(n)); pen.lineTo(x(past.at[place]) + 0.5, y(n)); }
      }
      draws = n != null;
    });
    pen.stroke();
  }
  if (cursorAt != null) {
    pen.strokeStyle = colour("muted");
    pen.beginPath();
    pen.moveTo(Math.round(x(past.at[cursorAt])) + 0.5, TOP);
    pen.lineTo(Math.round(x(past.at[cursorAt])) + 0.5, height - BOTTOM);
    pen.stroke();
  }
  drawKey(plot, lines);
}

function drawKey(plot, lines) {
  const place = cursorAt ?? past.at.length - 1;
  const named = lines.filter(({ label }) => label != null);
  if (plot.key.childElementCount !== named.length + 1) {
    plot.key.replaceChildren(make("b", {}, plot.title), ...named.map(() => make("span", { class: "key" }, make("span"), " ", make("i"))));
  }
  const told = named.map(({ label, hue, values }, at) => {
    const alike = label === "busiest worker" ? lines.filter((line) => line.hue === hue) : null;
    const now = alike ? Math.max(...alike.map((line) => line.values[place] ?? 0)) : values[place];
    const key = plot.key.children[at + 1];
    key.className = `key line-${hue}`;
    setText(key.children[0], label);
    setText(key.children[1], plot.show(now));
    return `${label} ${plot.show(now)}`;
  });
  plot.canvas.setAttribute("aria-label", `${plot.title}: ${told.join(", ")}`);
}

async function lookAtPast(threads) {
  const since = past.at.length ? Math.ceil((Date.now() - lastAt()) / 1000) + 3 : SECONDS;
  const names = [...new Set(PLOTS.flatMap((plot) => (plot.lines === cpuLines ? [] : plot.lines().map(([name]) => name))))];
  const series = names.concat(threads.map(({ name }) => `cpu:${name}`));
  const told = await ask(`/admin/history?${query({ seconds: Math.min(Math.max(since, 1), SECONDS), series })}`);
  const last = lastAt() ?? 0;
  const from = told.at_ms.findIndex((ms) => ms > last);
  if (from < 0) return;
  past.at = past.at.concat(told.at_ms.slice(from)).slice(-SECONDS);
  for (const name of Object.keys(told.series)) {
    const before = past.series[name] ?? new Array(Math.max(past.at.length - told.at_ms.length + from, 0)).fill(null);
    past.series[name] = before.concat(told.series[name].slice(from)).slice(-past.at.length);
  }
}

// ---- what runs, and the figures

function showOverview(told) {
  const { figures, rates, limits, store } = told;
  setText(byId("version"), told.version);
  streamScheme = told.stream_tls ? "wss" : "ws";
  streamPort = told.stream.slice(told.stream.lastIndexOf(":") + 1);
  document.title = `iii-stream on ${told.host}`;
  const why = told.healthy ? told.not_ready_because : "a thread does not turn";
  showStatus(why ?? "ready", why == null);
  facts(byId("facts"), [
    ["up", duration(told.uptime_ms)],
    ["host", `${told.host}, pid ${told.pid}`],
    ["store", store.up ? store.described : `${store.described}: down`],
    ["subscribers", told.stream],
    told.engine ? ["engine", told.engine] : ["SDK workers", told.workers.join(", ") || "nowhere"],
    ["threads", told.cores],
  ]);
  const [out, outUnit] = bytesOf(rates.bytes_out);
  const [behind, behindUnit] = bytesOf(figures.behind_bytes);
  const [memory, memoryUnit] = bytesOf(figures.resident_bytes);
  const [kept, keptUnit] = bytesOf(figures.item_bytes);
  facts(byId("now"), [
    ["Connections", number(figures.connections)],
    ["Subscriptions", number(figures.subscriptions)],
    ["Groups", number(figures.groups)],
    ["Items", number(figures.items)],
    ["Values", kept, keptUnit],
    ["Events", short(rates.events), "/s"],
    ["Deliveries", short(rates.deliveries), "/s"],
    ["Sent", out, `${outUnit}/s`],
    ["Calls", short(rates.calls), "/s"],
    ["Joins", short(rates.joins), "/s"],
    ["Blocked", number(figures.blocked), figures.blocked === 1 ? "socket" : "sockets", figures.blocked > 0],
    ["Behind", behind, behindUnit],
    ["Memory", memory, memoryUnit],
    ["Open files", number(figures.open_files), `of ${short(limits.sockets > 1e12 ? null : limits.sockets)}`],
  ]);
}

function showStatus(text, good) {
  setText(byId("status"), text);
  byId("status").className = `badge ${good ? "good" : "bad"}`;
}

let paused = false;
let looking = false;
async function look() {
  if (looking || paused || document.hidden) return;
  looking = true;
  try {
    const told = await ask("/admin/overview");
    await lookAtPast(told.threads);
    showOverview(told);
    drawPlots();
  } catch (error) {
    const hasAnswered = !(error instanceof TypeError) && error.name !== "TimeoutError";
    showStatus(hasAnswered ? error.message : "no answer", false);
  }
  looking = false;
}

// ---- groups, sockets, closed ones

const showGroups = table("groups", [
  { title: "Group", kind: "name", show: (row) => [brief(`${row.stream} / ${row.group}`), groupLink([row.stream, row.group])] },
  { title: "Events/s", kind: "number", show: (row) => short(row.events_per_second) },
  { title: "Events", kind: "number", show: (row) => short(row.events) },
  { title: "Subscribers", kind: "number", show: (row) => number(row.subscribers) },
  { title: "Items", kind: "number", show: (row) => number(row.items) },
  { title: "Holds", kind: "number", show: (row) => bytes(row.bytes) },
]);
const showSockets = table("sockets", [
  { title: "Client", kind: "word", show: (row) => row.peer ?? "gone" },
  { title: "Behind", kind: "number", show: (row) => bytes(row.behind_bytes) },
  { title: "Events", kind: "number", show: (row) => number(row.behind_events) },
  { title: "Blocked for", kind: "number", show: (row) => duration(row.blocked_ms) },
  { title: "Round trip", kind: "number", show: (row) => micros(row.tcp?.rtt_us) },
  { title: "Age", kind: "number", show: (row) => duration(row.age_ms) },
  { title: "Why", kind: "text", show: (row) => row.why },
  { title: "Follows", kind: "name", show: followed },
]);
const showClosed = table("closed", [
  { title: "At", kind: "word", show: (row) => clock(row.at_ms) },
  { title: "Client", kind: "word", show: (row) => row.peer ?? "gone" },
  { title: "Reason", kind: "word", show: (row) => row.reason.replace("_", " ") },
  { title: "Code", kind: "number", show: (row) => (row.code == null ? "–" : String(row.code)) },
  { title: "Age", kind: "number", show: (row) => duration(row.age_ms) },
  { title: "Behind", kind: "number", show: (row) => bytes(row.behind_bytes) },
  { title: "Events", kind: "number", show: (row) => number(row.behind_events) },
  { title: "Blocked for", kind: "number", show: (row) => duration(row.blocked_ms) },
  { title: "Subscriptions", kind: "number", show: (row) => number(row.subscriptions) },
  { title: "Thread", kind: "number", show: (row) => `worker-${row.worker}` },
]);

function followed(row) {
  if (row.groups.length === 0) return "nothing";
  const more = row.subscriptions > 1 ? ` and ${number(row.subscriptions - 1)} more` : "";
  return [`${brief(row.groups[0].join(" / "))}${more}`, groupLink(row.groups[0])];
}

let listing = false;
async function lookAtLists() {
  if (listing || paused || document.hidden) return;
  listing = true;
  const value = (id) => byId(id).value;
  const lists = [
    ask(`/admin/groups?${query({ sort: value("groups-sort"), limit: ROWS })}`).then((told) => {
      setText(byId("groups-note"), `of ${number(told.total)}`);
      showGroups(told.groups, { keyOf: (row) => groupLink([row.stream, row.group]), none: "No group is there." });
    }),
    ask(`/admin/sockets?${query({ sort: value("sockets-sort"), limit: ROWS })}`).then((told) => {
      setText(byId("sockets-note"), `of ${number(told.total)}`);
      const classOf = (row) => (row.blocked_ms > 1000 ? "stuck" : "");
      showSockets(told.sockets, { keyOf: (row) => row.id, classOf, none: "Nobody is connected." });
    }),
    ask(`/admin/closed?${query({ reason: value("closed-reason"), limit: ROWS })}`).then((told) => {
      showReasons(told.counts);
      const keyOf = (row) => `${row.at_ms} ${row.peer} ${row.worker}`;
      showClosed(told.closed, { keyOf, none: "Nobody, so far." });
    }),
  ];
  await Promise.allSettled(lists); // what is wrong is shown by the figures
  listing = false;
}

function showReasons(counts) {
  const select = byId("closed-reason");
  for (const reason of Object.keys(counts)) {
    let option = [...select.options].find(({ value }) => value === reason);
    if (!option) select.append((option = make("option", { value: reason })));
    setText(option, `${reason.replace("_", " ")} (${number(counts[reason])})`);
  }
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  setText(byId("closed-note"), `${number(all)} since the start`);
}
for (const id of ["groups-sort", "sockets-sort", "closed-reason"]) byId(id).addEventListener("change", lookAtLists);

// ---- streams and groups by name

let stream = null; // whose groups are shown
let opened = null; // the group that is shown, as [stream, group]

/// A list of names that goes on by a button; an answer that comes after the next question is dropped.
function nameList(id, rowOf) {
  const [list, more, filter] = [byId(id), byId(`${id}-more`), byId(`${id}-filter`)];
  let [asked, next] = [0, null];
  const find = async (values, after) => {
    const mine = (asked += 1);
    if (after == null) next = null;
    try {
      const from = after == null ? {} : { after };
      const told = await ask(`${values.path}?${query({ ...values.query, contains: filter.value, limit: NAMES, ...from })}`);
      if (mine !== asked) return;
      const rows = (told.streams ?? told.groups).map(rowOf).map(([name, note, href, is]) =>
        make("li", {}, make("a", { href, "aria-current": String(is) }, make("span", {}, brief(name)), make("span", {}, note))));
      if (after == null) list.replaceChildren();
      list.append(...rows);
      if (list.childElementCount === 0) list.append(make("li", { class: "empty" }, "None."));
      next = told.next;
      more.hidden = next == null || list.childElementCount >= NAMES_MAX;
    } catch (error) {
      if (mine === asked) list.replaceChildren(make("li", { class: "empty" }, error.message));
    }
  };
  return { find, filter, more, next: () => next };
}

const streams = nameList("streams", (row) =>
  [row.stream, number(row.groups), `#/${encodeURIComponent(row.stream)}`, row.stream === stream]);
const names = nameList("names", (row) =>
  [row.group, `${number(row.items)} items, ${number(row.subscribers)} subs`, groupLink([row.stream, row.group]), row.group === opened?.[1]]);
const findStreams = (after) => streams.find({ path: "/admin/streams", query: {} }, after);
const findNames = (after) => names.find({ path: "/admin/groups", query: { sort: "name", stream } }, after);
streams.more.addEventListener("click", () => findStreams(streams.next()));
names.more.addEventListener("click", () => findNames(names.next()));
streams.filter.addEventListener("input", () => findStreams());
names.filter.addEventListener("input", () => { if (stream != null) findNames(); });

function namesIn(hash) {
  try {
    return hash.length > 2 ? hash.slice(2).split("/").map(decodeURIComponent) : [];
  } catch {
    return []; // no address of ours
  }
}

/// The address says what is open, so that it can be sent to somebody.
function open() {
  if (location.hash.length > 1 && !location.hash.startsWith("#/")) return; // a place of the page itself
  const [wanted = null, group = null] = namesIn(location.hash);
  const changes = wanted !== stream;
  stream = wanted;
  stopWatching();
  opened = group == null ? null : [stream, group];
  setText(byId("names-of"), stream == null ? "" : `of ${brief(stream)}`);
  if (changes) names.filter.value = "";
  if (stream != null) findNames();
  findStreams();
  byId("group").hidden = opened == null;
  byId("no-group").hidden = opened != null;
  pages = [0];
  if (opened == null) return;
  setText(byId("group-title"), brief(opened.join(" / ")));
  showItems([], { keyOf: String, none: "Is looked up." });
  lookAtGroup();
  byId("group").scrollIntoView({ block: "nearest" });
}
window.addEventListener("hashchange", open);

// ---- one group

let pages = [0]; // where the pages begin that were looked at; the last one is shown
let next = null;
let before = new Map(); // values at the last look, to see what has changed

const textOf = (item) => item.text ?? `${item.begins}…`;
/// A number that a script cannot hold is shown as it was written, where the browser tells how.
const exact = (_, value, context) =>
  typeof value === "number" && context?.source && String(value) !== context.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value;
const cut = (text) => (text.length > VALUE_CHARS ? `${text.slice(0, VALUE_CHARS)}…` : text);
const showItems = table("items", [
  { title: "Item", kind: "name", show: (item) => brief(item.id) },
  { title: "Value", kind: "code", show: (item) => cut(item.text) },
  { title: "Bytes", kind: "number", show: (item) => number(item.bytes) },
  { title: "", kind: "word", show: (item) => () => itemButtons(item.id) },
]);

function itemButtons(id) {
  const edit = make("button", { type: "button", "aria-label": `Edit ${id}` }, "Edit");
  edit.addEventListener("click", () => {
    byId("set-item").value = id;
    byId("set-value").value = before.get(id) ?? "";
    byId("set-value").focus();
  });
  const remove = make("button", { type: "button", class: "danger", "aria-label": `Delete ${id}` }, "Delete");
  const calm = () => { remove.classList.remove("sure"); setText(remove, "Delete"); };
  remove.addEventListener("blur", calm);
  remove.addEventListener("click", () => {
    if (!remove.classList.contains("sure")) {
      remove.classList.add("sure");
      return setText(remove, "Really?");
    }
    calm();
    change("/admin/delete", { item_id: id }, "", `${id} is deleted.`);
  });
  return [edit, " ", remove];
}

let flash = "new";
let lookingAtGroup = false;
async function lookAtGroup() {
  if (lookingAtGroup || opened == null || document.hidden) return;
  lookingAtGroup = true;
  const [key, from] = [opened, pages[pages.length - 1]];
  try {
    const told = await ask(`/admin/group?${query({ stream: key[0], group: key[1], from, limit: ITEMS, as: "text" })}`);
    if (key === opened && from === pages[pages.length - 1]) showGroup(told);
  } catch (error) {
    if (key === opened) {
      before = new Map();
      showItems([], { keyOf: String, none: error.message });
      byId("items-more").hidden = true;
      facts(byId("group-facts"), []);
    }
  }
  lookingAtGroup = false;
  if (key !== opened) lookAtGroup();
}

function showGroup(told) {
  facts(byId("group-facts"), [
    ["items", number(told.items_len)], ["holds", bytes(told.bytes)], ["subscribers", number(told.subscribers)],
    ["events", number(told.events)], ["a second", short(told.events_per_second)], ["owner", `worker-${told.owner}`],
  ]);
  const items = told.items.map((item) => ({ ...item, text: textOf(item) }));
  const known = before;
  before = new Map(items.map((item) => [item.id, item.text]));
  const changed = (item) => known.size > 0 && known.get(item.id) !== item.text;
  flash = flash === "new" ? "new again" : "new"; // of another name, so that it is seen at each change
  showItems(items, { keyOf: (item) => item.id, classOf: (item) => (changed(item) ? flash : ""), none: "Nothing is in it." });
  if (watching?.polls) noteChanges(known, before);
  next = told.next;
  byId("items-more").hidden = next == null && pages.length === 1;
  setText(byId("items-more"), next == null ? "First items" : "Next items");
}
byId("items-more").addEventListener("click", () => {
  if (next == null) pages = [0];
  else pages.push(next);
  before = new Map();
  lookAtGroup();
});

/// The value goes as it was written: a number may be larger than what a script can hold.
async function change(path, names, data, done) {
  const [stream_name, group_id] = opened;
  const input = JSON.stringify({ stream_name, group_id, ...names });
  const result = byId("set-result");
  try {
    await ask(path, data === "" ? input : `${input.slice(0, -1)},"data":${data}}`);
    result.className = "right";
    setText(result, done);
  } catch (error) {
    result.className = "wrong";
    setText(result, error.message);
  }
  lookAtGroup();
}
byId("set").addEventListener("submit", (event) => {
  event.preventDefault();
  const [id, text] = [byId("set-item").value, byId("set-value").value.trim()];
  try {
    JSON.parse(text);
  } catch (error) {
    byId("set-result").className = "wrong";
    return setText(byId("set-result"), `That is no JSON: ${error.message}`);
  }
  change("/admin/set", { item_id: id }, text, `${id} is set.`);
});

// ---- a group live: as any subscriber, or where the page may not be one, by looking again and again

let watching = null;
let [streamScheme, streamPort] = ["ws", ""];
const showEvents = table("events", [
  { title: "At", kind: "word", show: (event) => clock(event.at) },
  { title: "What", kind: "word", show: (event) => event.kind },
  { title: "Item", kind: "name", show: (event) => brief(event.id ?? "") },
  { title: "Value", kind: "code", show: (event) => cut(event.text) },
]);

function watch() {
  const mine = { waiting: [], shown: [], heard: 0, passed: 0, number: 0, polls: false, isDue: false, quiet: true };
  watching = mine;
  const polls = () => {
    mine.polls = true;
    say(mine);
  };
  try {
    mine.socket = new WebSocket(`${streamScheme}://${location.hostname}:${streamPort}/`);
  } catch {
    polls();
  }
  if (mine.socket) {
    mine.socket.onopen = () => mine.socket.send(JSON.stringify({
      type: "join", data: { subscriptionId: "page", streamName: opened[0], groupId: opened[1] } }));
    mine.socket.onmessage = ({ data }) => {
      mine.heard += 1;
      mine.waiting.push(data);
      if (mine.waiting.length > EVENTS_SHOWN) { mine.waiting.shift(); mine.passed += 1; }
      hearSoon(mine);
    };
    mine.socket.onclose = () => { if (watching === mine) polls(); };
  }
  byId("watch").setAttribute("aria-pressed", "true");
  byId("watched").hidden = false;
  say(mine);
}

/// Behind what the browser draws next, a few at a time: a hot group leaves the page to whoever uses it.
function hearSoon(mine) {
  if (mine.isDue) return;
  mine.isDue = true;
  setTimeout(() => requestAnimationFrame(() => hear(mine)), SHOW_EVERY_MS);
}

function hear(mine) {
  mine.isDue = false;
  if (watching !== mine) return;
  const heard = mine.waiting.splice(0, EVENTS_A_LOOK);
  if (mine.waiting.length > 0) hearSoon(mine);
  mine.quiet = heard.length <= FLASHES_A_LOOK;
  for (const data of heard) {
    const { timestamp, id, event } = /\d{16}/.test(data) ? JSON.parse(data, exact) : JSON.parse(data);
    if (event.type === "unauthorized") mine.polls = true;
    const value = event.type === "event" ? event.event : event.data;
    note(mine, { at: Number(timestamp), kind: event.type, id, text: value === undefined ? "" : JSON.stringify(value) });
  }
  say(mine);
}

function note(mine, event) {
  mine.number += 1;
  mine.shown.unshift({ ...event, number: mine.number, flashes: mine.quiet });
  mine.shown.length = Math.min(mine.shown.length, EVENTS_SHOWN);
}

function noteChanges(known, now) {
  const at = Date.now();
  for (const [id, text] of now) {
    if (known.get(id) !== text) note(watching, { at, kind: known.has(id) ? "update" : "create", id, text });
  }
  for (const [id, text] of known) if (!now.has(id)) note(watching, { at, kind: "delete", id, text });
  say(watching);
}

function say(mine) {
  const how = mine.polls
    ? "this page is no subscriber of the stream port; it looks once a second, and sees items of this list only"
    : `${number(mine.heard)} heard${mine.passed ? `, ${number(mine.passed)} of them too fast to show` : ""}`;
  setText(byId("watch-note"), how);
  const classOf = (event) => (event.flashes ? "new" : "");
  showEvents(mine.shown, { keyOf: (event) => event.number, classOf, none: "Nothing has come yet." });
}

function stopWatching() {
  const mine = watching;
  watching = null;
  mine?.socket?.close();
  byId("watch").setAttribute("aria-pressed", "false");
  byId("watched").hidden = true;
}
byId("watch").addEventListener("click", () => (watching ? stopWatching() : watch()));

// ---- the whole

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  if (!paused) look();
});

const THEMES = ["system", "light", "dark"];
function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  setText(byId("theme"), `Theme: ${theme}`);
  localStorage.setItem("theme", theme);
  readColours();
  drawPlots();
}
byId("theme").addEventListener("click", () => {
  const now = localStorage.getItem("theme") ?? "system";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});

makePlots();
setTheme(THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "system");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); drawPlots(); });
window.addEventListener("resize", drawPlots);
document.addEventListener("visibilitychange", () => { look(); lookAtLists(); });
look();
lookAtLists();
open();
setInterval(look, LOOK_EVERY_MS);
setInterval(lookAtLists, LISTS_EVERY_MS);
setInterval(lookAtGroup, LOOK_EVERY_MS);
