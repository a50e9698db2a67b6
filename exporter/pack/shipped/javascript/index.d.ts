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
  readonly labels: readonly string[];
  /** Of the images that it takes, in pixels. */
  readonly width: number;
  readonly height: number;
  /** The worst relative error that a golden input showed at load. */
  readonly goldenError: number;
  /** Throws InputError for an image of another size, ClosedError after close. */
  classify(imageData: PixelData, options?: { top?: number }): Promise<Classification>;
  /** Logits for a batch of inputs as the engine itself takes them. */
  run(values: Float32Array | Uint8Array, batch: number): Promise<Float32Array>;
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
