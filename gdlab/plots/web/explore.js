"use strict";
/* Draws the paths that the page holds. State is the chosen optimizers, the positions on the swept axes, the start and
   the step; every change of it draws the paths, the curves and the table again, once per frame of the screen. */
(async () => {
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

  const ground = (await unpack(page.ground.values)).numbers;
  for (const one of page.series) {
    for (const part of ["paths", "ends", "outcomes"]) one[part] = await unpack(one[part]);
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

  /* ---- The map ---- */

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
        Plot.contour(ground, {
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
    const skip = Math.ceil(
      (page.ground.texts.length * d3.max(page.ground.texts, (text) => 7 * text.length + 6)) / wide,
    );
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
    const own = page.series.flatMap((one, i) =>
      one.axes.filter((each) => each.name === axis.name && state.shown.has(i)),
    );
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
    const button = element("theme");
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(document.documentElement.dataset.theme === theme()));
    button.setAttribute("aria-label", `Use ${isDark() ? "light" : "dark"} colors`);
    set({});
  }

  element("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
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
})();
