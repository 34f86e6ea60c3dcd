"use strict";
/* Axes, lines, dots, bars and pictures on a canvas, in the colours of the page. */

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* A number with three digits that tell. */
function told(value, digits = 3) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5)
    ? value.toExponential(digits - 1).replace(/e([+-])(\d+)/, (_, s, n) => `·10${s === "-" ? "⁻" : ""}${[...n].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]).join("")}`)
    : String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}

/* Round numbers between two ends. */
function ticks(low, high, many = 4) {
  const rough = (high - low) / many, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step)
    found.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return found;
}

/* A canvas of the size that the page gives it, with room for numbers along two axes. */
class Chart {
  constructor(canvas, height) {
    const width = canvas.clientWidth || 300, scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = `${height}px`;
    this.ink = canvas.getContext("2d");
    this.ink.scale(scale, scale);
    this.ink.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    Object.assign(this, { width, height, left: 46, right: 10, top: 8, bottom: 36 });
  }

  /* Ends of both axes, and what stands below the first. */
  axes([x0, x1], [y0, y1], label, named = ticks(x0, x1).map((v) => [v, told(v)])) {
    const { ink, width, height, left, right, top, bottom } = this;
    this.x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
    this.y = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - top - bottom);
    ink.strokeStyle = colour("--rule");
    ink.fillStyle = colour("--soft");
    ink.lineWidth = 1;
    ink.textAlign = "right";
    ink.textBaseline = "middle";
    for (const v of ticks(y0, y1)) {
      this.segment(left, this.y(v), width - right, this.y(v));
      ink.fillText(told(v), left - 6, this.y(v));
    }
    ink.textBaseline = "alphabetic";
    for (const [v, text] of named) {
      const half = ink.measureText(text).width / 2;
      ink.textAlign = "center";
      ink.fillText(text, Math.min(Math.max(this.x(v), half), width - half), height - bottom + 15);
    }
    ink.textAlign = "center";
    ink.fillText(label, (left + width - right) / 2, height - 5);
  }

  segment(x0, y0, x1, y1) {
    this.ink.beginPath();
    this.ink.moveTo(x0, y0);
    this.ink.lineTo(x1, y1);
    this.ink.stroke();
  }

  line(xs, ys, name, width = 2, dash = []) {
    const { ink } = this;
    ink.strokeStyle = colour(name);
    ink.lineWidth = width;
    ink.setLineDash(dash);
    ink.beginPath();
    xs.forEach((x, i) => ink[Number.isFinite(ys[i - 1]) ? "lineTo" : "moveTo"](this.x(x), this.y(ys[i])));
    ink.stroke();
    ink.setLineDash([]);
  }

  /* A line at one x, from the lower axis to the upper end. */
  upright(x, name, dash = []) {
    this.ink.strokeStyle = colour(name);
    this.ink.lineWidth = 2;
    this.ink.setLineDash(dash);
    this.segment(this.x(x), this.top, this.x(x), this.height - this.bottom);
    this.ink.setLineDash([]);
  }

  /* A mean and its standard error. */
  dot(x, y, error, name, alpha = 1) {
    const { ink } = this;
    ink.globalAlpha = alpha;
    ink.strokeStyle = ink.fillStyle = colour(name);
    ink.lineWidth = 1.5;
    this.segment(this.x(x), this.y(y - error), this.x(x), this.y(y + error));
    ink.beginPath();
    ink.arc(this.x(x), this.y(y), 4, 0, 2 * Math.PI);
    ink.fill();
    ink.globalAlpha = 1;
  }

  /* Bars from edges (n + 1) and heights (n). */
  bars(edges, heights, name, alpha = 0.75) {
    const { ink } = this;
    ink.globalAlpha = alpha;
    ink.fillStyle = colour(name);
    heights.forEach((h, i) => {
      const x = this.x(edges[i]), width = this.x(edges[i + 1]) - x, gap = width > 4 ? 1 : 0;
      ink.fillRect(x, this.y(h), width - gap, this.y(0) - this.y(h));
    });
    ink.globalAlpha = 1;
  }
}

const LIGHT = [244, 239, 228], DARK = [36, 54, 75], NOTHING = [128, 128, 128];

/* A picture of numbers between 0 and 1, as many pixels. */
function picture(values, rows, columns) {
  const image = new ImageData(columns, rows);
  values.forEach((v, i) => {
    const [r, g, b] = Number.isFinite(v) ? LIGHT.map((c, j) => c + (DARK[j] - c) * v) : NOTHING;
    image.data.set([r, g, b, 255], 4 * i);
  });
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
