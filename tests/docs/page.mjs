// Uses the page on the API as a person does, in a wide window and on a telephone: comes by the root
// of the service, registers, presses Authorize, executes operations and looks at the answers. The
// console must stay empty, no request may go elsewhere, and nothing may be wider than the window.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const [service] = process.argv.slice(2);
const pictures = dirname(fileURLToPath(import.meta.url));

/** The page in a window, and what is wrong with it so far. */
async function open(browser, name, window) {
  const page = await browser.newPage(window);
  const wrong = [];
  page.on("console", (message) => wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== service && protocol !== "data:") wrong.push(`${request.url()} was asked for`);
  });
  await page.goto(service);
  assert.equal(page.url(), `${service}/docs`);
  await page.locator(".opblock").first().waitFor();
  await looksGood(page, name);
  return { page, wrong };
}

async function looksGood(page, name) {
  await page.screenshot({ path: join(pictures, `${name}.png`) });
  const needed = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(needed, page.viewportSize().width, `the width of ${name}`);
}

/** Executes an operation with what stands in its fields, or with a body. Gives its answer. */
async function execute(page, id, status, body) {
  const operation = page.locator(`.opblock[id$="-${id}"]`);
  await operation.locator(".opblock-summary-control").click();
  if (body) await operation.locator("textarea").fill(JSON.stringify(body));
  await operation.getByRole("button", { name: "Execute" }).click();
  const answer = operation.locator(".live-responses-table tbody > tr").first();
  // An answer that is not described has a remark here.
  const code = await answer.locator(".response-col_status").innerText();
  assert.equal(code.trim(), String(status), id);
  await answer.scrollIntoViewIfNeeded();
  return { operation, json: JSON.parse(await answer.locator("code").first().innerText()) };
}

async function close({ operation }) {
  await operation.locator(".opblock-summary-control").click();
}

/** Makes an account and takes its token into the page. */
async function register(page, name) {
  const account = { name: "Ada", email: `${name}@example.com`, password: "correct horse" };
  const registered = await execute(page, "register", 201, account);
  await looksGood(page, `${name}-registered`);
  await close(registered);

  await page.locator(".scheme-container").getByRole("button", { name: "Authorize" }).click();
  const dialog = page.locator(".modal-ux");
  await dialog.locator("input").fill(registered.json.token);
  await looksGood(page, `${name}-authorize`);
  await dialog.locator("button[type=submit]").click();
  await dialog.getByRole("button", { name: "Close" }).first().click();
}

async function inAWideWindow(browser) {
  const { page, wrong } = await open(browser, "desktop", { viewport: { width: 1280, height: 900 } });
  await register(page, "desktop");
  const created = await execute(page, "createPatient", 201);
  await looksGood(page, "desktop-patient");
  await close(created);
  const listed = await execute(page, "listPatients", 200);
  assert.deepEqual(listed.json, [created.json]);
  await close(listed);
  // What stands in its fields works, too: the id is that of the first patient.
  await close(await execute(page, "changePatient", 200));
  // Lines are not taken for JSON.
  const imported = await execute(page, "importPatients", 200);
  assert.deepEqual(imported.json, { imported: 2 });
  assert.deepEqual(wrong, []);
}

async function onATelephone(browser) {
  const telephone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
  const { page, wrong } = await open(browser, "telephone", telephone);
  await register(page, "telephone");
  await execute(page, "getMe", 200);
  await looksGood(page, "telephone-me");
  assert.deepEqual(wrong, []);
}

// On a busy machine it takes half a minute.
const tooLong = () => {
  console.error("Using the page takes longer than two minutes.");
  process.exit(1);
};
setTimeout(tooLong, 120_000).unref();
const names = ["chromium", "chromium-browser"];
const programs = process.env.PATH.split(":").flatMap((path) => names.map((name) => join(path, name)));
const browser = await chromium.launch({ executablePath: programs.find(existsSync) });
await inAWideWindow(browser);
await onATelephone(browser);
await browser.close();
console.log(`The page works; its pictures are in ${pictures}.`);
