// The panel's part that shows what models find: left of the divider in the original, right of it in the enhanced photo.

import { prepare, summarize } from "./findings.js";
import { send } from "./service.js";

const $ = (id) => document.getElementById(id);
const TASKS = ["detect", "segment"];

export class Findings {
  constructor(stage, tell) {
    Object.assign(this, { stage, tell, photo: null, turn: 0 });
    for (const task of TASKS) {
      $(task).addEventListener("change", () => this.show(this.photo));
      $(`${task}-model`).addEventListener("change", () => this.show(this.photo));
    }
  }

  /** Offers the models that can detect, and those that can segment. */
  offer(...models) {
    TASKS.forEach((task, index) => {
      const select = $(`${task}-model`), kept = select.value;
      select.replaceChildren(...models[index].map((model) => new Option(model.name.replaceAll("_", " "), model.name)));
      if (models[index].some((model) => model.name === kept)) select.value = kept;
      select.hidden = models[index].length < 2;
      $(`${task}-choice`).hidden = !models[index].length;
    });
    $("overlays").hidden = !models.flat().length;
  }

  /** Asks for what is wanted of a photo, once, and draws it. */
  async show(photo) {
    this.photo = photo;
    const turn = ++this.turn, wanted = TASKS.filter((task) => $(task).checked && $(`${task}-model`).value);
    if (!photo?.result || !wanted.length) return this.clear();
    this.tell("Looking …");
    try {
      const [left, right] = await Promise.all(["original", photo.method].map((side) => Promise.all(wanted.map((task) => this.find(photo, task, side)))));
      if (turn !== this.turn) return;
      const both = (found) => (context, view) => found.toReversed().forEach((one) => one.draw(context, view));
      this.stage.cover({ left: both(left), right: both(right) });
      this.describe(left, right);
    } catch (error) {
      if (turn !== this.turn) return;
      this.clear();
      this.tell(error.detail || "The models could not look at this photo.");
    }
  }

  clear() {
    this.stage.cover({});
    this.tell("");
    $("legend").replaceChildren();
  }

  find(photo, task, side) {
    const method = $(`${task}-model`).value, key = `${task}|${method}|${side}`;
    if (!photo.found.has(key)) {
      const blob = side === "original" ? photo.file : photo.result.blob;
      const answer = send(task, blob, photo.name, { method }).then(async (content) => prepare(JSON.parse(await content.text())));
      answer.catch(() => photo.found.delete(key)); // so that it can be asked for again
      photo.found.set(key, answer);
    }
    return photo.found.get(key);
  }

  describe(left, right) {
    const count = (found) => found.flatMap((one) => one.entries).filter((entry) => entry.box).length;
    const boxes = [...left, ...right].some((one) => one.entries.some((entry) => entry.box));
    this.tell($("detect").checked ? (boxes ? `Objects: ${count(left)} in the original, ${count(right)} in the enhanced photo.` : "No objects were found.") : "");
    $("legend").replaceChildren(...right.flatMap(summarize).map(({ label, text, color }) => {
      const line = document.createElement("li"), dot = document.createElement("span");
      dot.style.background = color;
      line.append(dot, `${label} `, Object.assign(document.createElement("small"), { textContent: text }));
      return line;
    }));
  }
}
