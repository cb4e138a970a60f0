// The explorer's page: controls send the choice to the kernel, panels draw the answer. Pointing and read-out need no kernel.

const numbers = (data) => new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
const bytes = (data) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

function render({ model, el }) {
  const info = model.get("info");
  const root = element("div", { class: "fgd", "data-lm-suppress-shortcuts": "true", "data-frames": 0 });
  const luts = bytes(model.get("lookup_tables")), lutOf = { amount: luts.subarray(0, 768), difference: luts.subarray(768) };
  let view = model.get("view"), maps = [], masks = [], panelViews = [], hovered = null, playing = false, waiting = null;

  function choose(changes) {
    model.set("choice", { ...model.get("choice"), ...changes });
    model.save_changes();
    clearTimeout(waiting);
    const unchanged = JSON.stringify(model.get("choice")) === JSON.stringify(view.state);         // the kernel will send no view
    if (!unchanged) waiting = setTimeout(() => { root.dataset.busy = "true"; }, 250);
  }

  // --- header: image, status, export
  const imageTexts = Array.from({ length: info.images }, (_, i) => `${i + 1} of ${info.images}`);
  const image = slider("Image", imageTexts.map((_, i) => i), imageTexts, (value) => choose({ image: value, cell: null }));
  const turn = (step) => choose({ image: (model.get("choice").image + step + info.images) % info.images, cell: null });
  const status = element("span", { class: "fgd-status", role: "status", "aria-live": "polite" });
  const error = element("div", { class: "fgd-error", role: "alert", hidden: true });
  const exportButton = (kind) => element("button", { type: "button", "data-export": kind, text: kind === "py" ? "Code" : kind.toUpperCase(), title: {
    png: "The panels as an image", svg: "The panels as vector graphics", csv: "The loss by term and level", py: "Python code that draws this view without widgets",
  }[kind], onclick: () => { model.send({ export: kind }); status.textContent = `exporting ${kind} ...`; } });
  const code = element("pre", { class: "fgd-code", tabindex: 0 });
  const dialog = element("div", { class: "fgd-dialog", hidden: true, role: "dialog", "aria-label": "Code of this view" },
    element("div", { class: "fgd-dialog-head" }, element("strong", { text: "This view without widgets" }),
      element("button", { type: "button", text: "Copy", onclick: () => navigator.clipboard?.writeText(code.textContent) }),
      element("button", { type: "button", text: "Save .py", onclick: () => save(dialog.dataset.file, "text/x-python", code.textContent) }),
      element("button", { type: "button", class: "fgd-close", text: "Close", onclick: () => { dialog.hidden = true; } })), code);
  const header = element("header", {},
    element("strong", { class: "fgd-brand", text: "Attention explorer" }),
    element("div", { class: "fgd-image" }, element("button", { type: "button", "aria-label": "previous image", text: "‹", onclick: () => turn(-1) }), image.input,
      element("button", { type: "button", "aria-label": "next image", text: "›", onclick: () => turn(1) }), image.shown),
    status, element("div", { class: "fgd-export", role: "group", "aria-label": "Export" }, ...["png", "svg", "csv", "py"].map(exportButton)));

  // --- controls
  const temperature = slider(...sliderOf("temperature"));
  function sliderOf(name) {
    const spec = info.sliders[name];
    return [spec.label, [...spec.values], [...spec.texts], (value) => choose({ [name]: value }), { "data-control": name }];
  }
  const controls = {
    quantity: segmented("Map", info.choices.quantity, (value) => choose({ quantity: value })),
    level: segmented("Level", info.choices.level, (value) => choose({ level: value, cell: null })),
    view: segmented("View", info.choices.view, (value) => choose({ view: value })),
    student_name: segmented("Student", info.students, (value) => choose({ student_name: value, checkpoint: info.students.find((each) => each.value === value).checkpoints.length - 1 })),
    rounding: segmented("Rounding", info.choices.rounding, (value) => choose({ rounding: value })),
    limits: segmented("Colour limits", info.choices.limits, (value) => choose({ limits: value })),
    overlays: checkboxes("Overlays", info.choices.overlays, (value) => choose({ overlays: value })),
  };
  for (const [name, each] of Object.entries(controls)) each.root.dataset.control = name;
  if (info.students.length < 2) controls.student_name.root.hidden = controls.view.root.hidden = true;
  const strip = element("section", { class: "fgd-strip", "aria-label": "What is shown" },
    controls.quantity.root, controls.level.root,
    element("div", { class: "fgd-group fgd-grow" }, element("span", { class: "fgd-name", text: "Temperature T" }), element("div", { class: "fgd-slide" }, temperature.input, temperature.shown)),
    controls.view.root, controls.student_name.root, controls.limits.root, controls.rounding.root, controls.overlays.root);

  const hint = element("p", { class: "fgd-hint" });

  // --- checkpoints
  const playButton = element("button", { type: "button", class: "fgd-play", text: "▶ Play", onclick: () => (playing ? stop() : play()) });
  const timeline = element("div", { class: "fgd-timeline", hidden: true });
  let checkpoints = null;
  function showCheckpoints(choice) {
    const student = info.students.find((each) => each.value === choice.student_name);
    timeline.hidden = student.checkpoints.length < 2;
    if (timeline.hidden) return;
    if (checkpoints?.of !== student.value) {
      checkpoints = slider("Checkpoint", student.checkpoints.map((_, i) => i), [...student.checkpoints], (value) => { stop(); choose({ checkpoint: value }); }, { "data-control": "checkpoint" });
      checkpoints.of = student.value;
      timeline.replaceChildren(element("span", { class: "fgd-name", text: "Checkpoint" }), playButton, checkpoints.input, checkpoints.shown);
    }
    checkpoints.show(choice.checkpoint);
  }
  function play() {
    const last = info.students.find((each) => each.value === model.get("choice").student_name).checkpoints.length - 1;
    playing = true;
    playButton.textContent = "❚❚ Pause";
    choose({ checkpoint: model.get("choice").checkpoint >= last ? 0 : model.get("choice").checkpoint + 1 });
  }
  function stop() {
    playing = false;
    playButton.textContent = "▶ Play";
  }
  function playOn() {
    const student = info.students.find((each) => each.value === view.state.student_name);
    if (!playing || view.state.checkpoint !== model.get("choice").checkpoint) return;
    if (view.state.checkpoint >= student.checkpoints.length - 1) stop();
    else setTimeout(() => { if (playing) choose({ checkpoint: view.state.checkpoint + 1 }); }, 350);
  }

  // --- maps and the read-out below them
  const area = element("section", { class: "fgd-maps", tabindex: 0, "aria-label": "maps; arrow keys move between cells, Enter selects a cell, Escape clears the selection" });
  const readout = element("div", { class: "fgd-readout" });
  const hover = (cell) => {
    hovered = cell;
    panelViews.forEach((panelView) => panelView.outlineCell(panelView.cursor, cell));
    readOut();
  };
  const pick = (cell) => choose({ cell });
  area.addEventListener("keydown", (event) => {
    const [height, width] = view.grid, [row, col] = hovered || view.state.cell || [0, 0];
    const moved = { ArrowUp: [row - 1, col], ArrowDown: [row + 1, col], ArrowLeft: [row, col - 1], ArrowRight: [row, col + 1] }[event.key];
    if (moved) hover([Math.max(0, Math.min(height - 1, moved[0])), Math.max(0, Math.min(width - 1, moved[1]))]);
    else if (event.key === "Enter" && hovered) pick(hovered);
    else if (event.key === "Escape") pick(null);
    else return;
    event.preventDefault();
  });

  function readOut() {
    const cell = hovered || view.state.cell;
    if (!cell) {
      readout.replaceChildren(element("span", { class: "fgd-muted", text: "Point at a cell to read its value in every panel; click it to list its channels." }));
      return;
    }
    const i = cell[0] * view.grid[1] + cell[1], count = view.panels.length;
    const item = (name, value, color) => {
      const node = element("span", { class: "fgd-item", "data-name": name }, element("em", { text: name }), element("b", { text: value }));
      if (color) node.style.setProperty("--colour", color);
      return node;
    };
    const [fg, bg, percent] = [masks[0][i], masks[1][i], maps[count][i]];
    readout.replaceChildren(
      item("cell", `row ${cell[0]}, col ${cell[1]}`),
      ...view.panels.map((panel, k) => item(panel.title, maps[k][i].toPrecision(3), info.colours[panel.network])),
      item(fg > 0 || bg === 0 ? "foreground weight" : "background weight", (fg > 0 ? fg : bg).toPrecision(3)),
      item("percent of the loss", `${percent.toPrecision(3)} %`));
  }

  function drawMaps() {
    const order = view.rows.flat(), filled = order.filter((index) => index !== null);
    while (panelViews.length < filled.length) panelViews.push(new PanelView(hover, pick));
    panelViews.splice(filled.length);
    const layout = JSON.stringify(view.rows);
    if (area.dataset.layout !== layout) {
      let next = 0;
      area.replaceChildren(...order.map((index) => (index === null ? element("span") : panelViews[next++].root)));
      area.style.setProperty("--columns", Math.max(...view.rows.map((row) => row.length)));
      area.dataset.layout = layout;
    }
    filled.forEach((index, position) => {
      const panelView = panelViews[position];
      if (index === "image") panelView.drawImage(view, model.get("rgb"), model.get("rgb_size"), masks[0], masks[2], lutOf.amount);
      else panelView.drawMap(view.panels[index], maps[index], view, lutOf[view.panels[index].kind], info.colours[view.panels[index].network] || "transparent");
      panelView.outlineCell(panelView.selected, view.state.cell);
      panelView.outlineCell(panelView.cursor, hovered);
    });
    drawMarks();
  }
  function drawMarks() {
    const shown = view.state.overlays.includes("detections");
    view.rows.flat().filter((index) => index !== null).forEach((index, position) => {
      const panels = index === "image" ? view.panels : [view.panels[index]];
      panelViews[position].drawMarks(view, shown ? panels.map((panel) => [info.colours[panel.network] || "#555", panel.detections, index !== "image"]) : []);
    });
  }

  // --- cards
  const bars = new Bars((channel) => choose({ channel, quantity: "channel" }));
  const what = element("span", { class: "fgd-what" });
  const whole = element("button", { type: "button", class: "fgd-small", text: "Whole map", hidden: true, onclick: () => pick(null) });
  const weights = Object.fromEntries(["alpha", "beta", "gamma", "lambda_"].map((name) => [name, slider(...sliderOf(name))]));
  const weightRows = Object.fromEntries(Object.entries(weights).map(([name, each]) => {
    const swatch = element("i", { class: "fgd-swatch" }), percent = element("b", { class: "fgd-percent", "data-percent": name });
    return [name, { percent, swatch, root: element("div", { class: "fgd-weight", "data-weight": name }, swatch, element("span", { text: info.sliders[name].label }), each.input, each.shown, percent) }];
  }));
  const levels = element("div", { class: "fgd-levels" }), total = element("b", { class: "fgd-total" });
  const gaps = element("table", { class: "fgd-table fgd-gaps" }), networks = element("table", { class: "fgd-table fgd-networks" });
  const curve = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  curve.setAttribute("class", "fgd-curve");
  const checks = element("div", { class: "fgd-checks" }), notes = element("footer", { class: "fgd-notes" });
  const card = (title, aside, ...children) => element("section", { class: "fgd-card" }, element("h4", {}, element("span", { text: title }), ...aside), ...children);
  const cards = element("div", { class: "fgd-cards" },
    card("Channels", [what, whole], bars.canvas, bars.text),
    card("Loss of this image", [total], ...Object.values(weightRows).map((row) => row.root), levels),
    element("div", { class: "fgd-pair" }, card("Gap to the teacher", [], gaps, curve), card("Teacher check", [], networks, checks)));

  function drawCards() {
    const state = view.state, colours = info.colours;
    what.textContent = `${view.channels.what}; ${view.channels.order.length} of ${view.channels.total}, largest gap first`;
    whole.hidden = state.cell === null;
    bars.draw(view.channels, state.quantity === "channel" ? state.channel : null, state.student_name, [colours.teacher, colours[state.student_name]]);
    total.textContent = view.total;
    const termOf = Object.fromEntries(Object.keys(view.percents).map((term) => [info.terms[term].weight, term]));
    for (const [name, row] of Object.entries(weightRows)) {
      const term = termOf[name];
      row.root.toggleAttribute("data-off", !term);
      weights[name].input.disabled = !term;
      row.root.title = term ? "" : "The configuration switches this term off.";
      row.percent.textContent = term ? view.percents[term] : "-";
      row.swatch.style.background = term ? info.terms[term].color : "transparent";
    }
    levels.replaceChildren(...info.choices.level.map(({ value: level }) => {
      const rows = view.terms.filter((row) => row.level === level);
      const stack = element("div", { class: "fgd-stack" }, ...rows.map((row) => {
        const part = element("i", { "data-term": row.term, title: `${row.term} on ${level}: sum ${row.texts[0]}, weighted ${row.texts[1]}, ${row.texts[2]}` });
        Object.assign(part.style, { width: `${row.percent}%`, background: info.terms[row.term].color });
        return part;
      }));
      return element("div", { class: "fgd-level", "data-level": level }, element("span", { text: level }), stack);
    }));
    table(gaps, ["", "features: objects", "background", "attention: objects", "background"],
      view.gaps.map((row) => [row.student, row.feature_fg, row.feature_bg, row.attention_fg, row.attention_bg]), colours);
    table(networks, ["", "AP", "detections", "objects detected", `scale on ${state.level}`],
      view.networks.map((row) => [row.name, row.AP, row.detections, row.detected, row.scale]), colours);
    checks.replaceChildren(...(view.warnings.length ? view.warnings.map((line) => element("p", { class: "fgd-warning", text: line }))
      : [element("p", { class: "fgd-fine", text: "Nothing looks wrong on this image." })]));
    notes.replaceChildren(...view.notes.map((line) => element("p", { text: line })));
    curve.style.display = view.checkpoints.length ? "" : "none";
    if (view.checkpoints.length) drawCurve(curve, view.checkpoints, state.checkpoint);
  }
  function table(node, head, rows, colours) {
    const content = JSON.stringify([head, rows]);
    if (node.dataset.content === content) return;                    // unchanged tables are not laid out again
    node.dataset.content = content;
    node.replaceChildren(element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { text })))),
      element("tbody", {}, ...rows.map(([name, ...values]) => {
        const first = element("th", { scope: "row", text: name });
        first.style.setProperty("--colour", colours[name]);
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
    hint.textContent = info.choices.quantity.find((each) => each.value === choice.quantity).hint;
    showCheckpoints(choice);
  }
  function showView() {
    view = model.get("view");
    if (!view.grid) return;
    const size = view.grid[0] * view.grid[1];
    [maps, masks] = ["maps", "masks"].map((name) => {
      const all = numbers(model.get(name));
      return Array.from({ length: all.length / size }, (_, i) => all.subarray(i * size, (i + 1) * size));
    });
    if (hovered && (hovered[0] >= view.grid[0] || hovered[1] >= view.grid[1])) hovered = null;
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
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();   // else the notebook takes the arrow keys from the sliders
  });
  el.append(root);
  model.on("change:view", showView);
  model.on("change:choice", showChoice);
  model.on("msg:custom", onMessage);
  const resized = new ResizeObserver(() => { if (maps.length) { drawMarks(); bars.draw(view.channels, bars.chosen, bars.name, [info.colours.teacher, info.colours[view.state.student_name]]); } });
  resized.observe(root);
  showChoice();
  showView();
  return () => {
    resized.disconnect();
    model.off("change:view", showView);
    model.off("change:choice", showChoice);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
