"use strict";
/* The table and the controls. Every change of the state draws all again, at most once per frame of the screen. */

/* ---- The table, and what a screen reader says ---- */

function drawTable() {
  const rows = page.series.flatMap((one, i) => {
    if (!state.shown.has(i)) return [];
    const { x, y, value } = path(one, state.start);
    return [[one.name, words(one), exact(value(state.step)), where([x(state.step), y(state.step)]), ending(one)]];
  });
  const made = rows.map((texts) => {
    const row = document.createElement("tr");
    texts.forEach((text, i) => {
      const cell = document.createElement(i ? "td" : "th");
      if (!i) cell.scope = "row";
      if (i === 2 || i === 3) cell.className = "number";
      cell.textContent = text;
      row.append(cell);
    });
    return row;
  });
  element("rows").replaceChildren(...made);
  const now = `step ${page.steps[state.step]}, start ${number(state.start)} at ${where(page.starts[state.start])}`;
  const values = rows.map(([name, , value]) => `${name} ${value}`).join("; ");
  holder.setAttribute(
    "aria-label",
    `Paths of ${rows.map((row) => row[0]).join(", ") || "no optimizer"} on the contour, ${now}`,
  );
  element("curves").setAttribute("aria-label", `${height} against steps, ${now}: ${values}`);
  clearTimeout(drawTable.timer);
  if (!state.playing) drawTable.timer = setTimeout(() => (element("said").textContent = `${now}: ${values}`), 700);
}

/* ---- Controls ---- */

function slider(name, count, value, change) {
  const row = document.createElement("div");
  row.className = "row";
  const input = document.createElement("input");
  Object.assign(input, { type: "range", min: 0, max: count - 1, step: 1, value, id: `slider-${slider.count++}` });
  input.dataset.axis = name;
  const label = Object.assign(document.createElement("label"), { htmlFor: input.id, textContent: name });
  const output = document.createElement("output");
  output.htmlFor = input.id;
  input.addEventListener("input", () => change(Number(input.value)));
  row.append(label, output, input);
  element("sliders").append(row);
  return { input, output };
}
slider.count = 0;

const sliders = page.axes.map((axis, i) =>
  slider(axis.name, axis.count, axis.at, (value) => {
    set({ at: state.at.map((old, k) => (k === i ? value : old)) });
  }),
);
const starter = slider("start", page.starts.length, page.start, (start) => set({ start }));
const stepper = { input: element("step"), output: element("step-text") };
stepper.input.max = last;
stepper.input.addEventListener("input", () => set({ step: Number(stepper.input.value), playing: false }));
element("every").addEventListener("input", (event) => set({ every: event.target.checked }));
element("play").addEventListener("click", () => (state.playing ? set({ playing: false }) : play()));

page.series.forEach((one, i) => {
  const label = document.createElement("label");
  label.className = "check";
  const input = Object.assign(document.createElement("input"), { type: "checkbox", checked: state.shown.has(i) });
  input.addEventListener("input", () => {
    state.shown[input.checked ? "add" : "delete"](i);
    set({});
  });
  const swatch = d3.create("svg").attr("class", "swatch").attr("aria-hidden", "true").attr("viewBox", "0 0 26 10");
  swatch
    .append("line")
    .attr("x2", 26)
    .attr("y1", 5)
    .attr("y2", 5)
    .attr("stroke-width", 3)
    .attr("stroke-dasharray", one.dash);
  one.swatch = swatch.node();
  label.append(input, one.swatch, document.createTextNode(one.name));
  element("optimizers").append(label);
});

function show({ input, output }, value, text) {
  input.value = value;
  output.textContent = text;
  input.setAttribute("aria-valuetext", text);
}

/** What stands beside a slider: the value there, or its place where the optimizers have different ones. */
function position(axis, at) {
  const own = page.series.flatMap((one, i) => one.axes.filter((each) => each.name === axis.name && state.shown.has(i)));
  const texts = new Set(own.map((each) => each.labels[at]));
  return texts.size === 1 ? [...texts][0] : texts.size ? `${at + 1} of ${axis.count}` : "not used";
}

function drawControls() {
  sliders.forEach((one, i) => {
    const text = position(page.axes[i], state.at[i]);
    show(one, state.at[i], text);
    one.input.disabled = text === "not used";
  });
  show(starter, state.start, `${number(state.start)}, ${where(page.starts[state.start])}`);
  show(stepper, state.step, `${page.steps[state.step]} of ${page.steps[last]}`);
  element("play").textContent = state.playing ? "Pause" : "Play";
  for (const one of page.series) one.swatch.firstChild.setAttribute("stroke", one.colours[theme()]);
}

/* ---- Drawing ---- */

let waiting = false;
let stale = true; // whether the ground must be drawn again

function set(changes) {
  Object.assign(state, changes);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

function draw() {
  if (stale) {
    measure();
    drawGround();
    stale = false;
  }
  drawPaths();
  drawHandle();
  holder.replaceChildren(layers.ground, layers.paths, layers.handle);
  drawCurves();
  drawControls();
  drawTable();
}

const SECONDS = 6;

/** Let the step run to the last one; from there it begins again. */
function play() {
  const from = state.step >= last ? 0 : state.step;
  let began = null;
  set({ playing: true, step: from });
  requestAnimationFrame(function advance(now) {
    if (!state.playing) return;
    began ??= now;
    const step = Math.min(last, from + Math.floor(((now - began) / 1000 / SECONDS) * last));
    set({ step, playing: step < last });
    if (step < last) requestAnimationFrame(advance);
  });
}

function redraw() {
  stale = true;
  set({});
}

/* ---- The beginning ---- */

async function begin() {
  page.ground.values = await unpack(page.ground.values);
  for (const one of page.series) {
    for (const part of ["paths", "ends", "outcomes"]) one[part] = await unpack(one[part]);
  }
  themed(redraw);
  new ResizeObserver(() => {
    if (holder.clientWidth !== size.width) redraw();
  }).observe(holder);

  const settings = d3.max(page.series, (one) => one.paths.shape[1]);
  const many = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  element("summary").textContent =
    `${many(page.series.length, "optimizer")} with up to ${many(settings, "setting")} from ` +
    `${many(page.starts.length, "start")}. Move the sliders, or drag the white circle to another start.`;
  element("notes").replaceChildren(
    ...page.notes.map((text) => Object.assign(document.createElement("p"), { textContent: text })),
  );
  redraw();
  document.documentElement.dataset.ready = "yes";
}

begin();
