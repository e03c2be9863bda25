// node drive.js < steps.json: opens the page in Chromium, does what a person would, and prints what was seen, as JSON.
//
// { "chromium": path, "profile": empty folder, "locale": the browser's own language,
//   "page": address, "steps": [step, …] }
// A step is a list: its name, and what it needs. The questions are found as a person finds them, by their texts.
import { readFileSync } from "node:fs";

import { chromium } from "playwright-core";

import { WebForms } from "./web_forms_program.js";

const WAIT_MILLISECONDS = 20_000;
const CHROMIUM_WORDS = [
  "--no-sandbox", // it runs as root where tests do, and loads this project's own pages only
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const given = JSON.parse(readFileSync(0, "utf8"));
const context = await chromium.launchPersistentContext(given.profile, {
  executablePath: given.chromium,
  headless: true,
  args: CHROMIUM_WORDS,
  viewport: { width: 800, height: 1000 },
  locale: given.locale,
  timezoneId: "Asia/Almaty",
});
const seen = { said: [], problems: [], requests: [], texts: [] };
try {
  const page = context.pages()[0];
  page.setDefaultTimeout(WAIT_MILLISECONDS);
  page.on("pageerror", (error) => seen.problems.push(error.message));
  page.on("console", (message) => message.type() === "error" && seen.problems.push(message.text()));
  page.on("requestfailed", (request) => seen.problems.push(`${request.url()}: ${request.failure().errorText}`));
  page.on("response", (response) => {
    const request = response.request();
    const path = new URL(request.url()).pathname;
    if (path.startsWith("/key/")) {
      seen.requests.push([request.method(), path.split("/").slice(3).join("/"), response.status()]);
    }
  });
  await page.goto(given.page);
  const program = new WebForms(page);
  for (const [name, ...words] of given.steps) {
    try {
      await take(page, program, name, words);
    } catch (error) {
      throw new Error(`${name} ${JSON.stringify(words)}: ${error.message}`);
    }
  }
} finally {
  await context.close();
}
process.stdout.write(JSON.stringify(seen));

async function take(page, program, name, words) {
  switch (name) {
    case "opened":
      return program.opened();
    case "language":
      return program.chooseLanguage(...words);
    case "answer":
      return program.answer(...words);
    case "add":
      return program.addRepeat(...words);
    case "send":
      return program.send();
    case "said":
      await page.getByRole("status").waitFor();
      return seen.said.push(await page.getByRole("status").innerText());
    case "refused":
      return seen.texts.push(await program.refusal(...words));
    case "alarmed":
      return seen.texts.push(await page.getByRole("alert").innerText());
    case "picture":
      return picture(page, program, ...words);
    default:
      throw new Error("there is no such step");
  }
}

/** The whole page, or the screen with one question in the middle. */
async function picture(page, program, path, label) {
  if (label) {
    await program.question(label).evaluate((element) => element.scrollIntoView({ block: "center" }));
  }
  await page.mouse.move(0, 0); // what lies under it is drawn otherwise
  await page.screenshot({ path, fullPage: !label });
}
