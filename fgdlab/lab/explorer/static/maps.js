// Maps as the kernel sent them: float32 values through a table of 256 colours, one screen pixel block a cell. Nothing is computed but the colour.

const GREY = [217, 217, 217];                                        // NaN has no colour

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

const wordsOf = new WeakMap();                                       // a table of 256 RGB triples -> 256 pixels as one word each

function pixelWords(lut) {
  if (!wordsOf.has(lut)) wordsOf.set(lut, new Uint32Array(Uint8Array.from({ length: 1024 }, (_, i) => (i % 4 === 3 ? 255 : lut[3 * (i >> 2) + (i % 4)])).buffer));
  return wordsOf.get(lut);
}

function paintCells(canvas, values, [height, width], low, high, lut) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer), words = pixelWords(lut), grey = new Uint32Array(Uint8Array.from([...GREY, 255]).buffer)[0];
  const scale = 255 / (high - low);
  for (let i = 0; i < values.length; i++) {
    const at = Math.round((values[i] - low) * scale);
    pixels[i] = at > 255 ? words[255] : at >= 0 ? words[at] : at < 0 ? words[0] : grey;          // NaN is neither
  }
  context.putImageData(image, 0, 0);
}

function paintPhoto(canvas, bytes, [height, width]) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    image.data[4 * i] = bytes[3 * i];
    image.data[4 * i + 1] = bytes[3 * i + 1];
    image.data[4 * i + 2] = bytes[3 * i + 2];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

// One panel: a canvas of cells, a canvas of marks above it, two frames that follow the pointer and the click, a colour bar.
class Plate {
  constructor(onHover, onPick) {
    this.cells = element("canvas", { class: "fgd-cells" });
    this.veil = element("canvas", { class: "fgd-veil fgd-cells" });
    this.marks = element("canvas", { class: "fgd-marks" });
    this.cursor = element("div", { class: "fgd-cursor", hidden: true });
    this.picked = element("div", { class: "fgd-picked", hidden: true });
    this.plate = element("div", { class: "fgd-plate" }, this.cells, this.veil, this.marks, this.picked, this.cursor);
    this.title = element("span", { class: "fgd-title" });
    this.range = element("span", { class: "fgd-range" });
    this.scale = element("canvas", { class: "fgd-scale", width: 256, height: 1 });
    this.ends = [0, 1, 2].map(() => element("span"));
    this.unit = element("div", { class: "fgd-unit" });
    this.bar = element("div", { class: "fgd-bar" }, this.scale, element("div", { class: "fgd-ends" }, ...this.ends), this.unit);
    this.root = element("figure", { class: "fgd-map" }, element("figcaption", {}, this.title, this.range), this.plate, this.bar);
    this.plate.addEventListener("pointermove", (event) => onHover(this.cellAt(event)));
    this.plate.addEventListener("pointerleave", () => onHover(null));
    this.plate.addEventListener("click", (event) => onPick(this.cellAt(event)));
  }

  cellAt(event) {
    const box = this.plate.getBoundingClientRect();
    const [height, width] = this.grid;
    const col = Math.floor(((event.clientX - box.left) / box.width) * width);
    const row = Math.floor(((event.clientY - box.top) / box.height) * height);
    return [Math.max(0, Math.min(height - 1, row)), Math.max(0, Math.min(width - 1, col))];
  }

  shape(frame) {
    this.grid = frame.grid;
    this.plate.style.aspectRatio = `${frame.size[1]} / ${frame.size[0]}`;
  }

  frameCell(which, cell) {
    which.hidden = cell === null;
    if (cell === null) return;
    const [height, width] = this.grid;
    Object.assign(which.style, {
      left: `${(100 * cell[1]) / width}%`, top: `${(100 * cell[0]) / height}%`, width: `${100 / width}%`, height: `${100 / height}%`,
    });
  }

  drawMap(panel, values, frame, lut, color) {
    this.shape(frame);
    this.root.dataset.role = panel.role || panel.kind;
    this.root.style.setProperty("--role", color);
    this.title.textContent = panel.title;
    this.range.textContent = panel.range;
    paintCells(this.cells, values, frame.grid, panel.low, panel.high, lut);
    this.photo = null;
    this.veil.hidden = true;
    if (this.lut !== lut) paintCells(this.scale, Float32Array.from({ length: 256 }, (_, i) => i), [1, 256], 0, 255, lut);
    this.lut = lut;
    panel.ends.forEach((text, i) => { this.ends[i].textContent = text; });
    this.unit.textContent = panel.unit;
    this.bar.hidden = false;
  }

  drawPhoto(frame, photo, photoSize, mask, scaleMask, lut) {
    this.shape(frame);
    this.root.dataset.role = "photo";
    this.root.style.setProperty("--role", "transparent");
    this.title.textContent = `image ${frame.image_id}`;
    this.range.textContent = `${frame.size[0]} x ${frame.size[1]} pixels`;
    if (this.photo !== photo) paintPhoto(this.cells, new Uint8Array(photo.buffer, photo.byteOffset, photo.byteLength), photoSize);
    this.photo = photo;
    const overlays = frame.state.overlays;
    this.veil.hidden = !overlays.includes("scale") && !overlays.includes("mask");
    if (overlays.includes("scale")) {
      paintCells(this.veil, scaleMask, frame.grid, 0, 1, lut);
      this.veil.style.opacity = 0.75;
    } else if (overlays.includes("mask")) {
      const white = new Uint8Array(768).fill(255);
      paintCells(this.veil, mask, frame.grid, 0, 1, white);
      const context = this.veil.getContext("2d");
      mask.forEach((weight, i) => { if (weight > 0) context.clearRect(i % frame.grid[1], Math.floor(i / frame.grid[1]), 1, 1); });
      this.veil.style.opacity = 0.6;
    }
    this.bar.hidden = false;
    this.ends.forEach((each) => { each.textContent = ""; });
    this.scale.getContext("2d").clearRect(0, 0, 256, 1);
    this.lut = null;
    this.unit.textContent = [
      overlays.includes("scale") ? "scale mask S: yellow = heaviest cell (log)" : overlays.includes("mask") ? "clear = foreground M" : "",
      overlays.includes("roundings") ? "solid = authors', dashed = exact" : "",
    ].filter(Boolean).join("; ");
  }

  // Boxes, masks, roundings, detections: found is a list of [color, [[box, words], ...], with words].
  drawMarks(frame, found) {
    const box = this.plate.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    const content = JSON.stringify([box.width, box.height, ratio, frame.grid, frame.size, frame.boxes, frame.outline, frame.ranges, frame.state.overlays, found]);
    if (this.drawn === content) return;
    this.drawn = content;
    this.marks.width = Math.max(1, Math.round(box.width * ratio));
    this.marks.height = Math.max(1, Math.round(box.height * ratio));
    const context = this.marks.getContext("2d");
    context.scale(ratio, ratio);
    const cell = [box.width / frame.grid[1], box.height / frame.grid[0]], pixel = [box.width / frame.size[1], box.height / frame.size[0]];
    const rectangle = (x1, y1, x2, y2, [across, down], color, width, dash = []) => {
      for (const [style, thick, pattern] of [["rgba(255,255,255,0.85)", width + 2, []], [color, width, dash]]) {
        context.strokeStyle = style;
        context.lineWidth = thick;
        context.setLineDash(pattern);
        context.strokeRect(x1 * across, y1 * down, (x2 - x1) * across, (y2 - y1) * down);
      }
      context.setLineDash([]);
    };
    for (const [style, thick] of [["rgba(255,255,255,0.9)", 3.5], ["#000", 1.5]]) {
      context.strokeStyle = style;
      context.lineWidth = thick;
      context.beginPath();
      for (const [x1, y1, x2, y2] of frame.outline) {
        context.moveTo(x1 * cell[0], y1 * cell[1]);
        context.lineTo(x2 * cell[0], y2 * cell[1]);
      }
      context.stroke();
    }
    for (const [rounding, color, dash] of [["authors", "#000", []], ["exact", "#56B4E9", [4, 3]]]) {
      for (const range of frame.ranges[rounding] || []) rectangle(...range, cell, color, 1.6, dash);
    }
    if (frame.state.overlays.includes("boxes")) {
      for (const each of frame.boxes) rectangle(...each, pixel, "#D55E00", 1.6, frame.state.overlays.includes("detections") ? [5, 3] : []);
    }
    context.font = "600 10px sans-serif";
    const written = [];                                              // where words stand: the surest come first, later ones give way
    for (const [color, each, withWords] of found) {
      for (const [corners, words] of each) {
        rectangle(...corners, pixel, color, 1.6);
        if (!withWords) continue;
        const x = Math.min(corners[0] * pixel[0], box.width - context.measureText(words).width - 2), y = Math.max(10, corners[1] * pixel[1] - 3);
        const right = x + context.measureText(words).width;
        if (written.some((other) => x < other[1] && right > other[0] && Math.abs(y - other[2]) < 10)) continue;
        written.push([x, right, y]);
        context.strokeStyle = "#fff";
        context.lineWidth = 3;
        context.strokeText(words, x, y);
        context.fillStyle = color;
        context.fillText(words, x, y);
      }
    }
  }
}
