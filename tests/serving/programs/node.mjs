// Loads a packed npm package in Node.js, asks it images, and says as JSON what it answered.
// Usage: node node.mjs PACKAGE IMAGES.bin        (images: 8-bit RGB, one after another)
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";
import { ask } from "./ask.mjs";

const [folder, images] = process.argv.slice(2);
const serving = await import(pathToFileURL(resolve(folder, "index.js")).href);
process.stdout.write(JSON.stringify(await ask(serving, new Uint8Array(readFileSync(images)))));
