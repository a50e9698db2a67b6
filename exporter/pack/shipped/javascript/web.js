import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { createClassifier, ServingError } from "./classifier.js";

export { ClosedError, GoldenError, InputError, IntegrityError, ServingError } from "./classifier.js";

/** Loads the engine of this folder, once it has proved itself on the golden inputs. */
export function load(options = {}) {
  // Threads need a page that is isolated from other origins; without, WebAssembly has one.
  ort.env.wasm.numThreads = options.threads ?? (globalThis.crossOriginIsolated ? 0 : 1);
  return createClassifier(ort, fetchFile, options);
}

async function fetchFile(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new ServingError(`${name}: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}
