// A saved page: the widget with its data in this file instead of a kernel. The address holds the state.

const fromBase64 = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
const unzip = async (text) => new Uint8Array(await new Response(new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());

const values = JSON.parse(document.getElementById("data").textContent), start = values.info.start;
values.lookup_tables = fromBase64(values.lookup_tables);
values.frames = await Promise.all(values.frames.map(async ([message, block]) => [message, await unzip(block)]));
if (location.hash.length > 1) values.choice = { ...values.choice, ...stateOfText(location.hash.slice(1), start) };
widget.render({
  el: document.getElementById("explorer"),
  model: {
    get: (name) => values[name], set: (name, value) => { values[name] = value; }, on() {}, off() {},
    save_changes() {
      if (location.protocol !== "about:") history.replaceState(null, "", `#${stateText(values.choice, start)}`);     // a page within a notebook has no address
    },
  },
});
