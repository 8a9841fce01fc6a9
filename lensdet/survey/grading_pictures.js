// How a candidate's pixels are drawn, for grading.js, which follows in the same module.

const STRETCHES = ["sqrt", "asinh", "log", "zscale"];
const HALF = new Float32Array(65536).map((_, k) => {  // float16 by its bits
  const [sign, power, rest] = [k >> 15 ? -1 : 1, (k >> 10) & 31, k & 1023];
  return sign * (power ? 2 ** (power - 25) * (1024 + rest) : 2 ** -24 * rest);
});

// Values of pixels in [0, 1], by stretch, as lensdet.survey.page draws sqrt and asinh.
function stretched(pixels, { low, high, white, noise, zscale }, how) {
  const between = (from, to, f) => pixels.map((v) => Math.min(1, Math.max(0, (f(v) - f(from)) / (f(to) - f(from)))));
  if (how === "sqrt") return between(low, high, (v) => v).map(Math.sqrt);
  if (how === "log") return between(-noise, high, (v) => v).map((v) => Math.log1p(1000 * v) / Math.log(1001));
  if (how === "zscale") return between(zscale[0], zscale[1], (v) => v);
  return between(-2 * noise, Math.max(white, 10 * noise), (v) => Math.asinh(v / noise / 3));
}

// What comes from the kernel, ready to be drawn; all stretches at once, where all are shown.
function prepared(about, grey, colour, all) {
  const made = {};
  if (colour) made.colour = new Uint8Array(colour);
  if (grey) made.pixels = Float32Array.from(new Uint16Array(grey), (bits) => HALF[bits]);
  if (grey && all) for (const name of STRETCHES) made[name] = stretched(made.pixels, about, name);
  return made;
}

// One picture on a canvas, the first row at the bottom, by stretch, brightness and contrast; or its heat map.
function paint(canvas, picture, [rows, columns], { stretch, colour, brightness, contrast, invert }, map) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (!picture?.pixels) return;
  const values = colour ? picture.colour : (picture[stretch] ??= stretched(picture.pixels, picture.about, stretch));
  if (!values) return;  // no colour
  const image = new ImageData(columns, rows), data = image.data, per = colour ? 3 : 1;
  const [add, times] = [255 * (0.5 + brightness - 0.5 * contrast), contrast * (colour ? 1 : 255)];
  for (let y = 0, to = 0; y < rows; y += 1) {
    for (let from = (rows - 1 - y) * columns * per, x = 0; x < columns; x += 1, to += 4, from += per) {
      for (let c = 0; c < 3; c += 1) {
        const value = add + times * values[colour ? from + c : from];  // ImageData clamps and rounds
        data[to + c] = invert ? 255 - value : value;
      }
      data[to + 3] = 255;
    }
  }
  const small = new OffscreenCanvas(columns, rows);
  small.getContext("2d").putImageData(image, 0, 0);
  pen.drawImage(map || small, 0, 0, canvas.width, canvas.height);
}

// A bar of 5 arcsec, and where north is; on a large canvas with letters, and east.  across: arcsec from edge to edge.
function marksOnSky(canvas, { north, east }, across, onWhite) {
  const pen = canvas.getContext("2d"), { width, height } = canvas, bar = 5 / across * width, large = width > 400;
  const [colour, shadowColor] = onWhite ? ["#026", "#fff"] : ["#7df", "#000"];
  Object.assign(pen, { lineWidth: 2, font: `${Math.round(width / 32)}px sans-serif`, textAlign: "center",
    shadowColor, shadowBlur: 3, strokeStyle: colour, fillStyle: colour });
  pen.fillRect(width * 0.04, height * 0.95, bar, large ? 3 : 2);
  if (large) pen.fillText("5″", width * 0.04 + bar / 2, height * 0.94);
  for (const [letter, way] of [["N", north], ["E", large && east]]) {
    if (!way) continue;
    const [x, y, long] = [width * 0.88, height * 0.92, width * 0.07];
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(x + long * way[0], y - long * way[1]);
    pen.stroke();
    if (large) pen.fillText(letter, x + 1.4 * long * way[0], y - 1.4 * long * way[1] + width / 90);
  }
  pen.shadowBlur = 0;
}

