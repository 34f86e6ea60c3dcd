"use strict";
/* Runs a graph of ONNX operators, of those that physgen.nn.onnx_operators writes, in plain numbers.

A tensor has a kind, a shape and its numbers in a row. int64 is kept as float64, which is exact up
to 2^53. Sums are taken in float64 and rounded once to the kind of the result.
https://onnx.ai/onnx/operators/ */

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int64: Float64Array, int32: Int32Array,
  int16: Int16Array, int8: Int8Array, bool: Uint8Array,
};
const product = (sizes) => sizes.reduce((a, b) => a * b, 1);
const tensor = (kind, shape, data) => ({ kind, shape, data });
const empty = (kind, shape) => tensor(kind, shape, new ARRAYS[kind](product(shape)));
const axisOf = (axis, a) => (axis < 0 ? axis + a.shape.length : axis);

/* How far apart neighbours along each axis lie. */
function stridesOf(shape) {
  const strides = new Array(shape.length);
  for (let d = shape.length - 1, step = 1; d >= 0; step *= shape[d--]) strides[d] = step;
  return strides;
}

/* The shape that several broadcast to. */
function broadcast(shapes) {
  const out = new Array(Math.max(...shapes.map((s) => s.length))).fill(1);
  for (const s of shapes)
    s.forEach((n, d) => {
      const e = d + out.length - s.length;
      if (n !== 1) out[e] = n;
    });
  return out;
}

/* Strides of a tensor in a shape that it broadcasts to: 0 where it is repeated. */
function repeatedStrides(a, shape) {
  const own = stridesOf(a.shape), more = shape.length - a.shape.length;
  return shape.map((n, d) => (d < more || a.shape[d - more] === 1 ? 0 : own[d - more]));
}

/* Axes put together along which all of some strides go on as they do within one. */
function merged(shape, strides) {
  const sizes = [], steps = strides.map(() => []);
  for (let d = shape.length - 1; d >= 0; d--) {
    if (shape[d] === 1) continue;
    const last = sizes.length - 1;
    if (last >= 0 && strides.every((s, i) => s[d] === steps[i][last] * sizes[last]))
      sizes[last] *= shape[d];
    else {
      sizes.push(shape[d]);
      strides.forEach((s, i) => steps[i].push(s[d]));
    }
  }
  if (!sizes.length) {
    sizes.push(1);
    steps.forEach((s) => s.push(0));
  }
  return [sizes.reverse(), steps.map((s) => s.reverse())];
}

/* Call visit(start of each stride) for each row along the last axis. */
function eachRow(sizes, steps, starts, visit) {
  const last = sizes.length - 1, at = [...starts], index = new Array(last).fill(0);
  for (;;) {
    visit(at);
    let d = last - 1;
    for (; d >= 0; d--) {
      index[d]++;
      steps.forEach((s, i) => (at[i] += s[d]));
      if (index[d] < sizes[d]) break;
      steps.forEach((s, i) => (at[i] -= s[d] * sizes[d]));
      index[d] = 0;
    }
    if (d < 0) return;
  }
}

/* Loops that apply f to rows of one, two or three tensors. One is made for each f, once, so that a
browser compiles it with that f inside. */
const one = (f) => (o, e, end, [a], [i], [p]) => {
  for (; e < end; e++, i += p) o[e] = f(a[i]);
};
const two = (f) => (o, e, end, [a, b], [i, j], [p, q]) => {
  for (; e < end; e++, i += p, j += q) o[e] = f(a[i], b[j]);
};
const three = (f) => (o, e, end, [a, b, c], [i, j, k], [p, q, r]) => {
  for (; e < end; e++, i += p, j += q, k += r) o[e] = f(a[i], b[j], c[k]);
};

/* What a loop makes of tensors that broadcast. */
function elementwise(kind, loop, ...args) {
  const shape = broadcast(args.map((a) => a.shape)), out = empty(kind, shape);
  if (!out.data.length) return out;
  const [sizes, steps] = merged(shape, args.map((a) => repeatedStrides(a, shape)));
  const inner = sizes[sizes.length - 1], last = steps.map((s) => s[s.length - 1]);
  const given = args.map((a) => a.data);
  let end = 0;
  eachRow(sizes, steps, args.map(() => 0), (at) => {
    loop(out.data, end, end + inner, given, at, last);
    end += inner;
  });
  return out;
}

/* Copy between two strided places of one shape. */
function copy(shape, from, fromStrides, fromStart, to, toStrides, toStart) {
  if (!product(shape)) return;
  const [sizes, steps] = merged(shape, [fromStrides, toStrides]);
  const inner = sizes[sizes.length - 1], [p, q] = steps.map((s) => s[s.length - 1]);
  eachRow(sizes, steps, [fromStart, toStart], ([i, j]) => {
    for (let e = 0; e < inner; e++, i += p, j += q) to[j] = from[i];
  });
}

/* A strided part of a tensor as one of its own. */
function taken(a, shape, strides, start = 0) {
  const out = empty(a.kind, shape);
  copy(shape, a.data, strides, start, out.data, stridesOf(shape), 0);
  return out;
}

function transposed(a, order) {
  const strides = stridesOf(a.shape);
  return taken(a, order.map((d) => a.shape[d]), order.map((d) => strides[d]));
}

/* Axes in order but for some, which come last, and the way back. */
function toTheEnd(a, axes) {
  const order = [...a.shape.keys()].filter((d) => !axes.includes(d)).concat(axes);
  const back = order.map((_, d) => order.indexOf(d));
  return order.every((d, i) => d === i) ? [a, null] : [transposed(a, order), back];
}

/* f(row in, row out) along one axis. */
function along(a, axis, f) {
  const [rows, back] = toTheEnd(a, [axisOf(axis, a)]), out = empty(a.kind, rows.shape);
  const n = rows.shape[rows.shape.length - 1];
  for (let i = 0; i < out.data.length; i += n)
    f(rows.data.subarray(i, i + n), out.data.subarray(i, i + n));
  return back ? transposed(out, back) : out;
}

/* One number f(row) of all along some axes. */
function reduced(a, axes, keep, f, kind = a.kind) {
  axes = axes.map((d) => axisOf(d, a));
  const [rows] = toTheEnd(a, axes), n = product(axes.map((d) => a.shape[d]));
  const kept = a.shape.map((m, d) => (axes.includes(d) ? 1 : m));
  const out = empty(kind, keep ? kept : kept.filter((_, d) => !axes.includes(d)));
  out.data.forEach((_, i) => (out.data[i] = f(rows.data.subarray(i * n, i * n + n))));
  return out;
}

const TURNED = new WeakMap();

/* Columns of a matrix (k, m) from some place on, as rows; of one that stays, once. */
function columnsOf(data, start, k, m) {
  if (start === 0 && data.length === k * m && TURNED.has(data)) return TURNED.get(data);
  const out = new data.constructor(k * m);
  copy([m, k], data, [1, m], start, out, [k, 1], 0);
  if (start === 0 && data.length === k * m) TURNED.set(data, out);
  return out;
}

/* out (n, m) = a (n, k) bᵀ, b (m, k), with strides of out; four of b at once. */
function multiply(a, aStart, b, bStart, n, k, m, out, start, rowStep, columnStep) {
  for (let i = 0; i < n; i++) {
    const first = aStart + i * k, end = first + k;
    let to = start + i * rowStep, q = bStart, j = 0;
    for (; j + 4 <= m; j += 4, q += 3 * k) {
      let s = 0, t = 0, u = 0, v = 0;
      for (let p = first; p < end; p++, q++) {
        const value = a[p];
        s += value * b[q];
        t += value * b[q + k];
        u += value * b[q + 2 * k];
        v += value * b[q + 3 * k];
      }
      for (const sum of [s, t, u, v]) {
        out[to] = sum;
        to += columnStep;
      }
    }
    for (; j < m; j++, to += columnStep) {
      let s = 0;
      for (let p = first; p < end; p++, q++) s += a[p] * b[q];
      out[to] = s;
    }
  }
}

function matmul(a, b) {
  const [n, k] = a.shape.slice(-2), m = b.shape[b.shape.length - 1];
  const heads = [a, b].map((t) => ({ shape: t.shape.slice(0, -2) }));
  const head = broadcast(heads.map((h) => h.shape).concat([[1]]));
  const out = empty(a.kind, [...head, n, m]);
  const steps = heads.map((h) => repeatedStrides(h, head));
  let number = 0;
  eachRow([...head, 1], steps.map((s) => [...s, 0]), [0, 0], ([i, j]) => {
    const columns = columnsOf(b.data, j * k * m, k, m);
    multiply(a.data, i * n * k, columns, 0, n, k, m, out.data, number++ * n * m, m, 1);
  });
  const shape = [...broadcast(heads.map((h) => h.shape).concat([[]])), n, m];
  return tensor(a.kind, shape, out.data);
}

/* Sizes and numbers of a convolution, of three axes whatever it has. */
function geometry(x, w, attributes) {
  const rank = x.shape.length - 2, more = new Array(3 - rank);
  const three = (values, usual) => [...more.fill(usual), ...values];
  const pads = attributes.pads ?? new Array(2 * rank).fill(0);
  return {
    size: three(x.shape.slice(2), 1), kernel: three(w.shape.slice(2), 1),
    stride: three(attributes.strides ?? new Array(rank).fill(1), 1),
    dilation: three(attributes.dilations ?? new Array(rank).fill(1), 1),
    before: three(pads.slice(0, rank), 0), after: three(pads.slice(rank), 0), rank,
  };
}

/* Call visit(place in x, place in out, place in kernel) for all that belong together. */
function eachTap({ kernel, stride, dilation, before }, size, out, visit) {
  for (let o = 0, z = 0; z < out[0]; z++)
    for (let y = 0; y < out[1]; y++)
      for (let x = 0; x < out[2]; x++, o++)
        for (let k = 0, c = 0; c < kernel[0]; c++) {
          const i = z * stride[0] + c * dilation[0] - before[0];
          for (let b = 0; b < kernel[1]; b++) {
            const j = y * stride[1] + b * dilation[1] - before[1];
            for (let a = 0; a < kernel[2]; a++, k++) {
              const l = x * stride[2] + a * dilation[2] - before[2];
              if (i >= 0 && i < size[0] && j >= 0 && j < size[1] && l >= 0 && l < size[2])
                visit((i * size[1] + j) * size[2] + l, o, k);
            }
          }
        }
}

function conv(x, w, bias, attributes) {
  const g = geometry(x, w, attributes), [n, channels] = x.shape, [m, each] = w.shape;
  const groups = attributes.group ?? 1, sites = product(g.size), taps = product(g.kernel);
  const size = g.size.map(
    (s, d) => Math.floor(
      (s + g.before[d] + g.after[d] - g.dilation[d] * (g.kernel[d] - 1) - 1) / g.stride[d]) + 1);
  const places = product(size), width = each * taps, out = empty(x.kind, [n, m, ...size.slice(3 - g.rank)]);
  const from = [], to = [];
  eachTap(g, g.size, size, (i, o, k) => (from.push(i), to.push(o * width + k)));
  const seen = new x.data.constructor(places * width), many = m / groups;
  for (let row = 0; row < n; row++)
    for (let group = 0; group < groups; group++) {
      for (let c = 0; c < each; c++) {
        const start = (row * channels + group * each + c) * sites, shift = c * taps;
        for (let e = 0; e < from.length; e++) seen[to[e] + shift] = x.data[start + from[e]];
      }
      const first = (row * m + group * many) * places;
      multiply(w.data, group * many * width, seen, 0, many, width, places, out.data, first, places, 1);
    }
  return bias ? added(out, bias) : out;
}

function convTranspose(x, w, bias, attributes) {
  const g = geometry(x, w, attributes), [n, channels] = x.shape, each = w.shape[1];
  const groups = attributes.group ?? 1, sites = product(g.size), taps = product(g.kernel);
  const more = [...new Array(3 - g.rank).fill(0), ...(attributes.output_padding ?? new Array(g.rank).fill(0))];
  const size = g.size.map(
    (s, d) => (s - 1) * g.stride[d] + g.dilation[d] * (g.kernel[d] - 1) + 1 + more[d] - g.before[d] - g.after[d]);
  const places = product(size), out = empty(x.kind, [n, each * groups, ...size.slice(3 - g.rank)]);
  const sums = new Float64Array(places), few = channels / groups, pairs = [];
  eachTap(g, size, g.size, (o, i, k) => pairs.push(o, i, k));
  for (let row = 0; row < n; row++)
    for (let m = 0; m < each * groups; m++) {
      const group = Math.floor(m / each);
      sums.fill(0);
      for (let c = group * few; c < (group + 1) * few; c++) {
        const start = (row * channels + c) * sites, weight = (c * each + (m % each)) * taps;
        for (let e = 0; e < pairs.length; e += 3)
          sums[pairs[e]] += x.data[start + pairs[e + 1]] * w.data[weight + pairs[e + 2]];
      }
      out.data.set(sums, (row * each * groups + m) * places);
    }
  return bias ? added(out, bias) : out;
}

const ADD = two((a, b) => a + b);

/* A bias (channels,) added to a field (n, channels, …). */
function added(out, bias) {
  const shape = [bias.data.length, ...new Array(out.shape.length - 2).fill(1)];
  return elementwise(out.kind, ADD, out, tensor(bias.kind, shape, bias.data));
}

/* Numbers along an axis by an index of the same rank: read them, or write values there. */
function byIndex(a, index, axis, values) {
  axis = axisOf(axis, a);
  const strides = stridesOf(a.shape), out = values ? tensor(a.kind, a.shape, a.data.slice()) : empty(a.kind, index.shape);
  const others = strides.map((s, d) => (d === axis ? 0 : s)), own = stridesOf(index.shape);
  eachRow([...index.shape, 1], [[...others, 0], [...own, 0]], [0, 0], ([base, i]) => {
    let k = index.data[i];
    if (k < 0) k += a.shape[axis];
    if (values) out.data[base + k * strides[axis]] = values.data[i];
    else out.data[i] = a.data[base + k * strides[axis]];
  });
  return out;
}

function gather(a, index, axis) {
  axis = axisOf(axis, a);
  const inner = product(a.shape.slice(axis + 1)), n = a.shape[axis], many = index.data.length;
  const out = empty(a.kind, [...a.shape.slice(0, axis), ...index.shape, ...a.shape.slice(axis + 1)]);
  const outer = product(a.shape.slice(0, axis));
  for (let o = 0, end = 0; o < outer; o++)
    for (let i = 0; i < many; i++) {
      const k = index.data[i], start = (o * n + (k < 0 ? k + n : k)) * inner;
      for (let e = 0; e < inner; e++) out.data[end++] = a.data[start + e];
    }
  return out;
}

function slice(a, starts, ends, axes, steps) {
  const shape = [...a.shape], strides = stridesOf(a.shape);
  let first = 0;
  axes.data.forEach((axis, i) => {
    const d = axisOf(axis, a), n = a.shape[d], step = steps ? steps.data[i] : 1;
    const [low, high] = step > 0 ? [0, n] : [-1, n - 1];
    const place = (v) => Math.min(Math.max(v < 0 ? v + n : v, low), high);
    const start = place(starts.data[i]), end = place(ends.data[i]);
    shape[d] = Math.max(0, Math.ceil((end - start) / step));
    first += start * strides[d];
    strides[d] *= step;
  });
  return taken(a, shape, strides, first);
}

function concat(args, axis) {
  axis = axisOf(axis, args[0]);
  const shape = [...args[0].shape];
  shape[axis] = args.reduce((sum, a) => sum + a.shape[axis], 0);
  const out = empty(args[0].kind, shape), strides = stridesOf(shape);
  let start = 0;
  for (const a of args) {
    copy(a.shape, a.data, stridesOf(a.shape), 0, out.data, strides, start);
    start += a.shape[axis] * strides[axis];
  }
  return out;
}

function pad(a, pads, value) {
  const n = a.shape.length, shape = a.shape.map((s, d) => s + pads.data[d] + pads.data[n + d]);
  const out = empty(a.kind, shape), strides = stridesOf(shape);
  out.data.fill(value ? value.data[0] : 0);
  const start = strides.reduce((sum, s, d) => sum + s * pads.data[d], 0);
  copy(a.shape, a.data, stridesOf(a.shape), 0, out.data, strides, start);
  return out;
}

function reshape(a, sizes, { allowzero }) {
  const shape = Array.from(sizes.data, (n, d) => (n === 0 && !allowzero ? a.shape[d] : n)), open = shape.indexOf(-1);
  if (open >= 0) shape[open] = a.data.length / -product(shape);
  return tensor(a.kind, shape, a.data);
}

function tile(a, times) {
  const shape = a.shape.flatMap((n, d) => [times.data[d], n]);
  const strides = stridesOf(a.shape).flatMap((s) => [0, s]);
  return tensor(a.kind, a.shape.map((n, d) => n * times.data[d]), taken(a, shape, strides).data);
}

/* The order of a row, equals as they come. */
function ordered(a, axis, largest) {
  const sign = largest ? -1 : 1;
  const order = along(a, axis, (row, out) => {
    out.set(Array.from(row.keys()).sort((i, j) => sign * (row[i] - row[j]) || i - j));
  });
  return [byIndex(a, order, axis), tensor("int64", order.shape, Float64Array.from(order.data))];
}

const sum = (row) => {
  let s = 0;
  for (const v of row) s += v;
  return s;
};
const largest = (row) => row.reduce((a, b) => (b > a || b !== b ? b : a), -Infinity);
const least = (row) => row.reduce((a, b) => (b < a || b !== b ? b : a), Infinity);
const logSumExp = (row) => {
  const top = largest(row);
  if (!Number.isFinite(top)) return top;
  let s = 0;
  for (const v of row) s += Math.exp(v - top);
  return top + Math.log(s);
};
const sigmoid = (a) => 1 / (1 + Math.exp(-a));
const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
const evenly = (a) => (Math.abs(a % 1) === 0.5 ? 2 * Math.round(a / 2) : Math.round(a));
const ERFC = [
  0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418,
  0.37409196, 1.00002368, -1.26551223,
]; // Press et al. 2007, Numerical Recipes, 6.2.2

function erf(a) {
  const t = 1 / (1 + Math.abs(a) / 2), power = ERFC.reduce((p, c) => p * t + c, 0);
  return Math.sign(a) * (1 - t * Math.exp(power - a * a));
}

function layerNorm(x, scale, bias, { axis = -1, epsilon = 1e-5 }) {
  const n = product(x.shape.slice(axisOf(axis, x)));
  const flat = tensor(x.kind, [x.data.length / n, n], x.data);
  const out = along(flat, 1, (row, to) => {
    const mean = sum(row) / n, width = Math.sqrt(sum(row.map((v) => (v - mean) ** 2)) / n + epsilon);
    for (let i = 0; i < n; i++)
      to[i] = ((row[i] - mean) / width) * scale.data[i] + (bias ? bias.data[i] : 0);
  });
  return tensor(x.kind, x.shape, out.data);
}

const COPY = one((v) => v), TRUNCATE = one(Math.trunc), TRUTH = one((v) => (v !== 0 ? 1 : 0));
const CHOOSE = three((c, a, b) => (c ? a : b));

function cast(a, kind) {
  if (kind === a.kind) return a;
  return elementwise(kind, kind === "bool" ? TRUTH : kind.startsWith("int") ? TRUNCATE : COPY, a);
}

function unary(f) {
  const loop = one(f);
  return (_, a) => elementwise(a.kind, loop, a);
}

function binary(f) {
  const loop = two(f);
  return (_, first, ...rest) => rest.reduce((a, b) => elementwise(a.kind, loop, a, b), first);
}

const test = (loop) => (_, ...args) => elementwise("bool", loop, ...args);
const reduction = (f) => (at, a, axes) => reduced(a, Array.from(axes.data), at.keepdims ?? 1, f);
const placeOf = (best) => (at, a) =>
  reduced(a, [at.axis ?? 0], at.keepdims ?? 1, (row) => row.indexOf(best(row)), "int64");

/* Operator → (attributes, inputs …) → its result, or several. */
const OPERATORS = {
  Abs: unary(Math.abs), Asinh: unary(Math.asinh), Atanh: unary(Math.atanh), Cos: unary(Math.cos),
  Erf: unary(erf), Exp: unary(Math.exp), Floor: unary(Math.floor), Log: unary(Math.log),
  Neg: unary((a) => -a), Reciprocal: unary((a) => 1 / a), Relu: unary((a) => (a < 0 ? 0 : a)),
  Round: unary(evenly), Sigmoid: unary(sigmoid), Sign: unary(Math.sign), Sin: unary(Math.sin),
  Softplus: unary(softplus), Sqrt: unary(Math.sqrt), Tan: unary(Math.tan), Tanh: unary(Math.tanh),
  Not: unary((a) => 1 - a), Identity: (_, a) => a,
  Add: binary((a, b) => a + b), Sub: binary((a, b) => a - b), Mul: binary((a, b) => a * b),
  Div: binary((a, b) => a / b), Pow: binary(Math.pow), Max: binary(Math.max), Min: binary(Math.min),
  Mod: binary((a, b) => a - b * Math.floor(a / b)), And: binary((a, b) => a & b), Or: binary((a, b) => a | b),
  Less: test(two((a, b) => a < b)), LessOrEqual: test(two((a, b) => a <= b)),
  Greater: test(two((a, b) => a > b)), GreaterOrEqual: test(two((a, b) => a >= b)),
  Equal: test(two((a, b) => a === b)), IsNaN: test(one(Number.isNaN)),
  IsInf: test(one((a) => Math.abs(a) === Infinity)),
  Where: (_, condition, a, b) => elementwise(a.kind, CHOOSE, condition, a, b),
  Cast: (at, a) => cast(a, at.to),
  Shape: (at, a) => {
    const sizes = a.shape.slice(at.start ?? 0, at.end ?? a.shape.length);
    return tensor("int64", [sizes.length], Float64Array.from(sizes));
  },
  Range: (_, start, end, step) => {
    const n = Math.max(0, Math.ceil((end.data[0] - start.data[0]) / step.data[0]));
    return tensor(start.kind, [n], new start.data.constructor(n).map((_, i) => start.data[0] + i * step.data[0]));
  },
  Reshape: (at, a, sizes) => reshape(a, sizes, at),
  Squeeze: (_, a) => tensor(a.kind, a.shape.filter((n) => n !== 1), a.data),
  Expand: (_, a, sizes) => {
    const shape = broadcast([a.shape, Array.from(sizes.data)]);
    return taken(a, shape, repeatedStrides(a, shape));
  },
  Tile: (_, a, times) => tile(a, times),
  Transpose: (at, a) => transposed(a, at.perm),
  Slice: (_, ...args) => slice(...args),
  Concat: (at, ...args) => concat(args, at.axis),
  Pad: (_, ...args) => pad(...args),
  Gather: (at, a, index) => gather(a, index, at.axis ?? 0),
  GatherElements: (at, a, index) => byIndex(a, index, at.axis ?? 0),
  ScatterElements: (at, a, index, values) => byIndex(a, index, at.axis ?? 0, values),
  ReduceSum: reduction(sum), ReduceMax: reduction(largest), ReduceMin: reduction(least),
  ReduceMean: reduction((row) => sum(row) / row.length), ReduceLogSumExp: reduction(logSumExp),
  ReduceProd: reduction((row) => row.reduce((a, b) => a * b, 1)),
  ArgMin: placeOf(least), ArgMax: placeOf(largest),
  TopK: (at, a) => ordered(a, at.axis ?? -1, at.largest ?? 1),
  CumSum: (_, a, axis) => along(a, axis.data[0], (row, out) => {
    let s = 0;
    for (let i = 0; i < row.length; i++) out[i] = s += row[i];
  }),
  Softmax: (at, a) => along(a, at.axis ?? -1, (row, out) => {
    const z = logSumExp(row);
    for (let i = 0; i < row.length; i++) out[i] = Math.exp(row[i] - z);
  }),
  LogSoftmax: (at, a) => along(a, at.axis ?? -1, (row, out) => {
    const z = logSumExp(row);
    for (let i = 0; i < row.length; i++) out[i] = row[i] - z;
  }),
  MatMul: (_, a, b) => matmul(a, b),
  Gemm: (_, a, b, c) => {
    const out = matmul(a, b);
    return c ? elementwise(out.kind, ADD, out, c) : out;
  },
  Conv: (at, x, w, bias) => conv(x, w, bias, at),
  ConvTranspose: (at, x, w, bias) => convTranspose(x, w, bias, at),
  LayerNormalization: (at, x, scale, bias) => layerNorm(x, scale, bias, at),
};

/* Text that is compressed, as bytes. */
async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/* The numbers of all constants as physgen.nn.onnx_data tells them, kind → a row of them. */
async function constantsOf({ chunks, bytes }) {
  const told = await inflated(bytes), found = {};
  let at = 0;
  const parts = chunks.map(([kind, count, step]) => {
    const array = new (step ? Int16Array : ARRAYS[kind])(count), width = array.BYTES_PER_ELEMENT;
    const raw = new Uint8Array(array.buffer);
    for (let b = 0; b < width; b++) for (let i = 0; i < count; i++) raw[i * width + b] = told[at++];
    return [kind, step ? Float32Array.from(array, (v) => step * v) : array];
  });
  for (const kind of new Set(parts.map(([k]) => k))) {
    const some = parts.filter(([k]) => k === kind).map(([, array]) => array);
    found[kind] = new ARRAYS[kind](some.reduce((n, array) => n + array.length, 0));
    some.reduce((n, array) => (found[kind].set(array, n), n + array.length), 0);
  }
  return found;
}

/* A graph as physgen.nn.onnx_data writes it, and the numbers of all constants. */
class Graph {
  constructor({ nodes, constants, output }, numbers) {
    this.output = output;
    this.constants = new Map();
    for (const [name, [kind, shape, start]] of Object.entries(constants))
      this.constants.set(name, tensor(kind, shape, numbers[kind].slice(start, start + product(shape))));
    this.nodes = [];
    for (const node of nodes)
      if (node[1].every((name) => this.constants.has(name))) apply(node, this.constants);
      else this.nodes.push(node);
    this.last = new Map(this.nodes.flatMap(([, inputs], i) => inputs.map((name) => [name, i])));
  }

  /* The result for inputs by their names, tensors of as many rows each. */
  run(inputs) {
    const values = new Map([...this.constants, ...Object.entries(inputs)]);
    this.nodes.forEach((node, i) => {
      apply(node, values);
      for (const name of node[1]) if (this.last.get(name) === i) values.delete(name);
    });
    return values.get(this.output);
  }
}

function apply([kind, inputs, outputs, attributes], values) {
  const found = OPERATORS[kind](attributes, ...inputs.map((name) => values.get(name)));
  [found].flat().forEach((value, i) => values.set(outputs[i], value));
}
