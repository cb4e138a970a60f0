// Frames from the kernel, bounded by bytes; one frame at a time, the latest choice first; neighbours are fetched when nothing else is.

const MAX_BYTES = 256e6;                                             // of frames
const SILENCE = 3000, REST = 120, SLOW = 2;                          // ms without an answer; ms of rest before a neighbour is fetched; seconds per image, beyond which none is

// A frame's JSON with each {at, shape, type} replaced by a typed array of the block. A map's grid is the shape of its spatial part; bg, one weight, becomes a mask: it is 0 where fg is not.
function unpack(message, block) {
  const bytes = new Uint8Array(block.buffer.slice(block.byteOffset, block.byteOffset + block.byteLength));
  const open = (value) => {
    if (Array.isArray(value)) return value.map(open);
    if (value === null || typeof value !== "object") return value;
    if ("at" in value && "shape" in value) {
      const count = value.shape.reduce((a, b) => a * b, 1);
      return value.type === "uint8" ? bytes.subarray(value.at, value.at + count) : new Float32Array(bytes.buffer, value.at, count);
    }
    const result = Object.fromEntries(Object.entries(value).map(([name, each]) => [name, open(each)]));
    if (value.spatial?.shape) result.grid = value.spatial.shape;
    if (value.rgb?.shape) result.rgb_size = value.rgb.shape.slice(0, 2);
    if (value.inside) result.bg = result.fg.map((weight) => (weight > 0 ? 0 : value.bg));
    return result;
  };
  return open(message);
}

class Store {
  // send(question, buffers): to the kernel, or null where there is none. onAnswer(): something came. onSilence(silent). onError(text).
  constructor(send, { onAnswer, onSilence, onError }) {
    Object.assign(this, { send, onAnswer, onSilence, onError, bytes: 0, parts: new Map(), waiting: new Map(), count: 0, silent: false, seconds: 0 });
  }

  keep(message, block) {
    const { base, students } = unpack(message, block);
    const put = (key, value, size) => {
      this.drop(key);
      this.parts.set(key, { value, size });
      this.bytes += size;
    };
    const size = block.byteLength / (students.length + (base ? 1 : 0));
    if (base) put(`${message.image}`, base, size);
    for (const each of students) put(`${message.image}|${each.name}|${each.checkpoint}`, each, size);
    for (const key of this.parts.keys()) {
      if (this.bytes <= MAX_BYTES) break;
      if (key.split("|")[0] !== `${message.image}`) this.drop(key);
    }
  }

  drop(key) {
    this.bytes -= this.parts.get(key)?.size || 0;
    this.parts.delete(key);
  }

  get(key) {
    const found = this.parts.get(key);
    if (found) {                                                     // the latest used is the last
      this.parts.delete(key);
      this.parts.set(key, found);
    }
    return found?.value;
  }

  has(image, checkpoints) {
    return this.parts.has(`${image}`) && Object.entries(checkpoints).every(([name, checkpoint]) => this.parts.has(`${image}|${name}|${checkpoint}`));
  }

  // {base, students} of an image, or null if a part is missing.
  frame(image, checkpoints) {
    if (!this.has(image, checkpoints)) return null;
    return { base: this.get(`${image}`), students: Object.fromEntries(Object.entries(checkpoints).map(([name, checkpoint]) => [name, this.get(`${image}|${name}|${checkpoint}`)])) };
  }

  get busy() { return this.waiting.size > 0; }

  get images() { return new Set([...this.parts.keys()].map((key) => key.split("|")[0])).size; }

  // Fetch what is missing of a frame, as soon as no other frame is awaited; a later call replaces an earlier one that still waits.
  fetch(image, checkpoints, prefetching = false) {
    this.next = [image, checkpoints];
    this.prefetching = prefetching;                                        // errors of an image that nobody chose are not shown
    if (!this.fetching) this.fetchNext();
  }

  fetchNext() {
    const next = this.next;
    this.next = null;
    if (!next || this.has(...next)) return;
    const [image, checkpoints] = next, base = !this.parts.has(`${image}`);
    const students = Object.fromEntries(Object.entries(checkpoints).filter(([name, checkpoint]) => base || !this.parts.has(`${image}|${name}|${checkpoint}`)));
    this.fetching = true;
    const done = () => { this.fetching = false; this.fetchNext(); };
    this.ask({ ask: "frame", image, students, base }).then((answer) => {
      this.seconds = answer.message.seconds;
      this.keep(answer.message, answer.block);
      this.onAnswer();
      done();
    }, (error) => { this.fetching = false; this.next = null; if (!this.prefetching) this.onError(error.message); });
  }

  // Images that may be wanted next, while the reader rests and detectors are fast: the kernel cannot stop what it has begun.
  prefetch(images, checkpoints) {
    clearTimeout(this.rest);
    if (!this.send) return;
    this.rest = setTimeout(() => {
      const image = images.find((each) => !this.has(each, checkpoints));
      if (image === undefined || this.silent || this.seconds > SLOW) return;
      if (!this.busy) this.fetch(image, checkpoints, true);
      this.prefetch(images, checkpoints);
    }, REST);
  }

  // A question to the kernel; resolves to {message, block}.
  ask(question, buffers) {
    if (!this.send) return Promise.reject(new Error("This page has no kernel."));
    const id = `${++this.count}`;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      try {
        this.send({ id, ...question }, buffers);
        this.listen();
      } catch {                                                      // the connection is closed
        this.waiting.delete(id);
        this.setSilent(true);
        reject(new Error("The kernel has ended; run the cell again."));
      }
    });
  }

  // Every sign of life starts the time anew.
  listen() {
    clearTimeout(this.timer);
    if (this.busy) this.timer = setTimeout(() => this.setSilent(true), SILENCE);
  }

  setSilent(silent) {
    if (this.silent === silent) return;
    this.silent = silent;
    this.onSilence(silent);
  }

  receive(message, buffers) {
    this.setSilent(false);
    const asked = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    this.listen();
    if (!asked) return;
    if (message.error !== undefined) asked.reject(new Error(message.error));
    else asked.resolve({ message, block: buffers?.[0] });
  }
}
