// The cards below the maps: channels, loss, gap to the teacher, teacher check.

function makeCards(info, { choose, openChannels, onResize }) {
  const colours = info.colours, bars = new Bars((channel) => choose({ channel, quantity: "channel" }), onResize);
  const what = element("span", { class: "fgd-what" });
  const whole = button("Whole map", "Back to the channels of the whole map", () => choose({ cell: null }), { class: "fgd-small", hidden: true });
  const all = button("All channels", "Every channel as a small map", openChannels, { class: "fgd-small" });
  const weights = Object.fromEntries(["alpha", "beta", "gamma", "lambda_"].map((name) => [name, stateSlider(name, info, choose)]));
  const weightRows = Object.fromEntries(Object.entries(weights).map(([name, each]) => {
    const swatch = element("i", { class: "fgd-swatch" }), percent = element("b", { class: "fgd-percent", "data-percent": name });
    return [name, { percent, swatch, root: element("div", { class: "fgd-weight", "data-weight": name }, swatch, element("span", { text: LABELS[name] }), each.input, each.shown, percent) }];
  }));
  const levelRows = Object.fromEntries(info.choices.level.map((level) => {
    const parts = Object.fromEntries(Object.entries(info.terms).map(([term, { color }]) => [term, element("i", { "data-term": term, style: `background: ${color}` })]));
    const root = element("div", { class: "fgd-level", "data-level": level }, element("span", { text: level }), element("div", { class: "fgd-stack" }, ...Object.values(parts)));
    return [level, { parts, root }];
  }));
  const levels = element("div", { class: "fgd-levels" }, ...Object.values(levelRows).map((row) => row.root)), total = element("b", { class: "fgd-total" });
  const gaps = element("table", { class: "fgd-table fgd-gaps" }), networks = element("table", { class: "fgd-table fgd-networks" });
  const curve = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  curve.setAttribute("class", "fgd-curve");
  curve.setAttribute("role", "img");
  const checks = element("div", { class: "fgd-checks" }), notes = element("footer", { class: "fgd-notes" });
  const card = (title, aside, ...children) => element("section", { class: "fgd-card" }, element("h4", {}, element("span", { text: title }), ...aside), ...children);
  const loss = card("Loss of this image", [total], ...Object.values(weightRows).map((row) => row.root), levels);
  const root = element("div", { class: "fgd-cards" }, card("Channels", [what, all, whole], bars.canvas, bars.text), loss,
    element("div", { class: "fgd-pair" }, card("Gap to the teacher", [], gaps, curve), card("Teacher check", [], networks, checks)));

  function table(node, head, rows) {
    const content = JSON.stringify([head, rows]);
    if (node.dataset.content === content) return;                    // unchanged tables are not laid out again
    node.dataset.content = content;
    node.replaceChildren(element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col", text })))),
      element("tbody", {}, ...rows.map(([name, ...values]) => {
        const first = element("th", { scope: "row", text: name });
        first.style.setProperty("--colour", colours[name]);
        return element("tr", { "data-row": name }, first, ...values.map((text) => element("td", { text })));
      })));
  }

  function drawLoss(view) {
    const state = view.state;
    total.textContent = view.total === null ? "..." : general(view.total);
    loss.toggleAttribute("data-pending", view.pending);
    const termOf = Object.fromEntries(Object.entries(info.terms).map(([term, { weight }]) => [weight, term]));
    for (const [name, row] of Object.entries(weightRows)) {
      const term = termOf[name], off = !term;
      row.root.toggleAttribute("data-off", off);
      weights[name].input.disabled = off;
      row.root.title = off ? "The configuration switches this term off." : HINTS[name];
      row.percent.textContent = off ? "-" : `${sumOf(view.terms.filter((each) => each.term === term).map((each) => each.percent)).toFixed(1)} %`;
      row.swatch.style.background = off ? "transparent" : info.terms[term].color;
    }
    for (const [level, { root }] of Object.entries(levelRows)) root.dataset.here = String(level === state.level);
    for (const { level, term, raw, weighted, percent } of view.terms) {
      const part = levelRows[level].parts[term];
      part.title = `${term} on ${level}: sum ${general(raw)}, weighted ${general(weighted)}, ${percent.toFixed(1)} %`;
      part.style.width = `${percent}%`;
    }
  }

  function drawChecks(view) {
    const state = view.state;
    table(gaps, ["student", "features: objects", "background", "attention: objects", "background"],
      view.gaps.map((row) => [row.student, ...["feature_fg", "feature_bg", "attention_fg", "attention_bg"].map((name) => general(row[name]))]));
    table(networks, ["network", "AP", "objects detected", "false detections", `scale on ${state.level}`],
      view.networks.map((row) => [row.name, row.AP === null ? "not given" : row.AP.toFixed(1), `${row.detected} of ${row.objects}`, String(row.false), general(row.scale)]));
    const fine = "The teacher's maps and weights show no problem on this image.";
    checks.replaceChildren(...(view.warnings.length ? view.warnings.map((text) => element("p", { class: "fgd-warning", text })) : [element("p", { class: "fgd-fine", text: fine })]));
    notes.replaceChildren(...view.notes.map((text) => element("p", { text })));
  }

  return {
    root, notes, bars,
    showChoice(state) { for (const [name, each] of Object.entries(weights)) each.show(state[name]); },
    draw(view, checkpoints) {
      what.textContent = `${view.channels.what}; ${view.channels.order.length} of ${view.channels.total}, largest gap first`;
      whole.hidden = view.state.cell === null;
      all.hidden = !view.has_features;
      this.drawBars(view);
      drawLoss(view);
      drawChecks(view);
      curve.style.display = checkpoints.length > 1 ? "" : "none";
      if (checkpoints.length > 1) drawCurve(curve, checkpoints, view.state.checkpoint);
    },
    drawBars(view) {
      const state = view.state;
      bars.draw(view.channels, state.quantity === "channel" ? state.channel : null, state.student_name, [colours.teacher, colours[state.student_name]]);
    },
  };
}
