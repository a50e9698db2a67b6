// Loads a packed npm package of several outputs in Node.js, and says as JSON what it answered.
// Usage: node outputs.mjs PACKAGE INPUT.bin       (input: float32, as the engine itself takes it)
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const [folder, file] = process.argv.slice(2);
const serving = await import(pathToFileURL(resolve(folder, "index.js")).href);
const classifier = await serving.load();
const { width, height, outputs, labels, goldenError } = classifier;
const bytes = new Uint8Array(readFileSync(file));
const found = await classifier.runAll(new Float32Array(bytes.buffer), 1);
const image = { data: new Uint8Array(3 * width * height), width, height };
const outcome = async (call) => {
  try {
    const answer = await call();
    return answer.predictions?.length ?? Object.keys(answer);
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
};
process.stdout.write(
  JSON.stringify({
    goldenError,
    labels,
    outputs,
    answers: Object.fromEntries(Object.entries(found).map(([name, data]) => [name, Array.from(data)])),
    classify: await outcome(() => classifier.classify(image)),
    features: await outcome(() => classifier.features(image)),
  }),
);
