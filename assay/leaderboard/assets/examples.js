"use strict";
// The viewer of examples. `examples/list.js` calls assayExamples with all of them; the words and scores of an example
// come with its chunk, a script that is added when it is first needed, because a page on a disk can read no other file.

const LEVELS = 8;
const CHOSEN = 6;
const viewer = { list: null, chunks: new Map(), order: [], place: -1, chosen: new Set(), numbers: false, parts: {} };

function assayExamples(list) {
  viewer.list = list;
}
function assayChunk(number, chunk) {
  viewer.chunks.set(number, chunk);
}

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
function floats(text) {
  const view = new DataView(bytes(text).buffer);
  return Array.from({ length: view.byteLength / 4 }, (_, place) => view.getFloat32(4 * place, true));
}
function told(value, digits = 3) {
  if (value === null || !Number.isFinite(value)) return "—";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}
function problem(text) {
  document.getElementById("viewer-problem").textContent = text;
}
function measure() {
  return viewer.list.measure.replaceAll("_", " ");
}
// The same looks as the lines of the protocol's page: six colours by three dashes, in the order of the methods.
function look(place) {
  const explainer = viewer.list.explainers[place];
  if (explainer.control) return explainer.searches ? "ceiling" : "floor";
  return `s${place % 6} d${Math.floor(place / 6) % 3}`;
}

// What one explainer says of the example at `place`: a share of the largest score for each shown word, or a problem.
function reading(chunk, within, explainer) {
  const data = chunk.explainers[explainer];
  const sizes = chunk.examples.map((example) => example.texts.reduce((sum, text) => sum + text.length, 0));
  const before = (counts) => counts.slice(0, within).reduce((sum, count) => sum + count, 0);
  const found = { shares: null, largest: NaN, value: NaN, problem: "", curve: null };
  if (!data) return found;
  data.decoded ??= {
    scores: new Int8Array(bytes(data.scores ?? "").buffer),
    largest: floats(data.largest ?? ""),
    values: floats(data.values ?? ""),
    deletion: bytes(data.deletion ?? ""),
  };
  const { scores, largest, values, deletion } = data.decoded;
  found.value = values[within] ?? NaN;
  found.problem = String(new Map(Object.entries(data.problems ?? {})).get(String(within)) ?? "");
  if (Number.isFinite(largest[within])) {
    const start = before(sizes);
    found.largest = largest[within];
    found.shares = Array.from(scores.subarray(start, start + sizes[within]), (share) => share / 127);
  }
  const start = before(chunk.points);
  const points = deletion.subarray(start, start + chunk.points[within]);
  if (points.length && points[0] !== 255) {
    chunk.xs ??= bytes(chunk.x);
    const [low, high] = viewer.list.range;
    found.curve = Array.from(points, (y, point) => [chunk.xs[start + point] / 254, low + (y / 254) * (high - low)]);
  }
  return found;
}

function coloured(word, share, largest, signed, true_) {
  const level = Math.round(Math.abs(share) * LEVELS);
  const colour = level ? ` ${signed ? (share > 0 ? "p" : "m") : "u"}${level}` : "";
  const score = told(share * largest);
  const made = element("span", { className: `w${colour}${true_ ? " true" : ""}`, title: score }, word);
  if (viewer.numbers) made.append(element("small", {}, score));
  return made;
}

function card(explainer, example, found) {
  const { name, signed, control } = viewer.list.explainers[explainer];
  const heading = element("h3", {}, swatch(explainer), breakable(name), element("span", { className: "number" }, `${measure()} ${told(found.value)}`));
  const made = element("article", { className: control ? "reading control" : "reading" }, heading);
  if (!found.shares) {
    made.append(element("p", { className: "problem" }, found.problem ? `no attribution: ${found.problem}` : "no attribution"));
    return made;
  }
  let start = 0;
  example.texts.forEach((words, place) => {
    const text = element("p", { className: "text" });
    if (example.texts.length > 1) text.append(element("span", { className: "part" }, String(place + 1)));
    words.forEach((word, within) => {
      const true_ = Boolean(example.rationale?.[place]?.[within]);
      text.append(coloured(word, found.shares[start + within], found.largest, signed, true_), " ");
    });
    if (example.more?.[place]) text.append(element("span", { className: "more" }, `… ${example.more[place]} more words`));
    made.append(text);
    start += words.length;
  });
  made.append(strongest(example.texts.flat(), found));
  return made;
}

// The colours once more in words and numbers, for who does not see them.
function strongest(words, found) {
  const places = found.shares.map((_, place) => place).filter((place) => found.shares[place]);
  places.sort((a, b) => Math.abs(found.shares[b]) - Math.abs(found.shares[a]) || a - b);
  const line = element("p", { className: "quiet strongest" }, "Strongest: ");
  places.slice(0, 3).forEach((place, number) => {
    line.append(number ? ", " : "", element("bdi", {}, words[place]), ` ${told(found.shares[place] * found.largest)}`);
  });
  if (!places.length) line.append("none; every score is next to nothing");
  return line;
}

// A long name may be broken after each underscore.
function breakable(name) {
  return element("bdi", {}, ...name.split("_").flatMap((part, place) => (place ? ["_", element("wbr"), part] : [part])));
}

function drawing(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
function swatch(explainer) {
  const line = drawing("path", { class: "line", d: "M1 5H25" });
  return drawing("svg", { width: 26, height: 10, viewBox: "0 0 26 10", class: `series ${look(explainer)}`, "aria-hidden": "true" }, line);
}

function curves(readings) {
  const drawn = readings.filter(({ found }) => found.curve);
  if (!drawn.length) return element("p", { className: "quiet" }, "No deletion curve is stored for this example and these explainers.");
  const [low, high] = viewer.list.range;
  const { feature } = document.getElementById("viewer").dataset;
  const across = (x) => 44 + x * 398;
  const down = (y) => 10 + ((high - y) / (high - low || 1)) * 250;
  const axes = drawing("g", { class: "axes" });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const y = low + share * (high - low);
    axes.append(drawing("path", { d: `M44 ${down(y).toFixed(1)}H442` }));
    axes.append(drawing("text", { x: 38, y: (down(y) + 4).toFixed(1), "text-anchor": "end" }, told(y, 2)));
    axes.append(drawing("text", { x: across(share).toFixed(1), y: 277, "text-anchor": "middle" }, `${100 * share}%`));
  }
  axes.append(drawing("text", { x: 243, y: 296, "text-anchor": "middle", class: "axis-title" }, `${feature}s hidden, most important first`));
  const label = `Deletion curves of ${drawn.length} explainers; the numbers stand in the table below`;
  const picture = drawing("svg", { viewBox: "0 0 460 300", role: "img", "aria-label": label }, axes);
  const rows = drawn.map(({ explainer, found }) => {
    const path = "M" + found.curve.map(([x, y]) => `${across(x).toFixed(1)} ${down(y).toFixed(1)}`).join("L");
    const name = viewer.list.explainers[explainer].name;
    picture.append(drawing("g", { class: `series ${look(explainer)}` }, drawing("title", {}, name), drawing("path", { class: "line", d: path })));
    const at = [0, 0.25, 0.5, 0.75, 1].map((x) => element("td", { className: "number" }, told(interpolated(found.curve, x))));
    return element("tr", {}, element("th", { scope: "row" }, element("bdi", {}, name)), ...at);
  });
  const head = ["Explainer", "0%", "25%", "50%", "75%", "100%"].map((text) => element("th", { scope: "col" }, text));
  const table = element("table", { className: "plain" }, element("caption", {}, `The ${viewer.list.output} of the explained class`),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
  const box = element("div", { className: "scroll", role: "region", tabIndex: 0, "aria-label": "Deletion curves as a table" }, table);
  const caption = element("figcaption", {}, element("strong", {}, "Deletion"),
    `: ${viewer.list.output} of the explained class, ${feature}s hidden by ${viewer.list.perturbation}. The lower the curve, the better.`);
  const legend = drawn.map(({ explainer }) => element("li", {}, swatch(explainer), breakable(viewer.list.explainers[explainer].name)));
  return element("figure", { className: "one" }, caption, element("ul", { className: "legend" }, ...legend), picture, element("details", { className: "numbers" }, element("summary", {}, "As a table"), box));
}

function interpolated(curve, x) {
  const after = curve.findIndex(([place]) => place >= x - 1e-9);
  if (after <= 0) return after < 0 ? curve.at(-1)[1] : curve[0][1];
  const [[x0, y0], [x1, y1]] = [curve[after - 1], curve[after]];
  return x1 === x0 ? y1 : y0 + ((x - x0) / (x1 - x0)) * (y1 - y0);
}

function facts(example) {
  const certain = example.probability === null ? "" : `, probability ${told(100 * example.probability, 1)} %`;
  const pairs = [["label", example.label], ["predicted", example.predicted], ["explained", `${example.target}${certain}`]];
  return element("dl", { className: "facts" }, ...pairs.map(([term, text]) =>
    element("div", {}, element("dt", {}, term), element("dd", {}, element("bdi", {}, text)))));
}

function draw() {
  const { list, place, parts } = viewer;
  const about = list.examples[place];
  const number = Math.floor(place / list.chunk);
  const chunk = viewer.chunks.get(number);
  parts.heading.replaceChildren(`Example ${place + 1} of ${list.examples.length} `, element("small", {}, element("bdi", {}, about.id)));
  parts.facts.replaceChildren(facts(about));
  parts.body.replaceChildren();
  if (!chunk) {
    load(number);
    return;
  }
  const within = place % list.chunk;
  const chosen = list.explainers.map((_, explainer) => explainer).filter((explainer) => viewer.chosen.has(explainer));
  const readings = chosen.map((explainer) => ({ explainer, found: reading(chunk, within, explainer) }));
  const cards = readings.filter(({ explainer }) => !list.explainers[explainer].searches)
    .map(({ explainer, found }) => card(explainer, chunk.examples[within], found));
  parts.body.append(element("div", { className: "readings" }, ...cards), curves(readings));
  problem("");
}

function load(number) {
  const script = element("script", { src: `examples/${number}.js` });
  const done = (text) => {
    script.remove();
    if (Math.floor(viewer.place / viewer.list.chunk) !== number) return;
    if (viewer.chunks.has(number)) draw();
    else problem(text);
  };
  script.addEventListener("load", () => done(`examples/${number}.js does not hold what it should.`));
  script.addEventListener("error", () => done(`examples/${number}.js cannot be read; it belongs beside this page.`));
  document.head.append(script);
}

function go(place) {
  if (location.hash === `#${place + 1}`) route();
  else location.hash = String(place + 1);
}
function step(by) {
  const at = viewer.order.indexOf(viewer.place);
  const to = at < 0 ? 0 : Math.min(Math.max(at + by, 0), viewer.order.length - 1);
  if (viewer.order.length && viewer.order[to] !== viewer.place) go(viewer.order[to]);
}

// The place of an example in the task, from 1; anything else leads to the first that is listed.
function route() {
  const asked = /^#[0-9]{1,7}$/.test(location.hash) ? Number(location.hash.slice(1)) - 1 : -1;
  viewer.place = asked >= 0 && asked < viewer.list.examples.length ? asked : viewer.order[0] ?? 0;
  viewer.items.forEach((item, place) => {
    if (place === viewer.place) item.firstChild.setAttribute("aria-current", "true");
    else item.firstChild.removeAttribute("aria-current");
  });
  const { items } = viewer.parts;
  const item = viewer.items[viewer.place];
  // Not scrollIntoView, which would move the whole page too.
  if (item.offsetTop < items.scrollTop || item.offsetTop + item.offsetHeight > items.scrollTop + items.clientHeight) {
    items.scrollTop = item.offsetTop - items.clientHeight / 3;
  }
  document.title = document.title.replace(/^(Example [0-9]+ · )?/, `Example ${viewer.place + 1} · `);
  draw();
  say(`Example ${viewer.place + 1}`);
}

function arrange() {
  const { list, parts } = viewer;
  const wanted = parts.search.value.trim().toLowerCase();
  const shown = new Map([
    ["wrong", (one) => one.label !== "none" && one.label !== one.predicted],
    ["right", (one) => one.label === one.predicted],
  ]).get(parts.which.value) ?? (() => true);
  const keys = new Map([
    ["highest", (one) => (one.value === null ? Infinity : -one.value)],
    ["lowest", (one) => one.value ?? Infinity],
    ["uncertain", (one) => one.probability ?? Infinity],
  ]);
  const key = keys.get(parts.by.value);
  viewer.order = list.examples.map((_, place) => place).filter((place) => {
    const one = list.examples[place];
    return shown(one) && (!wanted || one.start.toLowerCase().includes(wanted) || one.id.toLowerCase().includes(wanted));
  });
  if (key) {
    const sorted = list.examples.map(key);
    viewer.order.sort((a, b) => (sorted[a] === sorted[b] ? a - b : sorted[a] < sorted[b] ? -1 : 1));
  }
  parts.items.replaceChildren(...viewer.order.map((place) => viewer.items[place]));
  parts.count.textContent = `${viewer.order.length} of ${list.examples.length} examples`;
}

function choice(text, options, change) {
  const made = element("select", { autocomplete: "off" }, ...options.map(([value, shown]) => element("option", { value }, shown)));
  made.addEventListener("change", change);
  return [made, element("label", {}, `${text} `, made)];
}

function build() {
  const { list, parts } = viewer;
  list.explainers.forEach((explainer, place) => {
    if (place < CHOSEN || explainer.control) viewer.chosen.add(place);
  });
  viewer.items = list.examples.map((one, place) => {
    const facts = [element("span", { className: "place" }, String(place + 1)), element("bdi", { className: "start" }, one.start)];
    if (one.label !== "none" && one.label !== one.predicted) facts.push(element("span", { className: "wrong" }, "wrong"));
    facts.push(element("span", { className: "number" }, told(one.value, 2)));
    return element("li", {}, element("a", { href: `#${place + 1}` }, ...facts));
  });
  parts.search = element("input", { type: "search", autocomplete: "off", spellcheck: false });
  parts.search.addEventListener("input", arrange);
  let which, by;
  [parts.which, which] = choice("Show", [["all", "all"], ["wrong", "predicted wrongly"], ["right", "predicted rightly"]], arrange);
  [parts.by, by] = choice("Order", [["task", "as in the task"], ["highest", `highest ${measure()}`], ["lowest", `lowest ${measure()}`], ["uncertain", "least certain"]], arrange);
  parts.count = element("p", { className: "quiet", role: "status" });
  parts.items = element("ol", { className: "items", tabIndex: 0, "aria-label": "Examples" });
  const head = [element("span", {}, "no."), element("span", {}, "text"), element("span", {}, `mean ${measure()}`)];
  const side = element("div", { className: "side", role: "region", "aria-label": "List of examples" },
    element("label", { className: "search" }, "Find first words or an id ", parts.search), which, by, parts.count,
    element("p", { className: "quiet columns", ariaHidden: "true" }, ...head), parts.items);

  parts.heading = element("h2");
  parts.facts = element("div");
  parts.body = element("div");
  const buttons = [["← Previous", -1], ["Next →", 1]].map(([text, by]) => {
    const button = element("button", { type: "button", title: "or with the arrow keys" }, text);
    button.addEventListener("click", () => step(by));
    return button;
  });
  const things = list.explainers.map(({ name }, place) => ({ text: name, on: viewer.chosen.has(place), place }));
  const explainers = menu("Explainers", ticks("Explainers that are shown", things, ({ place }, on) => {
    viewer.chosen[on ? "add" : "delete"](place);
    draw();
  }));
  const [, numbers] = tick("Numbers below the words", false, (on) => { viewer.numbers = on; draw(); });
  const tools = element("div", { className: "tools" }, ...buttons, explainers, numbers);
  const detail = element("div", { className: "detail" }, parts.heading, tools, parts.facts, parts.body);
  const place = document.getElementById("viewer");
  place.append(side, detail);
  place.hidden = false;
}

addEventListener("keydown", (event) => {
  const step_ = new Map([["ArrowLeft", -1], ["ArrowRight", 1]]).get(event.key);
  const typing = event.target.closest?.("input, select, textarea, .scroll");
  if (step_ && viewer.list && !typing && !event.altKey && !event.ctrlKey && !event.metaKey && !event.shiftKey) step(step_);
});
addEventListener("load", () => {
  if (!viewer.list) return problem("examples/list.js cannot be read; it belongs beside this page.");
  if (!viewer.list.examples.length) return problem("There are no examples here.");
  if (viewer.list.left_out) problem(`${viewer.list.left_out} more examples are not kept here.`);
  build();
  arrange();
  route();
  addEventListener("hashchange", route);
});
