// What a model finds, drawn over the picture: boxes with labels, masks, maps of classes.

const LONGEST = 2000; // pixels; masks are drawn from a copy of at most this size
const MASK = 0.45; // opacity

/** A colour for each class, told apart by hue: neighbours in number are far apart on the wheel. */
export function classColor(number) {
  return `hsl(${Math.round(number * 137.508 + 20) % 360} 85% 62%)`;
}

/** Paints COCO run lengths (down the columns, first a run of 0) on a canvas of any smaller size. */
function paint(context, { size: [height, width], counts }, color) {
  const { canvas } = context, across = canvas.width / width, down = canvas.height / height;
  context.fillStyle = color;
  let at = 0;
  counts.forEach((count, index) => {
    const end = at + count;
    while (index % 2 && at < end) {
      const column = Math.floor(at / height), row = at % height;
      // Whole columns that follow each other are one rectangle.
      const columns = row ? 0 : Math.floor((end - at) / height), rows = columns ? height : Math.min(end - at, height - row);
      const left = Math.round(column * across), right = Math.max(left + 1, Math.round((column + Math.max(1, columns)) * across));
      const top = Math.round(row * down), bottom = Math.round((row + rows) * down);
      if (bottom > top) context.fillRect(left, top, right - left, bottom - top);
      at += columns ? columns * height : rows;
    }
    at = end;
  });
}

function layer(width, height) {
  const share = Math.min(1, LONGEST / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * share));
  canvas.height = Math.max(1, Math.round(height * share));
  return canvas.getContext("2d");
}

/** Prepares an answer of `/detect` or `/segment`: `{entries: [{id, label, text, color}], draw(context, view)}`. */
export function prepare(answer) {
  const found = answer.detections ?? answer.classes;
  const entries = found.map((one) => ({
    id: one.class_id,
    label: one.label,
    text: `${Math.round((one.score ?? one.share) * 100)} %`,
    color: classColor(one.class_id),
    box: one.box,
  }));
  let masks = null;
  if (found.some((one) => one.mask)) {
    const context = layer(answer.width, answer.height);
    found.forEach((one, index) => one.mask && paint(context, one.mask, entries[index].color));
    masks = context.canvas;
  }
  return { entries, draw: (context, view) => draw(context, view, entries, masks) };
}

function draw(context, { x, y, zoom, width, height }, entries, masks) {
  const ratio = devicePixelRatio || 1;
  if (masks) {
    context.globalAlpha = MASK;
    context.imageSmoothingEnabled = true;
    context.drawImage(masks, x, y, width * zoom, height * zoom);
    context.globalAlpha = 1;
  }
  context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  for (const { box, label, text, color } of entries.toReversed()) {
    if (!box) continue;
    const [top, left, bottom, right] = box.map((edge, i) => (i % 2 ? x + edge * width * zoom : y + edge * height * zoom));
    context.lineWidth = 2 * ratio;
    context.strokeStyle = color;
    context.strokeRect(left, top, right - left, bottom - top);
    const words = `${label} ${text}`, wide = context.measureText(words).width + 10 * ratio, high = 18 * ratio;
    const above = top - high >= y ? top - high : top;
    const from = Math.max(x, Math.min(left - ratio, x + width * zoom - wide));
    context.fillStyle = color;
    context.fillRect(from, above, wide, high);
    context.fillStyle = "#111";
    context.fillText(words, from + 5 * ratio, above + high / 2);
  }
}

/** One line a class for the legend: `{label, color, text}`, most frequent first. */
export function summarize({ entries }) {
  const classes = new Map();
  for (const entry of entries) {
    const known = classes.get(entry.id) ?? { ...entry, count: 0 };
    known.count++;
    classes.set(entry.id, known);
  }
  return [...classes.values()].map((one) => ({ ...one, text: one.box ? `${one.count}` : one.text })).slice(0, 12);
}
