// Drives Chromium for test_page.py: a line of JSON in, a line of JSON out.
//
// {"open": {...options of a new context}, "url": ...} opens a new page; {"run": "body of an async
// function of (page, tools, args)", "args": {...}} runs in it. "events" holds what went wrong in the page since.
// Call: node browser.mjs FOLDER CHROMIUM, where FOLDER/node_modules has playwright-core.

import { createRequire } from "node:module";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

const [folder, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(`${resolve(folder)}/`)("playwright-core");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
let context, page, made = "", events = [];

async function open({ open: options, url }) {
  await page?.close();
  if (made !== JSON.stringify(options)) {
    // A new context takes as long as all the rest of a short test; those of equal options share one.
    await context?.close();
    context = await browser.newContext({ acceptDownloads: true, ...options });
    made = JSON.stringify(options);
  }
  page = await context.newPage();
  page.setDefaultTimeout(15_000);
  events = [];
  // A refused upload is logged by Chromium as "Failed to load resource"; that is what some tests are about.
  page.on("console", (message) => message.type() === "error" && !message.text().startsWith("Failed to load") && events.push(message.text()));
  page.on("pageerror", (error) => events.push(String(error)));
  page.on("request", (request) => {
    const origin = new URL(request.url()).origin;
    if (!["null", new URL(url).origin].includes(origin)) events.push(`a request to ${origin}`);
  });
  await page.goto(url);
}

const tools = {
  /** Moves fingers: a list of moments, each a list of places as shares of the stage; they are lifted at the end. */
  async touch(moments) {
    const session = await context.newCDPSession(page), box = await page.locator("#stage").boundingBox();
    for (const [index, places] of [...moments, []].entries()) {
      const type = places.length ? (index ? "touchMove" : "touchStart") : "touchEnd";
      const touchPoints = places.map(([x, y], id) => ({ x: box.x + x * box.width, y: box.y + y * box.height, id }));
      await session.send("Input.dispatchTouchEvent", { type, touchPoints });
    }
  },

  /** Texts whose contrast with what is behind them is under 4.5 (WCAG 2.1, 1.4.3); those on pictures are left out. */
  weakTexts: () => page.evaluate(() => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = color;
      context.fillRect(0, 0, 1, 1);
      return [...context.getImageData(0, 0, 1, 1).data];
    };
    const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const weights = [0.2126, 0.7152, 0.0722];
    const light = (color) => weights.reduce((sum, weight, i) => sum + weight * linear(color[i] / 255), 0);
    const behind = (one) => {
      for (; one; one = one.parentElement) {
        const color = rgba(getComputedStyle(one).backgroundColor);
        if (color[3] === 255) return color;
      }
      return [255, 255, 255];
    };
    return [...document.querySelectorAll("h1, h2, p, label, button, select, legend, output, strong")]
      .filter((one) => one.checkVisibility() && one.textContent.trim() && !one.disabled && !one.closest("#stage, .hidden"))
      .map((one) => [one, light(rgba(getComputedStyle(one).color)), light(behind(one))])
      .filter(([, a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5)
      .map(([one]) => one.textContent.trim());
  }),

  /** Controls that are under 24 pixels in a direction (WCAG 2.2, 2.5.8) or reach out of the page. */
  badTargets: () => page.locator("button:visible, select:visible, li:visible, input:visible").evaluateAll((all) => all
    .map((one) => [one, (one.type === "checkbox" ? one.closest("label") : one).getBoundingClientRect()])
    .filter(([, box]) => box.height < 24 || box.width < 24)
    .concat(all.filter((one) => !one.closest("#photos")).map((one) => [one, one.getBoundingClientRect()])
      .filter(([, box]) => box.left < 0 || box.right > innerWidth + 1))
    .map(([one]) => one.id || one.textContent)),

  /** Milliseconds that the divider's next position takes, 40 times over. */
  timeDivider: () => page.evaluate(async () => {
    const times = [], bar = document.getElementById("bar"), frame = () => new Promise(requestAnimationFrame);
    const context = document.getElementById("canvas").getContext("2d");
    await frame();
    for (let i = 0; i < 40; i++) {
      const start = performance.now(), key = i % 2 ? "ArrowLeft" : "ArrowRight";
      bar.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, shiftKey: true }));
      await frame();
      context.getImageData(0, 0, 1, 1); // waits until the canvas is really drawn
      times.push(performance.now() - start);
    }
    return times;
  }),
};

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const command = JSON.parse(line);
    const run = () => new Function("page", "tools", "args", `return (async () => { ${command.run} })()`)(page, tools, command.args);
    answer = { value: (await (command.open ? open(command) : run())) ?? null };
  } catch (error) {
    answer = { error: String(error.stack || error) };
  }
  console.log(JSON.stringify({ ...answer, events: events.splice(0) }));
}
await browser.close();
