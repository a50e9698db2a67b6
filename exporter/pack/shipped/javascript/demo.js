import { load } from "./index.js";

const element = (id) => document.getElementById(id);
const [status, drop, file, preview, results] = ["status", "drop", "file", "preview", "results"].map(element);

function fail(error) {
  status.className = "failed";
  status.textContent = `${error.name}: ${error.message}`;
}

/**
 * The centre of the image at the engine's size: its shorter side resized to `resize`, or its height
 * and width to the two of it, then cropped.
 */
function toPixels(bitmap, { width, height }, resize) {
  const scale = (resize ?? Math.min(width, height)) / Math.min(bitmap.width, bitmap.height);
  const drawn = Array.isArray(resize)
    ? { width: resize[1], height: resize[0] }
    : { width: bitmap.width * scale, height: bitmap.height * scale };
  const context = preview.getContext("2d", { willReadFrequently: true });
  preview.width = width;
  preview.height = height;
  context.imageSmoothingQuality = "high";
  context.drawImage(
    bitmap, (width - drawn.width) / 2, (height - drawn.height) / 2, drawn.width, drawn.height,
  );
  return context.getImageData(0, 0, width, height);
}

function show({ predictions, milliseconds }, prepared) {
  const rows = predictions.map(({ label, probability }) => {
    const row = document.createElement("tr");
    const name = row.insertCell();
    name.textContent = label;
    const cell = row.insertCell();
    const meter = document.createElement("meter");
    meter.value = probability;
    meter.ariaLabel = label;
    cell.append(meter, `${(100 * probability).toFixed(1)} %`);
    return row;
  });
  results.tBodies[0].replaceChildren(...rows);
  results.hidden = false;
  element("latency").textContent =
    `Top ${predictions.length}, ${milliseconds.toFixed(1)} ms (and ${prepared.toFixed(1)} ms to read the image)`;
}

async function main() {
  const classifier = await load();
  const { resize, name } = await (await fetch("model.json")).json();
  element("title").textContent = name;
  status.textContent =
    `Ready: ${classifier.engine} answers its golden inputs (relative error ${classifier.goldenError.toExponential(1)}).`;
  file.disabled = false;

  async function classify(blob) {
    try {
      const start = performance.now();
      // Upright, as its EXIF orientation says: so it is in Python, too.
      const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
      const pixels = toPixels(bitmap, classifier, resize);
      bitmap.close();
      const prepared = performance.now() - start;
      show(await classifier.classify(pixels), prepared);
      status.className = "";
      status.textContent = "Classified.";
    } catch (error) {
      fail(error);
    }
  }

  file.addEventListener("change", () => file.files[0] && classify(file.files[0]));
  for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", type === "dragenter" || type === "dragover");
      if (type === "drop" && event.dataTransfer.files[0]) classify(event.dataTransfer.files[0]);
    });
  }
}

main().catch(fail);
