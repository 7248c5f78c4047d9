// A worker that decodes pictures, so that the page never waits for one.
//
// A picture becomes levels, each half the size of the one before: what is drawn is never much more than what is seen.

const SMALLEST = 700; // longer side of the last level, in pixels

self.onmessage = async ({ data: { id, blob, thumbnail } }) => {
  try {
    if (thumbnail) {
      const bitmap = await createImageBitmap(blob, { resizeHeight: thumbnail, resizeQuality: "medium" });
      self.postMessage({ id, levels: [bitmap] }, [bitmap]);
      return;
    }
    const levels = [await createImageBitmap(blob)];
    for (let last = levels[0]; Math.max(last.width, last.height) > SMALLEST; last = levels.at(-1)) {
      const [width, height] = [last.width, last.height].map((size) => Math.max(1, Math.round(size / 2)));
      levels.push(await createImageBitmap(last, { resizeWidth: width, resizeHeight: height, resizeQuality: "medium" }));
    }
    self.postMessage({ id, levels }, levels);
  } catch {
    self.postMessage({ id, levels: null });
  }
};
