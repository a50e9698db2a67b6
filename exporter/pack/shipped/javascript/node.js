import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-node";
import { createClassifier } from "./classifier.js";

// Read when the first session is made: ONNX Runtime reports its use unless told not to.
process.env.ORT_DISABLE_TELEMETRY ??= "1";

export { ClosedError, GoldenError, InputError, IntegrityError, ServingError } from "./classifier.js";

/** Loads the engine of this package, once it has proved itself on the golden inputs. */
export function load(options) {
  const read = async (name) => new Uint8Array(await readFile(new URL(name, import.meta.url)));
  return createClassifier(ort, read, options);
}
