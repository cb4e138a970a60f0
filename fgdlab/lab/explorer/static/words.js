// Labels and explanations of every control.

const GREEK = { alpha: "α", beta: "β", gamma: "γ", lambda_: "λ" };

const LABELS = {
  difference: "Teacher, student, difference", before_after: "All students", attention: "Attention", channel: "One channel", context: "Context of R",
  loss: "Loss per cell", shared: "Shared", own: "Own", boxes: "Boxes", mask: "Foreground", scale: "Scale mask", roundings: "Both roundings",
  detections: "Detections", authors: "Authors'", exact: "Exact", temperature: "Temperature T", score: "Lowest score",
  alpha: "α foreground", beta: "β background", gamma: "γ attention", lambda_: "λ global",
};

const HINTS = {
  attention: "Softmax of the mean |F| over channels at temperature T (eqs. 5 and 7). 1 is the average cell.",
  channel: "The map of one channel in both networks. Choose the channel among the bars, by click or arrow keys, or in the channel gallery.",
  context: "Softmax over W_k F: the weights of cells in R of the global term (eq. 13), equal for every query cell.",
  loss: "Each cell's part of the weighted loss of this image; all levels together are 100 %.",
  difference: "One student beside the teacher, and the difference of their maps.",
  before_after: "Every student, and its difference to the teacher.",
  shared: "Compared maps have the same colour limits.", own: "Each map has its own colour limits: shapes can be compared, values cannot.",
  authors: "Boxes reach one cell further, as in the authors' code.", exact: "Boxes cover the cells that they touch.",
  boxes: "Ground truth.", mask: "The binary mask M (eq. 2): its edge on the maps, clear cells on the image.", scale: "The scale mask S (eqs. 3 and 4) over the image.",
  roundings: "The cells of every box in both roundings.", detections: "Boxes of each network with class and score.",
  temperature: "T of both attentions. Small: few cells count. Large: all cells count alike.",
  score: "Detections with a lower score are neither shown nor counted.",
  alpha: "Weight of the foreground sum.", beta: "Weight of the background sum.", gamma: "Weight of the attention term.", lambda_: "Weight of the global term.",
};

const HELP = [
  ["Point at a cell", "its value in every panel; click: its channels"], ["Arrow keys on the maps", "move between cells; Enter selects, Escape clears"],
  ["Arrow keys on a slider", "next value; Page Up and Page Down: ten values"], ["Ctrl+Z, Ctrl+Y", "undo and redo a choice"],
  ["Image number", "type it and press Enter"], ["Gallery", "all images, sorted by gap, missed objects, false detections or loss"],
  ["Drop an image on the explorer", "it becomes the last image"], ["State", "the view as a short text, which can be pasted here or given to explore(state=...)"],
];

// Values of a slider: 0 and ten per decade for weights; denser where softmax changes fast for T. ``start`` is among them.
function sliderValues(name, start) {
  const values = name === "temperature" ? [...Array.from({ length: 30 }, (_, i) => Number((0.05 * (i + 1)).toFixed(2))), 1.75, 2, 2.5, 3, 4, 5, 7, 10]
    : name === "score" ? Array.from({ length: 20 }, (_, i) => Number((0.05 * i).toFixed(2)))
      : [0, ...Array.from({ length: 81 }, (_, i) => Number((10 ** ((i - 80) / 10)).toPrecision(2)))];
  const sorted = [...new Set([...values, start])].sort((a, b) => a - b);
  return { values: sorted, texts: sorted.map((value) => (value === 0 && name !== "score" ? "off" : general(value, 6))) };
}

// A number with a few digits, as Python writes it with "{:.3g}".
function general(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const [head, power] = value.toExponential(digits - 1).split("e");
  const exponent = Number(power);
  const trimmed = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  if (exponent >= -4 && exponent < digits) return trimmed(value.toFixed(digits - 1 - exponent));
  return `${trimmed(head)}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}
