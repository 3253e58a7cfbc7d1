"use strict";
/* Figures that Observable Plot draws: curves with bands, intervals, and shaded tables; and what all figures share. */

const ink = () => getComputedStyle(document.body).color;
const colour = (i) => page.colours[theme()][i % page.colours.light.length];
const dash = (i) => page.dashes[Math.floor(i / 4) % page.dashes.length];
const STYLE = { background: "transparent", fontSize: "12px" };
const tipStyle = { fill: "var(--raised)", stroke: "var(--edge)", lineHeight: 1.3 };

/** A figure's holder; it draws again when its width or the theme changes. */
function figure(piece, draw, ...tools) {
  const holder = make("div", { className: "holder" });
  const redraw = () => {
    const width = Math.max(240, holder.clientWidth);
    holder.replaceChildren(...draw(width));
  };
  const svg = button("SVG", () => download(fileName(piece.title, "svg"), [svgOf(holder)], "image/svg+xml"));
  return { content: [make("div", { className: "tools" }, ...tools, svg), holder], draw: redraw, holder };
}

/** The drawing with the present colours; a canvas in it becomes an image. */
function svgOf(holder) {
  const source = holder.querySelector("svg.main") ?? holder.querySelector("svg");
  const copy = source.cloneNode(true);
  const canvas = holder.querySelector("canvas");
  if (canvas) {
    const image = document.createElementNS("http://www.w3.org/2000/svg", "image");
    image.setAttribute("href", canvas.toDataURL());
    image.setAttribute("width", canvas.clientWidth);
    image.setAttribute("height", canvas.clientHeight);
    copy.prepend(image);
  }
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("color", ink());
  copy.setAttribute("font-family", "system-ui, sans-serif");
  copy.setAttribute("font-size", "12");
  const values = getComputedStyle(document.documentElement);
  const shades = { "--page": 0, "--ink": 0, "--soft": 0, "--edge": 0, "--raised": 0, "--accent": 0 };
  const probe = make("span");
  document.body.append(probe);
  for (const name of Object.keys(shades)) {
    probe.style.color = values.getPropertyValue(name);
    shades[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  const text = new XMLSerializer().serializeToString(copy);
  return text.replace(/var\((--[\w-]+)\)/g, (whole, name) => shades[name] ?? shades["--raised"]);
}

function plot(label, options) {
  const drawn = Plot.plot({ style: STYLE, marginBottom: 48, marginRight: 14, ...options });
  const svg = drawn.tagName === "svg" ? drawn : drawn.querySelector("svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  return drawn;
}

/* ---- Curves ---- */

function drawCurves(piece) {
  const few = piece.panels[0].curves.length <= 4; // more bands would hide one another
  const state = { panel: 0, hidden: new Set(), bands: few, logarithmic: null };
  const along = (curve, name) => listOf(curve[name]);
  const names = [...new Set(piece.panels.flatMap((panel) => panel.curves.map((curve) => curve.name)))];
  const legend = make("div", { className: "legend" });
  const logarithmic = make("input", { type: "checkbox" });
  const drawing = figure(piece, draw);

  function draw(width) {
    const panel = piece.panels[state.panel];
    const shown = panel.curves.filter((curve) => !state.hidden.has(curve.name));
    const all = shown.flatMap((curve) => Array.from(along(curve, "middle"), real).filter(Number.isFinite));
    const can = all.length > 0 && positive(all);
    const log = can && (state.logarithmic ?? isWide(d3.extent(all)));
    logarithmic.checked = log;
    logarithmic.disabled = !can;
    const [bands, lines, tips] = [[], [], []];
    for (const curve of shown) {
      const i = names.indexOf(curve.name);
      const [x, y, low, high] = ["x", "middle", "low", "high"].map((name) => along(curve, name));
      const at = d3.range(x.length);
      const floor = log ? d3.min(all) / 10 : -Infinity;
      const get = (values) => (k) => (values[k] === null ? NaN : Math.max(values[k], floor));
      const mark = { x: (k) => x[k], stroke: colour(i), strokeDasharray: dash(i), strokeWidth: 1.8 };
      if (state.bands) {
        bands.push(Plot.areaY(at, { x: (k) => x[k], y1: get(low), y2: get(high), fill: colour(i), fillOpacity: 0.16, clip: true }));
      }
      lines.push(Plot.line(at, { ...mark, y: get(y), clip: true }));
      const room = Math.ceil((x.length * shown.length) / 6000);
      for (const k of at) {
        if (k % room || !Number.isFinite(real(y[k]))) continue;
        const span = low[k] === high[k] ? "" : `\n${exact(real(low[k]))} to ${exact(real(high[k]))}`;
        tips.push({ x: x[k], y: get(y)(k), title: `${curve.name}\n${piece.x} ${exact(x[k])}: ${exact(y[k])}${span}` });
      }
    }
    const pointer = Plot.pointer({ x: "x", y: "y", title: "title", maxRadius: 40, ...tipStyle });
    return [
      plot(`${piece.title}: ${panel.name} against ${piece.x}, for ${shown.map((curve) => curve.name).join("; ") || "nothing"}`, {
        width,
        height: Math.min(420, Math.max(260, 0.5 * width)),
        marginLeft: 62,
        x: { label: piece.x, labelArrow: "none", labelAnchor: "center", ...ticksOf(shown, width) },
        y: {
          type: log ? "log" : "linear",
          label: panel.name,
          labelArrow: "none",
          grid: true,
          ticks: 6,
          tickFormat: log ? decade : undefined,
          domain: all.length ? padded(d3.extent(state.bands ? [...all, ...edges(shown, log)] : all), log) : undefined,
        },
        marks: [Plot.frame({ stroke: "var(--edge)" }), ...bands, ...lines, Plot.tip(tips, pointer)],
      }),
    ];
  }

  names.forEach((name, i) => {
    const input = make("input", { type: "checkbox", checked: true });
    const swatch = d3.create("svg").attr("class", "swatch").attr("viewBox", "0 0 26 10").attr("aria-hidden", "true");
    const line = swatch.append("line").attr("x2", 26).attr("y1", 5).attr("y2", 5).attr("stroke-width", 3);
    line.attr("stroke-dasharray", dash(i));
    input.addEventListener("input", () => {
      state.hidden[input.checked ? "delete" : "add"](name);
      drawing.draw();
    });
    const label = make("label", { className: "check" }, input, swatch.node(), name);
    label.paint = () => line.attr("stroke", colour(i));
    legend.append(label);
  });
  const bands = make("input", { type: "checkbox", checked: few });
  bands.addEventListener("input", () => {
    state.bands = bands.checked;
    drawing.draw();
  });
  logarithmic.addEventListener("input", () => {
    state.logarithmic = logarithmic.checked;
    drawing.draw();
  });
  const tools = drawing.content[0];
  tools.prepend(
    ...(piece.panels.length > 1 ? [choice("Measure", piece.panels.map(({ name }) => name), (at) => choosePanel(at))] : []),
    make("label", { className: "check" }, bands, "bands"),
    make("label", { className: "check" }, logarithmic, "logarithmic"),
  );
  function choosePanel(at) {
    state.panel = at;
    state.logarithmic = null;
    drawing.draw();
  }
  return {
    content: [...drawing.content, legend],
    draw: () => {
      for (const label of legend.children) label.paint();
      drawing.draw();
    },
  };
}

/** The edges of bands, as far as the scale can show them. */
function edges(curves, log) {
  const ends = curves.flatMap((curve) => ["low", "high"].flatMap((name) => Array.from(listOf(curve[name]), real)));
  return ends.filter((end) => Number.isFinite(end) && (!log || end > 0));
}

/** Ticks of the horizontal axis; counts, such as epochs, have whole ones. */
function ticksOf(curves, width) {
  const every = curves.flatMap((curve) => Array.from(listOf(curve.x)));
  const ticks = every.length ? d3.ticks(...d3.extent(every), Math.min(8, width / 80)) : [];
  if (!every.every(Number.isInteger)) return { ticks };
  return { ticks: ticks.filter(Number.isInteger), tickFormat: d3.format(",d") };
}

function padded([low, high], log) {
  if (log) return [low / 1.15, high * 1.15];
  const edge = 0.04 * (high - low || Math.abs(high) || 1);
  return [low - edge, high + edge];
}

/* ---- Intervals beside each other ---- */

function drawRanges(piece) {
  let group = 0;
  const drawing = figure(piece, draw);
  function draw(width) {
    const { ranges, name } = piece.groups[group];
    const known = ranges.flatMap(({ estimate, low, high }) => [estimate, low, high].filter((end) => Number.isFinite(real(end))));
    const edge = Math.max(d3.max(known, Math.abs) ?? 1, 0.2);
    const end = (value, other) => (value === null ? other : value);
    const sides = { x1: ({ low }) => end(low, -edge), x2: ({ high }) => end(high, edge) };
    const hue = ({ low, high, margin }) => {
      const [from, to] = [low ?? -Infinity, high ?? Infinity];
      if (-margin <= from && to <= margin) return "var(--accent)"; // equal, as the verdict is
      return from > 0 ? colour(1) : to < 0 ? colour(0) : "var(--soft)";
    };
    const short = width < 520;
    const longest = d3.max(ranges, ({ label }) => label.length) ?? 1;
    return [
      plot(`${piece.title}, ${name}: ${ranges.map(({ label, answer }) => `${label}: ${answer}`).join("; ")}`, {
        width,
        height: 60 + 24 * ranges.length,
        marginLeft: Math.min(7.2 * longest + 16, 0.42 * width),
        x: { domain: [-1.05 * edge, 1.05 * edge], label: piece.x, labelArrow: "none", labelAnchor: "center", grid: true, ticks: short ? 5 : 9 },
        y: { domain: ranges.map(({ label }) => label), label: null },
        marks: [
          Plot.barX(ranges, { y: "label", x1: ({ margin }) => -margin, x2: ({ margin }) => margin, fill: "var(--edge)", inset: 0 }),
          Plot.ruleX([0], { stroke: "var(--soft)" }),
          Plot.ruleY(ranges, { y: "label", ...sides, stroke: hue, strokeWidth: 2 }),
          Plot.dot(ranges, { y: "label", x: "estimate", fill: hue, r: 4 }),
          Plot.tip(ranges, Plot.pointerY({ y: "label", x: "estimate", title: ({ label, answer }) => `${label}\n${answer}`, ...tipStyle })),
        ],
      }),
    ];
  }
  if (piece.groups.length > 1) {
    drawing.content[0].prepend(
      choice("Show", piece.groups.map(({ name }) => name), (at) => {
        group = at;
        drawing.draw();
      }),
    );
  }
  return drawing;
}

/* ---- A shaded table ---- */

function drawLevels(piece) {
  const cells = piece.rows.flatMap((row, i) =>
    piece.columns.map((column, j) => ({ row, column, value: real(piece.values[i][j]) })),
  );
  const short = (row) => row.replace(/ {2}\(.*\)$/, "");
  const scale = () => ({ type: "linear", scheme: "YlGnBu", domain: piece.limits, label: piece.label });
  const drawing = figure(piece, (width) => {
    const wide = Math.min(width, 260 + 84 * piece.columns.length);
    const isTurned = (room) => piece.columns.length > 4 || room < 520;
    const dark = (value) => (value - piece.limits[0]) / (piece.limits[1] - piece.limits[0]) > 0.55;
    const map = plot(`${piece.title}: ${piece.label} for ${piece.rows.length} rows and ${piece.columns.join(", ")}`, {
      width: wide,
      height: 70 + 19 * piece.rows.length,
      marginLeft: Math.min(230, 0.5 * wide),
      marginTop: isTurned(wide) ? 24 + 4.5 * d3.max(piece.columns, (name) => name.length) : 28,
      marginBottom: 8,
      x: { domain: piece.columns, axis: "top", label: null, tickRotate: isTurned(wide) ? -35 : 0 },
      y: { domain: piece.rows, label: null, tickFormat: width < 520 ? short : undefined },
      color: scale(),
      marks: [
        Plot.cell(cells, { x: "column", y: "row", fill: "value", inset: 0.5 }),
        Plot.text(cells, {
          x: "column",
          y: "row",
          text: ({ value }) => d3.format(".2~f")(value),
          fill: ({ value }) => (dark(value) ? "#ffffff" : "#10222e"),
        }),
        Plot.tip(cells, Plot.pointer({ x: "column", y: "row", title: ({ row, column, value }) => `${row}\n${column}: ${exact(value)}`, ...tipStyle })),
      ],
    });
    map.classList.add("main");
    return [Plot.legend({ color: scale(), width: Math.min(width, 260) }), map];
  });
  const columns = [
    { name: piece.title, kind: "text", texts: piece.rows, codes: d3.range(piece.rows.length) },
    ...piece.columns.map((name, j) => ({ name, kind: "number", numbers: piece.values.map((row) => row[j]) })),
  ];
  const csv = () => download(fileName(piece.title, "csv"), [csvOf(columns, d3.range(piece.rows.length))], "text/csv");
  drawing.content[0].append(button("CSV", csv));
  return drawing;
}
