// Opens a packed web folder in headless Chromium and says, as JSON, what happened there.
// Usage: node browser.mjs CHROMIUM URL IMAGES.bin PICTURE.jpg
//   URL serves the folder itself; the demo page is given the picture both ways.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [executablePath, url, images, picture] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const result = { messages: [], elsewhere: [] };
try {
  const page = await browser.newPage({ viewport: { width: 390, height: 844 } });
  page.on("console", (message) => result.messages.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => result.messages.push(`error: ${error}`));
  page.on("request", (request) => {
    const target = request.url();
    if (!target.startsWith(url) && !/^(data|blob):/.test(target)) result.elsewhere.push(target);
  });
  await page.goto(url);
  await page.waitForFunction(() => !document.getElementById("file").disabled
    || document.getElementById("status").className === "failed");
  result.status = await page.textContent("#status");
  const program = readFileSync(new URL("ask.mjs", import.meta.url), "utf8");
  result.asked = await page.evaluate(async ([source, pixels]) => {
    const { ask } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    const bytes = Uint8Array.from(atob(pixels), (letter) => letter.charCodeAt(0));
    return ask(await import("/index.js"), bytes);
  }, [program, readFileSync(images).toString("base64")]);
  if (!result.asked.refused) {
    await page.setInputFiles("#file", picture);
    result.chosen = await shown(page);
    await page.evaluate(() => { document.getElementById("results").hidden = true; });
    await page.evaluate(async (contents) => {
      const data = new DataTransfer();
      const bytes = Uint8Array.from(atob(contents), (letter) => letter.charCodeAt(0));
      data.items.add(new File([bytes], "picture.jpg", { type: "image/jpeg" }));
      document.getElementById("drop").dispatchEvent(
        new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }),
      );
    }, readFileSync(picture).toString("base64"));
    result.dropped = await shown(page);
    result.overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    // What is no picture is told, and the page goes on working.
    await page.setInputFiles("#file", { name: "no.png", mimeType: "image/png", buffer: Buffer.from("no") });
    await page.waitForSelector("#status.failed");
    result.noPicture = await page.textContent("#status");
    await page.setInputFiles("#file", picture);
    await page.waitForFunction(() => document.getElementById("status").className === "");
    result.after = await page.textContent("#status");
  }
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(result));

async function shown(page) {
  await page.waitForSelector("#results:not([hidden])");
  return page.evaluate(() => ({
    latency: document.getElementById("latency").textContent,
    rows: [...document.querySelectorAll("#results tbody tr")].map((row) => ({
      label: row.cells[0].textContent, percent: parseFloat(row.cells[1].textContent),
    })),
  }));
}
