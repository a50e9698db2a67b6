// Compiled, never run: the types of a packed package. Each expected error is one that tsc must find.
import { type Classifier, GoldenError, InputError, load, type Prediction, ServingError } from "packed";

const classifier: Classifier = await load({ threads: 2 });
const data = new Uint8ClampedArray(4 * classifier.width * classifier.height);
const { predictions, answers, milliseconds } = await classifier.classify(
  { data, width: classifier.width, height: classifier.height }, { top: 5 },
);
const best: Prediction | undefined = predictions[0];
const text: string = `${best?.label} ${best?.index.toFixed(0)} ${best?.probability.toFixed(3)} ${milliseconds}`;
const first: number = answers[0] ?? Number.NaN;
const caught = (error: unknown): string => {
  if (error instanceof InputError || error instanceof GoldenError) return error.message;
  return error instanceof ServingError ? error.name : "unknown";
};
declare const canvas: ImageData;
await classifier.classify(canvas);
await classifier.close();
export { caught, first, text };

// @ts-expect-error: pixels are bytes
await classifier.classify({ data: new Float32Array(4), width: 1, height: 1 });
// @ts-expect-error: an image has a height
await classifier.classify({ data, width: 1 });
// @ts-expect-error: no such option
await load({ device: "gpu" });
// @ts-expect-error: what was loaded does not change
classifier.engine = "another";
// @ts-expect-error: labels are text
const label: number = predictions[0]!.label;
