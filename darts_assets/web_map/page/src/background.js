// Coastlines and graticule.
import Feature from 'ol/Feature.js';
import MultiLineString from 'ol/geom/MultiLineString.js';
import MultiPolygon from 'ol/geom/MultiPolygon.js';
import Point from 'ol/geom/Point.js';
import VectorLayer from 'ol/layer/Vector.js';
import VectorSource from 'ol/source/Vector.js';
import { Fill, Stroke, Style, Text } from 'ol/style.js';
import { land } from './data.js';
import { toLonLat, toMap } from './projection.js';

const SOUTH = 25; // degrees; the rest of the Earth is folded onto this parallel, outside the view
export const COAST_RESOLUTION = 120; // metres per pixel; the coastlines are too coarse below

export async function landLayer() {
  const { coordinates } = await land;
  const clamped = ([lon, lat]) => toMap([lon, Math.max(lat, SOUTH)]);
  const north = coordinates.filter(([ring]) => ring.some(([, lat]) => lat > SOUTH));
  const coasts = north.flat().flatMap(coastOf).map((line) => line.map(toMap));
  const source = new VectorSource({
    features: [
      new Feature(new MultiPolygon(north.map((polygon) => polygon.map((ring) => ring.map(clamped))))),
      new Feature({ geometry: new MultiLineString(coasts), coast: true }),
    ],
  });
  const ground = new Style({ fill: new Fill({ color: '#f4f2ec' }), stroke: new Stroke({ color: '#f4f2ec', width: 1 }) });
  const coast = new Style({ stroke: new Stroke({ color: '#a9b4bd', width: 0.9 }) });
  return new VectorLayer({
    source,
    minResolution: COAST_RESOLUTION,
    zIndex: 0,
    renderBuffer: 400,
    style: (feature) => (feature.get('coast') ? coast : ground),
  });
}

// A ring without the parts that are cuts at the antimeridian, or south of the view.
function coastOf(ring) {
  const lines = [[]];
  const isCut = (p, q) => (Math.abs(p[0]) === 180 && Math.abs(q[0]) === 180) || p[1] < SOUTH || q[1] < SOUTH;
  ring.forEach((point, index) => {
    if (index && isCut(ring[index - 1], point)) lines.push([]);
    lines[lines.length - 1].push(point);
  });
  return lines.filter((line) => line.length > 1);
}

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];
const LINE = new Style({ stroke: new Stroke({ color: 'rgba(70, 90, 110, 0.22)', width: 0.8 }) });

// Meridians and parallels, denser the nearer one looks; made for the view, since in this projection both bend.
export function graticuleLayer() {
  const source = new VectorSource();
  const layer = new VectorLayer({ source, renderBuffer: 200, style: (feature) => feature.get('style') ?? LINE });
  layer.update = (extent, resolution) => {
    source.clear(true);
    source.addFeatures(graticule(extent, resolution));
  };
  return layer;
}

function graticule([minX, minY, maxX, maxY], resolution) {
  const spacing = (resolution * 190) / 111e3; // degrees of latitude
  const step = STEPS.find((each) => each >= spacing) ?? 10;
  const steps = Array.from({ length: 13 }, (_, i) => i / 12);
  const grid = steps.flatMap((i) => steps.map((j) => toLonLat([minX + i * (maxX - minX), minY + j * (maxY - minY)])));
  const lats = grid.map(([, lat]) => lat);
  const hasPole = minX < 0 && maxX > 0 && minY < 0 && maxY > 0;
  const south = Math.max(30, Math.min(...lats) - step);
  const north = hasPole ? 90 : Math.min(90, Math.max(...lats) + step);
  const centre = toLonLat([(minX + maxX) / 2, (minY + maxY) / 2]);
  const middle = hasPole ? -45 : centre[0];
  const turns = grid.map(([lon]) => ((((lon - middle + 180) % 360) + 360) % 360) - 180);
  const wanted = step / Math.max(0.05, Math.cos((Math.min(85, centre[1]) * Math.PI) / 180));
  const lonStep = hasPole ? 30 : ([...STEPS, 15, 30].find((each) => each >= wanted) ?? 30);
  const [west, east] = hasPole ? [-180, 180] : [Math.min(...turns), Math.max(...turns)].map((turn) => middle + turn);
  const features = [];
  const multiples = (from, to, by) => {
    const values = [];
    for (let k = Math.ceil(from / by - 1e-9); k * by <= to + 1e-9; k++) values.push(k * by);
    return values;
  };
  const latitudes = multiples(south, Math.min(north, 90 - step / 2), step);
  const longitudes = multiples(west, hasPole ? east - 1e-6 : east, lonStep);
  const along = (from, to) => Array.from({ length: 61 }, (_, i) => from + ((to - from) * i) / 60);
  const top = hasPole ? 80 : north;
  const lines = [
    ...latitudes.map((lat) => along(west - (hasPole ? 0 : lonStep), east + (hasPole ? 0 : lonStep)).map((lon) => toMap([lon, lat]))),
    ...longitudes.map((lon) => along(south, top).map((lat) => toMap([lon, lat]))),
  ];
  features.push(new Feature(new MultiLineString(lines)));
  const digits = (value) => (value < 1 ? (value < 0.1 ? 2 : 1) : 0);
  const name = (value, positive, negative, by) =>
    `${Math.abs(value).toFixed(digits(by))}°${Math.abs(value) < 1e-9 || Math.abs(value) === 180 ? '' : value < 0 ? negative : positive}`;
  const normal = (lon) => ((((lon + 180) % 360) + 360) % 360) - 180;
  const inView = ([x, y]) => x > minX && x < maxX && y > minY && y < maxY;
  const label = (at, text) => {
    if (inView(at)) features.push(new Feature({ geometry: new Point(at), style: labelStyle(text) }));
  };
  const labelLon = hasPole ? -30 : (longitudes[Math.floor(longitudes.length / 2)] ?? middle) + lonStep / 2;
  const labelLat = hasPole ? 55 : (latitudes[Math.floor(latitudes.length / 2)] ?? centre[1]) + step / 2;
  for (const lat of latitudes) label(toMap([labelLon, lat]), name(lat, 'N', 'S', step));
  for (const lon of longitudes) label(toMap([lon, labelLat]), name(normal(lon), 'E', 'W', lonStep));
  return features;
}

const labels = new Map();

function labelStyle(text) {
  if (!labels.has(text)) {
    labels.set(
      text,
      new Style({
        text: new Text({
          text,
          font: '11px system-ui, sans-serif',
          fill: new Fill({ color: '#5d6b78' }),
          stroke: new Stroke({ color: 'rgba(255, 255, 255, 0.75)', width: 3 }),
        }),
      }),
    );
  }
  return labels.get(text);
}
