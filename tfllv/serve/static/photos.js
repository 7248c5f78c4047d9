// The photos and their work: each is sent, and sent again when its method changes; two at a time, the shown one first.

import { send } from "./service.js";
import { kindOf } from "./pictures.js";

const AT_ONCE = 2;
const KEPT = 4; // results of different methods that a photo keeps
const SUFFIX = { jpeg: ".jpg", png: ".png", webp: ".webp" };
let count = 0;

export class Photo {
  constructor(file, name, settings) {
    Object.assign(this, { id: `photo-${++count}`, file, name, ...settings });
    Object.assign(this, { status: "waiting", share: 0, error: null, kind: "", upright: null, abort: null });
    this.results = new Map(); // method -> {blob, format, milliseconds}
    this.found = new Map(); // "detect|model|side" -> promise of findings
  }

  get result() {
    return this.results.get(this.method);
  }

  /** The type that is kept where none is chosen. */
  get format() {
    return ["jpeg", "webp"].includes(this.kind) ? this.kind : "png";
  }

  /** The name of a result's file. */
  saveName(format) {
    return `${this.name.replace(/\.[^.]*$/, "")}-enhanced${SUFFIX[format || this.format]}`;
  }

  /** The result in a file type: that of `/enhance` with these settings, byte for byte. */
  async render(format, signal) {
    const wanted = format || this.format, done = this.result;
    if (this.strength === 1 && done?.format === wanted) return done.blob;
    const options = { method: this.method, format: wanted, strength: this.strength };
    return send("enhance", this.file, this.name, options, { signal });
  }

  stop() {
    this.abort?.abort();
    this.abort = null;
  }
}

/** Does the work of all photos; `onChange(photo)` is told of every step. */
export class Queue {
  constructor(onChange) {
    this.onChange = onChange;
    this.waiting = [];
    this.running = 0;
    this.open = false; // until the server's models are known
    this.first = null; // the photo that is looked at
  }

  start() {
    this.open = true;
    this.next();
  }

  /** Brings a photo's result up to its settings. */
  add(photo) {
    photo.stop();
    photo.error = null;
    this.waiting = this.waiting.filter((other) => other !== photo);
    if (photo.result) {
      photo.status = "done";
    } else {
      photo.status = "waiting";
      this.waiting.push(photo);
    }
    this.onChange(photo);
    this.next();
  }

  remove(photo) {
    photo.stop();
    this.waiting = this.waiting.filter((other) => other !== photo);
    this.next();
  }

  next() {
    while (this.open && this.running < AT_ONCE && this.waiting.length) {
      const index = Math.max(0, this.waiting.indexOf(this.first));
      const [photo] = this.waiting.splice(index, 1);
      this.running++;
      this.work(photo).finally(() => {
        this.running--;
        this.next();
      });
    }
  }

  async work(photo) {
    const abort = (photo.abort = new AbortController()), { method } = photo;
    const step = (change) => {
      if (photo.abort !== abort) return; // other settings have taken its place
      Object.assign(photo, change);
      this.onChange(photo);
    };
    step({ status: "sending", share: 0 });
    try {
      photo.kind ||= await kindOf(photo.file);
      const format = photo.format, start = performance.now();
      const blob = await send("enhance", photo.file, photo.name, { method, format }, {
        onProgress: (share) => step(share < 1 ? { status: "sending", share } : { status: "working", share: 1 }),
        onWait: () => step({ status: "queued", share: 0 }),
        signal: abort.signal,
      });
      photo.results.set(method, { blob, format, milliseconds: performance.now() - start });
      for (const old of photo.results.keys()) if (photo.results.size > KEPT && old !== method) photo.results.delete(old);
      step({ status: "done", error: null });
    } catch (error) {
      if (error.name !== "AbortError") step({ status: "failed", error });
    }
  }
}

/** Files of a drop, those in dropped folders too. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const files = [];
  async function walk(entry) {
    if (entry instanceof File) files.push(entry);
    else if (entry?.isFile) files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else if (entry?.isDirectory) {
      const reader = entry.createReader();
      const read = () => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      // A reader gives a folder in parts, and an empty one at its end.
      for (let part = await read(); part.length; part = await read()) for (const inner of part) if (!inner.name.startsWith(".")) await walk(inner);
    }
  }
  for (const entry of entries) await walk(entry);
  return files;
}
