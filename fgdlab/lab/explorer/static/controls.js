// Native inputs, so that Tab and the arrow keys work. Each control has .root and show(value), and calls onChange(value).

let groups = 0;

function segmented(label, choices, onChange) {
  const name = `fgd-group-${++groups}`;
  const inputs = choices.map((choice) => element("input", { type: "radio", name, value: choice.value, onchange: () => onChange(choice.value) }));
  const labels = choices.map((choice, i) => element("label", { title: choice.hint || false }, inputs[i], element("span", { text: choice.label })));
  labels.forEach((each, i) => { if (choices[i].color) each.style.setProperty("--colour", choices[i].color); });
  const root = element("div", { class: "fgd-group", role: "radiogroup", "aria-label": label }, element("span", { class: "fgd-name", text: label }), element("div", { class: "fgd-segments" }, ...labels));
  return { root, show: (value) => inputs.forEach((input) => { input.checked = input.value === value; }) };
}

function checkboxes(label, choices, onChange) {
  const inputs = choices.map((choice) => element("input", {
    type: "checkbox", value: choice.value, onchange: () => onChange(inputs.filter((each) => each.checked).map((each) => each.value)),
  }));
  const root = element("div", { class: "fgd-group", role: "group", "aria-label": label }, element("span", { class: "fgd-name", text: label }),
    element("div", { class: "fgd-checkboxes" }, ...choices.map((choice, i) => element("label", {}, inputs[i], element("span", { text: choice.label })))));
  return { root, show: (values) => inputs.forEach((input) => { input.checked = values.includes(input.value); }) };
}

// A slider over a list of values with their texts.
function slider(label, values, texts, onChange, extra = {}) {
  const input = element("input", { type: "range", min: 0, max: Math.max(0, values.length - 1), step: 1, "aria-label": label, ...extra });
  const shown = element("output", { class: "fgd-value" });
  const showText = (i) => {
    shown.textContent = texts[i];
    input.setAttribute("aria-valuetext", texts[i]);
  };
  input.addEventListener("input", () => {
    showText(Number(input.value));
    onChange(values[Number(input.value)]);
  });
  return {
    input, shown, show(value) {
      let i = values.indexOf(value);
      if (i < 0) {                                                   // set from Python, between two values of the slider
        i = values.findIndex((each) => each > value);
        i = i < 0 ? values.length : i;
        values.splice(i, 0, value);
        texts.splice(i, 0, String(value));
        input.max = values.length - 1;
      }
      if (Number(input.value) !== i || shown.textContent === "") input.value = i;
      showText(i);
    },
  };
}
