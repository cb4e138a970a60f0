// The explorer: controls change the state, the state and a frame make a view, and panels and cards draw it. The kernel is asked for frames only.

function render({ model, el }) {
  const info = model.get("info"), luts = new Uint8Array(model.get("lookup_tables").buffer, model.get("lookup_tables").byteOffset);
  const lutOf = { amount: luts.subarray(0, 768), difference: luts.subarray(768, 1536) };
  const root = element("div", { class: "fgd", "data-lm-suppress-shortcuts": "true", "data-frames": 0 });
  const past = new History(), gapsSeen = new Map();
  const memo = new Memo();
  let state = model.get("choice"), view = null, panelViews = [], hovered = null, playing = false, waiting = null;
  let unsent = false, sending = false, drawn = false, again = false, missing = false;    // state to be sent, and about to be; drawn in this frame, and wanted again; a frame is awaited
  let detail = { key: "", of: "", arrays: "", value: null, wanted: null, asking: false };

  const store = new Store(info.list ? null : (question, buffers) => model.send(question, undefined, buffers), {
    onAnswer: () => { root.dataset.images = store.images; if (missing) show(); }, onError: showError,
    onSilence: (silent) => {
      silence.hidden = !silent;
      silence.textContent = `The kernel does not answer: it has ended, or it is busy with another cell. Of ${info.images} images, ${store.images} ${store.images === 1 ? "is" : "are"} here and can still be explored, `
        + "with all levels, temperatures and weights. Other images and exports need the kernel. If it has ended, run the cell again.";
      if (silent) setBusy(false);
      else afterPaint(sendState);
    },
  });

  // --- the state
  const lastCheckpoint = (name) => info.students.find((each) => each.name === name).checkpoints.length - 1;
  const checkpointsOf = (of) => Object.fromEntries(info.students.map(({ name }) => [name, name === of.student_name ? of.checkpoint : lastCheckpoint(name)]));

  function choose(changes) {
    const before = state, more = {};
    if ("student_name" in changes && !("checkpoint" in changes)) more.checkpoint = lastCheckpoint(changes.student_name);
    if (("level" in changes || "image" in changes) && !("cell" in changes)) more.cell = null;
    if (Object.keys(changes).every((name) => JSON.stringify(changes[name]) === JSON.stringify(state[name]))) return;
    past.note(before, changes);
    take({ ...state, ...more, ...changes });
  }
  function take(next) {
    state = next;
    error.hidden = true;
    unsent = true;
    show();
  }
  // The kernel needs the state for exports only, so the picture comes first, also where its frame is awaited.
  function sendSoon() {
    if (unsent && !sending) afterPaint(sendState);
    sending = unsent;
  }
  function sendState() {
    unsent = sending = false;
    model.set("choice", state);
    if (!store.silent) model.save_changes();
    if (store.send && !store.busy) store.ask({ ask: "ping" }).catch(() => {});
  }
  const afterPaint = (act) => requestAnimationFrame(() => setTimeout(act));
  const goBack = (to) => { if (to) take(to); };
  const undo = () => goBack(past.undo(state)), redo = () => goBack(past.redo(state));

  // --- header
  const image = imageControl(info, (value) => choose({ image: value }), () => store.prefetch(image.soon(), checkpointsOf(state)));
  const status = element("span", { class: "fgd-status", role: "status", "aria-live": "polite" });
  const error = element("div", { class: "fgd-error", role: "alert", hidden: true }), silence = element("div", { class: "fgd-silence", role: "alert", hidden: true });
  const code = codeDialog(), help = helpDialog();
  const stateWindow = stateDialog(info.start, (changes) => choose(changes));
  const gallery = imageGallery(info, store, () => state, checkpointsOf, (value) => choose({ image: value }));
  const channels = channelGallery(lutOf.amount, channelMaps, (channel) => choose({ channel, quantity: "channel" }));
  const dialogs = [code.root, help, stateWindow.root, gallery.root, channels.root];
  const file = element("input", { type: "file", accept: "image/png,image/jpeg", hidden: true, onchange: () => { add(file.files); file.value = ""; } });
  const exportButton = (kind) => button({ py: "Code", html: "Page" }[kind] || kind.toUpperCase(), {
    png: "The panels as an image", svg: "The panels as vector graphics", csv: "The loss by term and level", py: "Python code that draws this view without widgets", html: "The explorer as one file, which needs neither kernel nor network",
  }[kind], () => exportAs(kind), { "data-export": kind });
  const kernelOnly = [button("Add image", "Add an image of yours; or drop it on the explorer", () => file.click()), file,
    element("div", { class: "fgd-export", role: "group", "aria-label": "Export" }, ...["png", "svg", "csv", "py", "html"].map(exportButton))];
  const header = element("div", { class: "fgd-header" }, element("strong", { class: "fgd-brand", text: "Attention explorer" }), image.root,
    button("Gallery", "All images with their scores", () => gallery.open()), status,
    element("div", { class: "fgd-tools" }, button("↶", "Undo (Ctrl+Z)", undo, { "aria-label": "undo" }), button("↷", "Redo (Ctrl+Y)", redo, { "aria-label": "redo" }),
      button("Reset", "Back to the first view of this image", () => choose({ ...info.start, image: state.image })), button("State", "The state of this view as a short text", () => stateWindow.open(state)),
      ...(info.list ? [] : kernelOnly), button("?", "How to use the explorer", () => help.showModal(), { "aria-label": "help" })));

  function exportAs(kind) {
    status.textContent = `exporting ${kind} ...`;
    store.ask({ ask: kind, state }).then(({ message, block }) => {
      status.textContent = "";
      if (kind === "py") code.open(message.file, new TextDecoder().decode(block));
      else saveFile(message.file, message.type, block);
    }, (problem) => showError(problem.message));
  }
  async function add(files) {
    for (const each of files) {
      try {
        const { message } = await store.ask({ ask: "add", name: each.name }, [await each.arrayBuffer()]);
        info.images = message.images;
        choose({ image: message.images - 1 });
      } catch (problem) { showError(problem.message); }
    }
  }

  // --- controls
  const choices = (name, values = info.choices[name]) => values.map((value) => ({ value, label: LABELS[value] || value, hint: HINTS[value], color: info.colours[value] }));
  const controls = {
    quantity: segmented("Map", choices("quantity"), (value) => choose({ quantity: value })),
    level: segmented("Level", choices("level"), (value) => choose({ level: value })),
    view: segmented("View", choices("view"), (value) => choose({ view: value })),
    student_name: segmented("Student", choices("", info.students.map((each) => each.name)), (value) => choose({ student_name: value })),
    limits: segmented("Colour limits", choices("limits"), (value) => choose({ limits: value })),
    rounding: segmented("Rounding", choices("rounding"), (value) => choose({ rounding: value })),
    overlays: checkboxes("Overlays", choices("overlays"), (value) => choose({ overlays: value })),
  };
  for (const [name, each] of Object.entries(controls)) each.root.dataset.control = name;
  if (info.students.length < 2) controls.student_name.root.hidden = controls.view.root.hidden = true;
  const temperature = stateSlider("temperature", info, choose), score = stateSlider("score", info, choose);
  const slide = (name, each, grow = "") => element("div", { class: `fgd-group ${grow}` }, element("span", { class: "fgd-name", text: LABELS[name] }), element("div", { class: "fgd-slide" }, each.input, each.shown));
  const strip = element("div", { class: "fgd-strip", role: "group", "aria-label": "What is shown" }, controls.quantity.root, controls.level.root, slide("temperature", temperature, "fgd-grow"),
    controls.view.root, controls.student_name.root, controls.limits.root, controls.rounding.root, controls.overlays.root, slide("score", score));
  const hint = element("p", { class: "fgd-hint" });

  // --- checkpoints
  const playButton = button("▶ Play", "Show every checkpoint in turn", () => (playing ? stop() : play()), { class: "fgd-play" });
  const timeline = element("div", { class: "fgd-timeline", hidden: true });
  let checkpoints = null;
  function showCheckpoints() {
    const student = info.students.find((each) => each.name === state.student_name);
    timeline.hidden = student.checkpoints.length < 2;
    if (timeline.hidden) return;
    if (checkpoints?.of !== student.name) {
      checkpoints = slider("Checkpoint", student.checkpoints.map((_, i) => i), [...student.checkpoints], (value) => { stop(); choose({ checkpoint: value }); }, { "data-control": "checkpoint", title: "Step of the training" });
      checkpoints.of = student.name;
      timeline.replaceChildren(element("span", { class: "fgd-name", text: "Checkpoint" }), playButton, checkpoints.input, checkpoints.shown);
    }
    checkpoints.show(state.checkpoint);
  }
  function play() {
    playing = true;
    playButton.textContent = "❚❚ Pause";
    choose({ checkpoint: state.checkpoint >= lastCheckpoint(state.student_name) ? 0 : state.checkpoint + 1 });
  }
  function stop() {
    playing = false;
    playButton.textContent = "▶ Play";
  }
  function playOn() {
    if (!playing) return;
    if (state.checkpoint >= lastCheckpoint(state.student_name)) stop();
    else setTimeout(() => { if (playing) choose({ checkpoint: state.checkpoint + 1 }); }, 350);
  }
  function gapsOverCheckpoints() {
    const key = (i) => JSON.stringify([state.image, state.level, state.student_name, state.rounding, i]);
    gapsSeen.set(key(state.checkpoint), view.gaps.find((row) => row.student === state.student_name));
    return info.students.find((each) => each.name === state.student_name).checkpoints.map((_, i) => {
      const seen = gapsSeen.get(key(i));
      return { feature_fg: seen?.feature_fg ?? null, feature_bg: seen?.feature_bg ?? null };
    });
  }

  // --- maps and the read-out below them
  const area = element("div", { class: "fgd-maps", role: "group", tabindex: 0, "aria-label": "maps; arrow keys move between cells, Enter selects a cell, Escape clears the selection" });
  const readout = element("div", { class: "fgd-readout", role: "status", "aria-live": "polite" });
  const hover = (cell) => {
    hovered = cell;
    panelViews.forEach((panelView) => panelView.outlineCell(panelView.cursor, cell));
    readOut();
  };
  const pick = (cell) => choose({ cell });
  area.addEventListener("keydown", (event) => {
    const [height, width] = view.grid, [row, col] = hovered || state.cell || [0, 0];
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
    const i = cell[0] * view.grid[1] + cell[1], fg = view.masks.fg[i], bg = view.masks.bg[i];
    const item = (name, value, color) => {
      const node = element("span", { class: "fgd-item", "data-name": name }, element("em", { text: name }), element("b", { text: value }));
      if (color) node.style.setProperty("--colour", color);
      return node;
    };
    readout.replaceChildren(
      item("cell", `row ${cell[0]}, col ${cell[1]}`),
      ...view.panels.map((panel) => item(panel.title, panel.values[i].toPrecision(3), info.colours[panel.network])),
      item(fg > 0 || bg === 0 ? "foreground weight" : "background weight", (fg > 0 ? fg : bg).toPrecision(3)),
      item("percent of the loss", `${view.percent[i].toPrecision(3)} %`));
  }

  function drawMaps(base) {
    const order = view.rows.flat();
    while (panelViews.length < order.length) panelViews.push(new PanelView(hover, pick, drawMarks));
    panelViews.splice(order.length);
    const layout = JSON.stringify(view.rows);
    if (area.dataset.layout !== layout) {
      area.replaceChildren(...panelViews.map((each) => each.root));
      area.style.setProperty("--columns", Math.max(...view.rows.map((row) => row.length)));
      area.dataset.layout = layout;
    }
    order.forEach((index, position) => {
      const panelView = panelViews[position], panel = view.panels[index];
      if (index === "image") panelView.drawImage(view, base.rgb, base.rgb_size, view.masks.fg, view.scale, lutOf.amount);
      else panelView.drawMap(panel, panel.values, view, lutOf[panel.kind], info.colours[panel.network] || "transparent");
      panelView.outlineCell(panelView.selected, view.state.cell);
      panelView.outlineCell(panelView.cursor, hovered);
    });
    drawMarks();
  }
  function drawMarks() {
    if (!view || panelViews.length !== view.rows.flat().length) return;
    const shown = view.state.overlays.includes("detections");
    view.rows.flat().forEach((index, position) => {
      const panels = index === "image" ? view.panels : [view.panels[index]];
      panelViews[position].drawMarks(view, shown ? panels.map((panel) => [info.colours[panel.network] || "#555", panel.detections, index !== "image"]) : []);
    });
  }
  const cards = makeCards(info, { choose, openChannels: () => channels.open(), onResize: () => { if (view) cards.drawBars(view); } });
  function channelMaps() {
    const { base, students } = store.frame(state.image, checkpointsOf(state)), level = base.levels[state.level], cells = level.spatial.length;
    const of = (features) => (channel) => features.subarray(channel * cells, (channel + 1) * cells);
    return { order: view.channels.all, grid: level.grid, teacher: of(level.features), student: of(students[state.student_name].levels[state.level].features) };
  }

  // --- from the state to the picture
  function show() {
    const wanted = checkpointsOf(state), frame = store.frame(state.image, wanted);
    if (!frame && store.send) store.fetch(state.image, wanted);         // before the page changes, which takes time
    showChoice();
    if (frame && drawn) { again = true; return; }                       // one picture per frame of the screen, the latest
    missing = !frame;
    if (!frame) {
      setBusy(true);
      if (!store.send) showError(`This page holds images ${info.list.map((each) => each + 1).join(", ")}; ${store.parts.has(`${state.image}`) ? "this checkpoint of " : ""}image ${state.image + 1} needs a kernel.`);
      return;
    }
    const known = detailOf(frame, wanted);
    if (!known.ready) return setBusy(true);
    drawn = true;
    requestAnimationFrame(() => { drawn = false; if (again) { again = false; show(); } });
    view = makeView(frame.base, frame.students, state, info, known.detail, known.pending, memo);
    view.has_features = Boolean(frame.base.levels[state.level].features);
    if (hovered && (hovered[0] >= view.grid[0] || hovered[1] >= view.grid[1])) hovered = null;
    drawMaps(frame.base);
    cards.draw(view, gapsOverCheckpoints());
    readOut();
    setBusy(false);
    root.dataset.frames = Number(root.dataset.frames) + 1;
    if (root.dataset.frames === "1") performance.mark("fgd-first-picture");
    root.dispatchEvent(new CustomEvent("fgd-painted", { bubbles: true }));
    store.prefetch(image.soon(), wanted);
    sendSoon();
    playOn();
  }
  function showChoice() {
    image.show(state.image);
    temperature.show(state.temperature);
    score.show(state.score);
    for (const [name, each] of Object.entries(controls)) each.show(state[name]);
    cards.showChoice(state);
    hint.textContent = HINTS[state.quantity];
    showCheckpoints();
  }
  function setBusy(busy) {
    clearTimeout(waiting);
    if (busy) waiting = setTimeout(() => { root.dataset.busy = "true"; }, 250);
    else {
      delete root.dataset.busy;
      status.textContent = "";
    }
  }
  function showError(text) {
    setBusy(false);
    stop();
    error.textContent = text;
    error.hidden = false;
    sendSoon();
  }

  // Where maps are too large to be sent, the kernel computes eq. 9 at every T; until it answers, maps are drawn and the loss waits.
  function detailOf(frame, wanted) {
    if (frame.base.levels[state.level].features) return { detail: null, pending: false, ready: true };
    const of = JSON.stringify([state.image, wanted]), needed = state.quantity === "channel" || state.cell !== null;
    const arrays = JSON.stringify([state.level, state.quantity === "channel" ? state.channel : null, state.cell]);
    const key = JSON.stringify([of, state.temperature, needed ? arrays : ""]);
    if (detail.key === key) return { detail: detail.value, pending: false, ready: true };
    detail.wanted = { key, of, arrays, state };
    const same = detail.of === of, ready = !needed || (same && detail.arrays === arrays);
    if (!detail.asking) (ready ? afterPaint : (act) => act())(askDetail);     // the kernel computes while nothing is painted
    detail.asking = true;
    return { detail: same ? detail.value : null, pending: true, ready };
  }
  function askDetail() {
    const { wanted } = detail;
    Object.assign(detail, { wanted: null, asking: true });
    store.ask({ ask: "detail", state: wanted.state }).then(({ message, block }) => {
      const next = detail.wanted;
      detail = { ...wanted, value: unpack(message, block), wanted: null, asking: false };
      show();
      if (next && next.key !== detail.key && !detail.asking) { detail.wanted = next; askDetail(); }
    }, (problem) => { detail.asking = false; showError(problem.message); });
  }

  // --- from the kernel
  function onMessage(message, buffers) {
    if (message.progress !== undefined) {
      store.setSilent(false);
      if (message.progress) clearTimeout(store.timer);               // it works on something slow
      else store.listen();
      status.textContent = message.progress;
    } else if (message.id === undefined && message.error !== undefined) showError(message.error);
    else {
      if (missing && message.seconds !== undefined) root.dispatchEvent(new CustomEvent("fgd-answered", { detail: message.seconds }));   // benchmarks/explorer.py
      store.receive(message, buffers);
    }
  }
  function onChoice() {
    const next = model.get("choice");
    if (unsent || JSON.stringify(next) === JSON.stringify(state) || !info.choices.level.includes(next.level)) return;  // the kernel takes back what does not fit
    state = next;
    show();
  }

  root.append(header, error, silence, ...dialogs, strip, timeline, hint, area, readout, cards.root, cards.notes);
  root.addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey, typing = ["text", "number"].includes(event.target.type);
    if (command && !typing && event.key.toLowerCase() === "z") (event.shiftKey ? redo : undo)();
    else if (command && !typing && event.key.toLowerCase() === "y") redo();
    else if (command) return;
    else return event.stopPropagation();                             // else the notebook takes the arrow keys from the sliders
    event.preventDefault();
    event.stopPropagation();
  });
  if (store.send) {
    root.addEventListener("dragover", (event) => event.preventDefault());
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      add(event.dataTransfer.files);
    });
  }
  el.append(root);
  model.on("change:choice", onChoice);
  model.on("msg:custom", onMessage);
  for (const [message, block] of model.get("frames") || [[model.get("frame"), model.get("block")]]) store.keep(message, block);
  show();
  return () => {
    model.off("change:choice", onChoice);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
