/** One of the best answers for an image. */
export interface Prediction {
  label: string;
  index: number;
  probability: number;
}

/** The best answers, best first, and how long they took: preparing the image and running. */
export interface Classification {
  predictions: Prediction[];
  /** The engine's whole output: logits, or probabilities where the model ends in a softmax. */
  answers: Float32Array;
  milliseconds: number;
}

/** What a canvas gives, or any object like it: 8-bit RGBA or RGB of the classifier's size. */
export interface PixelData {
  readonly data: Uint8ClampedArray | Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** An engine that has proved itself on the golden inputs. */
export interface Classifier {
  /** The engine's id: the compiler's target and the precision. */
  readonly engine: string;
  /** A name for each class; empty where no output has scores of classes. */
  readonly labels: readonly string[];
  /** Every output of the model; `shape` is that of one answer. */
  readonly outputs: readonly { readonly name: string; readonly shape: readonly number[] }[];
  /** Of the images that it takes, in pixels. */
  readonly width: number;
  readonly height: number;
  /** The worst relative error that a golden input showed at load. */
  readonly goldenError: number;
  /** Throws InputError for an image of another size and without scores, ClosedError after close. */
  classify(imageData: PixelData, options?: { top?: number }): Promise<Classification>;
  /** Every output for an image, by name. */
  features(imageData: PixelData): Promise<Record<string, Float32Array>>;
  /** Logits for a batch of inputs as the engine itself takes them; without any, the first output. */
  run(values: Float32Array | Uint8Array, batch: number): Promise<Float32Array>;
  /** Every output for a batch of inputs, by name. */
  runAll(values: Float32Array | Uint8Array, batch: number): Promise<Record<string, Float32Array>>;
  close(): Promise<void>;
}

/**
 * Loads the engine, once it has proved itself on the golden inputs.
 * Throws IntegrityError for a file that is not the one packed, GoldenError for wrong answers.
 */
export function load(options?: { threads?: number }): Promise<Classifier>;

export class ServingError extends Error {}
export class IntegrityError extends ServingError {}
export class GoldenError extends ServingError {}
export class InputError extends ServingError {}
export class ClosedError extends ServingError {}
