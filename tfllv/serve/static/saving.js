// Downloads: one photo, or all as a zip. What is saved is what the server's API gives, byte for byte.

import { explain } from "./service.js";
import { makeZip, uniqueNames } from "./zip.js";

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function busy(button, work) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await work();
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/** Saves one photo; `tell` is given what is going on, in words. */
export function saveOne(button, photo, format, limits, tell) {
  return busy(button, async () => {
    tell("Preparing the download.");
    try {
      const name = photo.saveName(format);
      save(await photo.render(format), name);
      tell(`Saved as ${name}.`);
    } catch (error) {
      const { title, text } = explain(error, photo.name, limits);
      tell(`${title}. ${text}`);
    }
  });
}

/** Saves photos as one zip; those that fail are named. */
export function saveAll(button, photos, format, limits, tell) {
  return busy(button, async () => {
    const names = uniqueNames(photos.map((photo) => photo.saveName(format)));
    const entries = [], failed = [];
    for (const [index, photo] of photos.entries()) {
      tell(`Preparing ${index + 1} of ${photos.length}.`);
      try {
        entries.push({ name: names[index], blob: await photo.render(format) });
      } catch (error) {
        failed.push(explain(error, photo.name, limits).title);
      }
    }
    try {
      if (entries.length) save(await makeZip(entries), "enhanced-photos.zip");
      tell([entries.length ? `Saved ${entries.length} photos.` : "", ...failed.map((title) => `${title}.`)].join(" ").trim());
    } catch (error) {
      tell(error.message);
    }
  });
}
