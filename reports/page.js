"use strict";
// Sorts, filters, copies and saves tables, moves the sliders, saves the runs, readies the print. Builds no markup from text.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function valueOf(row, column, kind) {
  const cell = row.cells[column];
  if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
  return kind === "number" ? null : cell.textContent.trim().toLowerCase();
}

function sort(table, head) {
  const column = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "ascending";
  const keyed = [...table.tBodies[0].rows].map((row) => [valueOf(row, column, head.dataset.kind), row]);
  const empty = (v) => v === null || v === "" || v === "–";
  keyed.sort(([a], [b]) => {
    if (empty(a) || empty(b)) return empty(a) - empty(b); // no figure: last, whichever way
    const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
    return down ? -order : order;
  });
  all("th", head.parentElement).forEach((th) => th.hasAttribute("aria-sort") && th.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

function filter(box) {
  const rows = [...box.querySelector("table").tBodies[0].rows];
  const words = box.querySelector(".filter").value.toLowerCase().split(/\s+/).filter((word) => word && word !== "-");
  let shown = 0;
  for (const row of rows) {
    row.words ??= row.textContent.toLowerCase();
    const fits = (word) => (word.startsWith("-") ? !row.words.includes(word.slice(1)) : row.words.includes(word));
    row.hidden = !words.every(fits);
    shown += !row.hidden;
  }
  box.querySelector(".count").textContent = `${shown} of ${rows.length} rows`;
}

// A cell that a spreadsheet would take for a formula gets an apostrophe.
const harmless = (text) => (/^[=+@\t\r-]/.test(text) && isNaN(Number(text)) && text !== "–" ? `'${text}` : text);
const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const csv = (rows) => rows.map((row) => row.map((cell) => quoted(harmless(String(cell ?? "")))).join(",")).join("\r\n");
// In Markdown every sign that could be markup is written as a character reference.
const inert = (text) => text.replace(/[\\`*_{}[\]<>#|~!@&$]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const markdown = ([head, ...rows]) =>
  [head, head.map(() => "---"), ...rows].map((row, i) => `| ${row.map((c) => (i === 1 ? c : inert(c))).join(" | ")} |`).join("\n");

function cellsOf(table) {
  const shown = [...table.rows].filter((row) => !row.hidden);
  const text = (cell) => cell.textContent.trim().replace(/\s+/g, " ");
  return shown.map((row) => [...row.cells].slice(0, -1).map(text)); // the last column is the contract
}

async function copy(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
  }
  const before = button.dataset.before ?? button.textContent;
  button.dataset.before = before;
  button.textContent = done ? "Copied" : "Not copied: the browser refused";
  setTimeout(() => (button.textContent = before), 1500);
}

function offer(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function save() {
  const packed = Uint8Array.from(atob(document.getElementById("raw-runs").textContent), (c) => c.charCodeAt(0));
  let blob = new Blob([packed], { type: "application/gzip" });
  let name = "runs.json.gz"; // a browser that cannot unpack saves what is there
  if (typeof DecompressionStream === "function") {
    const stream = blob.stream().pipeThrough(new DecompressionStream("gzip"));
    blob = new Blob([await new Response(stream).arrayBuffer()], { type: "application/json" });
    name = "runs.json";
  }
  offer(blob, name);
}

all(".sortable").forEach((box) => {
  const table = box.querySelector("table");
  all("th[aria-sort] button", table).forEach((b) => b.addEventListener("click", () => sort(table, b.closest("th"))));
  box.querySelector(".filter").addEventListener("input", () => filter(box));
  all("[data-table]", box).forEach((b) =>
    b.addEventListener("click", () => copy((b.dataset.table === "csv" ? csv : markdown)(cellsOf(table)), b)),
  );
  all("[data-save]", box).forEach((b) =>
    b.addEventListener("click", () => offer(new Blob([csv(cellsOf(table))], { type: "text/csv" }), b.dataset.save)),
  );
});
all("[data-csv]").forEach((b) =>
  b.addEventListener("click", () => {
    const data = JSON.parse(document.getElementById(b.dataset.csv).textContent);
    copy(csv([data.columns, ...data.rows]), b);
  }),
);
all(".slider").forEach((box) => {
  const above = box.querySelector(".above");
  box.querySelector("input").addEventListener("input", (e) => (above.style.clipPath = `inset(0 ${100 - e.target.value}% 0 0)`));
});
// A figure of many panels on one sheet would be too small to read: while it prints, two rows of panels go on each.
function unfold(svg) {
  const tops = svg.dataset.rows.split(" ").map(Number);
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  svg.closest("figure").classList.toggle("unfolded", tops.length > 2);
  let before = svg;
  for (let row = 2; row < tops.length; row += 2) {
    const strip = svg.cloneNode(false);
    const drawing = document.createElementNS("http://www.w3.org/2000/svg", "use");
    drawing.setAttribute("href", `#${svg.id}-figure_1`);
    ["id", "role", "aria-label", "data-rows"].forEach((name) => strip.removeAttribute(name));
    strip.setAttribute("viewBox", `0 ${tops[row]} ${width} ${(tops[row + 2] ?? height) - tops[row]}`);
    strip.setAttribute("aria-hidden", "true");
    strip.classList.add("strip");
    strip.append(drawing);
    before.after(strip);
    before = strip;
  }
  if (tops.length > 2) {
    svg.dataset.whole = svg.getAttribute("viewBox");
    svg.setAttribute("viewBox", `0 0 ${width} ${tops[2]}`);
  }
}

function fold(svg) {
  svg.setAttribute("viewBox", svg.dataset.whole);
  delete svg.dataset.whole;
}

// On paper nothing opens on a click: all is open while it prints, then as it was.
window.addEventListener("beforeprint", () => {
  all("details:not([open])").forEach((box) => {
    box.open = true;
    box.dataset.opened = "";
  });
  all("svg[data-rows]:not([data-whole])").forEach(unfold);
});
window.addEventListener("afterprint", () => {
  all("details[data-opened]").forEach((box) => {
    box.open = false;
    delete box.dataset.opened;
  });
  all("svg.strip").forEach((strip) => strip.remove());
  all("svg[data-whole]").forEach(fold);
});
document.getElementById("save-runs")?.addEventListener("click", save);
