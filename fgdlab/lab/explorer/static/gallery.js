// Two galleries: all images with their scores, to find the telling one; and all channels of a level as small maps.

const THUMBNAIL = 72;                                                // pixels
const ORDERS = { image: "image number", gap: "gap to the teacher", missed: "missed objects", false: "false detections", loss: "loss" };

// What the gallery sorts an image by, for the chosen student: root mean square gap, missed objects, false detections, loss.
function scoreOf(image, { base, students }, detail, state, info) {
  const student = students[state.student_name], levels = Object.keys(base.levels), terms = Object.keys(info.terms);
  let loss = 0, gap = 0;
  for (const level of levels) {
    const masks = base.levels[level].masks[state.rounding], n = masks.fg.length;
    const maps = lossMaps(base.levels[level], student.levels[level], masks, state.temperature, info.config, terms,
      detail?.students[state.student_name]?.error[level]);
    for (const term of terms) loss += state[info.terms[term].weight] * maps.raw[term];
    gap += sumOf(student.levels[level].error_mean) / n / levels.length;
  }
  const counts = countDetected(base.boxes, base.labels, student.detections.filter((each) => each.score >= state.score));
  return { image, image_id: base.image_id, gap: Math.sqrt(gap), loss, missed: base.boxes.length - counts.detected, false: counts.false, labels: base.labels };
}

function thumbnail({ rgb, rgb_size: [height, width] }) {
  const full = element("canvas"), scale = THUMBNAIL / Math.max(height, width), small = element("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
  paintImage(full, rgb, [height, width]);
  small.getContext("2d").drawImage(full, 0, 0, small.width, small.height);
  return small.toDataURL("image/jpeg", 0.8);
}

// A window with one thumbnail per image. store: of frames; current(): the state; checkpointsOf(state); onPick(image).
function imageGallery(info, store, current, checkpointsOf, onPick) {
  const scores = new Map(), thumbnails = new Map(), grid = element("div", { class: "fgd-thumbnails" });
  const progress = element("span", { class: "fgd-muted", role: "status" });
  const order = element("select", { "aria-label": "sort by", onchange: () => draw() }, ...Object.entries(ORDERS).map(([value, text]) => element("option", { value, text })));
  const wanted = element("select", { "aria-label": "images with", onchange: () => draw() }, element("option", { value: "", text: "all classes" }),
    ...info.classes.map((text, i) => element("option", { value: i + 1, text })));
  const root = dialog("Gallery of images", "fgd-gallery", [element("label", { text: "sort by " }, order), element("label", { text: "with " }, wanted), progress], grid);
  const all = () => info.list || Array.from({ length: info.images }, (_, i) => i);
  let of = "", running = false;

  function draw() {
    const shown = [...scores.values()].filter((each) => !wanted.value || each.labels.includes(Number(wanted.value)));
    const sign = order.value === "image" ? 1 : -1;
    shown.sort((a, b) => sign * (a[order.value] - b[order.value]) || a.image - b.image);
    grid.replaceChildren(...shown.map((each) => element("button", {
      type: "button", class: "fgd-thumbnail", "data-image": each.image, "aria-pressed": String(each.image === current().image), onclick: () => { root.close(); onPick(each.image); },
    }, element("img", { src: thumbnails.get(each.image), alt: "" }), element("b", { text: `image ${each.image_id}` }),
    element("span", { text: `gap ${general(each.gap)}, loss ${general(each.loss)}` }), element("span", { text: `missed ${each.missed}, false ${each.false}` }))));
    progress.textContent = `${shown.length} shown; ${scores.size} of ${all().length} images scored${running ? " ..." : ""}`;
  }

  async function frameOf(image, checkpoints) {
    if (!store.has(image, checkpoints)) {
      const { message, block } = await store.ask({ ask: "frame", image, students: checkpoints, base: true });
      store.keep(message, block);
    }
    return store.frame(image, checkpoints);
  }

  // One image at a time, so that the reader's own questions get in between.
  async function scoreAll() {
    const state = current(), checkpoints = checkpointsOf(state), key = JSON.stringify({ ...state, image: 0, cell: null, level: "", quantity: "", view: "", limits: "", overlays: [], channel: 0 });
    if (of !== key) scores.clear();
    of = key;
    if (running) return;
    running = true;
    let drawn = performance.now();
    try {
      for (const image of all().filter((each) => !scores.has(each))) {
        if (!root.open) break;
        const frame = await frameOf(image, checkpoints);
        let detail = null;
        if (!frame.base.levels[state.level].features) {
          const answer = await store.ask({ ask: "detail", state: { ...state, image, cell: null, quantity: "attention" } });
          detail = unpack(answer.message, answer.block);
        }
        if (!thumbnails.has(image)) thumbnails.set(image, thumbnail(frame.base));
        scores.set(image, scoreOf(image, frame, detail, state, info));
        if (performance.now() - drawn > 400) { draw(); drawn = performance.now(); }
      }
    } catch (error) { progress.textContent = error.message; return; } finally { running = false; }
    if (root.open) draw();
  }

  return { root, open() { root.showModal(); draw(); scoreAll(); } };
}

// A window with the map of every channel, the largest gap first. mapsOf(): {order, teacher(c), student(c), grid, name}; onPick(channel).
function channelGallery(lut, mapsOf, onPick) {
  const grid = element("div", { class: "fgd-thumbnails" });
  const root = dialog("All channels: teacher left, student right", "fgd-channels", [], grid);
  const small = (values, { grid: size }, [low, high]) => {
    const canvas = element("canvas", { "aria-hidden": "true" });
    paintCells(canvas, values, size, low, high, lut);
    return canvas;
  };
  return { root, open() {
    const maps = mapsOf();
    grid.replaceChildren(...maps.order.map((channel) => {
      const pair = [maps.teacher(channel), maps.student(channel)], all = pair.flatMap((each) => Array.from(each));
      const ends = [Math.min(...all), Math.max(...all) + 1e-12];
      return element("button", { type: "button", class: "fgd-thumbnail", "data-channel": channel, onclick: () => { root.close(); onPick(channel); } },
        element("div", { class: "fgd-two" }, ...pair.map((each) => small(each, maps, ends))), element("b", { text: `channel ${channel}` }), element("span", { text: `${general(ends[0])} to ${general(ends[1])}` }));
    }));
    root.showModal();
  } };
}
