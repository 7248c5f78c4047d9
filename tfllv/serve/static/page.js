// The page: photos come in, one is looked at, all can be downloaded. The other modules do the work.

import { decode, decodeUpload, matchOriginal, release, thumbnail } from "./pictures.js";
import { Photo, Queue, droppedFiles } from "./photos.js";
import { Findings } from "./overlays.js";
import { explain, getJson, setToken } from "./service.js";
import { saveAll, saveOne } from "./saving.js";
import { Stage } from "./stage.js";

const $ = (id) => document.getElementById(id);
const photos = [];
let offer = { models: [], defaults: {}, limits: null };
let shown = null; // the photo on the stage
let settings = { method: "", strength: 1 }; // of photos that come next
let view = 0; // counts what the stage was asked to show, so that a slow decode does not undo a later choice

const queue = new Queue(photoChanged);
const stage = new Stage({ root: $("stage"), canvas: $("canvas"), bar: $("bar"), tags: document.querySelectorAll("#stage .tag") }, viewChanged);
const findings = new Findings(stage, (text) => say($("found"), text));

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const title = (name) => name.replaceAll("_", " ");

// ---- the server's offer

async function connect() {
  try {
    offer = await getJson("models");
  } catch (error) {
    if (error.code === "unauthorized") $("token-dialog").showModal();
    else if (error.code === "network") say($("service"), "The server cannot be reached; trying again.");
    if (error.code !== "unauthorized") setTimeout(connect, 3000);
    return;
  }
  const able = (task) => offer.models.filter((model) => model.tasks?.includes(task));
  const loading = offer.models.filter((model) => model.state === "loading").length;
  say($("service"), loading ? `${loading} of ${offer.models.length} methods are still loading.` : "");
  if (loading) setTimeout(connect, 2000);
  fillMethods(able("enhance"));
  findings.offer(able("detect"), able("segment"));
  const { max_bytes: bytes, max_pixels: pixels } = offer.limits;
  say($("accepted"), `JPEG, PNG, WebP, BMP or TIFF, up to ${Math.floor(bytes / 2 ** 20)} MB and ${Math.floor(pixels / 1e6)} megapixels`);
  if (able("enhance").length) queue.start();
  else if (!loading) say($("service"), "This server has no method that brightens photos.");
}

function fillMethods(models) {
  const select = $("method"), groups = { network: "Neural networks", classical: "Classical methods" };
  const kept = settings.method || offer.defaults.enhance;
  select.replaceChildren();
  for (const kind of [...new Set(models.map((model) => model.kind ?? ""))]) {
    const options = models.filter((model) => (model.kind ?? "") === kind).map((model) => new Option(title(model.name), model.name));
    const group = document.createElement("optgroup");
    group.label = groups[kind] ?? "Models";
    group.append(...options);
    select.append(group);
  }
  settings.method = models.some((model) => model.name === kept) ? kept : (models[0]?.name ?? "");
  for (const photo of photos) photo.method ||= settings.method;
  showSettings();
}

// ---- photos in and out

function add(files) {
  const added = [...files].map((file) => new Photo(file, file.name || "photo", settings));
  if (!added.length) return;
  for (const photo of added) {
    photos.push(photo);
    makeTile(photo);
    const most = offer.limits?.max_bytes;
    if (most && photo.file.size > most) fail(photo, "too_large");
    else queue.add(photo);
  }
  document.body.classList.remove("empty");
  $("welcome").hidden = true;
  $("work").hidden = false;
  show(shown ?? added[0]);
  if (photos.length === added.length) $("bar").focus({ preventScroll: true });
}

/** Refuses here what the server would refuse, before it is sent. */
function fail(photo, code) {
  Object.assign(photo, { status: "failed", error: { code, detail: "" } });
  photoChanged(photo);
}

function remove(photo) {
  const index = photos.indexOf(photo);
  queue.remove(photo);
  photos.splice(index, 1);
  $(photo.id).remove();
  say($("live"), `${photo.name} removed.`);
  shown = null;
  view++;
  stage.clear();
  if (photos.length) {
    show(photos[Math.min(index, photos.length - 1)]);
    $(photos.length > 1 ? shown.id : "stage").focus(); // one photo alone has no strip
  } else {
    document.body.classList.add("empty");
    $("welcome").hidden = false;
    $("work").hidden = true;
    document.querySelector("#welcome .primary").focus();
  }
  showStrip();
}

function makeTile(photo) {
  const tile = document.createElement("li");
  tile.id = photo.id;
  tile.role = "option";
  tile.tabIndex = -1;
  tile.append(document.createElement("canvas"), document.createElement("span"));
  tile.addEventListener("click", () => show(photo));
  $("photos").append(tile);
  drawTile(photo, photo.file);
}

async function drawTile(photo, blob) {
  const tile = $(photo.id), canvas = tile.firstChild, bitmap = await thumbnail(blob, 160);
  if (!bitmap) return;
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
}

// ---- what has changed

const WORDS = { waiting: "waiting", sending: "sending", queued: "the server is busy, waiting", working: "being brightened", done: "done", failed: "failed" };

function photoChanged(photo) {
  const tile = $(photo.id);
  if (!tile) return;
  const before = tile.dataset.status;
  tile.dataset.status = photo.status;
  tile.setAttribute("aria-label", `${photo.name}, ${WORDS[photo.status]}`);
  tile.title = photo.name;
  if (before !== photo.status && photo.status === "done") {
    drawTile(photo, photo.result.blob);
    announce(photo);
  }
  if (before !== photo.status && photo.status === "failed") {
    const { title: what, text } = explain(photo.error, photo.name, offer.limits);
    say($("alert"), `${what}. ${text}`);
  }
  if (photo === shown) {
    showState();
    if (before !== photo.status && photo.status === "done") display();
  }
  showStrip();
}

function announce(photo) {
  const done = photos.filter((other) => other.status === "done").length;
  say($("live"), `${photo.name} is brightened.${photos.length > 1 ? ` ${done} of ${photos.length} are done.` : ""}`);
}

function showStrip() {
  document.body.classList.toggle("single", photos.length === 1);
  const good = photos.filter((photo) => photo.status === "done");
  $("download-all").hidden = photos.length < 2;
  $("download-all").disabled = !good.length || photos.some((photo) => !["done", "failed"].includes(photo.status));
  say($("download-all"), `Download all ${good.length} as zip`);
  $("download").disabled = shown?.status !== "done";
  const others = photos.filter((photo) => shown && (photo.method !== shown.method || photo.strength !== shown.strength));
  $("for-all").hidden = !others.length;
  say($("for-all"), `Use for all ${photos.length} photos`);
}

// ---- the photo that is looked at

async function show(photo) {
  if (shown && shown !== photo) settings = { method: photo.method || settings.method, strength: photo.strength };
  const changed = shown !== photo;
  shown = queue.first = photo;
  for (const tile of $("photos").children) {
    const chosen = tile.id === photo.id;
    tile.setAttribute("aria-selected", chosen);
    tile.tabIndex = chosen ? 0 : -1;
    if (chosen) tile.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  if (changed) {
    release(stage.before);
    release(stage.after);
    stage.clear();
  }
  showSettings();
  showState();
  showStrip();
  await display();
}

/** Brings the shown photo's pictures onto the stage. */
async function display() {
  const photo = shown, turn = ++view, current = () => turn === view && photo === shown;
  const put = (change) => {
    const old = { before: stage.before, after: stage.after };
    stage.show(change);
    for (const [side, levels] of Object.entries(change)) if (old[side] && old[side] !== levels) release(old[side]);
    showState();
  };
  if (!stage.before) {
    const levels = await decodeUpload(photo);
    if (!current()) return release(levels);
    if (levels) put({ before: levels });
  }
  const { result } = photo;
  if (!result) return;
  const after = await decode(result.blob);
  if (!current()) return release(after);
  if (!after) return say($("saving"), "This browser cannot show the result; it can be downloaded.");
  let before = stage.before;
  try {
    before = await matchOriginal(photo, before, after[0], photo.method);
  } catch {
    before = null; // the result is shown alone
  }
  if (!current()) return release(after);
  put({ before, after, strength: photo.strength });
  findings.show(photo);
}

function showState() {
  const { status, share, error, name } = shown;
  say($("name"), name);
  const size = stage.size ? `${stage.size.width} × ${stage.size.height}` : "";
  const time = shown.result ? `${Math.max(0.1, shown.result.milliseconds / 1000).toFixed(1)} s` : "";
  say($("facts"), [size, time].filter(Boolean).join(" · "));
  const busy = ["waiting", "sending", "queued", "working"].includes(status);
  const [box, bar, text] = [$("progress"), ...$("progress").children];
  box.hidden = !busy;
  if (status === "sending") bar.value = share * 100;
  else bar.removeAttribute("value");
  say(text, { waiting: "Waiting", sending: `Sending ${Math.round(share * 100)} %`, queued: "The server is busy; waiting", working: "Brightening" }[status] ?? "");
  $("problem").hidden = status !== "failed";
  $("stage").classList.toggle("failed", status === "failed");
  if (status === "failed") {
    const { title: what, text: why, retry } = explain(error, name, offer.limits);
    say($("problem").children[0], what);
    say($("problem").children[1], why);
    $("problem").querySelector("[data-action=retry]").hidden = !retry;
  }
  $("canvas").setAttribute("aria-label", stage.after ? `${name}: the original left of the divider, enhanced with ${title(shown.method)} right of it` : name);
}

function showSettings() {
  const { method, strength } = shown ?? settings;
  $("method").value = method;
  $("strength").value = Math.round(strength * 100);
  say($("strength-shown"), `${Math.round(strength * 100)} %`);
  const model = offer.models.find((one) => one.name === method);
  const summary = model?.summary ?? (model ? `Version ${model.version}` : "");
  say($("about"), summary && `${summary[0].toUpperCase()}${summary.slice(1)}.`);
}

function viewChanged() {
  const share = Math.round(stage.split * 100);
  stage.bar.setAttribute("aria-valuenow", share);
  stage.bar.setAttribute("aria-valuetext", `${share} % original, ${100 - share} % enhanced`);
  say($("zoom"), stage.size ? `${Math.round(stage.zoom * 100)} %` : "");
}

// ---- what people do

function choose(change) {
  settings = { method: shown.method, strength: shown.strength, ...change };
  Object.assign(shown, settings);
  showSettings();
  showStrip();
}

$("method").addEventListener("change", () => {
  choose({ method: $("method").value });
  queue.add(shown);
  if (shown.status === "done") display();
});

$("strength").addEventListener("input", () => {
  choose({ strength: $("strength").valueAsNumber / 100 });
  stage.show({ strength: shown.strength });
});

async function retry() {
  if (shown.error?.code === "too_large") return;
  queue.add(shown);
}

function forAll() {
  for (const photo of photos) {
    if (photo === shown) continue;
    Object.assign(photo, settings, { method: shown.method, strength: shown.strength });
    if (photo.error?.code !== "too_large") queue.add(photo);
  }
  showStrip();
  say($("live"), "All photos use these settings.");
}

const tell = (text) => say($("saving"), text);
const actions = {
  choose: () => $("files").click(),
  camera: () => $("camera").click(),
  remove: () => remove(shown),
  retry,
  "for-all": forAll,
  download: (button) => saveOne(button, shown, $("format").value, offer.limits, tell),
  "download-all": (button) => saveAll(button, photos.filter((photo) => photo.status === "done"), $("format").value, offer.limits, tell),
  "zoom-in": () => stage.zoomBy(2),
  "zoom-out": () => stage.zoomBy(-2),
  "zoom-fit": () => stage.size && stage.fit(),
  "zoom-full": () => stage.zoomTo(1),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (button) actions[button.dataset.action](button);
});

for (const id of ["files", "camera"]) {
  $(id).addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
}

$("photos").addEventListener("keydown", (event) => {
  const at = photos.indexOf(shown);
  const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: photos.length - 1 }[event.key];
  if (photos[next]) {
    show(photos[next]);
    $(shown.id).focus();
  } else if (event.key === "Delete") remove(shown);
  else return;
  event.preventDefault();
});

document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length) return;
  event.preventDefault();
  // A copied picture has no name of its own: every one is called image.png.
  const first = photos.filter((photo) => photo.name.startsWith("pasted-")).length + 1;
  add(files.map((file, i) => (file.name === "image.png" ? new File([file], `pasted-${first + i}.png`, { type: file.type }) : file)));
});

for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(name, async (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("dropping", name === "dragenter" || name === "dragover" || (name === "dragleave" && event.relatedTarget));
    if (name === "drop") add(await droppedFiles(event.dataTransfer));
  });
}

$("panel").addEventListener("submit", (event) => event.preventDefault());
$("token-dialog").addEventListener("cancel", (event) => event.preventDefault());
$("token-dialog").addEventListener("close", () => {
  setToken($("token").value);
  $("token").value = "";
  connect();
});

connect();
