"use strict";

const sections = JSON.parse(document.getElementById("data").textContent);
for (const { columns, rows } of sections) {
  const name = (list, keys) => Object.fromEntries(keys.map((key, index) => [key, list[index]]));
  const keys = columns.map(({ key }) => key);
  for (const row of rows) [row.values, row.cells] = [name(row.values, ["score_se", ...keys]), name(row.cells, keys)];
}
const byId = (id) => document.getElementById(id);
const historyHeadings = JSON.parse(byId("history-headings").textContent);
const state = { section: 0, sort: null, down: false, open: null, axis: null };

const DIVISIONS = { closed: "●", open: "◆", baseline: "■" };

function element(name, fields = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(fields)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function svgElement(name, fields, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(fields)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function filterRows() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  return sections[state.section].rows.filter((row) => {
    const text = `${row.name} ${row.title} ${row.values.division}`.toLowerCase();
    return words.every((word) => text.includes(word))
      && (row.qualified || !byId("ranked").checked || sections[state.section].floor === null)
      && (!row.point || byId("points").checked);
  });
}

/* Sorts the rows; controls stay last. */
function sortRows(rows) {
  if (!state.sort) return rows;
  const value = (row) => (state.sort === "system" ? row.name : row.values[state.sort]) ?? null;
  const sign = state.down ? -1 : 1;
  return [...rows].sort((one, other) => {
    if (one.control !== other.control) return one.control - other.control;
    const [a, b] = [value(one), value(other)];
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
    return sign * (a < b ? -1 : a > b ? 1 : 0);
  });
}

function drawTable(rows) {
  const section = sections[state.section];
  const head = document.querySelector("#table thead tr");
  byId("ranked").disabled = section.floor === null;
  const columns = section.columns;
  if (!columns.some(({ key }) => key === state.sort)) state.sort = null;
  head.replaceChildren(...columns.map(({ key, heading, better }) => {
    const arrow = state.sort === key ? (state.down ? " ▼" : " ▲") : "";
    const button = element("button", { type: "button" }, heading + arrow);
    button.dataset.key = key;
    button.addEventListener("click", () => {
      state.down = state.sort === key ? !state.down : better === "higher";
      state.sort = key;
      draw();
      document.querySelector(`#table thead button[data-key="${key}"]`).focus();
    });
    const order = state.sort === key ? (state.down ? "descending" : "ascending") : "none";
    return element("th", { scope: "col", "aria-sort": order }, button);
  }));
  const body = document.querySelector("#table tbody");
  body.replaceChildren(...sortRows(rows).flatMap((row, index, sorted) => {
    const open = state.open === row.name;
    const line = element("tr", { className: row.qualified || row.point || section.floor === null ? "" : "below" });
    if (row.control && index && !sorted[index - 1].control) line.classList.add("first-control");
    line.dataset.name = row.name;
    for (const { key } of columns) {
      if (key !== "system") { line.append(element("td", {}, row.cells[key])); continue; }
      const button = element("button", { type: "button", "aria-expanded": String(open) }, row.name);
      button.addEventListener("click", () => openRow(open ? null : row.name, true));
      line.append(element("td", {}, button));
    }
    return open ? [line, renderDetails(row, columns.length)] : [line];
  }));
  byId("count").textContent = `${rows.length} of ${section.rows.length} rows`;
}

function renderDetails(row, columns) {
  const list = element("dl");
  for (const [name, text] of row.details) list.append(element("dt", {}, name), element("dd", {}, text));
  list.append(element("dt", {}, "command to reproduce"), element("dd", {}, element("code", {}, row.command)));
  list.append(element("dt", {}, "record"), element("dd", {}, element("a", { href: row.record }, row.record)));
  const wide = element("td", {}, list);
  if (row.history.length > 1) wide.append(renderHistory(row));
  wide.colSpan = columns;
  return element("tr", { className: "details" }, wide);
}

/* Score and speed-up over sessions, from left to right in order of time, and a table of all sessions. */
function renderHistory(row) {
  const entries = [...row.history].reverse();
  const plot = svgElement("svg", { viewBox: "0 0 560 250", role: "img", "aria-label": `Score and speed-up of ${row.name} over ${entries.length} sessions; the table below has the figures.` });
  const place = (index) => 70 + index * (entries.length > 1 ? 470 / (entries.length - 1) : 0);
  const speedups = entries.map(({ speedup }) => speedup && speedup.map((value) => (value > 0 ? Math.log10(value) : null)));
  drawSeries(plot, "score", entries.map(({ score, se }) => (score === null ? null : [score, score - se, score + se])), place, 14, 96, (value) => value.toFixed(3), 0.005);
  drawSeries(plot, "speed-up", speedups, place, 126, 208, (value) => `${(10 ** value).toLocaleString("en", { maximumSignificantDigits: 3 })}x`, 0.02);
  entries.forEach(({ date }, index) => {
    const every = Math.ceil(entries.length / 5);
    if (index % every === 0) plot.append(svgElement("text", { class: "tick", x: place(index), y: 232, "text-anchor": index ? index === entries.length - 1 ? "end" : "middle" : "start" }, date));
  });
  const head = element("tr", {}, ...historyHeadings.map((heading) => element("th", { scope: "col" }, heading)));
  const lines = row.history.map(({ cells }) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  const table = element("table", {}, element("caption", {}, "Sessions, the latest first"), element("thead", {}, head), element("tbody", {}, ...lines));
  return element("section", { className: "history", "aria-label": "Sessions" }, plot, element("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Sessions (scrolls horizontally)" }, table));
}

/* Draws values [value, low, high] between two heights; null leaves a gap. */
function drawSeries(plot, name, series, place, top, bottom, write, least) {
  const ends = series.flatMap((values) => values ?? []).filter((value) => value !== null);
  if (!ends.length) return;
  const margin = Math.max(0.08 * (Math.max(...ends) - Math.min(...ends)), least);
  const [low, high] = [Math.min(...ends) - margin, Math.max(...ends) + margin];
  const y = (value) => bottom - (value - low) / (high - low) * (bottom - top);
  for (const value of [low + margin, high - margin]) {
    plot.append(svgElement("line", { class: "grid", x1: 64, x2: 548, y1: y(value), y2: y(value) }));
    plot.append(svgElement("text", { class: "tick", x: 60, y: y(value) + 4, "text-anchor": "end" }, write(value)));
  }
  plot.append(svgElement("text", { class: "tick", transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, name));
  const points = series.map((values, index) => values && [place(index), y(values[0])]);
  plot.append(svgElement("polyline", { class: "curve open", points: points.filter(Boolean).map((point) => point.join(",")).join(" ") }));
  series.forEach((values, index) => {
    if (!values) return;
    if (values[1] !== null && values[2] !== null) plot.append(svgElement("line", { class: "open", x1: place(index), x2: place(index), y1: y(values[1]), y2: y(values[2]) }));
    const point = svgElement("circle", { class: "point open", cx: place(index), cy: y(values[0]), r: 4 });
    point.append(svgElement("title", {}, `${name} ${write(values[0])}`));
    plot.append(point);
  });
}

function openRow(name, focus) {
  state.open = name;
  draw();
  const line = [...document.querySelectorAll("#table tbody tr")].find((row) => row.dataset.name === name);
  if (line && focus) line.querySelector("button").focus();
}

const narrow = matchMedia("(max-width: 640px)");
const WIDE = { width: 960, height: 480, left: 74, right: 940, top: 16, bottom: 424 };
const TALL = { width: 380, height: 460, left: 64, right: 352, top: 16, bottom: 402 };
let BOX = WIDE;

function ticks(low, high) {
  const power = 10 ** Math.floor(Math.log10(high - low));
  const step = [0.2, 0.5, 1, 2].map((factor) => factor * power).find((size) => (high - low) / size <= 8);
  const values = [];
  for (let index = Math.ceil(low / step); index * step <= high; index++) values.push(index * step);
  return [values, Math.max(0, -Math.floor(Math.log10(step)))];
}

function drawPlot(rows) {
  const section = sections[state.section];
  const { key, axis: name, better } = findAxis();
  const usable = rows.filter(({ failure, values }) => !failure && values[key] > 0 && values.score !== null && values.score > section.majority);
  const plot = byId("plot");
  BOX = narrow.matches ? TALL : WIDE;
  plot.setAttribute("viewBox", `0 0 ${BOX.width} ${BOX.height}`);
  plot.replaceChildren(svgElement("title", { id: "plot-title" }, `Score against ${name}`));
  const describe = (text) => plot.append(svgElement("desc", { id: "plot-text" }, text));
  if (!usable.length) {
    describe("No data.");
    plot.append(svgElement("text", { x: BOX.width / 2, y: 220, "text-anchor": "middle" }, "no system with this figure is above the majority class"));
    return;
  }
  const logs = usable.map((row) => Math.log10(row.values[key]));
  const scores = usable.flatMap((row) => [row.values.score - row.values.score_se, row.values.score + row.values.score_se]).concat(section.floor ?? []);
  const pad = (low, high, least) => { const margin = Math.max(0.08 * (high - low), least); return [low - margin, high + margin]; };
  const [left, right] = pad(Math.min(...logs), Math.max(...logs), 0.1);
  const [low, high] = pad(Math.min(...scores), Math.max(...scores), 0.005);
  const x = (value) => BOX.left + (Math.log10(value) - left) / (right - left) * (BOX.right - BOX.left);
  const y = (value) => BOX.bottom - (value - low) / (high - low) * (BOX.bottom - BOX.top);
  for (let power = Math.floor(left); power <= right; power++) {
    for (const factor of right - left < (narrow.matches ? 1.2 : 2.5) ? [1, 2, 5] : [1]) {
      const value = factor * 10 ** power;
      if (Math.log10(value) < left || Math.log10(value) > right) continue;
      plot.append(svgElement("line", { class: "grid", x1: x(value), x2: x(value), y1: BOX.top, y2: BOX.bottom }));
      const text = value >= 1e-4 ? value.toLocaleString("en", { maximumSignificantDigits: 3 }) : value.toExponential(0);
      plot.append(svgElement("text", { class: "tick", x: x(value), y: BOX.bottom + 20, "text-anchor": "middle" }, text));
    }
  }
  const [marks, digits] = ticks(low, high);
  for (const value of marks) {
    plot.append(svgElement("line", { class: "grid", x1: BOX.left, x2: BOX.right, y1: y(value), y2: y(value) }));
    plot.append(svgElement("text", { class: "tick", x: BOX.left - 8, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(digits)));
  }
  plot.append(svgElement("text", { x: (BOX.left + BOX.right) / 2, y: BOX.bottom + 46, "text-anchor": "middle" }, name));
  plot.append(svgElement("text", { transform: `translate(16 ${(BOX.top + BOX.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, section.metric));
  if (section.floor !== null) {
    plot.append(svgElement("line", { class: "floor", x1: BOX.left, x2: BOX.right, y1: y(section.floor), y2: y(section.floor) }));
  }
  const dominates = (row, other) => (better === "higher" ? row.values[key] >= other.values[key] : row.values[key] <= other.values[key]) && row.values.score >= other.values.score
    && (row.values[key] !== other.values[key] || row.values.score !== other.values.score);
  const frontier = usable.filter((row) => !usable.some((other) => dominates(other, row))).sort((a, b) => a.values[key] - b.values[key]);
  plot.append(svgElement("polyline", { class: "frontier", points: frontier.map((row) => `${x(row.values[key])},${y(row.values.score)}`).join(" ") }));
  for (const system of new Set(usable.filter((row) => row.point).map((row) => row.values.system))) {
    const curve = usable.filter((row) => row.values.system === system).sort((a, b) => a.values[key] - b.values[key]);
    plot.append(svgElement("polyline", { class: `curve ${curve[0].values.division}`, points: curve.map((row) => `${x(row.values[key])},${y(row.values.score)}`).join(" ") }));
  }
  const taken = [];
  for (const line of plot.querySelectorAll("polyline")) {
    const points = [...line.points];
    points.slice(1).forEach((point, index) => taken.push(...boxesAlong(points[index].x, points[index].y, point.x, point.y)));
  }
  for (const row of usable) {
    const [place, score, se] = [x(row.values[key]), row.values.score, row.values.score_se];
    drawPoint(plot, row, place, y(score), y(score - se), y(score + se));
    taken.push([place - 8, y(score) - 8, place + 8, y(score) + 8]);
    if (!row.point) taken.push([place - 2, y(score + se), place + 2, y(score - se)]);
  }
  const names = section.floor === null ? [] : [nameFloor(plot, y(section.floor), taken)];
  taken.push(...names);
  const byImportance = new Set([...usable.filter((row) => row.name === state.open), ...frontier, ...usable]);
  drawNames(plot, [...byImportance], (row) => ({ x: x(row.values[key]), y: y(row.values.score) }), taken, names);
  describe(`The frontier, from left to right: ${frontier.map((row) => `${row.name} ${row.values.score.toFixed(4)} at ${row.cells[key]}`).join("; ")}.`);
}

/* Writes the name of the floor at an end of its line, above or below it, where it covers no point. Returns its box. */
function nameFloor(plot, y, taken) {
  const text = plot.appendChild(svgElement("text", { class: "tick", id: "floor-name" }, "quality floor"));
  const places = [[BOX.right, "end"], [BOX.left + 4, "start"]].flatMap(([x, anchor]) => [y - 4, y + 14].map((top) => ({ x, y: top, "text-anchor": anchor })));
  const put = (place) => Object.entries(place).forEach(([key, value]) => text.setAttribute(key, value));
  const isFree = (place) => { put(place); return !taken.some((other) => overlap(boxOf(text), other)); };
  if (!places.some(isFree)) put(places[0]);
  return boxOf(text);
}

const SHAPES = {
  closed: (x, y, r) => svgElement("circle", { cx: x, cy: y, r }),
  open: (x, y, r) => svgElement("path", { d: `M${x} ${y - r * 1.3}L${x + r * 1.3} ${y}L${x} ${y + r * 1.3}L${x - r * 1.3} ${y}Z` }),
  baseline: (x, y, r) => svgElement("rect", { x: x - r * 0.9, y: y - r * 0.9, width: r * 1.8, height: r * 1.8 }),
};

function drawPoint(plot, row, x, y, low, high) {
  if (!row.point) plot.append(svgElement("line", { class: row.values.division, x1: x, x2: x, y1: low, y2: high }));
  const shape = SHAPES[row.values.division](x, y, row.point ? 3.5 : 6);
  shape.setAttribute("class", `point ${row.values.division}${state.open === row.name ? " open-row" : ""}`);
  shape.append(svgElement("title", {}, `${row.name}: ${row.values.score.toFixed(4)} ± ${row.values.score_se.toFixed(4)}`));
  shape.addEventListener("click", () => openRow(row.name, true));
  plot.append(shape);
}

const boxOf = (node) => { const { x, y, width, height } = node.getBBox(); return [x, y, x + width, y + height]; };
const overlap = (box, other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3];

/* Returns small boxes that cover a line. */
function boxesAlong(x1, y1, x2, y2) {
  const count = 1 + Math.ceil(Math.hypot(x2 - x1, y2 - y1) / 3);
  return Array.from({ length: count + 1 }, (_, index) => {
    const [x, y] = [x1 + (x2 - x1) * index / count, y1 + (y2 - y1) * index / count];
    return [x - 1, y - 1, x + 1, y + 1];
  });
}

const TURNS = [0, 8, 12, 4, 14, 2, 10, 6, 15, 1, 9, 7, 13, 3, 11, 5].map((turn) => turn * Math.PI / 8);

/* Returns the nearest free place for a name beside its point, or null where there is none. */
function findPlace({ x, y, width, height }, taken, names) {
  for (let distance = 9; distance < (narrow.matches ? 120 : 400); distance += 5) {
    for (const turn of TURNS) {
      const left = x + Math.cos(turn) * (distance + width / 2) - width / 2;
      const upper = y + Math.sin(turn) * (distance + height / 2) - height / 2;
      const box = [left - 1, upper - 1, left + width + 1, upper + height + 1];
      if (box[0] < BOX.left || box[2] > BOX.right || box[1] < 2 || box[3] > BOX.bottom || taken.some((other) => overlap(box, other))) continue;
      const end = [Math.min(Math.max(x, box[0]), box[2]), Math.min(Math.max(y, box[1]), box[3])];
      const leader = distance > 20 ? boxesAlong(x, y, ...end) : [];
      if (leader.some((part) => names.some((name) => overlap(part, name)))) continue;
      return { left, upper, box, end, leader, distance };
    }
  }
  return null;
}

/* Places the names one after the other, each as near to its point as those before it allow. */
function placeNames(labels, taken, names) {
  const [boxes, written, places] = [[...taken], [...names], new Map()];
  for (const label of labels) {
    const place = findPlace(label, boxes, written);
    if (place) {
      boxes.push(place.box, ...place.leader);
      written.push(place.box);
    }
    places.set(label, place);
  }
  return places;
}

/* Writes the names beside their points. The name that lies farthest from its point is placed first in the next try, and
   the try with the smallest sum of squared distances is kept. On a narrow screen a name may have no place: the tooltip
   and the table have it then. */
function drawNames(plot, rows, place, taken, names) {
  const shown = rows.filter((row) => !row.point || byId("filter").value || row.name === state.open);
  let labels = shown.map((row) => {
    const text = plot.appendChild(svgElement("text", { class: "name" }, row.name));
    const { y: top, width, height } = text.getBBox();
    return { text, top, width, height, ...place(row) };
  });
  let [best, least] = [new Map(), Infinity];
  const most = shown.length > 30 ? 1 : shown.length; // a try takes a second for a hundred names
  for (let tries = 0; tries < most; tries++) {
    const places = placeNames(labels, taken, names);
    const distance = (label) => places.get(label)?.distance ?? BOX.width;
    const worst = labels.reduce((other, label) => (distance(label) > distance(other) ? label : other));
    const total = labels.reduce((sum, label) => sum + distance(label) ** 2, 0);
    if (total < least) [best, least] = [places, total];
    labels = [worst, ...labels.filter((label) => label !== worst)];
  }
  for (const [{ text, top, x, y }, found] of best) {
    if (!found) {
      text.remove();
      continue;
    }
    text.setAttribute("x", found.left);
    text.setAttribute("y", found.upper - top);
    if (found.leader.length) plot.append(svgElement("line", { class: "leader", x1: x, y1: y, x2: found.end[0], y2: found.end[1] }));
  }
}

function draw() {
  const section = sections[state.section];
  const rows = filterRows();
  byId("description").textContent = section.description;
  drawPlot(rows);
  drawTable(rows);
}

const axes = () => sections[state.section].columns.filter(({ key, axis }) => axis && sections[state.section].rows.some((row) => row.values[key] > 0));
const findAxis = () => axes().find(({ key }) => key === byId("x-axis").value) ?? { key: "throughput", axis: "throughput", better: "higher" };

function updateAxes() {
  byId("x-axis").replaceChildren(...axes().map(({ key, axis }) => element("option", { value: key }, axis)));
  const keys = axes().map(({ key }) => key);
  byId("x-axis").value = [state.axis, sections[state.section].x, ...keys].find((key) => keys.includes(key)) ?? "";
}

byId("section").replaceChildren(...sections.map((section, index) => element("option", { value: String(index) }, section.name)));
byId("section").addEventListener("change", (event) => {
  Object.assign(state, { section: Number(event.target.value), open: null });
  updateAxes();
  draw();
});
for (const id of ["filter", "ranked", "points"]) byId(id).addEventListener("input", draw);
byId("x-axis").addEventListener("change", () => {
  state.axis = byId("x-axis").value; // from now on in every section
  draw();
});
byId("controls").addEventListener("submit", (event) => event.preventDefault());
for (const [division, mark] of Object.entries(DIVISIONS)) {
  byId("legend").append(element("span", {}, element("span", { className: division }, mark), ` ${division}`));
}
byId("legend").append("- - frontier");
const dark = () => document.documentElement.dataset.theme === "dark"
  || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
const showTheme = () => byId("theme").setAttribute("aria-pressed", String(dark()));
byId("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  showTheme();
});
narrow.addEventListener("change", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
showTheme();
updateAxes();
draw();
