"use strict";
/* What all pages share: the data, arrays that are stored compressed, the theme, and how numbers are written. */

const page = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const NUMBERS = { float64: Float64Array, float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

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
const decade = (value) =>
  value >= 0.01 && value < 1e5 ? value.toLocaleString("en") : value.toExponential().replace("+", "");

/** Let the button change the theme, and draw again when it or the system's theme changes. */
function themed(redraw) {
  const button = element("theme");
  const label = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use ${isDark() ? "light" : "dark"} colors`);
  };
  const change = () => {
    label();
    redraw();
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    change();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", change);
  label();
}
