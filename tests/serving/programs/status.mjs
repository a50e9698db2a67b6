// Opens an address in headless Chromium and says, as JSON, what the page tells that does not work.
// Usage: node status.mjs CHROMIUM URL
import { chromium } from "playwright-core";

const [executablePath, url] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const page = await browser.newPage({ viewport: { width: 390, height: 844 } });
  await page.goto(url);
  await page.waitForSelector("#status.failed");
  process.stdout.write(JSON.stringify({
    status: await page.textContent("#status"),
    overflow: await page.evaluate(() => document.documentElement.scrollWidth - innerWidth),
  }));
} finally {
  await browser.close();
}
