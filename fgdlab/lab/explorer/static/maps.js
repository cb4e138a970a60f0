// Maps from the kernel: float32 values become colours of a table with 256 entries, one block of pixels per cell.

const GREY = [217, 217, 217];                                        // NaN has no colour

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const pixelsOf = new WeakMap();                                      // lookup table of 256 RGB triples -> 256 pixels as uint32

function pixelTable(lut) {
  if (!pixelsOf.has(lut)) pixelsOf.set(lut, new Uint32Array(Uint8Array.from({ length: 1024 }, (_, i) => (i % 4 === 3 ? 255 : lut[3 * (i >> 2) + (i % 4)])).buffer));
  return pixelsOf.get(lut);
}

function paintCells(canvas, values, [height, width], low, high, lut) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer), colours = pixelTable(lut), grey = new Uint32Array(Uint8Array.from([...GREY, 255]).buffer)[0];
  const scale = 255 / (high - low);
  for (let i = 0; i < values.length; i++) {
    const at = Math.round((values[i] - low) * scale);
    pixels[i] = at > 255 ? colours[255] : at >= 0 ? colours[at] : at < 0 ? colours[0] : grey;          // grey = NaN
  }
  context.putImageData(image, 0, 0);
}

function paintImage(canvas, bytes, [height, width]) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = 0xff000000 | (bytes[3 * i + 2] << 16) | (bytes[3 * i + 1] << 8) | bytes[3 * i];    // A, B, G, R
  context.putImageData(image, 0, 0);
}

// Width and height of a node inside its border, as of the last frame: to ask for them while a view is drawn would lay the whole page out again.
class SizeOf {
  constructor(node, onResize) {
    this.node = node;
    new ResizeObserver(([entry]) => { this.known = entry.contentRect; onResize(); }).observe(node);
  }

  now() { return this.known || { width: this.node.clientWidth, height: this.node.clientHeight }; }
}

// A map in words, for readers who do not see it.
function describeMap(panel, values, [, width]) {
  let top = 0;
  for (let i = 1; i < values.length; i++) if (Math.abs(values[i]) > Math.abs(values[top])) top = i;
  return `${panel.title}: ${panel.unit}, ${panel.range}; largest value ${general(values[top])} in row ${Math.floor(top / width)}, column ${top % width}`;
}

// One panel: a canvas of cells, a canvas of marks, outlines of the cell under the pointer and of the selected cell, a colour bar.
class PanelView {
  constructor(onHover, onPick, onResize) {
    this.cells = element("canvas", { class: "fgd-cells", role: "img" });
    this.overlay = element("canvas", { class: "fgd-overlay fgd-cells", "aria-hidden": "true" });
    this.marks = element("canvas", { class: "fgd-marks", "aria-hidden": "true" });
    this.cursor = element("div", { class: "fgd-cursor", hidden: true });
    this.selected = element("div", { class: "fgd-selected", hidden: true });
    this.panel = element("div", { class: "fgd-panel" }, this.cells, this.overlay, this.marks, this.selected, this.cursor);
    this.title = element("span", { class: "fgd-title" });
    this.range = element("span", { class: "fgd-range" });
    this.scale = element("canvas", { class: "fgd-scale", width: 256, height: 1, "aria-hidden": "true" });
    this.zero = element("i", { class: "fgd-zero", title: "0", hidden: true });
    this.ends = [0, 1, 2].map(() => element("span"));
    this.unit = element("div", { class: "fgd-unit" });
    this.bar = element("div", { class: "fgd-bar" }, this.scale, this.zero, element("div", { class: "fgd-ends" }, ...this.ends), this.unit);
    this.root = element("figure", { class: "fgd-map" }, element("figcaption", {}, this.title, this.range), this.panel, this.bar);
    this.size = new SizeOf(this.panel, onResize);
    this.panel.addEventListener("pointermove", (event) => onHover(this.cellAt(event)));
    this.panel.addEventListener("pointerleave", () => onHover(null));
    this.panel.addEventListener("click", (event) => onPick(this.cellAt(event)));
  }

  cellAt(event) {
    const box = this.panel.getBoundingClientRect();
    const [height, width] = this.grid;
    const col = Math.floor(((event.clientX - box.left) / box.width) * width);
    const row = Math.floor(((event.clientY - box.top) / box.height) * height);
    return [Math.max(0, Math.min(height - 1, row)), Math.max(0, Math.min(width - 1, col))];
  }

  shape(view) {
    this.grid = view.grid;
    this.panel.style.aspectRatio = `${view.size[1]} / ${view.size[0]}`;
  }

  outlineCell(which, cell) {
    which.hidden = cell === null;
    if (cell === null) return;
    const [height, width] = this.grid;
    Object.assign(which.style, {
      left: `${(100 * cell[1]) / width}%`, top: `${(100 * cell[0]) / height}%`, width: `${100 / width}%`, height: `${100 / height}%`,
    });
  }

  drawMap(panel, values, view, lut, color) {
    this.shape(view);
    this.root.dataset.map = panel.network || panel.kind;
    this.root.style.setProperty("--colour", color);
    this.title.textContent = this.title.title = panel.title;
    this.range.textContent = this.range.title = panel.range;
    this.zero.hidden = !(panel.low < 0 && panel.high > 0);
    this.zero.style.left = `${(100 * -panel.low) / (panel.high - panel.low)}%`;
    this.cells.setAttribute("aria-label", describeMap(panel, values, view.grid));
    paintCells(this.cells, values, view.grid, panel.low, panel.high, lut);
    this.rgb = null;
    this.overlay.hidden = true;
    if (this.lut !== lut) paintCells(this.scale, Float32Array.from({ length: 256 }, (_, i) => i), [1, 256], 0, 255, lut);
    this.lut = lut;
    panel.ticks.forEach((text, i) => { this.ends[i].textContent = text; });
    this.unit.textContent = panel.unit;
    this.bar.hidden = false;
  }

  drawImage(view, rgb, size, mask, scaleMask, lut) {
    this.shape(view);
    this.root.dataset.map = "image";
    this.root.style.setProperty("--colour", "transparent");
    this.title.textContent = this.title.title = `image ${view.image_id}`;
    this.range.textContent = this.range.title = `${view.size[0]} x ${view.size[1]} pixels`;
    this.zero.hidden = true;
    this.cells.setAttribute("aria-label", `image ${view.image_id}, ${view.size[0]} x ${view.size[1]} pixels, objects: ${view.boxes.length}`);
    if (this.rgb !== rgb) paintImage(this.cells, new Uint8Array(rgb.buffer, rgb.byteOffset, rgb.byteLength), size);
    this.rgb = rgb;
    const overlays = view.state.overlays;
    this.overlay.hidden = !overlays.includes("scale") && !overlays.includes("mask");
    if (overlays.includes("scale")) {
      paintCells(this.overlay, scaleMask, view.grid, 0, 1, lut);
      this.overlay.style.opacity = 0.75;
    } else if (overlays.includes("mask")) {
      const white = new Uint8Array(768).fill(255);
      paintCells(this.overlay, mask, view.grid, 0, 1, white);
      const context = this.overlay.getContext("2d");
      mask.forEach((weight, i) => { if (weight > 0) context.clearRect(i % view.grid[1], Math.floor(i / view.grid[1]), 1, 1); });
      this.overlay.style.opacity = 0.6;
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

  // Boxes, mask edges, roundings, detections: a list of [color, [[box, label], ...], whether labels are drawn].
  drawMarks(view, detections) {
    const box = this.size.now(), ratio = window.devicePixelRatio || 1;
    const content = JSON.stringify([box.width, box.height, ratio, view.grid, view.size, view.boxes, view.mask_edges, view.ranges, view.state.overlays, detections]);
    if (this.drawn === content) return;
    this.drawn = content;
    this.marks.width = Math.max(1, Math.round(box.width * ratio));
    this.marks.height = Math.max(1, Math.round(box.height * ratio));
    const context = this.marks.getContext("2d");
    context.scale(ratio, ratio);
    const cell = [box.width / view.grid[1], box.height / view.grid[0]], pixel = [box.width / view.size[1], box.height / view.size[0]];
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
      for (const [x1, y1, x2, y2] of view.mask_edges) {
        context.moveTo(x1 * cell[0], y1 * cell[1]);
        context.lineTo(x2 * cell[0], y2 * cell[1]);
      }
      context.stroke();
    }
    for (const [rounding, color, dash] of [["authors", "#000", []], ["exact", "#56B4E9", [4, 3]]]) {
      for (const range of view.ranges[rounding] || []) rectangle(...range, cell, color, 1.6, dash);
    }
    if (view.state.overlays.includes("boxes")) {
      for (const each of view.boxes) rectangle(...each, pixel, "#D55E00", 1.6, view.state.overlays.includes("detections") ? [5, 3] : []);
    }
    context.font = "600 10px sans-serif";
    const written = [];                                              // places of labels: high scores first, later labels are left out where they overlap
    for (const [color, each, withLabels] of detections) {
      for (const [corners, label] of each) {
        rectangle(...corners, pixel, color, 1.6);
        if (!withLabels) continue;
        const x = Math.min(corners[0] * pixel[0], box.width - context.measureText(label).width - 2), y = Math.max(10, corners[1] * pixel[1] - 3);
        const right = x + context.measureText(label).width;
        if (written.some((other) => x < other[1] && right > other[0] && Math.abs(y - other[2]) < 10)) continue;
        written.push([x, right, y]);
        context.strokeStyle = "#fff";
        context.lineWidth = 3;
        context.strokeText(label, x, y);
        context.fillStyle = color;
        context.fillText(label, x, y);
      }
    }
  }
}
