// Pictures as bitmaps: decoded by the worker, upright on both sides of the divider.

import { send } from "./service.js";

const worker = new Worker(new URL("pixels.js", import.meta.url));
const waiting = new Map();
let count = 0;

worker.onmessage = ({ data: { id, levels } }) => {
  waiting.get(id)(levels);
  waiting.delete(id);
};

function ask(content) {
  return new Promise((resolve) => {
    waiting.set(++count, resolve);
    worker.postMessage({ id: count, ...content });
  });
}

/** The levels of a picture, the first in full resolution; null where this browser cannot read it. */
export const decode = (blob) => ask({ blob });

/** A small bitmap of a picture, `height` pixels high, or null. */
export const thumbnail = async (blob, height) => (await ask({ blob, thumbnail: height }))?.[0] ?? null;

export function release(levels) {
  levels?.forEach((bitmap) => bitmap.close());
}

/** "jpeg", "png", "webp", "bmp", "tiff" or "", by a file's first bytes, as the server tells types apart. */
export async function kindOf(blob) {
  const bytes = new Uint8Array(await blob.slice(0, 12).arrayBuffer());
  const text = String.fromCharCode(...bytes);
  if (text.startsWith("\xff\xd8\xff")) return "jpeg";
  if (text.startsWith("\x89PNG")) return "png";
  if (text.startsWith("RIFF") && text.slice(8) === "WEBP") return "webp";
  if (text.startsWith("BM")) return "bmp";
  return /^(II[*+]\0|MM\0[*+])/.test(text) ? "tiff" : "";
}

/**
 * Whether a browser may show the file in another position than the server: browsers agree on the orientation in a
 * JPEG's Exif block, but not on that in a PNG or WebP.
 */
async function mayBeTurned(blob, kind) {
  if (kind === "png") return (await blob.slice(0, 1 << 16).text()).includes("eXIf") || (await blob.slice(-(1 << 16)).text()).includes("eXIf");
  return kind === "webp" && ((await blob.slice(20, 21).arrayBuffer().then((b) => new Uint8Array(b)[0])) & 8) !== 0;
}

/** The levels of an upload as the browser reads it, or null where it cannot, or might turn it otherwise. */
export async function decodeUpload(photo) {
  if (photo.upright) return decode(photo.upright);
  photo.kind ||= await kindOf(photo.file);
  return (await mayBeTurned(photo.file, photo.kind)) ? null : decode(photo.file);
}

/**
 * Gives `levels` back if they fit the enhanced picture. Otherwise (a TIFF, an orientation that the browser does not
 * know) it asks the server for the upright original, an enhancement of strength 0, and keeps that in `photo.upright`.
 */
export async function matchOriginal(photo, levels, size, method, signal) {
  if (levels && levels[0].width === size.width && levels[0].height === size.height) return levels;
  release(levels);
  photo.upright ??= await send("enhance", photo.file, photo.name, { method, strength: 0, format: "png" }, { signal });
  return decode(photo.upright);
}
