// Native inputs, so that Tab and the arrow keys work. Each control has .root and show(value), and calls onChange(value).

function segmented(label, choices, onChange) {
  const name = `fgd-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;  // radios of two explorers on one page must not share a name
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
    element("div", { class: "fgd-checkboxes" }, ...choices.map((choice, i) => element("label", { title: choice.hint || false }, inputs[i], element("span", { text: choice.label })))));
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

// The slider of a number of the state.
function stateSlider(name, info, choose) {
  const { values, texts } = sliderValues(name, info.start[name]);
  return slider(LABELS[name], values, texts, (value) => choose({ [name]: value }), { "data-control": name, title: HINTS[name] });
}

// Slider, number entry and buttons for the image. show(image); a saved page lists its images in info.list.
// soon(): images that may be chosen next: the number being typed, the next and the previous one. onTyped(): that number changed.
function imageControl(info, onChange, onTyped) {
  let all = [];
  const list = () => info.list || (all.length === info.images ? all : (all = Array.from({ length: info.images }, (_, i) => i)));
  const range = element("input", { type: "range", min: 0, step: 1, "aria-label": "Image", "data-control": "image", title: "Image of the data set" });
  const number = element("input", { type: "number", min: 1, step: 1, "aria-label": "image number", title: "Type a number and press Enter" });
  const count = element("output", {});
  let now = 0;
  const turn = (step) => onChange(list()[(list().indexOf(now) + step + list().length) % list().length]);
  range.addEventListener("input", () => onChange(list()[Number(range.value)]));
  number.addEventListener("input", onTyped);
  number.addEventListener("change", () => {
    const image = Math.round(Number(number.value)) - 1;
    if (list().includes(image)) onChange(image);
    else number.value = now + 1;
  });
  return {
    root: element("div", { class: "fgd-image" }, element("button", { type: "button", "aria-label": "previous image", title: "Previous image", text: "‹", onclick: () => turn(-1) }), range,
      element("button", { type: "button", "aria-label": "next image", title: "Next image", text: "›", onclick: () => turn(1) }), number, count),
    soon: () => [Math.round(Number(number.value)) - 1, ...[1, -1].map((step) => list()[(list().indexOf(now) + step + list().length) % list().length])].filter((each) => list().includes(each)),
    show(image) {
      if (image !== now || number.value === "") number.value = image + 1;     // else a number that is being typed would be lost
      now = image;
      range.max = list().length - 1;
      number.max = info.images;
      if (Number(range.value) !== list().indexOf(image)) range.value = list().indexOf(image);
      range.setAttribute("aria-valuetext", `${image + 1} of ${info.images}`);
      count.textContent = info.list ? `of ${info.images}; ${list().length} in this file` : `of ${info.images}`;
    },
  };
}
