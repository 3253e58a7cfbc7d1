"use strict";
/* Scores over hyperparameters, a dot for each run on a canvas, so that a hundred thousand stay smooth. A click, or the
   arrow keys, choose one, of which the setting and the code that repeats it are shown. */

function drawDots(piece) {
  const state = { axis: 0, chosen: null };
  const column = (name) => piece.columns.find((one) => one.name === name);
  const score = column(piece.score);
  const count = listOf(score.numbers).length;
  const groups = piece.group ? column(piece.group) : null;
  const kinds = groups?.texts ?? [""];
  const groupOf = (row) => (groups ? listOf(groups.codes)[row] : 0);
  const scores = Float64Array.from({ length: count }, (_, row) => numberOf(score, row));
  const finite = scores.filter(Number.isFinite);
  const span = finite.length ? d3.extent(finite) : [0, 1];
  const log = isWide(span);
  const worst = piece.better === "lower" ? "top" : "bottom";
  const places = { x: new Float64Array(count), y: new Float64Array(count) };
  const order = d3.range(count).sort((a, b) => compare(a) - compare(b) || a - b);
  const details = make("div", { className: "details" });
  const canvas = make("canvas", { tabIndex: 0 });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", `${piece.title}: ${count} runs; the arrow keys choose the next better or worse one`);
  const cross = make("div", { className: "cross", hidden: true });
  const drawing = figure(piece, draw);
  let size = [0, 0];

  function compare(row) {
    const value = piece.better === "lower" ? scores[row] : -scores[row];
    return Number.isFinite(value) ? value : Number.MAX_VALUE;
  }

  function draw(width) {
    const axis = piece.axes[state.axis];
    const height = Math.min(420, Math.max(280, 0.5 * width));
    const values = column(axis.column);
    const known = Float64Array.from({ length: count }, (_, row) => numberOf(values, row));
    const ends = d3.extent(known.filter(Number.isFinite));
    const lines = medians(known);
    const svg = plot(`${piece.title}: ${piece.score} against ${axis.column}, ${count} runs`, {
      width,
      height,
      marginLeft: 62,
      x: {
        type: axis.logarithmic ? "log" : "linear",
        domain: padded(ends, axis.logarithmic),
        label: axis.column,
        labelArrow: "none",
        labelAnchor: "center",
        ticks: Math.min(8, width / 80),
        tickFormat: axis.logarithmic ? decade : undefined,
      },
      y: {
        type: log ? "log" : "linear",
        domain: padded(span, log),
        label: piece.score,
        labelArrow: "none",
        grid: true,
        ticks: 6,
        tickFormat: log ? decade : undefined,
      },
      marks: [
        Plot.frame({ stroke: "var(--edge)" }),
        ...lines.map(({ points, group }) =>
          Plot.line(points, { x: "x", y: "y", stroke: colour(group), strokeWidth: 2, strokeDasharray: dash(group), clip: true }),
        ),
      ],
    });
    svg.classList.add("main");
    size = [width, height];
    scatter(known, svg.scale("x"), svg.scale("y"), width, height);
    mark();
    return [make("div", { className: "layers" }, svg, canvas, cross)];
  }

  /** The median of each group at each value, or in bins of equally many where there are many values. */
  function medians(known) {
    return kinds.flatMap((_, group) => {
      const rows = d3.range(count).filter((row) => groupOf(row) === group && Number.isFinite(known[row]));
      let parts = [...d3.group(rows, (row) => known[row]).values()];
      if (parts.length > Math.min(60, rows.length / 2)) {
        rows.sort((a, b) => known[a] - known[b]);
        const bins = Math.min(24, Math.max(2, Math.floor(rows.length / 4)));
        parts = d3.range(bins).map((k) => rows.slice(Math.floor((k * rows.length) / bins), Math.floor(((k + 1) * rows.length) / bins)));
      }
      const lost = worst === "top" ? Infinity : -Infinity;
      const points = parts.map((part) => ({
        x: d3.median(part, (row) => known[row]),
        y: d3.median(part, (row) => (Number.isFinite(scores[row]) ? scores[row] : lost)),
      }));
      points.forEach((point) => (point.y = Number.isFinite(point.y) ? point.y : NaN));
      return [{ group, points: points.sort((a, b) => a.x - b.x) }];
    });
  }

  function scatter(known, x, y, width, height) {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const paint = canvas.getContext("2d");
    paint.scale(ratio, ratio);
    paint.globalAlpha = Math.max(0.12, Math.min(0.8, 400 / count));
    const edge = worst === "top" ? y.range[1] + 3 : y.range[0] - 3;
    const radius = count > 5000 ? 1.5 : 2.8;
    const colours = kinds.map((_, i) => colour(i));
    for (let row = 0; row < count; row++) {
      places.x[row] = x.apply(known[row]);
      places.y[row] = Number.isFinite(scores[row]) ? y.apply(scores[row]) : edge;
      if (!Number.isFinite(places.x[row])) continue;
      paint.fillStyle = colours[groupOf(row)];
      if (count > 5000) paint.fillRect(places.x[row] - radius, places.y[row] - radius, 2 * radius, 2 * radius);
      else {
        paint.beginPath();
        paint.arc(places.x[row], places.y[row], radius, 0, 7);
        paint.fill();
      }
    }
  }

  function mark() {
    const row = state.chosen;
    cross.hidden = row === null || !Number.isFinite(places.x[row]);
    if (!cross.hidden) cross.style.translate = `${places.x[row]}px ${places.y[row]}px`;
  }

  function choose(row) {
    state.chosen = row;
    mark();
    const value = (name) => {
      const one = column(name);
      return one.kind === "text" ? textOf(one, row) : String(numberOf(one, row));
    };
    const pairs = piece.columns.filter(({ name }) => name !== "setting").flatMap((one) => [
      make("dt", { textContent: one.name }),
      make("dd", { textContent: wordsOf(one, row) }),
    ]);
    const known = new Set(piece.columns.map(({ name }) => name));
    const code = piece.repeat.replace(/\{([^{}]+)\}/g, (whole, name) => (known.has(name) ? value(name) : whole));
    details.replaceChildren(make("dl", {}, ...pairs));
    if (code) details.append(make("p", { textContent: "To repeat it:" }), make("pre", { className: "code", textContent: code }));
    say(piece.columns.map((one) => `${one.name} ${wordsOf(one, row)}`).join(", "));
  }

  canvas.addEventListener("click", (event) => {
    let [best, least] = [null, 15 * 15];
    for (let row = 0; row < count; row++) {
      const away = (places.x[row] - event.offsetX) ** 2 + (places.y[row] - event.offsetY) ** 2;
      if (away < least) [best, least] = [row, away];
    }
    if (best !== null) choose(best);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = state.chosen === null ? -1 : order.indexOf(state.chosen);
    choose(order[Math.max(0, Math.min(count - 1, at + step))]);
  });
  const tools = drawing.content[0];
  if (piece.axes.length > 1) {
    const names = piece.axes.map((axis) => axis.column);
    tools.prepend(
      choice("Over", names, (at) => {
        state.axis = at;
        drawing.draw();
      }),
    );
  }
  tools.append(button("Best run", () => choose(order[0])));
  const legend = make("div", { className: "legend" });
  if (groups) {
    kinds.forEach((name, i) => {
      const dot = make("span", { className: "dot" });
      legend.append(make("span", { className: "check" }, dot, name));
      dot.paint = () => (dot.style.background = colour(i));
    });
  }
  return {
    content: [...drawing.content, legend, details],
    draw: () => {
      legend.querySelectorAll(".dot").forEach((dot) => dot.paint());
      drawing.draw();
    },
  };
}
