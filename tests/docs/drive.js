// Opens a page in Chromium, does what the test asks, and writes what came of it: the answer, what the page asked the
// network for, and what it complained about.
"use strict";
const { chromium } = require("playwright-core");

(async () => {
  const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const browser = await chromium.launch({ executablePath: asked.browser, args: ["--no-sandbox"] });
  const context = await browser.newContext({
    viewport: { width: asked.width, height: 900 }, colorScheme: asked.mode, hasTouch: asked.touch, reducedMotion: "reduce",
  });
  const page = await context.newPage();
  const own = new URL(asked.url);
  const elsewhere = [], complaints = [];
  page.on("request", (request) => {
    const to = new URL(request.url());
    if (to.protocol !== "data:" && (to.protocol !== own.protocol || to.host !== own.host)) elsewhere.push(request.url());
  });
  // What a page no longer waits for when it is left is aborted; a file that is missing fails otherwise.
  page.on("requestfailed", (request) => request.failure().errorText === "net::ERR_ABORTED" || complaints.push(`failed: ${request.url()} ${request.failure().errorText}`));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(`${error.message} ${error.stack}`));
  await page.goto(asked.url);
  await page.waitForLoadState("load");
  const act = eval(asked.act);
  const answer = await act(page);
  await browser.close();
  process.stdout.write(JSON.stringify({ answer: answer === undefined ? null : answer, elsewhere, complaints }));
})().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
