"use strict";
/* What is chosen of the data, and how it is named. The state is the chosen optimizers, the positions on the swept axes,
   the start and the step. */

const last = page.steps.length - 1;
const [across, up, height] = page.labels;

const state = {
  shown: new Set(d3.range(Math.min(page.series.length, 4))), // more would hide one another at first
  at: page.axes.map((axis) => axis.at),
  start: page.start,
  step: last,
  every: false,
  playing: false,
};

/* ---- What is chosen ---- */

const place = (name) => page.axes.findIndex((axis) => axis.name === name);
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
