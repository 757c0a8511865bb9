"use strict";
// Reading needs none of this: it filters and sorts the tables that are there.
for (const table of document.querySelectorAll("table[data-sort]")) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      // What was not measured stands last, whichever way is sorted.
      const known = rows.filter((row) => value(row, column) !== "");
      const unknown = rows.filter((row) => value(row, column) === "");
      known.sort((one, other) => value(one, column).localeCompare(value(other, column), "en", { numeric: true }));
      body.replaceChildren(...(up ? known : known.reverse()), ...unknown);
    });
  });
  const filter = document.getElementById(table.dataset.sort);
  if (filter === null) continue;
  const input = filter.querySelector("input");
  const said = filter.querySelector("[role=status]");
  filter.hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row) => { row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word)); });
    said.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
  });
}
