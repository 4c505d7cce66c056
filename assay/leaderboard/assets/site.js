"use strict";
// Without this script the page is whole: tables stand by mean skill, the best methods' curves are drawn.

const status = document.getElementById("status");

function sortBy(table, column, direction) {
  const shown = table.classList.contains("skills") ? "skill" : "score";
  const key = (row) => {
    const data = row.cells[column].dataset;
    return shown in data ? data[shown] : data.score;
  };
  const sign = direction === "ascending" ? 1 : -1;
  const body = table.querySelector("tbody.methods");
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");  // what is missing comes last, whichever way
    const [x, y] = [Number(a.replaceAll(",", "")), Number(b.replaceAll(",", ""))];
    return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y);
  });
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.scores")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      const first = table.classList.contains("skills") && "measure" in heading.dataset ? "descending" : heading.dataset.first;
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = now === first ? other : first;
      headings.forEach((each) => each.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", direction);
      sortBy(table, column, direction);
      status.textContent = `Sorted by ${heading.innerText.trim()}, ${direction}`;
    });
  });
}

for (const choice of document.querySelectorAll(".view input")) {
  choice.addEventListener("change", () => {
    const table = choice.closest(".board").querySelector("table.scores");
    table.classList.toggle("skills", choice.value === "skill");
    const headings = [...table.tHead.rows[0].cells];
    const column = headings.findIndex((each) => each.getAttribute("aria-sort") !== "none");
    if (column < 0) return;
    // A score and its skill may be better in opposite directions, so the best stays on top.
    if ("measure" in headings[column].dataset) {
      const direction = choice.value === "skill" ? "descending" : headings[column].dataset.first;
      headings[column].setAttribute("aria-sort", direction);
      sortBy(table, column, direction);
    }
  });
}

for (const curves of document.querySelectorAll(".curves")) {
  const lines = (series) => curves.querySelectorAll(`g.series[data-series="${series}"]`);
  for (const box of curves.querySelectorAll("input[data-series]")) {
    const show = () => lines(box.dataset.series).forEach((line) => line.classList.toggle("off", !box.checked));
    box.addEventListener("change", show);
    show();  // a browser may restore ticks after a reload
    const point = (on) => {
      curves.classList.toggle("pointing", on && box.checked);
      lines(box.dataset.series).forEach((line) => line.classList.toggle("pointed", on));
    };
    for (const [name, on] of [["mouseenter", true], ["mouseleave", false]]) {
      box.parentElement.addEventListener(name, () => point(on));
    }
  }
}

// A link to something inside a closed part of the page opens it.
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", openTarget);
for (const link of document.querySelectorAll("a[href$='-undefined']")) {
  link.addEventListener("click", () => { document.getElementById(link.hash.slice(1)).open = true; });
}
openTarget();
