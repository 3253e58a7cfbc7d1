"use strict";
/* The charts: the paths on the contour, with the start that can be dragged, and the values against the steps. */

const holder = element("map");
const MARGINS = { marginTop: 8, marginRight: 12, marginBottom: 42, marginLeft: 52 };
let size = {};

function measure() {
  const width = Math.max(240, holder.clientWidth);
  const inner = width - MARGINS.marginLeft - MARGINS.marginRight;
  const spans = [page.ground.x, page.ground.y].map(([low, high]) => high - low);
  const ratio = spans[1] / spans[0];
  const tall = inner * (ratio >= 0.5 && ratio <= 2 ? Math.min(ratio, 1.15) : 1);
  document.querySelector("main").classList.toggle("short", tall < 0.75 * inner);
  size = { width, height: tall + MARGINS.marginTop + MARGINS.marginBottom, ...MARGINS };
}

const LABELS = { labelArrow: "none", labelAnchor: "center" };
const plane = (axes) => ({
  ...size,
  style: { background: "transparent", fontSize: "12px" },
  x: { domain: page.ground.x, label: across, ticks: 6, ...LABELS, axis: axes && "bottom" },
  y: { domain: page.ground.y, label: up, ticks: 6, ...LABELS, axis: axes && "left" },
});
const colours = () => ({
  type: "threshold",
  domain: page.ground.levels.slice(1, -1),
  range: page.ground.shades[theme()],
});
const layers = { ground: null, paths: null, handle: d3.create("svg").attr("class", "reach").node() };

function drawGround() {
  const [rows, columns] = page.ground.values.shape;
  const cell = (ends, count) => (ends[1] - ends[0]) / (count - 1) / 2;
  const [dx, dy] = [cell(page.ground.x, columns), cell(page.ground.y, rows)];
  layers.ground = Plot.plot({
    ...plane(true),
    color: colours(),
    marks: [
      Plot.contour(page.ground.values.numbers, {
        width: columns,
        height: rows,
        x1: page.ground.x[0] - dx,
        x2: page.ground.x[1] + dx,
        y1: page.ground.y[0] - dy,
        y2: page.ground.y[1] + dy,
        thresholds: page.ground.levels.slice(0, -1),
        fill: Plot.identity,
        stroke: theme() === "dark" ? "#8ea2b1" : "#33485a",
        strokeWidth: 0.5,
        strokeOpacity: 0.55,
        clip: "frame",
      }),
      Plot.frame({ stroke: "var(--edge)" }),
    ],
  });
  const wide = Math.min(size.width - MARGINS.marginLeft, 560);
  const skip = Math.ceil((page.ground.texts.length * d3.max(page.ground.texts, (text) => 7 * text.length + 6)) / wide);
  element("scale").replaceChildren(
    Plot.legend({
      color: colours(),
      label: height,
      width: wide + 16,
      marginLeft: MARGINS.marginLeft,
      tickFormat: (_, i) => (i % skip ? "" : page.ground.texts[i + 1]),
    }),
  );
}

/** The marks of one path up to the step, and after it, faintly. */
function trail(one, channels) {
  const style = {
    ...channels,
    stroke: one.colours[theme()],
    strokeDasharray: one.dash,
    clip: "frame",
    strokeLinejoin: "round",
  };
  const upto = Plot.line(d3.range(state.step + 1), { ...style, strokeWidth: 2.2 });
  const beyond = Plot.line(d3.range(state.step, last + 1), { ...style, strokeWidth: 1, strokeOpacity: 0.35 });
  return state.step < last ? [beyond, upto] : [upto];
}

/** The mark of an optimizer's paths from all starts up to a step. */
function bundle(one) {
  const paths = page.starts.map((_, start) => path(one, start));
  const points = d3.cross(paths.keys(), d3.range(state.step + 1));
  const [x, y] = ["x", "y"].map(
    (axis) =>
      ([start, step]) =>
        paths[start][axis](step),
  );
  return Plot.line(points, {
    x,
    y,
    z: "0",
    stroke: one.colours[theme()],
    strokeDasharray: one.dash,
    strokeOpacity: 0.55,
    strokeWidth: 1,
    clip: "frame",
  });
}

function drawPaths() {
  const chosen = page.series.filter((_, i) => state.shown.has(i));
  const marks = [
    Plot.dot(page.starts, {
      x: (p) => p[0],
      y: (p) => p[1],
      r: 2.2,
      fill: "var(--ink)",
      fillOpacity: 0.5,
      clip: "frame",
    }),
  ];
  for (const one of state.every ? chosen : []) marks.push(bundle(one));
  const points = [];
  for (const one of chosen) {
    const { x, y, value } = path(one, state.start);
    marks.push(...trail(one, { x, y }));
    marks.push(
      Plot.dot([state.step], {
        x,
        y,
        r: 4.5,
        fill: one.colours[theme()],
        stroke: "var(--page)",
        strokeWidth: 1.2,
        clip: "frame",
        className: "end",
      }),
    );
    for (let i = 0; i <= state.step; i++) {
      const at = [x(i), y(i)];
      if (at.every(Number.isFinite))
        points.push({
          x: at[0],
          y: at[1],
          title: `${one.name}, step ${page.steps[i]}\n${where(at)}\n${height} ${exact(value(i))}`,
        });
    }
  }
  marks.push(
    Plot.dot(page.minimizers, {
      x: (p) => p[0],
      y: (p) => p[1],
      r: 7,
      symbol: "star",
      fill: "#ffd500",
      stroke: "#000",
      strokeWidth: 0.8,
      clip: "frame",
    }),
  );
  const [left, right] = page.ground.x;
  const [low, high] = page.ground.y;
  const inside = points.filter(({ x, y }) => x >= left && x <= right && y >= low && y <= high);
  if (!state.playing && inside.length < 20000) marks.push(tip(inside));
  layers.paths = Plot.plot({ ...plane(null), marks });
}

const tip = (points) =>
  Plot.tip(
    points,
    Plot.pointer({ x: "x", y: "y", title: "title", maxRadius: 24, lineHeight: 1.3, fill: "var(--raised)" }),
  );

/* ---- The start, which can be dragged; the slider does the same for the keyboard ---- */

function nearest([x, y]) {
  const [sx, sy] = ["x", "y"].map((axis) => layers.ground.scale(axis));
  return d3.minIndex(page.starts, (p) => Math.hypot(sx.apply(p[0]) - x, sy.apply(p[1]) - y));
}

function drawHandle() {
  const [x, y] = ["x", "y"].map((axis, i) => layers.ground.scale(axis).apply(page.starts[state.start][i]));
  const svg = d3.select(layers.handle).attr("width", size.width).attr("height", size.height);
  const choose = (point) => set({ start: nearest(point) });
  svg
    .selectAll("g")
    .data([0])
    .join((enter) => {
      const made = enter.append("g").attr("class", "handle");
      made.append("title").text("Drag to another start");
      made.append("circle").attr("r", 20).attr("fill", "transparent");
      made.append("circle").attr("r", 7).attr("fill", "#fff").attr("stroke", "#000").attr("stroke-width", 1.6);
      return made.call(
        d3
          .drag()
          .container(layers.handle)
          .on("drag", (event) => choose([event.x, event.y])),
      );
    })
    .attr("transform", `translate(${x},${y})`);
}

holder.addEventListener("click", (event) => {
  const at = d3.pointer(event, layers.handle);
  const found = nearest(at);
  const [x, y] = ["x", "y"].map((axis, i) => layers.ground.scale(axis).apply(page.starts[found][i]));
  if (Math.hypot(x - at[0], y - at[1]) < 14) set({ start: found });
});

/* ---- Values against steps ---- */

function drawCurves() {
  const box = element("curves");
  const { floor, name, range } = page.heights;
  const [low, high] = range.map((end) => Math.round(Math.log10(end)));
  const decades = d3.range(low, high + 1, Math.ceil((high - low) / 6)).map((power) => Number(`1e${power}`));
  const chosen = page.series.filter((_, i) => state.shown.has(i));
  const marks = [
    Plot.frame({ stroke: "var(--edge)" }),
    Plot.ruleX([page.steps[state.step]], { stroke: "var(--soft)", strokeDasharray: "2 3" }),
  ];
  const points = [];
  for (const one of chosen) {
    const { value } = path(one, state.start);
    const y = (i) => Math.max(value(i) - floor, range[0]); // rounding can lead below the minimum
    marks.push(...trail(one, { x: (i) => page.steps[i], y }));
    for (let i = 0; i <= last; i++) {
      points.push({
        x: page.steps[i],
        y: y(i),
        title: `${one.name}, step ${page.steps[i]}\n${height} ${exact(value(i))}`,
      });
    }
  }
  if (!state.playing) marks.push(tip(points.filter(({ y }) => Number.isFinite(y))));
  box.replaceChildren(
    Plot.plot({
      width: Math.max(240, box.clientWidth),
      height: 270,
      marginLeft: 60,
      marginBottom: 42,
      marginRight: 12,
      x: { domain: [page.steps[0], page.steps[last]], label: "step", ticks: 6, ...LABELS },
      y: {
        type: "log",
        domain: range,
        label: `${height} ${name}`,
        grid: true,
        ticks: decades,
        tickFormat: decade,
        labelArrow: "none",
        clamp: true,
      },
      style: { background: "transparent", fontSize: "12px" },
      marks,
    }),
  );
}
