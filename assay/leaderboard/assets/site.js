"use strict";
// Without this script every page is whole: tables stand by what ranks, and the best methods' curves are drawn.
// What comes from data is set as text, never as markup.

const root = document.body.dataset.root;

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function say(text) {
  document.getElementById("status").textContent = text;
}

// A list that opens below its title; Escape and a click elsewhere close it.
function menu(title, ...content) {
  return element("details", { className: "menu" }, element("summary", {}, title), element("div", { className: "sheet" }, ...content));
}
function closeMenus(except) {
  for (const each of document.querySelectorAll("details.menu[open]")) if (each !== except) each.open = false;
}
addEventListener("click", (event) => closeMenus(event.target.closest?.("details.menu")));
addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && document.querySelector("details.menu[open]");
  if (!open) return;
  open.open = false;
  if (open.contains(document.activeElement)) open.firstElementChild.focus();
});

function tick(text, checked, change) {
  const box = element("input", { type: "checkbox", checked, autocomplete: "off" });
  box.addEventListener("change", () => change(box.checked));
  return [box, element("label", {}, box, element("bdi", {}, text))];
}

// Ticks for many things, with two buttons for all of them.
function ticks(legend, things, change) {
  const boxes = [];
  const list = element("fieldset", {}, element("legend", {}, legend));
  const all = (on) => {
    boxes.forEach((box) => { box.checked = on; });
    things.forEach((thing) => change(thing, on));
  };
  for (const [text, on] of [["All", true], ["None", false]]) {
    const button = element("button", { type: "button" }, text);
    button.addEventListener("click", () => all(on));
    list.append(button);
  }
  for (const thing of things) {
    const [box, label] = tick(thing.text, thing.on ?? true, (on) => change(thing, on));
    boxes.push(box);
    list.append(label);
  }
  return list;
}

class Board {
  constructor(board) {
    this.table = board.querySelector("table");
    this.headings = [...this.table.tHead.rows[0].cells];
    this.methods = [...this.table.querySelectorAll("tbody.methods > tr")];
    this.view = "score";
    this.wanted = "";
    this.without = new Set();
    this.headings.forEach((heading, column) => this.makeSortable(heading, column));
    const tools = element("div", { className: "tools" });
    tools.append(...this.filters(), ...this.intervals(board), ...this.views(board));
    board.prepend(tools);
  }

  makeSortable(heading, column) {
    const button = element("button", { type: "button" }, ...heading.childNodes, element("span", { className: "mark", ariaHidden: "true" }));
    heading.append(button);
    button.addEventListener("click", () => {
      const first = this.bestFirst(heading);
      const turned = first === "ascending" ? "descending" : "ascending";
      this.sort(column, heading.getAttribute("aria-sort") === first ? turned : first);
      say(`Sorted by ${heading.dataset.name}, ${heading.getAttribute("aria-sort")}`);
    });
  }

  bestFirst(heading) {
    const views = new Map([["skill", "descending"], ["win", "descending"], ["rank", "ascending"]]);
    return ("measure" in heading.dataset && views.get(this.view)) || heading.dataset.first;
  }

  key(row, column) {
    const data = row.cells[column].dataset;
    return (this.view in data ? data[this.view] : data.score) ?? "";
  }

  sort(column, direction) {
    this.headings.forEach((each, place) => each.setAttribute("aria-sort", place === column ? direction : "none"));
    const sign = direction === "ascending" ? 1 : -1;
    for (const body of this.table.tBodies) {
      if (body.classList.contains("controls")) continue;
      const rows = [...body.rows].map((row) => {
        const text = this.key(row, column);
        const value = Number(text.replaceAll(",", ""));
        return { row, text, value };
      });
      rows.sort((a, b) => {
        if (a.text === "" || b.text === "") return (a.text === "") - (b.text === "");  // what is missing comes last, whichever way
        return sign * (Number.isNaN(a.value) || Number.isNaN(b.value) ? a.text.localeCompare(b.text) : a.value - b.value);
      });
      body.append(...rows.map(({ row }) => row));
    }
  }

  filters() {
    const search = element("input", { type: "search", autocomplete: "off", spellcheck: false });
    search.addEventListener("input", () => {
      this.wanted = search.value.trim().toLowerCase();
      this.show();
    });
    const made = [element("label", { className: "search" }, "Find an explainer ", search)];
    const families = [...new Set(this.methods.map((row) => row.dataset.family))].sort();
    if (families.length > 1) {
      const things = families.map((family) => ({ text: family.replaceAll("_", " ") || "unknown", family }));
      made.push(menu("Families", ticks("Families that are shown", things, ({ family }, on) => {
        this.without[on ? "delete" : "add"](family);
        this.show();
      })));
    }
    const columns = this.headings.map((heading, column) => ({ text: heading.dataset.name, column }))
      .filter(({ column }) => column > 0 && this.headings[column].dataset.name !== "Explainer");
    made.push(menu("Columns", ticks("Columns that are shown", columns, ({ column }, on) => {
      for (const row of this.table.rows) if (row.cells[column]) row.cells[column].hidden = !on;
    })));
    this.count = element("span", { className: "count" });
    made.push(this.count);
    return made;
  }

  intervals(board) {
    return board.classList.contains("dense") ? [tick("Intervals", false, (on) => board.classList.toggle("intervals", on))[1]] : [];
  }

  show() {
    let shown = 0;
    for (const row of this.methods) {
      const name = row.querySelector("th").textContent.toLowerCase();
      row.hidden = !name.includes(this.wanted) || this.without.has(row.dataset.family);
      shown += !row.hidden;
    }
    this.count.textContent = shown < this.methods.length ? `${shown} of ${this.methods.length}` : "";
    say(`${shown} of ${this.methods.length} explainers are shown`);
  }

  views(board) {
    if (!board.dataset.views) return [];
    const group = `view-${Board.count = (Board.count ?? 0) + 1}`;
    const choices = board.dataset.views.split(",").map((view) => view.split(":")).map(([view, text], place) => {
      const box = element("input", { type: "radio", name: group, value: view, checked: !place, autocomplete: "off" });
      box.addEventListener("change", () => this.change(view));
      return element("label", {}, box, element("span", {}, text));
    });
    return [element("fieldset", { className: "view" }, element("legend", { className: "visually-hidden" }, "What the columns show"), ...choices)];
  }

  change(view) {
    this.view = view;
    this.table.classList.toggle("skills", view === "skill");
    for (const cell of this.table.querySelectorAll("td[data-shown-rank]")) {
      cell.dataset.shownScore ??= [cell.firstChild.textContent, cell.querySelector("small")?.textContent].join("|");
      const [text, interval] = cell.dataset[`shown${view[0].toUpperCase()}${view.slice(1)}`].split("|");
      cell.firstChild.textContent = text;
      cell.querySelector("small").textContent = interval;
    }
    // A score and its skill may be better in opposite directions, so the best stays on top.
    const sorted = this.headings.findIndex((each) => each.getAttribute("aria-sort") !== "none");
    if (sorted >= 0 && "measure" in this.headings[sorted].dataset) this.sort(sorted, this.bestFirst(this.headings[sorted]));
  }
}
for (const board of document.querySelectorAll(".board")) new Board(board);

for (const curves of document.querySelectorAll(".curves")) {
  for (const label of curves.querySelectorAll(".legend label")) {
    const lines = curves.querySelectorAll(`g.series[data-series="${label.dataset.series}"]`);
    const box = element("input", { type: "checkbox", checked: !label.classList.contains("off"), autocomplete: "off" });
    label.prepend(box);
    box.addEventListener("change", () => lines.forEach((line) => line.classList.toggle("off", !box.checked)));
    for (const [name, on] of [["mouseenter", true], ["mouseleave", false]]) {
      label.addEventListener(name, () => {
        curves.classList.toggle("pointing", on && box.checked);
        lines.forEach((line) => line.classList.toggle("pointed", on));
      });
    }
  }
}

// Called by assets/navigation.js, which holds the names of all pages of the site.
function assayNavigation({ protocols, explainers }) {
  const place = document.getElementById("jump");
  const pages = [
    ["Protocols", protocols.map(([name, note, folder]) => [note ? `${name}, ${note}` : name, `protocols/${encodeURIComponent(folder)}/index.html`])],
    ["Explainers", explainers.map(([name, page]) => [name, `explainers/${encodeURIComponent(page)}.html`])],
  ];
  for (const [title, links] of pages) if (links.length) place.append(pageMenu(title, links));
}

function pageMenu(title, links) {
  const list = element("ul");
  const sheet = [list];
  if (links.length > 10) {
    const search = element("input", { type: "search", autocomplete: "off", spellcheck: false });
    search.addEventListener("input", () => {
      const wanted = search.value.trim().toLowerCase();
      for (const item of list.children) item.hidden = !item.textContent.toLowerCase().includes(wanted);
    });
    sheet.unshift(element("label", { className: "search" }, "Find ", search));
  }
  const made = menu(title, ...sheet);
  made.addEventListener("toggle", () => {
    if (list.children.length) return;
    for (const [text, address] of links) {
      const link = element("a", { href: root + address }, element("bdi", {}, text));
      if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
      list.append(element("li", {}, link));
    }
  });
  return made;
}

// A link to something inside a closed part of the page opens it.
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();
