// Two bars per channel, the largest gap first; click or arrow keys choose a channel. And the curve over checkpoints.

class Bars {
  constructor(onPick, onResize) {
    this.canvas = element("canvas", { class: "fgd-bars", tabindex: 0, role: "slider", "aria-label": "channels by gap" });
    this.text = element("div", { class: "fgd-channel-text" });
    this.size = new SizeOf(this.canvas, onResize);
    this.onPick = onPick;
    this.at = null;                                                  // bar under the pointer
    this.canvas.addEventListener("pointermove", (event) => this.point(this.positionAt(event)));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("click", (event) => { this.pick(this.positionAt(event)); });
    this.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined || !this.channels) return;
      event.preventDefault();
      const last = this.channels.order.length - 1, now = this.channels.order.indexOf(this.chosen);
      this.pick(Math.max(0, Math.min(last, now < 0 ? 0 : now + step)));
    });
  }

  positionAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const count = this.channels.order.length;
    return Math.max(0, Math.min(count - 1, Math.floor(((event.clientX - box.left) / box.width) * count)));
  }

  point(position) {
    this.at = position;
    this.showText();
  }

  pick(position) {
    this.chosen = this.channels.order[position];
    this.onPick(this.chosen);
  }

  showText() {
    const { order, teacher, student } = this.channels;
    const chosen = order.indexOf(this.chosen), i = this.at !== null && this.at < order.length ? this.at : chosen;
    this.text.textContent = i < 0 ? "Click a bar, or focus the bars and use the arrow keys, to see a channel's map."
      : `channel ${order[i]}: teacher ${teacher[i].toPrecision(3)}, ${this.name} ${student[i].toPrecision(3)}`;
    this.canvas.setAttribute("aria-valuetext", this.text.textContent);
    this.canvas.setAttribute("aria-valuenow", Math.max(0, i));
    this.canvas.setAttribute("aria-valuemax", order.length - 1);
  }

  draw(channels, chosen, name, colors) {
    Object.assign(this, { channels, chosen, name });
    const size = this.size.now(), ratio = window.devicePixelRatio || 1, width = Math.max(size.width, 1), height = Math.max(size.height, 1);
    const pixels = { width: Math.round(width * ratio), height: Math.round(height * ratio) };
    if (this.canvas.width !== pixels.width || this.canvas.height !== pixels.height) Object.assign(this.canvas, pixels);
    const context = this.canvas.getContext("2d"), count = channels.order.length, slot = width / count, bar = Math.max(1, slot * 0.42);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.stripes = this.stripes || stripes(context);
    const most = Math.max(1e-12, ...channels.teacher, ...channels.student), least = Math.min(0, ...channels.teacher, ...channels.student);
    const y = (value) => 2 + ((height - 4) * (most - value)) / (most - least);
    const at = channels.order.indexOf(chosen);
    if (at >= 0) {
      context.fillStyle = "rgba(228, 0, 124, 0.22)";
      context.fillRect(at * slot, 0, slot, height);
    }
    for (let i = 0; i < count; i++) {
      for (const [shift, values, color] of [[0, channels.teacher, colors[0]], [bar, channels.student, colors[1]]]) {
        const box = [i * slot + slot * 0.08 + shift, Math.min(y(values[i]), y(0)), bar, Math.abs(y(values[i]) - y(0))];
        context.fillStyle = color;
        context.fillRect(...box);
        if (shift) {                                                 // the student's bars are striped, so that colour is not the only difference
          context.fillStyle = this.stripes;
          context.fillRect(...box);
        }
      }
    }
    context.fillStyle = "#888";
    context.fillRect(0, y(0), width, 1);
    this.showText();
  }
}

// Pale stripes, as a pattern: a bar is one rectangle more, and not one per stripe.
function stripes(context) {
  const tile = element("canvas", { width: 1, height: 4 }), pen = tile.getContext("2d");
  pen.fillStyle = "rgba(255, 255, 255, 0.55)";
  pen.fillRect(0, 2, 1, 1.5);
  return context.createPattern(tile, "repeat");
}

// Feature gaps over checkpoints: two curves with a point per computed checkpoint, and a vertical line at the one shown.
function drawCurve(svg, rows, checkpoint) {
  const width = 300, height = 86, foot = 8, left = 30, head = 20;
  const known = rows.flatMap((row) => [row.feature_fg, row.feature_bg]).filter((value) => value !== null);
  const most = Math.max(1e-9, ...known);
  const x = (i) => left + ((width - left - 6) * i) / Math.max(1, rows.length - 1), y = (value) => height - foot - ((height - foot - head) * value) / most;
  const parts = [
    `<line x1="${x(checkpoint)}" x2="${x(checkpoint)}" y1="${head - 6}" y2="${height - foot}" class="fgd-now"/>`,
    `<line x1="${left}" x2="${width - 6}" y1="${y(0)}" y2="${y(0)}" class="fgd-axis"/>`,
    `<text x="${left - 4}" y="${y(most) + 4}" text-anchor="end">${most.toPrecision(2)}</text><text x="${left - 4}" y="${y(0) + 3}" text-anchor="end">0</text>`,
  ];
  for (const [key, color] of [["feature_fg", "#D55E00"], ["feature_bg", "#56B4E9"]]) {
    const points = rows.map((row, i) => [i, row[key]]).filter(([, value]) => value !== null);
    parts.push(`<polyline fill="none" stroke="${color}" stroke-width="1.6" points="${points.map(([i, value]) => `${x(i)},${y(value)}`).join(" ")}"/>`);
    parts.push(...points.map(([i, value]) => `<circle class="fgd-point" cx="${x(i)}" cy="${y(value)}" r="2.6" fill="${color}"/>`));
  }
  parts.push(`<circle cx="${left + 8}" cy="6" r="2.6" fill="#D55E00"/><text x="${left + 13}" y="9">objects</text><circle cx="${left + 58}" cy="6" r="2.6" fill="#56B4E9"/><text x="${left + 63}" y="9">background</text>`);
  svg.setAttribute("aria-label", `Gap of features over checkpoints, objects and background; largest value ${most.toPrecision(2)}`);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.innerHTML = parts.join("");
}
