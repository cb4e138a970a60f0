// Runs of a sweep: a figure with a point per run, a table that sorts and filters, and loss curves; on the page of a report, or as a widget that follows a sweep.

const DASH = "–", SVG = "http://www.w3.org/2000/svg", WIDTH = 760;
const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#7a7a7a"];
const DASHES = ["", "6 3", "2 2", "8 2 2 2"];                         // seeds of one row differ by their dashes
const SHORT = { error: "why", seconds: "seconds" };

function node(tag, attributes = {}, ...children) {
  const made = attributes.svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "svg" || value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
const svg = (tag, attributes, ...children) => node(tag, { ...attributes, svg: true }, ...children);
const missing = (value) => value === null || value === undefined || value === "";

function shown(value) {
  if (missing(value)) return DASH;
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 1 ? value.toFixed(1) : String(Number(value.toPrecision(3)));
}

// Numbers by size, other values as text.
function compare(a, b) {
  const numbers = [a, b].map(Number);
  return numbers.every(Number.isFinite) ? numbers[0] - numbers[1] : String(a).localeCompare(String(b), "en", { numeric: true });
}

function render({ model, el }) {
  let lines = [], columns = [], numbers = [], sorted = null, down = false, chosen = null;
  const filter = node("input", { type: "search", placeholder: "any words or numbers", oninput: draw });
  const choices = node("span", { class: "runs-choices" }), count = node("output", { "aria-live": "polite" }), status = node("p", { class: "runs-status", role: "status" });
  const head = node("tr"), body = node("tbody"), points = node("div", { class: "runs-points" }), curves = node("div", { class: "runs-curves" });
  const score = node("select", { onchange: draw }), table = node("table", {}, node("caption"), node("thead", {}, head), body);
  el.append(node("section", { class: "runs" }, status,
    node("div", { class: "runs-controls" }, node("label", {}, "Show runs with ", filter), choices, node("label", {}, "points ", score), node("button", { type: "button", onclick: clear }, "All runs"), count),
    points, curves, node("div", { class: "runs-scroll", tabindex: 0, role: "region", "aria-label": "Table of runs" }, table)));

  function clear() {
    filter.value = "";
    choices.querySelectorAll("select").forEach((each) => { each.value = ""; });
    draw();
  }

  function sort(name) {
    down = sorted === name ? !down : numbers.includes(name) && name !== "seed";
    sorted = name;
    draw();
    head.querySelector(`[data-column="${CSS.escape(name)}"] button`).focus();
  }

  function fill(select, values, first) {
    const before = select.value;
    select.replaceChildren(...(first ? [node("option", { value: "" }, first)] : []), ...values.map((value) => node("option", { value: String(value) }, shown(value))));
    if (values.map(String).includes(before)) select.value = before;
  }

  const stateOf = (line) => (line.state === "running" ? `running, ${Math.round(100 * line.progress)} %` : line.state);
  const valueOf = (line, name) => (name === "state" ? stateOf(line) : name === "files" ? Object.keys(line.files).join(" ") : line[name] ?? null);

  function draw() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean), wanted = [...choices.querySelectorAll("select")].filter((each) => each.value);
    const kept = lines.filter((line) => words.every((word) => columns.some((name) => shown(valueOf(line, name)).toLowerCase().includes(word)))
      && wanted.every((each) => String(line[each.dataset.column]) === each.value));
    if (sorted) {
      kept.sort((one, other) => {
        const [a, b] = [valueOf(one, sorted), valueOf(other, sorted)];
        return missing(a) || missing(b) ? missing(a) - missing(b) : (down ? -1 : 1) * compare(a, b);       // missing values last
      });
    }
    head.replaceChildren(...columns.map((name) => node("th", { scope: "col", "data-column": name, class: (name === "seed" || numbers.includes(name)) && "runs-number", "aria-sort": sorted === name ? (down ? "descending" : "ascending") : "none" },
      node("button", { type: "button", onclick: () => sort(name) }, SHORT[name] || name, node("span", { "aria-hidden": "true" }, sorted !== name ? "" : down ? " ▼" : " ▲")))));
    body.replaceChildren(...kept.map((line) => node("tr", { id: line.id, "data-state": line.state, "data-chosen": line.id === chosen && "true" }, ...columns.map((name) => cell(line, name)))));
    count.textContent = `${kept.length} of ${lines.length} runs`;
    drawPoints(kept);
    drawCurves(kept);
  }

  function cell(line, name) {
    const value = valueOf(line, name), text = shown(value), number = typeof value === "number";
    const links = Object.entries(line.files).flatMap(([label, href]) => [node("a", { href, target: "_blank", rel: "noopener" }, label), " "]);
    return node(name === "row" ? "th" : "td", { scope: name === "row" && "row", class: number && "runs-number", title: number && text !== String(value) && String(value) },
      ...(name === "files" && links.length ? links : [text]));
  }

  // One line per row of the sweep, one point per run; a click on a point marks its line in the table.
  function drawPoints(kept) {
    const name = score.value, drawn = kept.filter((line) => !missing(line[name])), rows = [...new Set(drawn.map((line) => line.row))];
    if (!drawn.length) return points.replaceChildren();
    const values = drawn.map((line) => line[name]), [low, high] = [Math.min(...values), Math.max(...values)], left = 210, step = 30;
    const x = (value) => left + 10 + ((WIDTH - left - 30) * (value - low)) / (high - low || 1), bottom = rows.length * step + 6;
    const text = (at, y, anchor, words) => svg("text", { x: at, y, "text-anchor": anchor }, words);
    points.replaceChildren(svg("svg", { viewBox: `0 0 ${WIDTH} ${bottom + 22}`, role: "group", "aria-label": `${name} of every run` },
      ...rows.flatMap((row, i) => [svg("path", { class: "runs-axis", d: `M${left} ${i * step + step / 2 + 6}H${WIDTH - 10}` }), text(left - 8, i * step + step / 2 + 10, "end", row.length > 34 ? `${row.slice(0, 33)}…` : row)]),
      ...drawn.map((line) => svg("a", { href: `#${line.id}`, onclick: (event) => { event.preventDefault(); choose(line.id); } },
        svg("circle", { cx: x(line[name]), cy: rows.indexOf(line.row) * step + step / 2 + 6, r: line.id === chosen ? 7 : 5, fill: COLOURS[rows.indexOf(line.row) % COLOURS.length], "data-chosen": line.id === chosen && "true" }),
        svg("title", {}, `${line.row}, seed ${line.seed}: ${name} ${shown(line[name])}`))),
      text(x(low), bottom + 14, "start", shown(low)), text(x(high), bottom + 14, "end", shown(high)), text(x((low + high) / 2), bottom + 14, "middle", name)));
  }

  // One small chart per row of the sweep, on one scale: the loss over the steps, one line per seed.
  function drawCurves(kept) {
    const with_curves = kept.filter((line) => line.curve?.length), all = with_curves.flatMap((line) => line.curve);
    if (!all.length) return curves.replaceChildren();
    const width = 220, height = 110, log = (value) => Math.log10(Math.max(value, 1e-9)), last = Math.max(...all.map((each) => each[0]));
    const low = Math.min(...all.map((each) => log(each[1]))), high = Math.max(...all.map((each) => log(each[1])));
    const x = (at) => 34 + ((width - 40) * at) / (last || 1), y = (loss) => 8 + ((height - 28) * (high - log(loss))) / (high - low || 1);
    const text = (at, up, words) => svg("text", { x: at, y: up, "text-anchor": "end" }, words);
    curves.replaceChildren(...[...new Set(with_curves.map((line) => line.row))].map((row, number) => node("figure", {}, node("figcaption", {}, `${row}: loss (log scale)`),
      svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Loss of ${row} over the steps` },
        svg("path", { class: "runs-axis", d: `M34 8V${height - 20}H${width - 6}` }), text(30, 14, shown(10 ** high)), text(30, height - 20, shown(10 ** low)), text(width - 6, height - 8, `step ${last}`),
        ...with_curves.filter((line) => line.row === row).map((line, i) => svg("polyline", {
          fill: "none", stroke: COLOURS[number % COLOURS.length], "stroke-width": 1.5, "stroke-dasharray": DASHES[i % DASHES.length], points: line.curve.map(([at, loss]) => `${x(at)},${y(loss)}`).join(" "),
        }, svg("title", {}, `seed ${line.seed}: loss ${shown(line.curve.at(-1)[1])} at step ${line.curve.at(-1)[0]}`)))))));
  }

  function choose(id) {
    chosen = id;
    draw();
    body.querySelector("[data-chosen]").scrollIntoView({ block: "nearest" });
  }

  function update() {
    const data = model.get("data");
    lines = data.lines.map((line) => ({ ...line, id: `run-${line.row}-${line.seed}`.replace(/[^\w]+/g, "-") }));
    numbers = data.numbers;
    columns = ["row", "seed", "state", ...(lines.some((line) => line.error) ? ["error"] : []), ...numbers, ...data.settings, ...(lines.some((line) => Object.keys(line.files).length) ? ["files"] : [])];
    table.caption.textContent = `Runs of ${data.name}. ${DASH}: not used by the run, or not known.`;
    status.textContent = data.status || "";
    status.hidden = !data.status;
    for (const name of ["row", "state"]) {
      const values = [...new Set(lines.map((line) => line[name]))];
      if (!choices.querySelector(`[data-column="${name}"]`)) choices.append(node("label", {}, `${name} `, node("select", { "data-column": name, onchange: draw })), " ");
      fill(choices.querySelector(`[data-column="${name}"]`), values, "all");
    }
    fill(score, numbers);
    draw();
  }

  model.on("change:data", update);
  update();
  return () => model.off("change:data", update);
}

export default { render };
