// Serves one engine in Node.js or in a browser, once it has proved itself on the golden inputs.
// `ort` is onnxruntime-node or onnxruntime-web; nothing else is needed.

/** Base of every error that this package raises on purpose. */
export class ServingError extends Error {
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** A file is not the one that was packed. */
export class IntegrityError extends ServingError {}

/** The engine does not answer the golden inputs as it did when it was packed. */
export class GoldenError extends ServingError {}

/** An image of another size or type than the engine takes. */
export class InputError extends ServingError {}

/** The classifier was closed. */
export class ClosedError extends ServingError {}

const TYPES = { float32: Float32Array, uint8: Uint8Array };

/**
 * Checks the files, loads the engine and asks it the golden inputs.
 * @param {object} ort onnxruntime-node or onnxruntime-web
 * @param {(name: string) => Promise<Uint8Array>} read the contents of a file of this package
 * @param {{threads?: number}} [options]
 */
export async function createClassifier(ort, read, options = {}) {
  const description = JSON.parse(new TextDecoder().decode(await read("model.json")));
  const files = {};
  for (const [name, sha256] of Object.entries(description.files)) {
    files[name] = await read(name);
    await checkHash(name, files[name], sha256);
  }
  const goldens = readGoldens(description, files["goldens.bin"]);
  // Without VNNI, 8-bit products may saturate; the goldens tell, and these settings prevent it.
  const attempts = [description.session, description.sessionWithoutVnni].filter(Boolean);
  for (const [number, extra] of attempts.entries()) {
    const session = await ort.InferenceSession.create(files["model.onnx"], {
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
      extra,
      ...(options.threads ? { intraOpNumThreads: options.threads } : {}),
    });
    const classifier = new Classifier(ort, session, description);
    try {
      classifier.goldenError = await classifier.replay(goldens);
      return classifier;
    } catch (error) {
      await session.release();
      if (!(error instanceof GoldenError) || number === attempts.length - 1) throw error;
    }
  }
}

class Classifier {
  #ort;
  #session;
  #description;
  #table;

  constructor(ort, session, description) {
    this.#ort = ort;
    this.#session = session;
    this.#description = description;
    this.#table = description.normalisation ? tableOf(description.normalisation) : null;
    this.engine = description.engine;
    this.labels = description.labels;
    this.outputs = description.outputs;
    this.width = description.width;
    this.height = description.height;
    this.goldenError = NaN;
  }

  async classify(imageData, { top = 5 } = {}) {
    if (!Number.isInteger(top) || top < 1) throw new InputError(`top is ${top}; give 1 or more`);
    const { scores } = this.#description;
    if (scores === null) {
      throw new InputError("this model answers features and no scores of classes; call features");
    }
    const start = performance.now();
    const answers = (await this.features(imageData))[this.outputs[scores].name];
    const milliseconds = performance.now() - start;
    const probabilities =
      this.#description.answers === "logits" ? softmax(answers) : Array.from(answers);
    const predictions = probabilities
      .map((probability, index) => ({ label: this.labels[index], index, probability }))
      .sort((a, b) => b.probability - a.probability || a.index - b.index)
      .slice(0, top);
    return { predictions, answers, milliseconds };
  }

  /** Every output for an image, by name. */
  async features(imageData) {
    return this.runAll(this.#prepare(imageData), 1);
  }

  /** The scores for a batch of inputs, or the first output of a model without. */
  async run(values, batch) {
    const found = await this.runAll(values, batch);
    return found[this.outputs[this.#description.scores ?? 0].name];
  }

  /** Every output for a batch of inputs, by name. */
  async runAll(values, batch) {
    if (!this.#session) throw new ClosedError("the classifier is closed; create another one");
    const { input, dtype, shape } = this.#description;
    const expected = batch * shape.reduce((a, b) => a * b, 1);
    if (!(values instanceof TYPES[dtype]) || values.length !== expected) {
      throw new InputError(
        `the input is ${values?.constructor?.name} of ${values?.length} values; the engine takes ` +
          `${TYPES[dtype].name} of ${expected}: ${[batch, ...shape].join(" x ")}`,
      );
    }
    const tensor = new this.#ort.Tensor(dtype, values, [batch, ...shape]);
    const found = await this.#session.run({ [input]: tensor });
    return Object.fromEntries(this.outputs.map(({ name }) => [name, found[name].data]));
  }

  async close() {
    const session = this.#session;
    this.#session = null;
    await session?.release();
  }

  /** The worst relative error of any golden; throws GoldenError where it is too large. */
  async replay(goldens) {
    let worst = 0;
    for (const { image, input, answers } of goldens) {
      const values = image ? this.#prepare({ data: image, width: this.width, height: this.height }) : input;
      const found = await this.runAll(values, 1);
      for (const [index, { name }] of this.outputs.entries()) {
        const error = relativeError(found[name], answers[index]);
        worst = error > worst || Number.isNaN(error) ? error : worst;
      }
    }
    if (!(worst <= this.#description.tolerance)) {
      throw new GoldenError(
        `${this.engine} does not answer the golden inputs as it was validated: relative error ` +
          `${worst.toPrecision(3)}, at most ${this.#description.tolerance.toPrecision(3)} was allowed`,
      );
    }
    return worst;
  }

  /** RGBA or RGB pixels to the engine's input. */
  #prepare(imageData) {
    const { width, height } = this;
    const { data } = imageData ?? {};
    const channels = data?.length / (width * height);
    const isBytes = data instanceof Uint8ClampedArray || data instanceof Uint8Array;
    const isGrey = this.#description.channels === "grey";
    const known = isGrey ? [1, 3, 4] : [3, 4];
    if (!isBytes || imageData.width !== width || imageData.height !== height || !known.includes(channels)) {
      throw new InputError(
        `an image of ${imageData?.width} x ${imageData?.height} in ${data?.constructor?.name}; give ` +
          `${width} x ${height} pixels as ImageData: 8-bit RGBA or RGB${isGrey ? " or grey" : ""}, resized and cropped`,
      );
    }
    if (!this.#table && this.#description.dtype !== "uint8") {
      throw new InputError("this model came with no preprocessing; call run with ready tensors");
    }
    const pixels = width * height;
    const depth = isGrey ? 1 : 3;
    const values = new TYPES[this.#description.dtype](depth * pixels);
    const planar = this.#description.layout === "NCHW";
    const isReversed = this.#description.channels === "BGR";
    for (let pixel = 0; pixel < pixels; pixel++) {
      const start = pixel * channels;
      for (let channel = 0; channel < depth; channel++) {
        const byte =
          isGrey && channels > 1 ? luma(data, start) : data[start + (isReversed ? 2 - channel : channel)];
        const place = planar ? channel * pixels + pixel : depth * pixel + channel;
        values[place] = this.#table ? this.#table[256 * channel + byte] : byte;
      }
    }
    return values;
  }
}

/** Rec. 601's grey of a red, a green and a blue byte, rounded as Pillow does. */
function luma(data, start) {
  return (data[start] * 19595 + data[start + 1] * 38470 + data[start + 2] * 7471 + 0x8000) >> 16;
}

/** (pixel / 255 - mean) / std for each channel and each of 256 pixel values. */
function tableOf({ mean, std }) {
  const table = new Float32Array(mean.length * 256);
  for (let channel = 0; channel < mean.length; channel++) {
    for (let pixel = 0; pixel < 256; pixel++) {
      table[256 * channel + pixel] = (pixel / 255 - mean[channel]) / std[channel];
    }
  }
  return table;
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

function relativeError(answer, expected) {
  if (answer.length !== expected.length) return NaN;
  let error = 0;
  let norm = 0;
  for (let index = 0; index < expected.length; index++) {
    error += (answer[index] - expected[index]) ** 2;
    norm += expected[index] ** 2;
  }
  return Math.sqrt(error / Math.max(norm, 1e-60));
}

/** goldens.bin: for each sample its image (or input), then each output's answer, little-endian. */
function readGoldens({ goldens, outputs, dtype, shape }, contents) {
  const samples = [];
  const isImage = goldens.images;
  // An image has as many values as the input that it becomes.
  const count = shape.reduce((a, b) => a * b, 1);
  const kind = isImage ? Uint8Array : TYPES[dtype];
  let start = 0;
  const take = (type, length) => {
    const end = start + length * type.BYTES_PER_ELEMENT;
    const values = new type(contents.slice(start, end).buffer);
    start = end;
    return values;
  };
  for (let sample = 0; sample < goldens.samples; sample++) {
    const asked = take(kind, count);
    const answers = outputs.map((output) => take(Float32Array, output.shape.reduce((a, b) => a * b, 1)));
    samples.push({ image: isImage ? asked : null, input: isImage ? null : asked, answers });
  }
  return samples;
}

async function checkHash(name, contents, expected) {
  // Browsers offer it on https and on localhost only; elsewhere the goldens have to do.
  if (!globalThis.crypto?.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", contents));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== expected) {
    throw new IntegrityError(
      `${name} is not the file that was packed (its SHA-256 differs); install the package again`,
    );
  }
}
