// A frame and the reader's state become a view: panels, rows of numbers, warnings. The same as view_data.py.

const UNITS = { attention: "spatial attention, 1 = average cell", context: "context weight, 1 = average cell" };
const MAX_BARS = 64;                                                 // channels, largest gaps first

// Loss maps of the image shown, kept while T and the rounding stay: another level, weight, cell or channel computes nothing anew.
class Memo {
  get(key, base, inputs, compute) {
    if (this.base !== base) Object.assign(this, { base, entries: new Map() });
    const known = this.entries.get(key);
    if (known && inputs.every((each, i) => each === known.inputs[i])) return known.value;
    const value = compute();
    this.entries.set(key, { inputs, value });
    return value;
  }
}

// base, students: of the store. detail: arrays of maps that stay in the kernel, or null. pending: whether its T is another.
function makeView(base, students, state, info, detail, pending, memo = new Memo()) {
  const level = base.levels[state.level], terms = Object.keys(info.terms), names = info.students.map((each) => each.name);
  const masksOf = (name) => base.levels[name].masks[state.rounding];
  const mapsOf = (name, at) => {
    const student = students[name].levels[at], error = detail?.students[name]?.error?.[at];
    return memo.get(`${name} ${at}`, base, [student, error, state.temperature, state.rounding], () => lossMaps(base.levels[at], student, masksOf(at), state.temperature, info.config, terms, error));
  };
  const byLevel = Object.fromEntries(info.choices.level.map((at) => [at, mapsOf(state.student_name, at)]));
  const here = Object.fromEntries(names.map((name) => [name, name === state.student_name ? byLevel[state.level] : mapsOf(name, state.level)]));
  const masks = masksOf(state.level), rows = termRows(byLevel, state, info);
  const known = rows.every((row) => row.raw !== null), total = known ? sumOf(rows.map((row) => row.weighted)) : null;
  for (const row of rows) row.percent = known ? (100 * row.weighted) / (total || 1) : 0;
  const gaps = names.map((name) => ({ student: name, ...gapOf(students[name].levels[state.level], here[name], masks.inside) }));
  const shown = (network) => network.detections.filter((each) => each.score >= state.score);
  const networks = ["teacher", ...names].map((name) => networkRow(name, name === "teacher" ? base.teacher : students[name], base, state, info, shown));
  const warnings = [...base.warnings];
  if (base.boxes.length && !networks[0].detected) warnings.push(`the teacher detects none of the ${base.boxes.length} objects of this image; check more images`);
  for (const name of names) warnings.push(...students[name].warnings);
  const panels = panelsOf(base, students, here, state, info, detail, total, shown);
  return {
    state, grid: level.grid, size: base.size, image_id: base.image_id, panels, masks, pending, rows: panelRows(panels, state),
    percent: cellPercent(byLevel[state.level], state, info, total), scale: state.overlays.includes("scale") ? scaleMask(masks.fg, masks.bg) : null, boxes: base.boxes,
    ranges: state.overlays.includes("roundings") ? level.ranges : {}, mask_edges: state.overlays.includes("mask") ? maskEdges(masks.fg, level.grid) : [],
    channels: channelsOf(level, students, here[state.student_name], state, detail), terms: rows, total, gaps, networks, warnings,
    notes: students[state.student_name].notes,
  };
}

function termRows(byLevel, state, info) {
  return Object.entries(byLevel).flatMap(([level, maps]) => Object.entries(maps.raw).map(([term, raw]) => {
    const weight = state[info.terms[term].weight];
    return { level, term, raw, weight, weighted: raw === null ? null : weight * raw };
  }));
}

// Percent of the whole loss of this image in every cell of the level shown.
function cellPercent(maps, state, info, total) {
  const cells = new Float64Array(maps.spatial.teacher.length);
  for (const [term, each] of Object.entries(maps.cells)) {
    const factor = (state[info.terms[term].weight] * 100) / (total || 1);
    for (let i = 0; each && i < cells.length; i++) cells[i] += factor * each[i];
  }
  return cells;
}

function networkRow(name, network, base, state, info, shown) {
  const found = shown(network), counts = countDetected(base.boxes, base.labels, found);
  return { name, AP: network.AP, detections: found.length, ...counts, objects: base.boxes.length, scale: network.scale[state.level] };
}

function panelsOf(base, students, here, state, info, detail, total, shown) {
  const chosen = state.student_name, names = state.view === "before_after" ? info.students.map((each) => each.name) : [chosen];
  const titles = Object.fromEntries(names.map((name) => [name, `${name} ${info.students.find((each) => each.name === name).checkpoints[students[name].checkpoint]}`.trim()]));
  if (state.quantity === "loss" && state.view === "difference") {
    const percent = 100 / (total || 1);
    const panels = Object.entries(here[chosen].cells).map(([term, cells]) => ({
      title: `${term} of ${chosen}`, network: chosen, kind: "amount", unit: "% of the loss", detections: [],
      values: scaled(cells || new Float64Array(base.levels[state.level].spatial.length), percent * state[info.terms[term].weight]),
    }));
    return withLimits(panels, state.limits);
  }
  if (state.quantity === "loss") {
    return withLimits(names.map((name) => ({
      title: titles[name], network: name, kind: "amount", unit: "weighted loss of a cell", detections: [], values: cellPercent(here[name], state, info, 100),
    })), state.limits);
  }
  const unit = UNITS[state.quantity] || `F of channel ${state.channel}`;
  const valuesOf = (student, network) => {
    const at = students[student].levels[state.level], cells = at.spatial.length;
    if (state.quantity === "attention") return here[student].spatial[network];
    if (state.quantity === "context") return scaled(at.context[network], cells);
    const features = network === "teacher" ? base.levels[state.level].features : at.features;
    return features ? features.subarray(state.channel * cells, (state.channel + 1) * cells) : detail.students[student].channel[network];
  };
  const values = { teacher: valuesOf(chosen, "teacher") };
  for (const name of names) values[name] = valuesOf(name, "student");
  const amounts = ["teacher", ...names].map((name) => ({
    title: titles[name] || name, network: name, kind: "amount", unit, values: values[name],
    detections: shown(name === "teacher" ? base.teacher : students[name]).map((each) => [each.box, `${each.class} ${each.score.toFixed(2)}`]),
  }));
  const differences = names.map((name) => ({
    title: `teacher - ${name}`, network: "", kind: "difference", unit, detections: [], values: difference(values.teacher, values[name]),
  }));
  return [...withLimits(amounts, state.limits), ...withLimits(differences, state.limits)];
}

// Colour limits: shared by all panels, or each panel's own. Limits of a difference are symmetric.
function withLimits(panels, limits) {
  const ends = panels.map(({ values }) => {
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < values.length; i++) {
      if (values[i] < low) low = values[i];
      if (values[i] > high) high = values[i];
    }
    return low > high ? [0, 0] : [low, high];
  });
  const all = [Math.min(...ends.map((each) => each[0])), Math.max(...ends.map((each) => each[1]))];
  return panels.map((panel, i) => {
    let [low, high] = limits === "shared" ? all : ends[i];
    if (panel.kind === "difference") [low, high] = [-Math.max(-low, high), Math.max(-low, high)];
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const middle = panel.kind === "amount" ? (low + high) / 2 : 0;
    return { ...panel, low, high, ticks: [low, middle, high].map((value) => general(value)), range: `${general(ends[i][0])} to ${general(ends[i][1])}` };
  });
}

// Rows of indices into panels, or "image"; differences below their students, the teacher below the image.
function panelRows(panels, state) {
  const of = (kind) => panels.flatMap((panel, i) => (panel.kind === kind ? [i] : []));
  const [amounts, differences] = [of("amount"), of("difference")];
  if (state.view === "before_after" && differences.length) return [["image", ...amounts.slice(1)], [amounts[0], ...differences]];
  return [["image", ...amounts, ...differences]];
}

// Two values per channel, the largest gap first; the attention A^C, or the maps' values in the selected cell.
function channelsOf(level, students, maps, state, detail) {
  let { teacher, student } = maps.channel, what = "channel attention, 1 = average channel";
  if (state.cell) {
    const [row, col] = state.cell, cells = level.spatial.length, at = row * level.grid[1] + col, own = students[state.student_name].levels[state.level];
    const pick = (features) => Float64Array.from({ length: features.length / cells }, (_, c) => features[c * cells + at]);
    [teacher, student] = level.features ? [pick(level.features), pick(own.features)] : ["teacher", "student"].map((network) => detail.students[state.student_name].cell[network]);
    what = `F in cell row ${row}, column ${col}`;
  }
  const order = Array.from(teacher.keys()).sort((a, b) => Math.abs(teacher[b] - student[b]) - Math.abs(teacher[a] - student[a]) || a - b);
  const first = order.slice(0, MAX_BARS);
  return { what, total: order.length, all: order, order: first, teacher: first.map((c) => teacher[c]), student: first.map((c) => student[c]) };
}
