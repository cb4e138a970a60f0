// Undo and redo of the reader's choices, and the state as a short text.

const SAME_CHOICE = 800;                                             // ms: steps of one slider within this time are one choice

class History {
  constructor() { Object.assign(this, { past: [], future: [], last: "", when: 0 }); }

  note(before, changes) {
    const names = Object.keys(changes).join(), now = Date.now();
    if (names !== this.last || now - this.when > SAME_CHOICE) this.past.push(before);
    if (this.past.length > 200) this.past.shift();
    Object.assign(this, { future: [], last: names, when: now });
  }

  step(from, to, now) {
    if (!from.length) return null;
    to.push(now);
    this.last = "";
    return from.pop();
  }

  undo(now) { return this.step(this.past, this.future, now); }

  redo(now) { return this.step(this.future, this.past, now); }
}

// What differs from the first view, e.g. image=3&level="P4"&temperature=0.2; values are JSON.
function stateText(state, start) {
  const changed = Object.entries(state).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(start[name]) || name === "image" || name === "level");
  return changed.map(([name, value]) => `${name}=${encodeURIComponent(JSON.stringify(value)).replace(/%(22|2C|5B|5D)/g, decodeURIComponent)}`).join("&");
}

// The changes that a text describes. Throws an error that says what is wrong with it.
function stateOfText(text, start) {
  return Object.fromEntries(text.trim().split("&").filter(Boolean).map((part) => {
    const [name, value] = part.split(/=(.*)/s);
    if (!(name in start)) throw new Error(`A state must have the form image=3&level="P4" with names like ${Object.keys(start).slice(0, 4).join(", ")}, got "${name}".`);
    try { return [name, JSON.parse(decodeURIComponent(value))]; } catch { throw new Error(`The value of ${name} must be a number, a text in quotes or a list, got ${value}.`); }
  }));
}
