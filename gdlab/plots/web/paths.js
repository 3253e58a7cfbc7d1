"use strict";
/* The data of the page, what is chosen of it, and how numbers are written. The state is the chosen optimizers, the
   positions on the swept axes, the start and the step. */

const page = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const NUMBERS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };
const last = page.steps.length - 1;
const [across, up, height] = page.labels;

/** Numbers are stored as the first bytes of all, then the second ones, compressed. */
async function unpack({ kind, shape, data }) {
  const coded = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([coded]).stream().pipeThrough(new DecompressionStream("gzip"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = NUMBERS[kind].BYTES_PER_ELEMENT;
  const count = planes.length / size;
  const bytes = new Uint8Array(planes.length);
  for (let k = 0; k < size; k++) for (let i = 0; i < count; i++) bytes[size * i + k] = planes[k * count + i];
  return { shape, numbers: new NUMBERS[kind](bytes.buffer) };
}

const state = {
  shown: new Set(d3.range(Math.min(page.series.length, 4))), // more would hide one another at first
  at: page.axes.map((axis) => axis.at),
  start: page.start,
  step: last,
  every: false,
  playing: false,
};

/* ---- What is chosen ---- */

const isDark = () =>
  getComputedStyle(document.documentElement).colorScheme === "dark" ||
  (document.documentElement.dataset.theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
const theme = () => (isDark() ? "dark" : "light");
const exact = (value) => {
  if (!Number.isFinite(value)) return "not finite";
  const small = value !== 0 && Math.abs(value) < 1e-3;
  return d3
    .format(small ? ".3~e" : ".4~g")(value)
    .replaceAll("−", "-");
};
const place = (name) => page.axes.findIndex((axis) => axis.name === name);
const decade = (value) =>
  value >= 0.01 && value < 1e5 ? value.toLocaleString("en") : value.toExponential().replace("+", "");
const number = (start) => `${start + 1} of ${page.starts.length}`;
const far = (point) =>
  point.some((at, axis) => {
    const [low, high] = axis ? page.ground.y : page.ground.x;
    return Math.abs(at - (low + high) / 2) > 0.999 * page.far * (high - low);
  });
function where(point) {
  if (far(point)) return "far away";
  return point.every(Number.isFinite) ? `(${point.map(exact).join(", ")})` : "not finite";
}

/** The number of an optimizer's chosen setting; its last axis varies fastest. */
const setting = (one) => one.axes.reduce((index, axis) => index * axis.labels.length + state.at[place(axis.name)], 0);
const words = (one) => one.axes.map((axis) => `${axis.name} ${axis.labels[state.at[place(axis.name)]]}`).join(", ");

/** Where the path of an optimizer lies in its numbers, from one start. */
function path(one, start) {
  const [, settings, starts, steps] = one.paths.shape;
  const begin = (setting(one) * starts + start) * steps;
  const plane = settings * starts * steps;
  const from = (k) => (step) => one.paths.numbers[k * plane + begin + step];
  return { x: from(0), y: from(1), value: from(2) };
}

function ending(one) {
  const lane = setting(one) * page.starts.length + state.start;
  const outcome = one.outcomes.numbers[lane];
  return page.outcomes[outcome] + (outcome ? ` ${one.ends.numbers[lane]}` : "");
}
