"use strict";
/* The page: its sections in order, each piece drawn when it comes into view. */

const DRAW = { rows: drawRows, curves: drawCurves, dots: drawDots, ranges: drawRanges, levels: drawLevels };

/** Unpack all arrays that are stored compressed. */
async function whole(value) {
  if (Array.isArray(value)) return Promise.all(value.map(whole));
  if (value === null || typeof value !== "object") return value;
  if (typeof value.data === "string" && value.kind in NUMBERS) return unpack(value);
  const entries = await Promise.all(Object.entries(value).map(async ([key, each]) => [key, await whole(each)]));
  return Object.fromEntries(entries);
}

function provenance(pairs) {
  const list = make("dl", {});
  for (const [name, text] of pairs) list.append(make("dt", { textContent: name }), make("dd", { textContent: text }));
  return make("details", { className: "provenance" }, make("summary", { textContent: "Where this comes from" }), list);
}

const drawn = [];

function block(piece) {
  if (piece.kind === "text") {
    const isCode = piece.text.includes("\n");
    return make(isCode ? "pre" : "p", { textContent: piece.text, className: isCode ? "code" : "" });
  }
  const made = DRAW[piece.kind](piece);
  const children = [make("h3", { textContent: piece.title })];
  if (piece.note) children.push(make("p", { className: "note", textContent: piece.note }));
  const found = make("section", { className: `piece ${piece.kind}` }, ...children, ...made.content);
  found.setAttribute("aria-label", piece.title);
  drawn.push({ place: found, draw: made.draw, width: -1 });
  return found;
}

function section(one, index) {
  const head = make("h2", { textContent: one.title, id: `section-${index}` });
  const warnings = one.warnings.map((text) => make("p", { className: "warning", textContent: text }));
  const made = make("section", { className: "result" }, head, ...warnings, ...one.pieces.map(block));
  made.setAttribute("aria-labelledby", head.id);
  made.append(provenance(one.provenance));
  return made;
}

/** Draw what is in view, or near it, and has not been drawn at this width and in this theme. */
function show(one) {
  const width = one.place.clientWidth;
  if (!one.near || one.width === width) return;
  one.width = width;
  one.draw();
}

async function begin() {
  page.sections = await whole(page.sections);
  element("sections").replaceChildren(...page.sections.map(section));
  element("notes").replaceChildren(make("p", { textContent: page.made }));
  if (page.sections.length > 1) {
    const links = page.sections.map((one, i) =>
      make("li", {}, make("a", { href: `#section-${i}`, textContent: one.title })),
    );
    element("contents").append(make("ul", {}, ...links));
  }
  if (page.damaged.length) {
    const lines = page.damaged.map((text) => make("li", { textContent: text }));
    element("damaged").append(
      make("p", { className: "warning", textContent: "Some files could not be read, and are left out:" }),
      make("ul", {}, ...lines),
    );
  }
  const near = new IntersectionObserver(
    (entries) =>
      entries.forEach((entry) => {
        const one = drawn.find(({ place }) => place === entry.target);
        one.near = entry.isIntersecting;
        show(one);
      }),
    { rootMargin: "600px" },
  );
  const resized = new ResizeObserver(() => drawn.forEach(show));
  drawn.forEach(({ place }) => near.observe(place));
  resized.observe(element("sections"));
  const again = () => drawn.forEach((one) => show(Object.assign(one, { width: -1 })));
  themed(again);
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details.provenance").forEach((one) => (one.open = true));
    drawn.forEach((one) => show(Object.assign(one, { near: true, width: -1 })));
  });
  document.documentElement.dataset.ready = "yes";
}

begin();
