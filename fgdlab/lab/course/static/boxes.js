// Boxes that a reader moves on a grid. M and S of eqs. 2-4 are computed here, as fgdlab/masks.py computes them.
(() => {
  const NS = "http://www.w3.org/2000/svg", BOX = ["#D55E00", "#0072B2", "#009E73", "#CC79A7"], SCALE = 5;

  // Half-open ranges [col0, row0, col1, row1] of the cells of each box; "authors" adds a cell at the far edges.
  function cellRanges(boxes, [height, width], [rows, columns], rounding) {
    const extra = rounding === "authors" ? 1 : 0;
    return boxes.map(([x1, y1, x2, y2]) => [
      Math.floor(x1 / width * columns), Math.floor(y1 / height * rows),
      Math.ceil(x2 / width * columns) + extra, Math.ceil(y2 / height * rows) + extra]);
  }

  // For each cell the number of cells that shares its weight: S = 1 / count. m is M.
  function masksOf(boxes, imageSize, gridSize, rounding) {
    const [rows, columns] = gridSize, count = new Array(rows * columns).fill(0);
    for (const [col0, row0, col1, row1] of cellRanges(boxes, imageSize, gridSize, rounding)) {
      const area = (col1 - col0) * (row1 - row0);
      for (let row = Math.max(row0, 0); row < Math.min(row1, rows); row++) {
        for (let col = Math.max(col0, 0); col < Math.min(col1, columns); col++) {
          const i = row * columns + col;
          if (!count[i] || area < count[i]) count[i] = area;   // the smallest box wins
        }
      }
    }
    const m = count.map((each) => (each ? 1 : 0)), background = m.filter((each) => !each).length;
    return { m, count: count.map((each) => each || background), background };
  }

  // The box after a move of dx, dy pixels: all of it, or its far corner. It stays in the image.
  function moved([x1, y1, x2, y2], dx, dy, resize, [height, width]) {
    const clip = (value, low, high) => Math.min(Math.max(value, low), high);
    if (resize) return [x1, y1, clip(x2 + dx, x1 + 1, width), clip(y2 + dy, y1 + 1, height)];
    dx = clip(dx, -x1, width - x2); dy = clip(dy, -y1, height - y2);
    return [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
  }

  const add = (parent, tag, attributes = {}, text = "") => {
    const element = parent.namespaceURI === NS || tag === "svg" ? document.createElementNS(NS, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return parent.appendChild(element);
  };
  const sumOf = (values) => values.reduce((a, b) => a + b, 0);
  const short = (value) => String(+value.toFixed(3));

  function start(root) {
    const { examples, image_size: imageSize, grid_size: gridSize } = JSON.parse(root.dataset.given);
    const [rows, columns] = gridSize, [height, width] = imageSize, cellW = width / columns * SCALE, cellH = height / rows * SCALE;
    const state = { boxes: structuredClone(Object.values(examples)[0]), rounding: "exact", chosen: 0 };

    const bar = add(root, "p", { style: "margin:0 0 8px" });
    add(bar, "span", {}, "Example: ");
    const select = add(bar, "select", { "aria-label": "example" });
    Object.keys(examples).forEach((name) => add(select, "option", {}, name));
    select.onchange = () => { state.boxes = structuredClone(examples[select.value]); state.chosen = 0; draw(); };
    for (const [value, text] of [["exact", "exact rounding"], ["authors", "authors' rounding"]]) {
      const label = add(bar, "label", { style: "margin-left:16px" });
      const radio = add(label, "input", { type: "radio", value, "aria-label": text });
      radio.checked = value === state.rounding;
      radio.onchange = () => {
        state.rounding = value; draw();
        bar.querySelectorAll("input").forEach((each) => { each.checked = each.value === value; });
      };
      add(label, "span", {}, ` ${text}`);
    }
    const more = add(bar, "button", { style: "margin-left:16px" }, "add a box"), less = add(bar, "button", { style: "margin-left:6px" }, "remove the box");
    more.onclick = () => { if (state.boxes.length < BOX.length) { state.chosen = state.boxes.push([4, 4, 20, 20]) - 1; draw(); } };
    less.onclick = () => { state.boxes.splice(state.chosen, 1); state.chosen = 0; draw(); };
    const panels = add(root, "div", { style: "display:flex;flex-wrap:wrap;gap:24px" });
    const summary = add(root, "p", { style: "margin:8px 0 0", "aria-live": "polite" });
    add(root, "p", { style: "margin:4px 0 0;color:#555" },
      "Drag a box; drag its corner to resize it. With the keyboard: Tab to a box, arrow keys move it by a pixel, Shift with an arrow key resizes it.");
    const svgs = ["M: 1 in a box", "S: weight of a cell"].map((title) => {
      const panel = add(panels, "figure", { style: "margin:0" });
      add(panel, "figcaption", { style: "margin-bottom:4px" }, title);
      return add(panel, "svg", { width: width * SCALE + 2, height: height * SCALE + 2, viewBox: `-1 -1 ${width * SCALE + 2} ${height * SCALE + 2}`, "font-family": "sans-serif" });
    });

    function paint(svg, which, masks) {
      svg.replaceChildren();
      const values = masks.m.map((m, i) => (which === 0 ? m : 1 / masks.count[i])), top = Math.max(...values), numbers = [];
      values.forEach((value, i) => {
        const x = (i % columns) * cellW, y = Math.floor(i / columns) * cellH, light = 96 - 62 * value / top;
        add(svg, "rect", { x, y, width: cellW, height: cellH, fill: `hsl(215 45% ${light}%)`, stroke: "#bbb" });
        const text = which === 0 ? value : masks.count[i] === 1 ? "1" : `1/${masks.count[i]}`;
        numbers.push([{ x: x + cellW / 2, y: y + cellH / 2 + 4, fill: light < 60 ? "#fff" : "#000", "data-cell": `${which},${i}` }, text]);
      });
      state.boxes.forEach((box, index) => {
        const [x1, y1, x2, y2] = box.map((edge) => edge * SCALE), chosen = index === state.chosen;
        const handle = add(svg, "g", { tabindex: 0, role: "application", "aria-label": `box ${index + 1}: x ${box[0]} to ${box[2]}, y ${box[1]} to ${box[3]}`, "data-box": index, style: "cursor:move;outline:none;touch-action:none" });
        const edges = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "transparent" }, line = chosen ? 4 : 2;
        add(handle, "rect", { ...edges, stroke: "#fff", "stroke-width": line + 2 });   // visible on dark cells, too
        add(handle, "rect", { ...edges, stroke: BOX[index], "stroke-width": line });
        const corner = add(handle, "rect", { x: x2 - 5, y: y2 - 5, width: 10, height: 10, fill: BOX[index], style: "cursor:nwse-resize" });
        handle.onpointerdown = (event) => drag(event, index, event.target === corner, which);
        handle.onfocus = () => { if (state.chosen !== index) { state.chosen = index; draw(which); } };
        handle.onkeydown = (event) => {
          const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
          if (!step) return;
          event.preventDefault(); event.stopPropagation();
          state.boxes[index] = moved(state.boxes[index], ...step, event.shiftKey, imageSize);
          draw(which);
        };
      });
      const over = add(svg, "g", { "text-anchor": "middle", "font-size": 11, "pointer-events": "none" });   // numbers stay readable on edges
      numbers.forEach(([attributes, text]) => add(over, "text", attributes, text));
    }

    function drag(event, index, resize, which) {
      event.preventDefault();
      state.chosen = index;
      const before = state.boxes[index], from = [event.clientX, event.clientY];
      const factor = svgs[which].getBoundingClientRect().width / (width * SCALE + 2) * SCALE;
      const move = (now) => {
        const [dx, dy] = [now.clientX - from[0], now.clientY - from[1]].map((pixels) => Math.round(pixels / factor));
        state.boxes[index] = moved(before, dx, dy, resize, imageSize);
        draw(which);
      };
      const end = () => { window.removeEventListener("pointermove", move); window.removeEventListener("pointerup", end); };
      window.addEventListener("pointermove", move); window.addEventListener("pointerup", end);
      draw(which);
    }

    // focused: the panel whose box keeps the focus, because its element is made anew.
    function draw(focused = null) {
      const masks = masksOf(state.boxes, imageSize, gridSize, state.rounding);
      svgs.forEach((svg, which) => paint(svg, which, masks));
      const foreground = sumOf(masks.m.map((m, i) => m / masks.count[i])), cells = sumOf(masks.m);
      const box = state.boxes[state.chosen];
      summary.textContent = `${cells} of ${rows * columns} cells are foreground and sum to ${short(foreground)} for ${state.boxes.length} ` +
        `${state.boxes.length === 1 ? "box" : "boxes"}; ${masks.background} background cells sum to ${masks.background ? 1 : 0}.` +
        (box ? ` Box ${state.chosen + 1}: x ${box[0]} to ${box[2]}, y ${box[1]} to ${box[3]} pixels.` : "");
      more.disabled = state.boxes.length >= BOX.length; less.disabled = !state.boxes.length;
      if (focused !== null) svgs[focused].querySelector(`[data-box="${state.chosen}"]`)?.focus({ preventScroll: true });
    }
    draw();
  }

  if (typeof document === "undefined") Object.assign(globalThis, { cellRanges, masksOf, moved });
  else document.querySelectorAll(".fgdlab-boxes:not([data-started])").forEach((root) => { root.dataset.started = ""; start(root); });
})();
