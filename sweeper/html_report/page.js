// The page's own script: draws a figure when it comes near the screen, filters states everywhere, sorts the table.
"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const drawn = new Set();
const hidden = new Set();

function resolve(value, style) {
  if (typeof value === "string") return value.replace(/var\((--[\w-]+)\)/, (_, name) => style.getPropertyValue(name).trim());
  if (Array.isArray(value)) return value.map((item) => resolve(item, style));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, style)]));
  }
  return value;
}

function layoutOf(figure, element, style) {
  const [text, grid, line, card] = ["--text", "--grid", "--line", "--card"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: grid, linecolor: line, tickcolor: line, zerolinecolor: grid };
  const layout = resolve(figure.layout, style);
  return {
    margin: { l: 62, r: 14, t: 12, b: 50 },
    showlegend: false,
    hovermode: "closest",
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, size: 12, family: "system-ui, sans-serif" },
    hoverlabel: { bgcolor: card, bordercolor: line, font: { color: text, size: 12 }, align: "left" },
    // A finger that scrolls the page must not be taken for one that zooms.
    dragmode: window.matchMedia("(pointer: coarse)").matches ? false : "zoom",
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, automargin: true, ...layout.yaxis, title: { standoff: 6, ...(layout.yaxis || {}).title } },
    width: Math.max(element.parentElement.clientWidth, Number(element.dataset.minWidth)),
  };
}

function draw(figure) {
  const element = document.getElementById(figure.id);
  const style = getComputedStyle(document.documentElement);
  const data = resolve(figure.data, style).map((trace) => ({ ...trace, visible: !(trace.meta && hidden.has(trace.meta.state)) }));
  Plotly.react(element, data, layoutOf(figure, element, style), { displaylogo: false, displayModeBar: false });
  if (!drawn.has(figure.id)) {
    drawn.add(figure.id);
    element.on("plotly_click", (event) => findTrial(event.points[0].customdata));
  }
}

const byId = new Map(figures.map((figure) => [figure.id, figure]));
const nearby = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !drawn.has(entry.target.id)) draw(byId.get(entry.target.id));
    }
  },
  { rootMargin: "600px" },
);
for (const figure of figures) nearby.observe(document.getElementById(figure.id));
const redraw = () => drawn.forEach((id) => draw(byId.get(id)));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth !== width) redraw(); // a phone's bars that come and go change the height alone
  width = window.innerWidth;
});
window.addEventListener("beforeprint", () => figures.forEach(draw));

const rows = [...document.querySelectorAll("#trial-table tbody tr")];
const search = document.getElementById("search");

function filterRows() {
  const words = search ? search.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = hidden.has(row.dataset.state) || !words.every((word) => text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  if (search) document.getElementById("shown").textContent = `${shown} of ${rows.length} trials`;
}

if (search) search.addEventListener("input", filterRows);
for (const box of document.querySelectorAll(".states input")) {
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(box.value);
    else hidden.add(box.value);
    filterRows();
    redraw();
  });
}

function keyOf(row, column) {
  const cell = row.cells[column];
  if (!("v" in cell.dataset)) return cell.textContent;
  return cell.dataset.v === "" ? null : Number(cell.dataset.v);
}

function sortBy(header) {
  const up = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = header.closest("table").tBodies[0];
  const keyed = [...body.rows].map((row) => [keyOf(row, header.cellIndex), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return up ? order : -order;
  });
  body.append(...keyed.map(([, row]) => row));
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

function findTrial(id) {
  const row = rows.find((candidate) => candidate.dataset.id === id);
  if (!row) return;
  rows.forEach((other) => other.classList.toggle("found", other === row));
  row.hidden = false;
  row.scrollIntoView({ block: "center" });
}
