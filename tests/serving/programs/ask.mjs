// What is asked of a packed package, in Node.js and in the browser alike.

/** The answers to RGB images, what unusable images are answered with, and what a damaged load says. */
export async function ask(serving, pixels) {
  let classifier;
  try {
    classifier = await serving.load();
  } catch (error) {
    return { refused: `${error.name}: ${error.message}`, own: error instanceof serving.ServingError };
  }
  const { width, height, engine, goldenError } = classifier;
  const size = 3 * width * height;
  const answers = [];
  const top = [];
  for (let start = 0; start < pixels.length; start += size) {
    const image = { data: pixels.subarray(start, start + size), width, height };
    const found = await classifier.classify(image, { top: 3 });
    answers.push(Array.from(found.answers));
    top.push(found.predictions);
    // The same image as a canvas gives it.
    const canvas = new Uint8ClampedArray((size / 3) * 4).fill(255);
    for (let pixel = 0; pixel < size / 3; pixel++) {
      for (let channel = 0; channel < 3; channel++) {
        canvas[4 * pixel + channel] = image.data[3 * pixel + channel];
      }
    }
    const again = await classifier.classify({ data: canvas, width, height });
    if (again.answers.some((value, index) => value !== found.answers[index])) {
      throw new Error("RGBA and RGB are answered differently");
    }
  }
  const good = { data: pixels.subarray(0, size), width, height };
  const wrong = {
    nothing: () => classifier.classify(undefined),
    "another size": () => classifier.classify({ ...good, width: width - 1 }),
    "too few pixels": () => classifier.classify({ ...good, data: good.data.subarray(3) }),
    floats: () => classifier.classify({ ...good, data: new Float32Array(size) }),
    "top 0": () => classifier.classify(good, { top: 0 }),
    "wrong tensor": () => classifier.run(new Int32Array(size), 1),
  };
  const errors = {};
  const outcome = async (call) => {
    try {
      await call();
      return "answered";
    } catch (error) {
      return `${error.name}: ${error.message}`;
    }
  };
  for (const [what, call] of Object.entries(wrong)) errors[what] = await outcome(call);
  await classifier.close();
  errors.closed = await outcome(() => classifier.classify(good));
  return { engine, goldenError, answers, top, errors };
}
