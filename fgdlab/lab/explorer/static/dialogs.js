// Windows over the explorer: help, code, state. A native dialog keeps the focus inside, closes with Escape, and gives the focus back.

function dialog(title, className, head, ...children) {
  const root = element("dialog", { class: `fgd-dialog ${className}`, "aria-label": title },
    element("div", { class: "fgd-dialog-head" }, element("strong", { text: title }), ...head, element("button", { type: "button", class: "fgd-close", text: "Close", onclick: () => root.close() })), ...children);
  return root;
}

const button = (text, title, onclick, extra = {}) => element("button", { type: "button", text, title, onclick, ...extra });

function saveFile(name, type, content) {
  const link = element("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function helpDialog() {
  return dialog("How to use the explorer", "fgd-help", [], element("dl", {}, ...HELP.flatMap(([what, does]) => [element("dt", { text: what }), element("dd", { text: does })])));
}

function codeDialog() {
  const code = element("pre", { class: "fgd-code", tabindex: 0 });
  const root = dialog("This view without widgets", "fgd-of-code", [
    button("Copy", "Copy the code", () => navigator.clipboard?.writeText(code.textContent)),
    button("Save .py", "Save the code as a file", () => saveFile(root.dataset.file, "text/x-python", code.textContent))], code);
  return { root, open(file, text) { root.dataset.file = file; code.textContent = text; root.showModal(); } };
}

// onState(changes): a text was pasted.
function stateDialog(start, onState) {
  const text = element("input", { type: "text", class: "fgd-state", "aria-label": "state", spellcheck: "false" }), wrong = element("p", { class: "fgd-warning", role: "alert", hidden: true });
  const use = () => {
    try { onState(stateOfText(text.value, start)); root.close(); } catch (error) { wrong.textContent = error.message; wrong.hidden = false; }
  };
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();                                          // else Enter also presses the button that gets the focus back
    use();
  });
  const root = dialog("The state of this view as text", "fgd-of-state", [button("Copy", "Copy the state", () => navigator.clipboard?.writeText(text.value)), button("Use", "Show the state of this text", use)],
    element("p", { text: "Copy it, or paste another one. In Python: explore(..., state=\"...\") or .set(state=\"...\")." }), text, wrong);
  return { root, open(state) { text.value = stateText(state, start); wrong.hidden = true; root.showModal(); text.select(); } };
}
