// The method's equations on arrays from the kernel; tests/lab/explorer/test_browser_maths.py holds them equal to Python's to 1e-5.

// N softmax(G / T) over all N entries (eqs. 7 and 8), from the means G of |F| (eqs. 5 and 6).
function attentionOf(means, temperature) {
  const result = new Float64Array(means.length);
  let most = -Infinity, sum = 0;
  for (const mean of means) most = Math.max(most, mean);
  for (let i = 0; i < means.length; i++) sum += result[i] = Math.exp((means[i] - most) / temperature);
  for (let i = 0; i < means.length; i++) result[i] *= means.length / sum;
  return result;
}

// Loops instead of .map and .reduce: these arrays have a value per cell, and typed arrays call their callbacks slowly.
const ones = (like) => new Float64Array(like.length).fill(1);
function mean(a, b) {
  const result = new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) result[i] = (a[i] + b[i]) / 2;
  return result;
}
function product(a, b) {
  const result = new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) result[i] = a[i] * b[i];
  return result;
}
function difference(a, b) {
  const result = new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) result[i] = a[i] - b[i];
  return result;
}
function scaled(values, factor) {
  const result = new Float64Array(values.length);
  for (let i = 0; i < values.length; i++) result[i] = factor * values[i];
  return result;
}
function sumOf(values) {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum;
}
function absolute(values) {
  for (let i = 0; i < values.length; i++) values[i] = Math.abs(values[i]);
  return values;
}

// Both networks' attentions at T, with what the configuration switches off replaced by 1, and the weights of eq. 9.
function attentions(teacher, student, temperature, config) {
  const spatial = { teacher: attentionOf(teacher.spatial, temperature), student: attentionOf(student.spatial, temperature) };
  const channel = { teacher: attentionOf(teacher.channel, temperature), student: attentionOf(student.channel, temperature) };
  const used = (on, each) => (on ? each : { teacher: ones(each.teacher), student: ones(each.student) });
  const [usedSpatial, usedChannel] = [used(config.spatial_attention, spatial), used(config.channel_attention, channel)];
  const weighing = (each) => (config.attention_of === "mean" ? mean(each.student, each.teacher) : each[config.attention_of]);
  return { spatial, channel, usedSpatial, usedChannel, spatialWeights: weighing(usedSpatial), channelWeights: weighing(usedChannel) };
}

// Eq. 9 per cell before the masks: A^S times the sum over channels of A^C (F^T - f(F^S))^2.
function featureError(teacher, student, spatialWeights, channelWeights) {
  const cells = spatialWeights.length, error = new Float64Array(cells);
  for (let c = 0; c < channelWeights.length; c++) {
    const weight = channelWeights[c], from = c * cells;
    for (let i = 0; i < cells; i++) error[i] += weight * (teacher[from + i] - student[from + i]) ** 2;
  }
  for (let i = 0; i < cells; i++) error[i] *= spatialWeights[i];
  return error;
}

// One level: attention of both networks, each term per cell, and each term's raw sum. ``error``: eq. 9 per cell where the
// kernel computed it; null where it is still on its way, and then the terms of eq. 9 are null.
function lossMaps(teacher, student, masks, temperature, config, terms, error = null) {
  const at = attentions(teacher, student, temperature, config);
  const features = error || (student.features ? featureError(teacher.features, student.features, at.spatialWeights, at.channelWeights) : null);
  const times = (mask) => features && product(features, mask);
  const make = {
    fg: () => times(masks.fg), both: () => times(masks.fg), bg: () => times(masks.bg), global: () => Float64Array.from(student.relation),
    attention: () => absolute(difference(at.usedSpatial.student, at.usedSpatial.teacher)),
  };
  const cells = {}, raw = {};
  for (const term of terms) {
    cells[term] = make[term]();
    raw[term] = cells[term] && sumOf(cells[term]);
  }
  if ("attention" in raw) raw.attention += sumOf(absolute(difference(at.usedChannel.student, at.usedChannel.teacher)));
  return { spatial: at.spatial, channel: at.channel, cells, raw };
}

// Root mean square of F^T - f(F^S), and mean gap of A^S, inside and outside of boxes; null where there is no such cell.
function gapOf(student, maps, inside) {
  const sums = { fg: [0, 0, 0], bg: [0, 0, 0] };
  for (let i = 0; i < inside.length; i++) {
    const sum = inside[i] ? sums.fg : sums.bg;
    sum[0] += 1;
    sum[1] += student.error_mean[i];
    sum[2] += Math.abs(maps.spatial.teacher[i] - maps.spatial.student[i]);
  }
  const result = {};
  for (const [area, [count, errors, gaps]] of Object.entries(sums)) {
    result[`feature_${area}`] = count ? Math.sqrt(errors / count) : null;
    result[`attention_${area}`] = count ? gaps / count : null;
  }
  return result;
}

// Log of S (eqs. 3 and 4) from its smallest to its largest weight on this image, in 0..1.
function scaleMask(fg, bg) {
  const logs = new Float64Array(fg.length);
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < logs.length; i++) {
    logs[i] = Math.log(Math.max(fg[i], bg[i]));
    low = Math.min(low, logs[i]);
    high = Math.max(high, logs[i]);
  }
  for (let i = 0; i < logs.length; i++) logs[i] = high > low ? (logs[i] - low) / (high - low) : 1;
  return logs;
}

// Edges between cells inside and outside of a mask, as x1, y1, x2, y2 in cells.
function maskEdges(mask, [height, width]) {
  const inside = (y, x) => y >= 0 && y < height && x >= 0 && x < width && mask[y * width + x] > 0, edges = [];
  for (let y = 0; y <= height; y++) {
    for (let x = 0; x <= width; x++) {
      if (x < width && inside(y, x) !== inside(y - 1, x)) edges.push([x, y, x + 1, y]);
      if (y < height && inside(y, x) !== inside(y, x - 1)) edges.push([x, y, x, y + 1]);
    }
  }
  return edges;
}

// Objects that a detection of the right class covers with IoU >= 0.5, and detections that cover none.
function countDetected(boxes, labels, detections) {
  const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  const iou = (a, b) => {
    const shared = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
    return shared / (area(a) + area(b) - shared);
  };
  const covers = (each, i) => each.label === labels[i] && iou(each.box, boxes[i]) >= 0.5;
  return {
    detected: boxes.filter((_, i) => detections.some((each) => covers(each, i))).length,
    false: detections.filter((each) => !boxes.some((_, i) => covers(each, i))).length,
  };
}
