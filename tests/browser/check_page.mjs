// Opens a report from disk in a real browser and says, as JSON, what happened there.
// Usage: node check_page.mjs CHROMIUM PAGE.html [SCREENSHOTS]
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [executablePath, page, screenshots] = process.argv.slice(2);
const url = pathToFileURL(page).href;
const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = [1440, 390];
const SCHEMES = ["light", "dark"];

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const result = { messages: [], requests: [], views: [], sorting: [], focus: [], print: {}, noScript: {} };

async function opened(options) {
  const context = await browser.newContext(options);
  const tab = await context.newPage();
  tab.on("console", (message) => result.messages.push(`${message.type()}: ${message.text()}`));
  tab.on("pageerror", (error) => result.messages.push(`error: ${error}`));
  tab.on("request", (request) => {
    if (request.url() !== url && request.url() !== "data:,") result.requests.push(request.url());
  });
  await tab.goto(url, { waitUntil: "load" });
  return tab;
}

for (const width of WIDTHS) {
  for (const colorScheme of SCHEMES) {
    const height = width > 600 ? 900 : 844;
    const tab = await opened({ viewport: { width, height }, colorScheme });
    const view = await tab.evaluate(() => ({
      scrollWidth: document.documentElement.scrollWidth,
      background: getComputedStyle(document.body).backgroundColor,
      // Text that leaves its box on the right, or is covered by the box's edge.
      overflowing: [...document.querySelectorAll("h1, h2, p, li, dd, td, .badge, .figures, .named")]
        .filter((it) => it.checkVisibility() && !it.closest(".scroll"))
        .filter((it) => it.scrollWidth > it.clientWidth + 1 && it.clientWidth > 0)
        .map((it) => `${it.tagName}.${it.className}: ${it.textContent.trim().slice(0, 60)}`),
      // Tables whose last columns have to be scrolled to.
      cut: [...document.querySelectorAll(".scroll")].filter((it) => it.scrollWidth > it.clientWidth + 1)
        .map((it) => it.getAttribute("aria-label")),
      // Letters of a drawing that leave the window.
      outside: [...document.querySelectorAll("svg text")].filter((it) => it.checkVisibility() && !it.closest(".scroll"))
        .map((it) => [it.getBoundingClientRect(), it.textContent])
        .filter(([box]) => box.left < 0 || box.right > document.documentElement.clientWidth)
        .map(([, text]) => text),
      bars: [...document.querySelectorAll("ol.rows svg.bar rect")].map((it) => it.getBoundingClientRect().width),
      answer: document.querySelector("#use").getBoundingClientRect().bottom < innerHeight
        && document.querySelector(".row").getBoundingClientRect().top < innerHeight,
    }));
    if (screenshots) {
      await tab.screenshot({ path: `${screenshots}/${width}-${colorScheme}.png`, fullPage: true });
    }
    // Everything open, so that what is folded is checked too.
    await tab.evaluate(() => document.querySelectorAll("details").forEach((it) => { it.open = true; }));
    // The page's policy forbids scripts that are not its own: axe comes in through the debugger.
    await tab.evaluate(axeSource);
    const found = await tab.evaluate(() => globalThis.axe.run(document));
    const told = (list) => list.map((rule) => ({
      id: rule.id, impact: rule.impact, help: rule.help,
      nodes: rule.nodes.slice(0, 3).map((node) => `${node.target.join(" ")}: ${node.failureSummary}`),
      count: rule.nodes.length,
    }));
    result.views.push({
      width, colorScheme, ...view,
      violations: told(found.violations), undecided: [...new Set(found.incomplete.flatMap((rule) => rule.nodes.map(
        (node) => `${rule.id}: ${node.any.map((check) => check.message).join(" ")}`)))],
      passes: found.passes.map((rule) => rule.id),
    });
    await tab.context().close();
  }
}

// Sorting from the keyboard: Tab to a heading's button, Enter, and again.
{
  const tab = await opened({ viewport: { width: 1440, height: 900 } });
  const tables = await tab.$$("table.sortable");
  for (const table of tables) {
    if (!(await table.isVisible())) continue;
    const buttons = await table.$$("thead button");
    const columns = await table.$$eval("thead th", (it) => it.length);
    const before = await table.$eval("tbody", (it) => it.rows.length);
    for (let column = 0; column < buttons.length; column += 1) {
      await buttons[column].focus();
      for (const direction of ["ascending", "descending"]) {
        await tab.keyboard.press(direction === "ascending" ? "Enter" : "Space");
        result.sorting.push(await table.evaluate((it, [index, wanted]) => {
          const head = it.tHead.rows[0].cells[index];
          const cells = [...it.tBodies[0].rows].map((row) => row.cells[index]);
          return {
            table: it.parentElement.getAttribute("aria-label"),
            column: head.textContent, wanted,
            said: head.getAttribute("aria-sort"),
            others: it.tHead.querySelectorAll("[aria-sort]").length - 1,
            values: cells.map((cell) => cell.querySelector("data")?.value ?? cell.textContent.trim()),
          };
        }, [column, direction]));
      }
    }
    result.sorting.at(-1).rows = [before, await table.$eval("tbody", (it) => it.rows.length)];
    result.sorting.at(-1).buttons = [buttons.length, columns];
  }
  await tab.context().close();
}

// What Tab reaches, and whether the place shows.
{
  const tab = await opened({ viewport: { width: 1440, height: 900 } });
  const expected = await tab.evaluate(() =>
    [...document.querySelectorAll("a[href], button, summary, [tabindex='0']")].filter((it) => it.checkVisibility()).length);
  const seen = [];
  for (let i = 0; i < expected; i += 1) {
    await tab.keyboard.press("Tab");
    seen.push(await tab.evaluate(() => {
      const it = document.activeElement;
      const style = getComputedStyle(it);
      return { tag: it.tagName, outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
    }));
  }
  result.focus = { expected, seen };
  await tab.context().close();
}

// On paper: light whatever the reader's setting, and nothing folded.
{
  const tab = await opened({ viewport: { width: 1440, height: 900 }, colorScheme: "dark" });
  await tab.emulateMedia({ media: "print", colorScheme: "dark" });
  await tab.evaluate(() => dispatchEvent(new Event("beforeprint")));
  result.print = await tab.evaluate(() => ({
    background: getComputedStyle(document.body).backgroundColor,
    folded: [...document.querySelectorAll("details")].filter((it) => !it.open).length,
  }));
  const paper = await tab.pdf({ format: "A4" });
  result.print.bytes = paper.length;
  await tab.context().close();
}

// Without scripts: the same tables, plain headings.
{
  const tab = await opened({ javaScriptEnabled: false });
  result.noScript = {
    buttons: await tab.locator("th button").count(),
    rows: await tab.locator("tbody tr").count(),
    heading: await tab.locator("th").first().textContent(),
  };
  await tab.context().close();
}

await browser.close();
process.stdout.write(JSON.stringify(result));
