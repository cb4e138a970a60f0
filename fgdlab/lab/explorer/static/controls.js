// Native inputs, so that Tab and the arrow keys work everywhere. Each control has .root, show(value), and tells onChange(value).

let groups = 0;

function segmented(label, choices, onChange) {
  const name = `fgd-group-${++groups}`;
  const inputs = choices.map((choice) => element("input", { type: "radio", name, value: choice.value, onchange: () => onChange(choice.value) }));
  const labels = choices.map((choice, i) => element("label", { title: choice.hint || false }, inputs[i], element("span", { text: choice.label })));
  labels.forEach((each, i) => { if (choices[i].color) each.style.setProperty("--role", choices[i].color); });
  const root = element("div", { class: "fgd-group", role: "radiogroup", "aria-label": label }, element("span", { class: "fgd-name", text: label }), element("div", { class: "fgd-segments" }, ...labels));
  return { root, show: (value) => inputs.forEach((input) => { input.checked = input.value === value; }) };
}

function chips(label, choices, onChange) {
  const inputs = choices.map((choice) => element("input", {
    type: "checkbox", value: choice.value, onchange: () => onChange(inputs.filter((each) => each.checked).map((each) => each.value)),
  }));
  const root = element("div", { class: "fgd-group", role: "group", "aria-label": label }, element("span", { class: "fgd-name", text: label }),
    element("div", { class: "fgd-chips" }, ...choices.map((choice, i) => element("label", {}, inputs[i], element("span", { text: choice.label })))));
  return { root, show: (values) => inputs.forEach((input) => { input.checked = values.includes(input.value); }) };
}

// A slider over a list of stops; what it stands at is the stop, not a number made here.
function slider(label, stops, words, onChange, extra = {}) {
  const input = element("input", { type: "range", min: 0, max: Math.max(0, stops.length - 1), step: 1, "aria-label": label, ...extra });
  const shown = element("output", { class: "fgd-value" });
  const tell = (i) => {
    shown.textContent = words[i];
    input.setAttribute("aria-valuetext", words[i]);
  };
  input.addEventListener("input", () => {
    tell(Number(input.value));
    onChange(stops[Number(input.value)]);
  });
  return {
    input, shown, show(value) {
      let i = stops.indexOf(value);
      if (i < 0) {                                                   // a value set from Python between two stops
        i = stops.findIndex((stop) => stop > value);
        i = i < 0 ? stops.length : i;
        stops.splice(i, 0, value);
        words.splice(i, 0, String(value));
        input.max = stops.length - 1;
      }
      if (Number(input.value) !== i || shown.textContent === "") input.value = i;
      tell(i);
    },
  };
}
