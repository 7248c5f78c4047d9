// The server's API: what it offers, one request with its progress, and its refusals in plain words.

const TOKEN = "tfllv-token"; // of this tab alone

/** A refusal or a failure: `code` is the word of the server's JSON, or "network" where there was no answer. */
export class ServiceError extends Error {
  constructor(code, detail, { status = 0, retryAfter = 0 } = {}) {
    super(detail);
    Object.assign(this, { code, detail, status, retryAfter });
  }
}

export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** GET of a JSON document, such as "models". */
export async function getJson(path) {
  let answer;
  try {
    answer = await fetch(path, { headers: headers(), cache: "no-store" });
  } catch {
    throw new ServiceError("network", "");
  }
  const text = await answer.text();
  if (!answer.ok) throw refusal(answer.status, text, answer.headers.get("Retry-After"));
  return JSON.parse(text);
}

/**
 * POSTs one picture and gives the answer as a Blob; waits and asks again while the server is at its limit.
 * `onProgress(share)` gets 0 to 1 while bytes go out; `onWait()` is told of a wait. `signal` ends it.
 */
export async function send(path, blob, name, options, { onProgress, onWait, signal } = {}) {
  const query = new URLSearchParams(Object.entries(options).filter(([, value]) => value !== undefined && value !== ""));
  for (let attempt = 1; ; attempt++) {
    try {
      return await post(`${path}?${query}`, blob, name, onProgress, signal);
    } catch (error) {
      const again = error.status === 503 && ["busy", "loading", "timeout", "backend"].includes(error.code);
      if (!again || attempt > 20) throw error;
      onWait?.();
      await pause(Math.min(30, error.retryAfter || 1) * 1000 * (0.75 + Math.random() / 2), signal);
    }
  }
}

function post(url, blob, name, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("image", blob, name);
    const request = new XMLHttpRequest(); // fetch tells nothing of an upload's progress
    request.open("POST", url);
    for (const [key, value] of Object.entries(headers())) request.setRequestHeader(key, value);
    request.responseType = "blob";
    request.upload.onprogress = (event) => event.lengthComputable && onProgress?.(event.loaded / event.total);
    request.upload.onload = () => onProgress?.(1);
    request.onerror = () => reject(new ServiceError("network", ""));
    request.onabort = () => reject(new DOMException("ended", "AbortError"));
    request.onload = async () => {
      if (request.status === 200) resolve(request.response);
      else reject(refusal(request.status, await request.response.text(), request.getResponseHeader("Retry-After")));
    };
    if (signal?.aborted) return reject(new DOMException("ended", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

function refusal(status, text, retryAfter) {
  let content = {};
  try {
    content = JSON.parse(text);
  } catch {
    // A proxy before the server answers in its own words; the status is all that is known.
  }
  const detail = content.detail || `The server answered with status ${status}.`;
  return new ServiceError(content.error || "other", detail, { status, retryAfter: Number(retryAfter) || 0 });
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("ended", "AbortError"));
    }, { once: true });
  });
}

export function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MB`;
}

/** What went wrong with a file, for people: `{title, text, retry}`; the file is named in the title. */
export function explain(error, name, limits) {
  const kinds = "JPEG, PNG, WebP, BMP or TIFF";
  const most = limits ? megabytes(limits.max_bytes) : "";
  const texts = {
    unknown_type: [`${name} is not a photo`, `Its content is no picture of a kind that can be read. Use ${kinds}.`],
    broken_image: [`${name} is damaged`, "The picture cannot be read to its end. Try the original file, or save it anew."],
    empty_file: [`${name} is empty`, "The file has no content. Was it copied completely?"],
    too_large: [`${name} is too large`, `A photo may have at most ${most}. Save it smaller, or as JPEG.`],
    too_many_pixels: [`${name} has too many pixels`, `A photo may have at most ${Math.round((limits?.max_pixels ?? 0) / 1e6)} megapixels. Save it smaller.`],
    cannot_encode: [`${name} does not fit the file type`, "Choose another file type for the result, such as PNG."],
    network: ["The server cannot be reached", `${name} was not sent. Check the connection, then try again.`, true],
    busy: ["The server is busy", `${name} had no turn yet. Try again in a moment.`, true],
    timeout: [`${name} took too long`, "The server could not finish it in time. Try again, or a faster method.", true],
    stopping: ["The server is stopping", `${name} was not taken any more. Try again in a moment.`, true],
    backend: ["The method does not answer", `${name} could not be done. Try again in a moment, or another method.`, true],
    loading: ["The method is not ready", `${name} waits for a model that is still loading. Try again in a moment.`, true],
    unauthorized: ["The token is not right", `${name} was not taken. Reload the page to enter another token.`],
    internal: ["The server failed", `${name} could not be done. Try again, or another method.`, true],
  };
  const [title, text, retry = false] = texts[error.code] || [`${name} was refused`, error.detail || "No reason was given.", true];
  return { title, text, retry };
}
