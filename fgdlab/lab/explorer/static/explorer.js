// The explorer's page: controls tell the kernel what was chosen, panels draw what comes back. Hover and read-out stay in the browser.

const numbers = (view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function render({ model, el }) {
  const about = model.get("about");
  const root = element("div", { class: "fgd", "data-lm-suppress-shortcuts": "true", "data-frames": 0 });
  const luts = bytes(model.get("luts")), lutOf = { amount: luts.subarray(0, 768), difference: luts.subarray(768) };
  let frame = model.get("frame"), maps = [], ground = [], plates = [], hovered = null, playing = false, waiting = null;

  function choose(changes) {
    model.set("choice", { ...model.get("choice"), ...changes });
    model.save_changes();
    clearTimeout(waiting);
    const there = JSON.stringify(model.get("choice")) === JSON.stringify(frame.state);         // back before the kernel noticed: nothing will come
    if (!there) waiting = setTimeout(() => { root.dataset.busy = "true"; }, 250);
  }

  // --- header: image, export, what is going on
  const imageWords = Array.from({ length: about.images }, (_, i) => `${i + 1} of ${about.images}`);
  const image = slider("Image", imageWords.map((_, i) => i), imageWords, (value) => choose({ image: value, cell: null }));
  const turn = (step) => choose({ image: (model.get("choice").image + step + about.images) % about.images, cell: null });
  const status = element("span", { class: "fgd-status", role: "status", "aria-live": "polite" });
  const error = element("div", { class: "fgd-error", role: "alert", hidden: true });
  const want = (kind) => element("button", { type: "button", "data-want": kind, text: kind === "py" ? "Code" : kind.toUpperCase(), title: {
    png: "The panels as a picture", svg: "The panels as vector graphics", csv: "The loss by term and level", py: "Python that reproduces this view without widgets",
  }[kind], onclick: () => { model.send({ want: kind }); status.textContent = `making the ${kind} ...`; } });
  const code = element("pre", { class: "fgd-code", tabindex: 0 });
  const dialog = element("div", { class: "fgd-sheet", hidden: true, role: "dialog", "aria-label": "Code of this view" },
    element("div", { class: "fgd-sheet-head" }, element("strong", { text: "This view without widgets" }),
      element("button", { type: "button", text: "Copy", onclick: () => navigator.clipboard?.writeText(code.textContent) }),
      element("button", { type: "button", text: "Save .py", onclick: () => save(dialog.dataset.file, "text/x-python", code.textContent) }),
      element("button", { type: "button", class: "fgd-close", text: "Close", onclick: () => { dialog.hidden = true; } })), code);
  const header = element("header", {},
    element("strong", { class: "fgd-brand", text: "Attention explorer" }),
    element("div", { class: "fgd-image" }, element("button", { type: "button", "aria-label": "previous image", text: "‹", onclick: () => turn(-1) }), image.input,
      element("button", { type: "button", "aria-label": "next image", text: "›", onclick: () => turn(1) }), image.shown),
    status, element("div", { class: "fgd-export", role: "group", "aria-label": "Export" }, ...["png", "svg", "csv", "py"].map(want)));

  // --- the strip of choices
  const temperature = slider(...sliderOf("temperature"));
  function sliderOf(name) {
    const spec = about.sliders[name];
    return [spec.label, [...spec.stops], [...spec.labels], (value) => choose({ [name]: value }), { "data-control": name }];
  }
  const controls = {
    quantity: segmented("Map", about.quantities, (value) => choose({ quantity: value })),
    level: segmented("Level", about.levels, (value) => choose({ level: value, cell: null })),
    view: segmented("View", about.views, (value) => choose({ view: value })),
    who: segmented("Student", about.students, (value) => choose({ who: value, stage: about.students.find((each) => each.value === value).stages.length - 1 })),
    rounding: segmented("Rounding", about.roundings, (value) => choose({ rounding: value })),
    limits: segmented("Colour limits", about.limits, (value) => choose({ limits: value })),
    overlays: chips("Draw", about.overlays, (value) => choose({ overlays: value })),
  };
  for (const [name, each] of Object.entries(controls)) each.root.dataset.control = name;
  if (about.students.length < 2) controls.who.root.hidden = controls.view.root.hidden = true;
  const strip = element("section", { class: "fgd-strip", "aria-label": "What is shown" },
    controls.quantity.root, controls.level.root,
    element("div", { class: "fgd-group fgd-grow" }, element("span", { class: "fgd-name", text: "Temperature T" }), element("div", { class: "fgd-slide" }, temperature.input, temperature.shown)),
    controls.view.root, controls.who.root, controls.limits.root, controls.rounding.root, controls.overlays.root);

  const hint = element("p", { class: "fgd-hint" });

  // --- checkpoints
  const playButton = element("button", { type: "button", class: "fgd-play", text: "▶ Play", onclick: () => (playing ? stop() : play()) });
  const timeline = element("div", { class: "fgd-timeline", hidden: true });
  let stages = null;
  function showStages(choice) {
    const student = about.students.find((each) => each.value === choice.who);
    timeline.hidden = student.stages.length < 2;
    if (timeline.hidden) return;
    if (stages?.of !== student.value) {
      stages = slider("Checkpoint", student.stages.map((_, i) => i), [...student.stages], (value) => { stop(); choose({ stage: value }); }, { "data-control": "stage" });
      stages.of = student.value;
      timeline.replaceChildren(element("span", { class: "fgd-name", text: "Checkpoint" }), playButton, stages.input, stages.shown);
    }
    stages.show(choice.stage);
  }
  function play() {
    const last = about.students.find((each) => each.value === model.get("choice").who).stages.length - 1;
    playing = true;
    playButton.textContent = "❚❚ Pause";
    choose({ stage: model.get("choice").stage >= last ? 0 : model.get("choice").stage + 1 });
  }
  function stop() {
    playing = false;
    playButton.textContent = "▶ Play";
  }
  function playOn() {
    const student = about.students.find((each) => each.value === frame.state.who);
    if (!playing || frame.state.stage !== model.get("choice").stage) return;
    if (frame.state.stage >= student.stages.length - 1) stop();
    else setTimeout(() => { if (playing) choose({ stage: frame.state.stage + 1 }); }, 350);
  }

  // --- maps and the read-out below them
  const area = element("section", { class: "fgd-maps", tabindex: 0, "aria-label": "maps; arrow keys move over cells, Enter picks one, Escape lets it go" });
  const readout = element("div", { class: "fgd-readout" });
  const hover = (cell) => {
    hovered = cell;
    plates.forEach((plate) => plate.frameCell(plate.cursor, cell));
    readOut();
  };
  const pick = (cell) => choose({ cell });
  area.addEventListener("keydown", (event) => {
    const [height, width] = frame.grid, [row, col] = hovered || frame.state.cell || [0, 0];
    const moved = { ArrowUp: [row - 1, col], ArrowDown: [row + 1, col], ArrowLeft: [row, col - 1], ArrowRight: [row, col + 1] }[event.key];
    if (moved) hover([Math.max(0, Math.min(height - 1, moved[0])), Math.max(0, Math.min(width - 1, moved[1]))]);
    else if (event.key === "Enter" && hovered) pick(hovered);
    else if (event.key === "Escape") pick(null);
    else return;
    event.preventDefault();
  });

  function readOut() {
    const cell = hovered || frame.state.cell;
    if (!cell) {
      readout.replaceChildren(element("span", { class: "fgd-quiet", text: "Point at a cell to read it in every panel; click it to list its channels." }));
      return;
    }
    const i = cell[0] * frame.grid[1] + cell[1], count = frame.panels.length;
    const item = (name, value, color) => {
      const made = element("span", { class: "fgd-item", "data-name": name }, element("em", { text: name }), element("b", { text: value }));
      if (color) made.style.setProperty("--role", color);
      return made;
    };
    const [fg, bg, share] = [ground[0][i], ground[1][i], maps[count][i]];
    readout.replaceChildren(
      item("cell", `row ${cell[0]}, col ${cell[1]}`),
      ...frame.panels.map((panel, k) => item(panel.title, maps[k][i].toPrecision(3), about.colours[panel.role])),
      item(fg > 0 || bg === 0 ? "foreground weight" : "background weight", (fg > 0 ? fg : bg).toPrecision(3)),
      item("share of the loss", `${share.toPrecision(3)} %`));
  }

  function drawMaps() {
    const order = frame.rows.flat(), filled = order.filter((index) => index !== null);
    while (plates.length < filled.length) plates.push(new Plate(hover, pick));
    plates.splice(filled.length);
    const layout = JSON.stringify(frame.rows);
    if (area.dataset.layout !== layout) {
      let next = 0;
      area.replaceChildren(...order.map((index) => (index === null ? element("span") : plates[next++].root)));
      area.style.setProperty("--columns", Math.max(...frame.rows.map((row) => row.length)));
      area.dataset.layout = layout;
    }
    filled.forEach((index, position) => {
      const plate = plates[position];
      if (index === "image") plate.drawPhoto(frame, model.get("photo"), model.get("photo_size"), ground[0], ground[2], lutOf.amount);
      else plate.drawMap(frame.panels[index], maps[index], frame, lutOf[frame.panels[index].kind], about.colours[frame.panels[index].role] || "transparent");
      plate.frameCell(plate.picked, frame.state.cell);
      plate.frameCell(plate.cursor, hovered);
    });
    drawMarks();
  }
  function drawMarks() {
    const shown = frame.state.overlays.includes("detections");
    frame.rows.flat().filter((index) => index !== null).forEach((index, position) => {
      const panels = index === "image" ? frame.panels : [frame.panels[index]];
      plates[position].drawMarks(frame, shown ? panels.map((panel) => [about.colours[panel.role] || "#555", panel.found, index !== "image"]) : []);
    });
  }

  // --- cards
  const bars = new Bars((channel) => choose({ channel, quantity: "channel" }));
  const what = element("span", { class: "fgd-what" });
  const whole = element("button", { type: "button", class: "fgd-small", text: "Whole map", hidden: true, onclick: () => pick(null) });
  const weights = Object.fromEntries(["alpha", "beta", "gamma", "lambda_"].map((name) => [name, slider(...sliderOf(name))]));
  const weightRows = Object.fromEntries(Object.entries(weights).map(([name, each]) => {
    const swatch = element("i", { class: "fgd-swatch" }), share = element("b", { class: "fgd-share", "data-share": name });
    return [name, { share, swatch, root: element("div", { class: "fgd-weight", "data-weight": name }, swatch, element("span", { text: about.sliders[name].label }), each.input, each.shown, share) }];
  }));
  const levels = element("div", { class: "fgd-levels" }), total = element("b", { class: "fgd-total" });
  const gaps = element("table", { class: "fgd-table fgd-gaps" }), networks = element("table", { class: "fgd-table fgd-networks" });
  const curve = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  curve.setAttribute("class", "fgd-curve");
  const verdict = element("div", { class: "fgd-verdict" }), notes = element("footer", { class: "fgd-notes" });
  const card = (title, aside, ...children) => element("section", { class: "fgd-card" }, element("h4", {}, element("span", { text: title }), ...aside), ...children);
  const cards = element("div", { class: "fgd-cards" },
    card("Channels", [what, whole], bars.canvas, bars.words),
    card("Loss of this image", [total], ...Object.values(weightRows).map((row) => row.root), levels),
    element("div", { class: "fgd-pair" }, card("Gap to the teacher", [], gaps, curve), card("Teacher check", [], networks, verdict)));

  function drawCards() {
    const state = frame.state, colours = about.colours;
    what.textContent = `${frame.channels.what}; ${frame.channels.order.length} of ${frame.channels.total}, largest gap first`;
    whole.hidden = state.cell === null;
    bars.draw(frame.channels, state.quantity === "channel" ? state.channel : null, state.who, [colours.teacher, colours[state.who]]);
    total.textContent = frame.total;
    const termOf = Object.fromEntries(Object.keys(frame.shares).map((term) => [about.terms[term].weight, term]));
    for (const [name, row] of Object.entries(weightRows)) {
      const term = termOf[name];
      row.root.toggleAttribute("data-off", !term);
      weights[name].input.disabled = !term;
      row.root.title = term ? "" : "The configuration switches this term off.";
      row.share.textContent = term ? frame.shares[term] : "-";
      row.swatch.style.background = term ? about.terms[term].color : "transparent";
    }
    levels.replaceChildren(...about.levels.map(({ value: level }) => {
      const rows = frame.terms.filter((row) => row.level === level);
      const stack = element("div", { class: "fgd-stack" }, ...rows.map((row) => {
        const part = element("i", { "data-term": row.term, title: `${row.term} on ${level}: sum ${row.words[0]}, weighted ${row.words[1]}, ${row.words[2]}` });
        Object.assign(part.style, { width: `${row.share}%`, background: about.terms[row.term].color });
        return part;
      }));
      return element("div", { class: "fgd-level", "data-level": level }, element("span", { text: level }), stack);
    }));
    table(gaps, ["", "features: objects", "background", "attention: objects", "background"],
      frame.gaps.map((row) => [row.student, row.feature_fg, row.feature_bg, row.attention_fg, row.attention_bg]), colours);
    table(networks, ["", "AP", "detections", "objects found", `scale on ${state.level}`],
      frame.networks.map((row) => [row.name, row.AP, row.detections, row.found, row.scale]), colours);
    verdict.replaceChildren(...(frame.warnings.length ? frame.warnings.map((line) => element("p", { class: "fgd-warning", text: line }))
      : [element("p", { class: "fgd-fine", text: "Nothing looks wrong on this image." })]));
    notes.replaceChildren(...frame.notes.map((line) => element("p", { text: line })));
    curve.style.display = frame.curve.length ? "" : "none";
    if (frame.curve.length) drawCurve(curve, frame.curve, state.stage);
  }
  function table(node, head, rows, colours) {
    const content = JSON.stringify([head, rows]);
    if (node.dataset.content === content) return;                    // a weight or T moves no row of some tables: what stays is not laid out anew
    node.dataset.content = content;
    node.replaceChildren(element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { text })))),
      element("tbody", {}, ...rows.map(([name, ...values]) => {
        const first = element("th", { scope: "row", text: name });
        first.style.setProperty("--role", colours[name]);
        return element("tr", { "data-row": name }, first, ...values.map((text) => element("td", { text })));
      })));
  }

  // --- kernel to browser
  function showChoice() {
    const choice = model.get("choice");
    image.show(choice.image);
    temperature.show(choice.temperature);
    for (const [name, each] of Object.entries(controls)) each.show(choice[name]);
    for (const [name, each] of Object.entries(weights)) each.show(choice[name]);
    hint.textContent = about.quantities.find((each) => each.value === choice.quantity).hint;
    showStages(choice);
  }
  function showFrame() {
    frame = model.get("frame");
    if (!frame.grid) return;
    const size = frame.grid[0] * frame.grid[1];
    [maps, ground] = ["maps", "ground"].map((name) => {
      const all = numbers(model.get(name));
      return Array.from({ length: all.length / size }, (_, i) => all.subarray(i * size, (i + 1) * size));
    });
    if (hovered && (hovered[0] >= frame.grid[0] || hovered[1] >= frame.grid[1])) hovered = null;
    drawMaps();
    drawCards();
    readOut();
    clearTimeout(waiting);
    delete root.dataset.busy;
    error.hidden = true;
    status.textContent = "";
    root.dataset.frames = Number(root.dataset.frames) + 1;
    root.dispatchEvent(new CustomEvent("fgd-painted", { bubbles: true }));
    playOn();
  }
  function save(name, type, content) {
    const link = element("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  function onMessage(message, buffers) {
    if (message.progress !== undefined) status.textContent = message.progress;
    if (message.error !== undefined) {
      clearTimeout(waiting);
      delete root.dataset.busy;
      stop();
      error.textContent = message.error;
      error.hidden = false;
      status.textContent = "";
    }
    if (message.file !== undefined) {
      status.textContent = "";
      const content = bytes(buffers[0]);
      if (!message.file.endsWith(".py")) return save(message.file, message.type, content);
      code.textContent = new TextDecoder().decode(content);
      dialog.dataset.file = message.file;
      dialog.hidden = false;
      code.focus();
    }
  }

  root.append(header, error, dialog, strip, timeline, hint, area, readout, cards, notes);
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape") dialog.hidden = true;
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();   // the notebook would take the arrow keys for itself and leave the sliders none
  });
  el.append(root);
  model.on("change:frame", showFrame);
  model.on("change:choice", showChoice);
  model.on("msg:custom", onMessage);
  const resized = new ResizeObserver(() => { if (maps.length) { drawMarks(); bars.draw(frame.channels, bars.chosen, bars.name, [about.colours.teacher, about.colours[frame.state.who]]); } });
  resized.observe(root);
  showChoice();
  showFrame();
  return () => {
    resized.disconnect();
    model.off("change:frame", showFrame);
    model.off("change:choice", showChoice);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
