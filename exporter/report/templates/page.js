"use strict";
// Sorting: a button in each heading, so that the keyboard reaches it. What is absent stays last.
const valueOf = (cell) => {
  const data = cell.querySelector("data");
  const text = (data ? data.value : cell.textContent).trim();
  if (text === "" || text === "\u2014") return null;
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
};
const order = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row.cells[column]), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return up ? order(a, b) : order(b, a);
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}
// On paper everything is open.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((it) => { it.open = true; }));
