"use strict";
/* Tables: sorted by a click on a heading, filtered by words, downloaded as CSV; and small helpers of all pieces. */

function make(tag, attributes = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in found && name !== "list") found[name] = value;
    else found.setAttribute(name, value);
  }
  found.append(...children);
  return found;
}

function say(text) {
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (element("said").textContent = text), 400);
}

const fileName = (text, suffix) => `${text.toLowerCase().replace(/[^a-z0-9]+/g, "_").slice(0, 60)}.${suffix}`;

function download(name, parts, type) {
  const address = URL.createObjectURL(new Blob(parts, { type }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

const button = (text, press) => make("button", { type: "button", textContent: text, onclick: press });

/** Choose one of some names. */
function choice(label, names, change) {
  const select = make("select", {}, ...names.map((name, i) => make("option", { value: i, textContent: name })));
  select.addEventListener("input", () => change(Number(select.value)));
  return make("label", { className: "choice" }, `${label} `, select);
}

const positive = (values) => values.every((value) => !Number.isFinite(value) || value > 0);
const isWide = ([low, high]) => low > 0 && high / low > 20;

/* ---- Columns: one value per row ---- */

const listOf = (numbers) => numbers.numbers ?? numbers;
const real = (value) => (value === null || value === undefined ? NaN : value);
const textOf = (column, row) => column.texts[listOf(column.codes)[row]];
const numberOf = (column, row) => real(listOf(column.numbers)[row]);
const middleOf = (column, row) =>
  column.kind === "interval" ? real(intervalOf(column, row)[0]) : numberOf(column, row);

function intervalOf(column, row) {
  const numbers = listOf(column.numbers);
  return Array.isArray(numbers[row]) ? numbers[row].map(real) : [0, 1, 2].map((k) => real(numbers[3 * row + k]));
}

/** What a row is sorted by; what is not finite comes last. */
function keys(column, count) {
  if (column.kind === "text") {
    const order = d3.range(column.texts.length).sort((a, b) => d3.ascending(column.texts[a], column.texts[b]));
    const rank = new Float64Array(order.length);
    order.forEach((text, place) => (rank[text] = place));
    return Float64Array.from({ length: count }, (_, row) => rank[listOf(column.codes)[row]]);
  }
  if (column.kind === "sparkline") return Float64Array.from(column.rows, (row) => real(row[row.length - 1]));
  return Float64Array.from({ length: count }, (_, row) => middleOf(column, row));
}

function wordsOf(column, row) {
  if (column.kind === "text") return textOf(column, row);
  if (column.kind === "number") return Number.isNaN(numberOf(column, row)) ? "–" : exact(numberOf(column, row));
  const [middle, low, high] = intervalOf(column, row);
  if (Number.isNaN(middle)) return "–";
  const show = rounded(low, high);
  return show(middle) + (Number.isNaN(low) && Number.isNaN(high) ? "" : ` (${show(low)} to ${show(high)})`);
}

/** How an interval is shown: with two digits of its width, and more if an end would seem to be 0 and is not. */
function rounded(low, high) {
  let decimals = 1 - Math.floor(Math.log10(high - low));
  const vanishes = (end) => end !== 0 && Number(end.toFixed(decimals)) === 0;
  while (decimals >= 0 && decimals < 6 && (vanishes(low) || vanishes(high))) decimals += 1;
  const fits = high > low && decimals >= 0 && decimals <= 6;
  return (value) => (fits && Number.isFinite(value) ? value.toFixed(decimals).replace(/^-(?=[0.]*$)/, "") : exact(value));
}

/** A row of numbers as a small line. */
function sparkline(row) {
  const [width, height] = [90, 20];
  const known = row.map(real);
  const [low, high] = d3.extent(known.filter(Number.isFinite));
  const svg = d3.create("svg").attr("class", "spark").attr("viewBox", [0, 0, width, height]).attr("role", "img");
  if (low === undefined) return make("span", { textContent: "–" });
  svg.attr("aria-label", `from ${exact(known[0])} to ${exact(known[known.length - 1])}, at least ${exact(low)}`);
  const x = d3.scaleLinear([0, Math.max(known.length - 1, 1)], [2, width - 2]);
  const y = d3.scaleLinear(low === high ? [low - 1, high + 1] : [low, high], [height - 3, 3]);
  const line = d3.line((_, i) => x(i), y).defined(Number.isFinite);
  svg.append("path").attr("d", line(known)).attr("fill", "none").attr("stroke", "var(--accent)").attr("stroke-width", 1.4);
  return svg.node();
}

/** Draw an interval on the scale of its column. */
function bar(column, row) {
  column.span ??= d3.extent(d3.range(column.count).flatMap((at) => intervalOf(column, at).filter(Number.isFinite)));
  const [middle, low, high] = intervalOf(column, row);
  const [width, height] = [90, 12];
  const svg = d3.create("svg").attr("class", "spark").attr("viewBox", [0, 0, width, height]).attr("aria-hidden", "true");
  if (!Number.isFinite(middle)) return svg.node();
  const scale = isWide(column.span) ? d3.scaleLog : d3.scaleLinear;
  const x = scale(column.span, [4, width - 4]).clamp(true);
  const ends = [low, high].map((end) => (Number.isFinite(end) ? x(end) : x(middle)));
  svg.append("line").attr("x1", ends[0]).attr("x2", ends[1]).attr("y1", 6).attr("y2", 6).attr("stroke", "var(--soft)");
  svg.append("circle").attr("cx", x(middle)).attr("cy", 6).attr("r", 3).attr("fill", "var(--accent)");
  return svg.node();
}

/** A text that another page belongs to leads there. */
function linked(text) {
  return Object.hasOwn(page.links, text) ? make("a", { href: page.links[text], textContent: text }) : text;
}

const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** The table as CSV, with all digits; an interval has three columns. */
function csvOf(columns, order) {
  const plain = (value) => (Number.isNaN(value) ? "" : String(value));
  const heads = columns.flatMap(({ name, kind }) =>
    kind === "interval" ? [name, `${name} (low)`, `${name} (high)`] : [name],
  );
  const cell = (column, row) => {
    if (column.kind === "text") return [quoted(textOf(column, row))];
    if (column.kind === "sparkline") return [quoted(column.rows[row].map(real).map(plain).join(" "))];
    return column.kind === "number" ? [plain(numberOf(column, row))] : intervalOf(column, row).map(plain);
  };
  const lines = Array.from(order, (row) => columns.flatMap((column) => cell(column, row)).join(","));
  return [heads.map(quoted).join(","), ...lines].join("\n") + "\n";
}

const STEP = 10; // rows that are shown at first

/** The class of a column's cells: texts that are all short need no room to break. */
function classOf(column) {
  if (column.kind !== "text") return column.kind === "interval" ? "number interval" : "number";
  return column.texts.every((text) => text.length <= 20) ? "short" : "";
}

function drawRows(piece) {
  const { columns, count } = piece;
  columns.forEach((column) => (column.count = count));
  const classes = columns.map(classOf);
  const state = { sort: null, down: false, words: [], shown: STEP };
  const texts = columns.filter((column) => column.kind === "text");
  const hits = (word) => texts.map((column) => column.texts.map((text) => text.toLowerCase().includes(word)));
  let order = d3.range(count);
  const body = make("tbody");
  const more = button("", () => {
    state.shown *= 4;
    fill();
  });
  const heads = columns.map((column, i) => {
    const head = make("th", { scope: "col", className: classes[i] });
    head.append(button(column.name, () => sort(column)));
    return head;
  });
  const found = make("output", { className: "count" });
  const search = make("input", { type: "search", placeholder: "Filter" });
  search.setAttribute("aria-label", `Filter ${piece.title}`);
  search.addEventListener("input", () => {
    state.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    state.shown = STEP;
    arrange();
  });

  function sort(column) {
    state.down = state.sort === column && !state.down;
    state.sort = column;
    arrange();
  }
  function arrange() {
    const tests = state.words.map(hits);
    order = d3.range(count).filter((row) =>
      tests.every((test) => texts.some((column, i) => test[i][listOf(column.codes)[row]])),
    );
    if (state.sort) {
      const key = (state.sort.keys ??= keys(state.sort, count));
      const sign = state.down ? -1 : 1;
      const rank = (row) => (Number.isFinite(key[row]) ? sign * key[row] : key[row] === -sign * Infinity ? -Infinity : Infinity);
      const by = Float64Array.from({ length: count }, (_, row) => rank(row));
      order.sort((a, b) => by[a] - by[b] || a - b);
    }
    heads.forEach((head, i) => {
      const mine = columns[i] === state.sort;
      head.setAttribute("aria-sort", mine ? (state.down ? "descending" : "ascending") : "none");
    });
    fill();
    say(`${piece.title}: ${order.length} rows${state.sort ? `, sorted by ${state.sort.name}` : ""}`);
  }
  function fill() {
    const rows = order.slice(0, state.shown).map((row) => {
      const cells = columns.map((column, i) => {
        const cell = make(i ? "td" : "th", { className: classes[i] });
        if (!i) cell.scope = "row";
        if (column.kind === "sparkline") cell.append(sparkline(column.rows[row]));
        else cell.append(i ? wordsOf(column, row) : linked(wordsOf(column, row)));
        if (column.kind === "interval") cell.append(bar(column, row));
        return cell;
      });
      return make("tr", {}, ...cells);
    });
    body.replaceChildren(...rows);
    more.hidden = order.length <= state.shown;
    more.textContent = `Show more of ${order.length.toLocaleString("en")} rows`;
    found.textContent = order.length === count ? "" : `${order.length.toLocaleString("en")} of ${count.toLocaleString("en")}`;
  }
  arrange();
  const tools = make("div", { className: "tools" });
  if (count > 5) tools.append(search, found);
  tools.append(
    button("CSV", () => download(fileName(piece.title, "csv"), [csvOf(columns, order)], "text/csv")),
  );
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
  table.setAttribute("aria-label", piece.title);
  const scroll = make("div", { className: "scroll", tabIndex: 0 }, table);
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", piece.title);
  return { content: [tools, scroll, more], draw: () => {} };
}
