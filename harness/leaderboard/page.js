"use strict";

const sections = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const state = { section: 0, sort: null, down: false, open: null };

const DIVISIONS = { closed: "●", open: "◆", baseline: "■" };
/* The choices of the x axis: key, name, whether higher is better. */
const AXES = [
  ["throughput", "throughput (examples or queries per second)", true],
  ["energy_wh_per_1k", "energy (Wh per 1,000 examples)", false],
  ["latency_p50_ms", "latency, median (ms)", false],
  ["latency_p99_ms", "latency, 99th percentile (ms)", false],
  ["usd_per_100m", "cost (USD per 100 million requests)", false],
  ["cpu_seconds_per_1k", "CPU-seconds per 1,000 examples", false],
  ["memory_mb", "memory (MB)", false],
  ["size_mb", "artifact size (MB)", false],
];
const COLUMNS = [
  ["system", "system"], ["division", "division"], ["rank", "rank"], ["score", "score"],
  ["score_difference", "difference"], ["throughput", "examples/s"], ["speedup", "speed-up"],
  ["speedup_unpadded", "unpadded"], ["latency_p50_ms", "p50 ms"], ["latency_p99_ms", "p99 ms"],
  ["cpu_seconds_per_1k", "CPU s/1k"], ["energy_wh_per_1k", "Wh/1k"], ["co2_g_per_1k", "g CO2/1k"],
  ["usd_per_100m", "USD/100M"], ["memory_mb", "memory MB"], ["size_mb", "artifact MB"],
];
const TEXT_COLUMNS = new Set(["system", "division"]);
const ASCENDING_FIRST = /^(system|division|rank|latency|cpu|energy|co2|usd|memory|size)/;

function formatNumber(value) {
  if (value === null || value === undefined) return "-";
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  if (digits > 6) return value.toExponential(2);
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

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
    const text = `${row.name} ${row.title} ${row.division}`.toLowerCase();
    return words.every((word) => text.includes(word))
      && (row.qualified || !byId("ranked").checked || sections[state.section].floor === null)
      && (!row.point || byId("points").checked);
  });
}

function formatCell(row, key) {
  if (row.failure) return key === "system" || key === "division" ? row[key] : key === "score" ? "failed" : "-";
  if (key === "rank") return row.rank ?? "-";
  if (key === "score") return row.score === null ? "-" : row.score.toFixed(4) + " ± " + row.score_se.toFixed(4) + (row.near_floor ? "~" : "") + (row.above_reference ? "^" : "");
  if (key === "score_difference") return row.score_difference === null ? "-" : (row.score_difference < 0 ? "" : "+") + row.score_difference.toFixed(4);
  if (key === "speedup" && row.speedup !== null) {
    const wide = row.speedup_low !== null && row.speedup_low !== row.speedup_high;
    return `${formatNumber(row.speedup)}x` + (wide ? ` [${formatNumber(row.speedup_low)}, ${formatNumber(row.speedup_high)}]` : "");
  }
  if (key === "speedup_unpadded" && row.speedup_unpadded !== null) return `${formatNumber(row.speedup_unpadded)}x`;
  return TEXT_COLUMNS.has(key) ? row[key] : formatNumber(row[key]);
}

function sortRows(rows) {
  if (!state.sort) return rows;
  const value = (row) => (state.sort === "system" ? row.name : row[state.sort]);
  const sign = state.down ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === null || b === null || a === undefined || b === undefined) return (a ?? null) === (b ?? null) ? 0 : (a ?? null) === null ? 1 : -1;
    return sign * (a < b ? -1 : a > b ? 1 : 0);
  });
}

function columnTitle(section, key, name) {
  if (key === "energy_wh_per_1k") return `${name} (${section.energy})`;
  return key === "throughput" && section.scenario === "server" ? "queries/s" : name;
}

function drawTable(rows) {
  const section = sections[state.section];
  const head = document.querySelector("#table thead tr");
  byId("ranked").disabled = section.floor === null;
  const columns = COLUMNS.filter(([key]) => TEXT_COLUMNS.has(key) || section.rows.some((row) => (row[key] ?? null) !== null));
  if (!columns.some(([key]) => key === state.sort)) state.sort = null;
  head.replaceChildren(...columns.map(([key, name]) => {
    const title = columnTitle(section, key, name);
    const arrow = state.sort === key ? (state.down ? " ▼" : " ▲") : "";
    const button = element("button", { type: "button" }, title + arrow);
    button.dataset.key = key;
    button.addEventListener("click", () => {
      state.down = state.sort === key ? !state.down : !ASCENDING_FIRST.test(key);
      state.sort = key;
      draw();
      document.querySelector(`#table thead button[data-key="${key}"]`).focus();
    });
    const order = state.sort === key ? (state.down ? "descending" : "ascending") : "none";
    return element("th", { scope: "col", "aria-sort": order }, button);
  }));
  const body = document.querySelector("#table tbody");
  body.replaceChildren(...sortRows(rows).flatMap((row) => {
    const open = state.open === row.name;
    const line = element("tr", { className: row.qualified || row.point || section.floor === null ? "" : "below" });
    line.dataset.name = row.name;
    for (const [key] of columns) {
      if (key !== "system") { line.append(element("td", {}, String(formatCell(row, key)))); continue; }
      const button = element("button", { type: "button", "aria-expanded": String(open) }, row.name);
      button.addEventListener("click", () => openRow(open ? null : row.name, true));
      line.append(element("td", {}, button));
    }
    return open ? [line, renderDetails(row, columns.length)] : [line];
  }));
  byId("count").textContent = `${rows.length} of ${section.rows.length} rows`;
}

function renderDetails(row, columns) {
  const pairs = [
    ["title", row.title], ["authors", `${row.authors.join(", ")} (${row.licence})`],
    ["failed", row.failure], ["audit", row.audit], ["recipe", row.recipe.join(" → ")], ["engine settings", row.serve],
    ["exits per stage", row.left && row.left.split("/").map((share) => (100 * share).toFixed(1) + "%").join(" / ")],
    ["training seeds", row.seeds && `${row.seeds}: score ${row.seeds_score.toFixed(4)} ± ${row.seeds_score_sd.toFixed(4)} (standard deviation)`],
    ["p50 / p90 / p99", ["p50", "p90", "p99"].some((p) => row[`latency_${p}_ms`] !== null) && ["p50", "p90", "p99"].map((p) => formatNumber(row[`latency_${p}_ms`])).join(" / ") + " ms"],
    ["build", row.build_cpu_seconds && `${formatNumber(row.build_cpu_seconds)} CPU-seconds, ${formatNumber(row.build_wh)} Wh; requests to break even against the unpadded reference: ${row.break_even}`],
    ["load", row.load_seconds && `${formatNumber(row.load_seconds)} s, ${formatNumber(row.load_wh)} Wh`],
    ["weights", row.parameters && `${(row.parameters / 1e6).toFixed(2)} M parameters, ${formatNumber(row.weights_mb)} MB`],
    ["harness share of the time", row.harness_share && (100 * row.harness_share).toFixed(2) + "%"],
  ].filter(([, value]) => value);
  const list = element("dl");
  for (const [name, value] of pairs) list.append(element("dt", {}, name), element("dd", {}, String(value)));
  list.append(element("dt", {}, "command to reproduce"), element("dd", {}, element("code", {}, row.command)));
  list.append(element("dt", {}, "record"), element("dd", {}, element("a", { href: row.record }, row.record)));
  const wide = element("td", {}, list);
  wide.colSpan = columns;
  return element("tr", { className: "details" }, wide);
}

function openRow(name, focus) {
  state.open = name;
  draw();
  const line = [...document.querySelectorAll("#table tbody tr")].find((row) => row.dataset.name === name);
  if (line && focus) line.querySelector("button").focus();
}

const narrow = matchMedia("(max-width: 640px)");
const WIDE = { width: 960, height: 480, left: 74, right: 940, top: 16, bottom: 424 };
const TALL = { width: 480, height: 520, left: 66, right: 470, top: 16, bottom: 462 };
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
  const [key, name, higherIsBetter] = AXES.find(([axis]) => axis === byId("x-axis").value) ?? AXES[0];
  const usable = rows.filter((row) => !row.failure && row[key] > 0 && row.score !== null && row.score > section.majority);
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
  const logs = usable.map((row) => Math.log10(row[key]));
  const scores = usable.flatMap((row) => [row.score - row.score_se, row.score + row.score_se]).concat(section.floor ?? []);
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
    plot.append(svgElement("text", { class: "tick", x: BOX.right, y: y(section.floor) - 4, "text-anchor": "end" }, "quality floor"));
  }
  const dominates = (row, other) => (higherIsBetter ? row[key] >= other[key] : row[key] <= other[key]) && row.score >= other.score
    && (row[key] !== other[key] || row.score !== other.score);
  const frontier = usable.filter((row) => !usable.some((other) => dominates(other, row))).sort((a, b) => a[key] - b[key]);
  plot.append(svgElement("polyline", { class: "frontier", points: frontier.map((row) => `${x(row[key])},${y(row.score)}`).join(" ") }));
  for (const system of new Set(usable.filter((row) => row.point).map((row) => row.system))) {
    const curve = usable.filter((row) => row.system === system).sort((a, b) => a[key] - b[key]);
    plot.append(svgElement("polyline", { class: `curve ${curve[0].division}`, points: curve.map((row) => `${x(row[key])},${y(row.score)}`).join(" ") }));
  }
  const taken = usable.map((row) => [x(row[key]) - 6, y(row.score) - 6, x(row[key]) + 6, y(row.score) + 6]);
  for (const row of usable) drawPoint(plot, row, x(row[key]), y(row.score), y(row.score - row.score_se), y(row.score + row.score_se));
  for (const row of new Set([...usable.filter((other) => other.name === state.open), ...frontier, ...usable])) drawLabel(plot, row, x(row[key]), y(row.score), taken);
  describe(`The frontier, from left to right: ${frontier.map((row) => `${row.name} ${row.score.toFixed(4)} at ${formatNumber(row[key])}`).join("; ")}.`);
}

const SHAPES = {
  closed: (x, y, r) => svgElement("circle", { cx: x, cy: y, r }),
  open: (x, y, r) => svgElement("path", { d: `M${x} ${y - r * 1.3}L${x + r * 1.3} ${y}L${x} ${y + r * 1.3}L${x - r * 1.3} ${y}Z` }),
  baseline: (x, y, r) => svgElement("rect", { x: x - r * 0.9, y: y - r * 0.9, width: r * 1.8, height: r * 1.8 }),
};

function drawPoint(plot, row, x, y, low, high) {
  if (!row.point) plot.append(svgElement("line", { class: row.division, x1: x, x2: x, y1: low, y2: high }));
  const shape = SHAPES[row.division](x, y, row.point ? 3.5 : 6);
  shape.setAttribute("class", `point ${row.division}${state.open === row.name ? " open-row" : ""}`);
  shape.append(svgElement("title", {}, `${row.name}: ${row.score.toFixed(4)} ± ${row.score_se.toFixed(4)}`));
  shape.addEventListener("click", () => openRow(row.name, true));
  plot.append(shape);
}

/* Writes the name beside its point if it covers nothing; otherwise the tooltip has it. */
function drawLabel(plot, row, x, y, taken) {
  if (row.point && !byId("filter").value && row.name !== state.open) return;
  const [width, height] = [7 * row.name.length, 14];
  const spots = [[9, 4, "start"], [-9, 4, "end"], [0, -12, "middle"], [0, 22, "middle"], [9, -10, "start"], [9, 18, "start"], [-9, -10, "end"], [-9, 18, "end"]];
  for (const [dx, dy, anchor] of spots) {
    const left = x + dx - (anchor === "end" ? width : anchor === "middle" ? width / 2 : 0);
    const box = [left, y + dy - height + 3, left + width, y + dy + 3];
    if (box[0] < BOX.left || box[2] > BOX.right || box[1] < 2 || box[3] > BOX.bottom) continue;
    if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
    taken.push(box);
    plot.append(svgElement("text", { x: x + dx, y: y + dy, "text-anchor": anchor }, row.name));
    return;
  }
}

function draw() {
  const section = sections[state.section];
  const rows = filterRows();
  byId("description").textContent = section.description;
  drawPlot(rows);
  drawTable(rows);
}

function updateAxes() {
  const rows = sections[state.section].rows;
  const current = byId("x-axis").value;
  const usable = AXES.filter(([key]) => rows.some((row) => row[key] > 0));
  byId("x-axis").replaceChildren(...usable.map(([key, name]) => element("option", { value: key }, name)));
  const preferred = sections[state.section].scenario === "single_stream" ? "latency_p50_ms" : "throughput";
  const isUsable = (choice) => usable.some(([key]) => key === choice);
  byId("x-axis").value = [current, preferred].find(isUsable) ?? (usable[0] ?? AXES[0])[0];
}

byId("section").replaceChildren(...sections.map((section, index) => element("option", { value: String(index) }, section.name)));
byId("section").addEventListener("change", (event) => {
  Object.assign(state, { section: Number(event.target.value), open: null });
  updateAxes();
  draw();
});
for (const id of ["filter", "ranked", "points"]) byId(id).addEventListener("input", draw);
byId("x-axis").addEventListener("change", draw);
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
