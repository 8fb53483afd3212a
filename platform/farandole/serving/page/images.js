// Images as the model reads them, and bytes in base64.

/** Encode bytes. */
export function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

/** Decode base64. */
export function toBytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/**
 * Draw an image in the model's size.
 *
 * @param {HTMLCanvasElement} canvas Is resized.
 * @param {ImageBitmap} bitmap The image.
 * @param {{width: string, height: string, channels: string, fit: string}} size The model's pixels; `fit` is how another
 *   aspect ratio is handled.
 */
export function drawFitted(canvas, bitmap, { width, height, channels, fit }) {
  canvas.width = Number(width);
  canvas.height = Number(height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = fit === "pad" ? "black" : "white"; // transparent pixels become white
  context.fillRect(0, 0, canvas.width, canvas.height);
  const ratios = [canvas.width / bitmap.width, canvas.height / bitmap.height];
  const scale = fit === "pad" ? Math.min(...ratios) : Math.max(...ratios);
  const [wide, high] = fit === "stretch" ? [canvas.width, canvas.height] : [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (canvas.width - wide) / 2, (canvas.height - high) / 2, wide, high);
  if (channels === "1") toGray(context);
  return canvas;
}

/** Replace colors by their brightness (ITU-R BT.601, as Pillow does). */
function toGray(context) {
  const image = context.getImageData(0, 0, context.canvas.width, context.canvas.height);
  for (let at = 0; at < image.data.length; at += 4) {
    const [red, green, blue] = image.data.subarray(at, at + 3);
    image.data.fill(Math.round((299 * red + 587 * green + 114 * blue) / 1000), at, at + 3);
  }
  context.putImageData(image, 0, 0);
}

/** Return the values of a canvas in the order of the column: pixel by pixel, or (planar) channel by channel. */
export function pixelValues(canvas, { channels, planar }) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const count = Number(channels);
  const pixels = data.length / 4;
  const values = new Uint8Array(pixels * count);
  for (let pixel = 0; pixel < pixels; pixel += 1) {
    for (let channel = 0; channel < count; channel += 1) {
      const at = planar === "yes" ? channel * pixels + pixel : pixel * count + channel;
      values[at] = data[pixel * 4 + channel];
    }
  }
  return values;
}
