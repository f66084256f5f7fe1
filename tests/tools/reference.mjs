// What `tests/api/openrpc.rs` runs with the page for people, in a browser: takes the server's port, and
// prints what it has seen. The page comes by plain http under a name, where browsers have no clipboard.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, port] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const load = async (name) => (await import(pathToFileURL(require.resolve(name)))).default;
const [chromium, puppeteer] = [await load("@sparticuz/chromium"), await load("puppeteer-core")];

const say = (what, value) => console.log(`${what}: ${JSON.stringify(value)}`);
const rules = "--host-resolver-rules=MAP docs.example 127.0.0.1";
const executablePath = await chromium.executablePath();
const browser = await puppeteer
  .launch({ args: [...chromium.args, "--no-sandbox", rules], executablePath, headless: "shell" })
  .catch((error) => {
    console.error(error);
    process.exit(3);
  });
const page = await browser.newPage();
const errors = [];
page.on("pageerror", (error) => errors.push(error.message));

/** Opens the page anew. */
const open = async (width, scheme) => {
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(`http://docs.example:${port}/docs`);
};

for (const scheme of ["light", "dark"]) {
  for (const width of [1200, 400]) {
    await open(width, scheme);
    await page.evaluate(() => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
    await page.addScriptTag({ path: require.resolve("axe-core/axe.min.js") });
    const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    say(`axe, ${scheme}, ${width}`, violations.map(({ id, nodes }) => [id, nodes.length, nodes[0].html]));
  }
}

await open(1200, "light");
await page.evaluate(() => document.addEventListener("copy", () => { window.copied = document.activeElement.value; }));
await page.click("[id='example-webhook.create.registered'] button");
await page.waitForFunction(() => window.copied !== undefined);
const call = await page.$eval("[id='example-webhook.create.registered'] pre", (pre) => pre.textContent);
say("copied without a clipboard", [
  await page.evaluate(() => typeof navigator.clipboard),
  (await page.evaluate(() => window.copied)) === call,
]);

await page.reload();
await page.keyboard.press("Tab");
const focused = () => page.evaluate(() => document.activeElement.textContent);
const first = await focused();
await page.keyboard.press("Enter");
await page.keyboard.press("Tab");
say("by keyboard", [first, await focused()]);

const find = (text) =>
  page.evaluate((text) => {
    const input = document.querySelector("input[type=search]");
    input.value = text;
    input.dispatchEvent(new Event("input"));
    return document.querySelector("#found a")?.textContent ?? null;
  }, text);
say("found", [await find("webhook.create"), await find("settled_through"), await find("103"), await find("no such word")]);
await find("rate_limit");
await page.click("#found a");
say("led to", (await focused()).trim().split(" ")[0]);
say("errors", errors);
await browser.close();
