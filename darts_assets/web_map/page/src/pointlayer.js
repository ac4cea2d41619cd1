// Draws the points of all shown sites into one canvas, by writing pixels: 100,000 take some milliseconds, without WebGL.
import Layer from 'ol/layer/Layer.js';
import { colourOf } from './colours.js';

// A colour as a pixel (little-endian ABGR), multiplied by a factor.
function pixel(colour, factor = 1) {
  const value = parseInt(colour.slice(1), 16);
  const [red, green, blue] = [value >> 16, (value >> 8) & 0xff, value & 0xff].map((each) => Math.round(each * factor));
  return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
}

// Offsets of the pixels of a disc, inside and on its rim.
function disc(radius) {
  const inside = [];
  const rim = [];
  const reach = Math.ceil(radius);
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const distance = Math.hypot(dx, dy);
      if (distance <= radius - 1) inside.push([dx, dy]);
      else if (distance <= radius) rim.push([dx, dy]);
    }
  }
  return { inside, rim, reach };
}

export const radiusAt = (resolution) => (resolution > 3000 ? 2.6 : resolution > 600 ? 3.6 : resolution > 60 ? 4.6 : 5.6);

export class PointLayer extends Layer {
  constructor(points, options) {
    super(options);
    this.points = points;
    this.canvas = document.createElement('canvas');
    this.canvas.className = 'points';
    this.canvas.setAttribute('aria-hidden', 'true');
    this.rows = new Int32Array();
    this.colours = [new Uint32Array(), new Uint32Array()];
  }

  show(rows, scale) {
    this.rows = rows;
    const cache = new Map();
    this.colours = [new Uint32Array(rows.length), new Uint32Array(rows.length)];
    rows.forEach((row, index) => {
      const colour = colourOf(scale, this.points, row);
      if (!cache.has(colour)) cache.set(colour, [pixel(colour), pixel(colour, 0.45)]);
      const [inside, rim] = cache.get(colour);
      this.colours[0][index] = inside;
      this.colours[1][index] = rim;
    });
    this.changed();
  }

  render(frame) {
    const ratio = frame.pixelRatio;
    const width = Math.round(frame.size[0] * ratio);
    const height = Math.round(frame.size[1] * ratio);
    const { canvas, points, rows } = this;
    const [insides, rims] = this.colours;
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const context = canvas.getContext('2d');
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const [a, b, c, d, e, f] = frame.coordinateToPixelTransform;
    const { inside, rim, reach } = disc(radiusAt(frame.viewState.resolution) * ratio);
    const at = ([dx, dy]) => dy * width + dx;
    const insideAt = Int32Array.from(inside, at);
    const rimAt = Int32Array.from(rim, at);
    for (let index = rows.length - 1; index >= 0; index--) {
      const row = rows[index];
      const x = points.x[row];
      const y = points.y[row];
      const left = Math.round((a * x + c * y + e) * ratio);
      const top = Math.round((b * x + d * y + f) * ratio);
      if (left < reach || top < reach || left >= width - reach || top >= height - reach) continue;
      // From the top down: only free pixels are written.
      const centre = top * width + left;
      for (let i = 0; i < insideAt.length; i++) {
        if (pixels[centre + insideAt[i]] === 0) pixels[centre + insideAt[i]] = insides[index];
      }
      for (let i = 0; i < rimAt.length; i++) {
        if (pixels[centre + rimAt[i]] === 0) pixels[centre + rimAt[i]] = rims[index];
      }
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  // The row of the shown point nearest to a coordinate, within a distance in map units; -1 if there is none.
  nearest([x, y], distance) {
    let best = -1;
    let least = distance * distance;
    for (const row of this.rows) {
      const between = (this.points.x[row] - x) ** 2 + (this.points.y[row] - y) ** 2;
      if (between <= least) {
        least = between;
        best = row;
      }
    }
    return best;
  }

  // Rows of the shown points in an extent, the nearest to its centre first.
  inside([minX, minY, maxX, maxY], count) {
    const { x, y } = this.points;
    const [centreX, centreY] = [(minX + maxX) / 2, (minY + maxY) / 2];
    const away = (row) => (x[row] - centreX) ** 2 + (y[row] - centreY) ** 2;
    const all = this.rows.filter((row) => x[row] >= minX && x[row] <= maxX && y[row] >= minY && y[row] <= maxY);
    return { total: all.length, nearest: Array.from(all).sort((p, q) => away(p) - away(q)).slice(0, count), all };
  }
}
