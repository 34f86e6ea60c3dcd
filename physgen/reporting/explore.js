"use strict";
/* The page of a surrogate: sliders of θ, x drawn with numbers that are held, what is measured of
it, and p(θ|x) of an x that can be changed. */

const page = JSON.parse(document.getElementById("page").textContent);
const find = (id) => document.getElementById(id);
const graphs = new Map();
const parameters = page.parameters, stops = parameters[0].values.length;
const size = page.x.shape.reduce((a, b) => a * b, 1);
const at = parameters.map(() => (stops - 1) / 2);
const theta = (places = at) => places.map((i, d) => parameters[d].values[Math.round(i)]);
const pause = () => new Promise((done) => setTimeout(done));

/* A graph by its name, made when it is first wanted; undefined where there is none. */
function graphOf(name) {
  if (!graphs.has(name) && page.graphs[name]) graphs.set(name, new Graph(page.graphs[name], page.constants));
  return graphs.get(name);
}

/* --- random numbers ------------------------------------------------------------------------ */

/* Uniform numbers in [0, 1) of 24 bits: splitmix32, a function of the seed. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 8) / 2 ** 24;
  };
}

/* Random numbers of a row, law → numbers, held until the seed is another. */
function noiseOf(seed, row) {
  const uniform = generator(Math.imul(seed, 0x85ebca6b) ^ Math.imul(row + 1, 0xc2b2ae35));
  const normal = () => // Box and Muller 1958
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  const draw = { uniform, normal };
  return Object.fromEntries(Object.entries(page.noise).map(([law, columns]) =>
    [law, Float32Array.from({ length: columns }, draw[law])]));
}

/* --- draws of x ---------------------------------------------------------------------------- */

const state = { seed: 1, noise: [], x: [], values: {}, version: 0, fresh: 0, along: 0, trail: [], edit: null, posterior: 0 };

/* θ of some rows as a graph takes it. */
function thetaRows(rows) {
  const data = new Float64Array(rows.length * parameters.length);
  rows.forEach((one, i) => data.set(one, i * parameters.length));
  return tensor("float64", [rows.length, parameters.length], data);
}

/* x (count × size) of rows from start on, at θ where the sliders stand. */
function drawn(start, count) {
  const inputs = { theta: thetaRows(new Array(count).fill(theta())) };
  for (const [law, columns] of Object.entries(page.noise)) {
    const data = new Float32Array(count * columns);
    for (let i = 0; i < count; i++) data.set(state.noise[start + i][law], i * columns);
    inputs[law] = tensor("float32", [count, columns], data);
  }
  return graphOf("x").run(inputs);
}

/* What is measured of x: name → rows of k numbers. */
function measuredOf(x) {
  return Object.fromEntries(page.observables.map(({ name, length }) => {
    const { data } = graphOf(`observable ${name}`).run({ x });
    return [name, Array.from({ length: x.shape[0] }, (_, i) => data.slice(i * length, (i + 1) * length))];
  }));
}

/* Draw all rows, a few at a time, so that a slider never waits; a later call ends it. */
async function draw() {
  const version = ++state.version, begun = performance.now();
  if (page.grid) fromGrid();
  else {
    while (state.noise.length < page.rows) state.noise.push(noiseOf(state.seed, state.noise.length));
    const x = [], values = {};
    for (let start = 0, batch = 8; start < page.rows;) {
      const count = Math.min(batch, page.rows - start), before = performance.now();
      const some = drawn(start, count), more = measuredOf(some);
      for (let i = 0; i < count; i++) x.push(some.data.slice(i * size, (i + 1) * size));
      for (const name in more) values[name] = (values[name] ?? []).concat(more[name]);
      start += count;
      state.x = x.concat(state.x.slice(x.length));
      state.fresh = x.length;
      state.values = values;
      show();
      if (performance.now() - before < 40) batch *= 2;
      await pause();
      if (version !== state.version) return;
    }
    find("status").textContent = `${page.rows} drawn in ${told(performance.now() - begun, 2)} ms`;
  }
  state.trail.push([...at, Object.fromEntries(page.observables.map(({ name }) => [name, momentsOf(name)]))]);
  state.trail = state.trail.slice(-60);
  show();
  posterior();
}

/* x and its observables at the node of the grid that is nearest. */
function fromGrid() {
  const { places, rows, low, step } = page.grid;
  state.fresh = rows;
  const node = at.map((i) => places.reduce((best, p, k) => Math.abs(p - i) < Math.abs(places[best] - i) ? k : best, 0))
    .reduce((index, k) => index * places.length + k, 0);
  state.bytes ??= Uint8Array.from(atob(page.grid.x), (c) => c.charCodeAt(0));
  state.x = Array.from({ length: rows }, (_, i) => {
    const start = (node * rows + i) * size;
    const told = (b) => (page.x.log ? page.x.log * Math.expm1(low + step * b) : low + step * b);
    return Float32Array.from(state.bytes.subarray(start, start + size), told);
  });
  for (const { name, length } of page.observables) {
    const all = page.grid.values[name][node];
    state.values[name] = Array.from({ length: rows }, (_, i) => all.slice(i * length, (i + 1) * length));
  }
}

/* Mean, spread and error of the mean of each number of an observable. */
function momentsOf(name) {
  const rows = state.values[name], n = rows.length;
  return Array.from(rows[0], (_, k) => {
    const mean = rows.reduce((s, r) => s + r[k], 0) / n;
    const spread = Math.sqrt(rows.reduce((s, r) => s + (r[k] - mean) ** 2, 0) / n);
    return { mean, spread, error: spread / Math.sqrt(n) };
  });
}

/* --- pictures of x ------------------------------------------------------------------------- */

const isPicture = page.x.shape.length > 1;
const [height, width] = !isPicture ? [0, size] : page.x.shape.length === 2 ? page.x.shape
  : page.x.axes[0] === "channel" ? [page.x.shape[0] * page.x.shape[1], page.x.shape[2]]
  : [page.x.shape[0], page.x.shape[2]];

/* Where a number lies between the ends of the scale. */
function shade(v) {
  const { low, high, log } = page.x;
  const part = log ? Math.log1p(v / log) / Math.log1p(high / log) : (v - low) / (high - low);
  return Number.isFinite(part) ? Math.min(Math.max(part, 0), 1) : part;
}

/* x as rows and columns: of a shower sums over the middle axis. */
function flattened(x) {
  if (page.x.shape.length !== 3 || page.x.axes[0] === "channel") return x;
  const [a, b, c] = page.x.shape, out = new Float64Array(a * c);
  for (let i = 0; i < a; i++)
    for (let j = 0; j < b; j++) for (let k = 0; k < c; k++) out[i * c + k] += x[(i * b + j) * c + k];
  return out;
}

const TALL = 420; // of all pictures, about, in pixels

function showPictures() {
  const canvas = find("samples"), across = canvas.clientWidth, many = state.x.length, gap = 4;
  const wanted = Math.sqrt((many * across * height) / (width * TALL));
  const off = (n) => Math.abs(Math.log(n / wanted)) + (many % n ? 0.5 : 0); // a last row that is not full
  const columns = state.x.reduce((best, _, i) => (off(i + 1) < off(best) ? i + 1 : best), 1);
  const cell = (across - gap * (columns - 1)) / columns, tall = (cell * height) / width;
  const chart = new Chart(canvas, Math.ceil(many / columns) * (tall + gap));
  chart.ink.imageSmoothingEnabled = false;
  state.x.forEach((x, i) => {
    const left = (i % columns) * (cell + gap), top = Math.floor(i / columns) * (tall + gap);
    chart.ink.globalAlpha = i < state.fresh ? 1 : 0.4;
    chart.ink.drawImage(picture(Array.from(flattened(x), shade), height, width), left, top, cell, tall);
    chart.ink.strokeStyle = colour("--rule");
    chart.ink.strokeRect(left + 0.5, top + 0.5, cell - 1, tall - 1);
  });
  state.cells = { columns, cell: cell + gap, tall: tall + gap };
}

function showCurves() {
  const some = state.x.slice(0, state.fresh), chart = new Chart(find("samples"), 240), { low } = page.x;
  const high = page.x.log ? some.reduce((m, x) => x.reduce((a, b) => Math.max(a, b), m), 0) : page.x.high;
  const room = 0.1 * (high - low);
  chart.axes([0, size - 1 || 1], [low - room, high + room], "component of x");
  const places = Array.from({ length: size }, (_, j) => j);
  chart.ink.globalAlpha = 0.35;
  for (const x of some) chart.line(places, x, "--mark", 1);
  chart.ink.globalAlpha = 1;
  chart.line(places, places.map((j) => some.reduce((s, x) => s + x[j], 0) / some.length), "--ink", 2);
}

/* --- observables --------------------------------------------------------------------------- */

/* Whether an exact expectation is known, and what it is where sliders stand at some places: k
numbers for each. */
const isExact = ({ name, exact }) => Boolean(exact || page.graphs[`exact ${name}`]);

function exactAt(observable, every) {
  const { name, exact, length } = observable;
  if (exact) return every.map((places) => interpolated(exact, length, places));
  const found = graphOf(`exact ${name}`).run({ theta: thetaRows(every.map((places) => theta(places))) });
  return every.map((_, i) => Array.from(found.data.slice(i * length, (i + 1) * length)));
}

/* k numbers between the nodes of a grid, linear along each axis. */
function interpolated({ step, nodes, values }, length, places) {
  let found = [[0, 1]];
  for (const place of places) {
    const low = Math.min(Math.floor(place / step), nodes - 2), t = place / step - low;
    found = found.flatMap(([index, weight]) => [
      [index * nodes + low, weight * (1 - t)], [index * nodes + low + 1, weight * t]]);
  }
  return Array.from({ length }, (_, k) =>
    found.reduce((s, [index, weight]) => s + (weight ? weight * values[index * length + k] : 0), 0));
}

/* Stops of a slider with their θ, for an axis. */
function namedStops(d) {
  return [0.1, 0.5, 0.9].map((part) => {
    const i = Math.round(part * (stops - 1));
    return [i, told(parameters[d].values[i])];
  });
}

const labelOf = ({ letter, unit }) => letter + (unit ? ` [${unit}]` : "");

/* An observable against the slider that was moved last: exact, and where sliders have stood. */
function showAgainst(observable, canvas) {
  const { name, low, high } = observable, d = state.along;
  const chart = new Chart(canvas, 190), every = Array.from({ length: 61 }, (_, i) => (i * (stops - 1)) / 60);
  const curve = isExact(observable) && exactAt(observable, every.map((i) => at.with(d, i))).map(([v]) => v);
  const ends = [Math.min(low, ...(curve || [])), Math.max(high, ...(curve || []))];
  chart.axes([0, stops - 1], ends, labelOf(parameters[d]), namedStops(d));
  if (curve) chart.line(every, curve, "--ink", 1.5);
  for (const stood of state.trail) {
    const beside = at.every((i, e) => e === d || i === stood[e]), found = stood[at.length][name]?.[0];
    if (beside && found) chart.dot(stood[d], found.mean, found.error, "--mark", 0.35);
  }
  const now = momentsOf(name)[0];
  chart.dot(at[d], now.mean, now.error, "--mark");
}

/* How the values of the rows are spread, and their exact mean. */
function showHistogram(observable, canvas) {
  const values = state.values[observable.name].map(([v]) => v), mean = isExact(observable) && exactAt(observable, [at])[0][0];
  const shown = mean === false ? values : values.concat([mean]);
  let { low, high } = observable;
  const [least, greatest] = [Math.min(...shown), Math.max(...shown)], room = (greatest - least) / 10;
  if (room > 0 && greatest - least < (high - low) / 6) [low, high] = [least - room, greatest + room];
  const bins = 24, edges = Array.from({ length: bins + 1 }, (_, i) => low + ((high - low) * i) / bins);
  const counts = new Array(bins).fill(0);
  for (const v of values) {
    const bin = Math.floor(((v - low) / (high - low)) * bins);
    if (bin >= 0 && bin < bins) counts[bin]++;
  }
  const chart = new Chart(canvas, 190);
  chart.axes([low, high], [0, Math.max(...counts) * 1.05], "value; rows in each bin");
  chart.bars(edges, counts, "--mark");
  if (mean !== false) chart.upright(mean, "--ink");
}

/* A curve of k numbers: mean, spread and exact expectation. */
function showCurve(observable, canvas) {
  const { name, length, low, high } = observable;
  const chart = new Chart(canvas, 190), places = Array.from({ length }, (_, k) => k + 1), found = momentsOf(name);
  const exact = isExact(observable) ? exactAt(observable, [at])[0] : [];
  const every = found.flatMap(({ mean, error }) => [mean - error, mean + error]).concat(exact);
  const [least, greatest] = [Math.min(...every), Math.max(...every)], near = greatest - least < (high - low) / 3;
  chart.axes([1, length], near ? [least - 0.05 * (greatest - least), greatest] : [low, high], "number of the component", ticks(1, length).filter(Number.isInteger).map((k) => [k, String(k)]));
  if (exact.length) chart.line(places, exact, "--ink", 1.5);
  places.forEach((k, i) => chart.dot(k, found[i].mean, found[i].error, "--mark"));
}

function showObservables() {
  for (const observable of page.observables) {
    const [first, second] = find(`observable-${observable.name}`).querySelectorAll("canvas");
    if (observable.length > 1) showCurve(observable, first);
    else {
      showAgainst(observable, first);
      showHistogram(observable, second);
    }
  }
}

/* --- p(θ|x) -------------------------------------------------------------------------------- */

const NODES = [49, 25]; // along each of one or two parameters
const FAR = 9; // nats below the greatest, where there is no mass to speak of

/* A number between two stops. */
function between(values, place) {
  const low = Math.min(Math.floor(place), stops - 2);
  return values[low] + (place - low) * (values[low + 1] - values[low]);
}

/* Where sliders stand at some places: the coordinates in which the prior is normal or flat. */
const coordinates = (places) => places.map((i, d) => parameters[d].end * ((2 * i) / (stops - 1) - 1));

/* log density of the prior over coordinates c, but for a constant: −cᵀPc/2. */
function logPrior(places) {
  const c = coordinates(places);
  return -0.5 * page.precision.reduce((s, row, i) => row.reduce((t, p, j) => t + p * c[i] * c[j], s), 0);
}

/* log p(x|θ) + log p(c) of one x at some places of all sliders, a few at a time; null as soon as
it is no longer wanted. */
async function logDensity(x, places, wanted) {
  const found = [];
  for (let batch = 16; found.length < places.length;) {
    const some = places.slice(found.length, found.length + batch), before = performance.now();
    const rows = some.map((place) => place.map((i, d) => between(parameters[d].values, i)));
    const data = new ARRAYS[page.x.kind](rows.length * size);
    rows.forEach((_, row) => data.set(x, row * size));
    const shown = tensor(page.x.kind, [rows.length, ...page.x.shape], data);
    const values = graphOf("log_prob").run({ theta: thetaRows(rows), x: shown }).data;
    some.forEach((place, row) => found.push(values[row] + logPrior(place)));
    if (performance.now() - before < 40) batch *= 2;
    await pause();
    if (!wanted()) return null;
  }
  return found;
}

/* Along some parameters, the others where they stand: nodes and places on their product. */
function onGrid(free, ends) {
  const n = NODES[free.length - 1];
  const nodes = ends.map(([low, high]) => Array.from({ length: n }, (_, i) => low + ((high - low) * i) / (n - 1)));
  return [nodes, free.reduce((found, d, k) => found.flatMap((p) => nodes[k].map((i) => p.with(d, i))), [at])];
}

/* The mass of a density on a grid at each node of one of its axes, by the trapezoidal rule. */
function marginal(values, n, many, axis) {
  const out = new Array(n).fill(0);
  values.forEach((v, index) => {
    const place = Array.from({ length: many }, (_, k) => Math.floor(index / n ** (many - 1 - k)) % n);
    const edges = place.filter((i, k) => k !== axis && (i === 0 || i === n - 1)).length;
    out[place[axis]] += v / 2 ** edges;
  });
  return out;
}

/* Nodes and density along each of some parameters, the others of them integrated over: first on
a grid over all of their sliders, then on one where the mass is. */
async function densities(x, free, wanted = () => true) {
  const n = NODES[free.length - 1];
  let [nodes, places] = onGrid(free, free.map(() => [0, stops - 1])), logs = await logDensity(x, places, wanted);
  if (!logs) return null;
  let top = Math.max(...logs);
  const near = logs.map((v) => (v > top - FAR ? 1 : 0));
  const ends = free.map((_, axis) => {
    const some = marginal(near, n, free.length, axis), inside = [...some.keys()].filter((i) => some[i]);
    return [nodes[axis][Math.max(inside[0] - 1, 0)], nodes[axis][Math.min(inside.at(-1) + 1, n - 1)]];
  });
  [nodes, places] = onGrid(free, ends);
  logs = await logDensity(x, places, wanted);
  if (!logs) return null;
  top = Math.max(...logs);
  return free.map((_, axis) => {
    const values = marginal(logs.map((v) => Math.exp(v - top)), n, free.length, axis);
    const step = nodes[axis][1] - nodes[axis][0];
    const mass = step * values.reduce((s, v, i) => s + (i === 0 || i === n - 1 ? v / 2 : v), 0);
    return [nodes[axis], values.map((v) => v / mass)];
  });
}

/* Density of a parameter: live, and masses that were found beforehand, of the surrogate and exact;
and at which stop the θ lies that x was drawn at, if that is known. */
function showDensity(d, live, masses, exact, place) {
  const heights = (some) => some?.map((m) => (m * some.length) / (stops - 1)) ?? [];
  const edges = (some) => some.map((_, i) => (i * (stops - 1)) / some.length).concat([stops - 1]);
  const middles = (some) => some.map((_, i) => ((i + 0.5) * (stops - 1)) / some.length);
  const top = Math.max(...(live?.[1] ?? []), ...heights(masses), ...heights(exact), 1e-9) * 1.08;
  const chart = new Chart(find(`density-${d}`), 190);
  chart.axes([0, stops - 1], [0, top], labelOf(parameters[d]), namedStops(d));
  if (masses) chart.bars(edges(masses), heights(masses), live ? "--soft" : "--mark", 0.45);
  if (live) chart.line(...live, "--mark");
  if (exact) chart.line(middles(exact), heights(exact), "--ink", 1.5);
  if (place !== undefined) chart.upright(place, "--mark", [2, 3]);
  chart.upright(at[d], "--ink", [4, 4]);
}

/* p(θ|x) of the x that is shown; a later call ends it. */
async function posterior() {
  if (!find("posterior") || !state.edit) return;
  const { x, row, changed } = state.edit, version = ++state.posterior, wanted = () => version === state.posterior;
  showEdit();
  find("computing").textContent = page.log_prob ? "computing …" : "";
  const every = [...parameters.keys()], together = every.length <= NODES.length;
  for (const free of together ? [every] : every.map((d) => [d])) {
    await pause();
    if (!wanted()) return;
    const live = page.log_prob && await densities(x, free, wanted);
    if (live === null) return;
    const { masses, exact, places } = changed || row === null ? {} : page.observed;
    free.forEach((d, k) => showDensity(d, live?.[k], masses?.[row][d], exact?.[row][d], places?.[row][d]));
  }
  find("computing").textContent = "";
}

/* Take a drawn x, or an observed one, as what was seen. */
function choose(x, row = null) {
  state.edit = { x: Float64Array.from(x, (v) => v ?? NaN), row, changed: false, cursor: state.edit?.cursor ?? 0 };
  find("row").textContent = row === null ? "a drawn x" : page.observed.labels[row];
  posterior();
}

function showEdit() {
  const { x, cursor } = state.edit, canvas = find("edit");
  if (isPicture) {
    const across = canvas.clientWidth, chart = new Chart(canvas, (across * height) / width);
    chart.ink.imageSmoothingEnabled = false;
    chart.ink.drawImage(picture(Array.from(flattened(x), shade), height, width), 0, 0, across, chart.height);
    state.plane = [across / width, chart.height / height];
    if (document.activeElement === canvas && height * width === size) {
      chart.ink.strokeStyle = colour("--mark");
      chart.ink.lineWidth = 2;
      chart.ink.strokeRect((cursor % width) * state.plane[0], Math.floor(cursor / width) * state.plane[1], ...state.plane);
    }
    return;
  }
  const { low, high } = page.x, room = 0.1 * (high - low), chart = new Chart(canvas, 240);
  chart.axes([0, size - 1 || 1], [low - room, high + room], "component of x");
  const places = Array.from(x, (_, j) => j);
  chart.line(places, x, "--ink", 1.5);
  places.forEach((j) => chart.dot(j, x[j], 0, document.activeElement === canvas && j === cursor ? "--mark" : "--ink"));
  state.chart = { chart, low: low - room, high: high + room };
}

/* Change a component of x by hand: a spin turns, a number goes where it is put. */
function change(j, value) {
  const { edit } = state, { support, low, high, integer } = page.x;
  edit.cursor = j;
  if (support === "spins") edit.x[j] = -edit.x[j];
  else {
    const kept = support === "nonnegative" ? Math.max(0, value) : Math.min(Math.max(value, 2 * low - high), 2 * high - low);
    edit.x[j] = integer ? Math.round(kept) : kept;
  }
  edit.changed = true;
  find("row").textContent = "changed by hand";
  posterior();
}

function watchEdit() {
  const canvas = find("edit");
  let held = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect(), [px, py] = [event.clientX - box.left, event.clientY - box.top];
    if (isPicture) return [Math.floor(py / state.plane[1]) * width + Math.floor(px / state.plane[0]), null];
    const { chart, low, high } = state.chart, across = (px - chart.left) / (chart.width - chart.left - chart.right);
    const j = Math.min(Math.max(Math.round(across * (size - 1)), 0), size - 1);
    const up = (chart.height - chart.bottom - py) / (chart.height - chart.top - chart.bottom);
    return [j, low + up * (high - low)];
  };
  canvas.addEventListener("pointerdown", (event) => {
    const [j, value] = place(event);
    held = j;
    canvas.setPointerCapture(event.pointerId);
    change(j, value ?? nextValue(j));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (held === null) return;
    const [j, value] = place(event);
    if (!isPicture) change(held, value);
    else if (j !== held && j >= 0 && j < size) change((held = j), nextValue(j));
  });
  canvas.addEventListener("pointerup", () => (held = null));
  for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, showEdit);
  canvas.addEventListener("keydown", (event) => {
    const { edit } = state, { low, high, missing } = page.x, step = (high - low) / 20;
    const now = edit.x[edit.cursor] || 0;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ...(isPicture ? { ArrowUp: -width, ArrowDown: width } : {}) };
    if (event.key in moves) edit.cursor = (edit.cursor + moves[event.key] + size) % size;
    else if (event.key === " " || event.key === "Enter") change(edit.cursor, nextValue(edit.cursor));
    else if (event.key === "ArrowUp" || event.key === "+") change(edit.cursor, now + step);
    else if (event.key === "ArrowDown" || event.key === "-") change(edit.cursor, now - step);
    else if (missing && (event.key === "Delete" || event.key === "Backspace")) change(edit.cursor, NaN);
    else return;
    event.preventDefault();
    showEdit();
  });
}

/* What a touch makes of a number in a picture: the next level, or the other end of the scale. */
function nextValue(j) {
  const { low, high, support } = page.x, v = state.edit.x[j];
  if (support === "levels") return v >= high ? low : v + 1;
  return v > (low + high) / 2 ? low : high;
}

/* --- the page ------------------------------------------------------------------------------ */

function show() {
  if (!state.x.length) return;
  if (isPicture) showPictures();
  else showCurves();
  showObservables();
}

/* Sliders have moved. */
function moved() {
  parameters.forEach((p, d) => {
    const value = told(theta()[d], 4) + (p.unit ? ` ${p.unit}` : "");
    find(`value-${d}`).textContent = value;
    find(`slider-${d}`).setAttribute("aria-valuetext", value);
  });
  draw();
}

function start() {
  parameters.forEach((_, d) => {
    const slider = find(`slider-${d}`);
    slider.value = at[d];
    slider.addEventListener("input", () => {
      at[d] = Number(slider.value);
      state.along = d;
      moved();
    });
  });
  find("noise")?.addEventListener("click", () => {
    state.seed++;
    state.noise = [];
    draw();
  });
  find("clear").addEventListener("click", () => {
    state.trail = [];
    show();
  });
  if (find("posterior")) {
    const pick = find("pick");
    pick?.addEventListener("input", () => choose(page.observed.x[pick.value], Number(pick.value)));
    find("take")?.addEventListener("click", () => choose(state.x[0]));
    find("samples").addEventListener("click", (event) => {
      if (!isPicture || !page.log_prob) return;
      const { columns, cell, tall } = state.cells;
      const i = Math.floor(event.offsetY / tall) * columns + Math.floor(event.offsetX / cell);
      if (state.x[i]) choose(state.x[i]);
    });
    if (find("edit").className) watchEdit();
    if (page.observed) choose(page.observed.x[0], 0);
  }
  let wait;
  window.addEventListener("resize", () => {
    clearTimeout(wait);
    wait = setTimeout(() => (show(), posterior()), 100);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (show(), posterior()));
  draw().then(() => {
    if (find("posterior") && !state.edit) choose(state.x[0]);
    document.body.dataset.ready = String(Math.round(performance.now()));
  });
  moved();
}

async function unpacked() {
  page.graphs = JSON.parse(new TextDecoder().decode(await inflated(page.graphs)));
  page.constants = await constantsOf(page.constants);
}

unpacked().then(start);
