import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-node";
import { createClassifier } from "./classifier.js";

export { ClosedError, GoldenError, InputError, IntegrityError, ServingError } from "./classifier.js";

/** Loads the engine of this package, once it has proved itself on the golden inputs. */
export function load(options) {
  const read = async (name) => new Uint8Array(await readFile(new URL(name, import.meta.url)));
  return createClassifier(ort, read, options);
}
