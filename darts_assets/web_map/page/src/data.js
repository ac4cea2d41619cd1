// Reads what catalog/map holds: map.json, the points of all sites, and parts of the outlines by range.
import { fromFeature } from 'flatgeobuf/lib/mjs/generic/feature.js';
import { HttpReader } from 'flatgeobuf/lib/mjs/http-reader.js';
import { createGeometry } from 'flatgeobuf/lib/mjs/ol/geometry.js';
import { parquetRead } from 'hyparquet';
import Feature from 'ol/Feature.js';

const FORMAT = 1;
export const ROOT = '../../'; // from catalog/map to the root of the store

async function fetched(url, options) {
  const response = await fetch(url, options);
  if (!response.ok) throw new Error(`${new URL(url, document.baseURI).pathname}: HTTP ${response.status}`);
  return response;
}

export async function range(url, begin, length) {
  // Past the cache of the browser, which reads the parts of one file one after the other, and revalidates them.
  const response = await fetched(url, { headers: { Range: `bytes=${begin}-${begin + length - 1}` }, cache: 'no-store' });
  const bytes = await response.arrayBuffer();
  return response.status === 206 ? bytes : bytes.slice(begin, begin + length); // a host without ranges sends all
}

export const json = async (url, options) => (await fetched(url, options)).json();

async function columns(url) {
  const bytes = await (await fetched(url)).arrayBuffer();
  const read = {};
  await parquetRead({
    file: bytes,
    onChunk: ({ columnName, columnData, rowStart }) => (read[columnName] ??= []).push([rowStart, columnData]),
  });
  return Object.fromEntries(
    Object.entries(read).map(([name, chunks]) => [name, chunks.length === 1 ? chunks[0][1] : joined(chunks)]),
  );
}

const joined = (chunks) => chunks.sort((a, b) => a[0] - b[0]).flatMap(([, data]) => Array.from(data));

// One row per site, by slump and year; starts[i] is the first row of slump i.
export class Points {
  constructor(table) {
    for (const name of ['slump', 'year', 'x', 'y', 'probability', 'seen', 'observable', 'verdict']) {
      this[name] = table[name] instanceof Int32Array ? table[name] : Int32Array.from(table[name] ?? []);
    }
    this.length = this.slump.length;
    this.slumps = this.length ? this.slump[this.length - 1] + 1 : 0;
    this.starts = new Int32Array(this.slumps + 1).fill(this.length);
    for (let row = this.length - 1; row >= 0; row--) this.starts[this.slump[row]] = row;
  }

  rows(slump) {
    const rows = [];
    for (let row = this.starts[slump]; row < this.starts[slump + 1]; row++) rows.push(row);
    return rows;
  }

  bounds(slump) {
    const rows = this.rows(slump);
    const xs = rows.map((row) => this.x[row]);
    const ys = rows.map((row) => this.y[row]);
    return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  }
}

// A FlatGeobuf file with an index; reads the features of an area.
class Layer {
  constructor(url) {
    this.url = url;
    this.parts = new Map();
  }

  getRange(begin, length, purpose) {
    if (purpose.startsWith('feature')) return range(this.url, begin, length);
    const key = `${begin}+${length}`; // header and index are read again and again
    if (!this.parts.has(key)) {
      const part = range(this.url, begin, length);
      part.catch(() => this.parts.delete(key));
      this.parts.set(key, part);
    }
    return this.parts.get(key);
  }

  async in([minX, minY, maxX, maxY]) {
    const reader = await HttpReader.openSource(this);
    const features = [];
    for await (const { id, feature } of reader.selectBbox({ minX, minY, maxX, maxY })) {
      features.push(fromFeature(id, feature, reader.header, createGeometry, olFeature));
    }
    return features;
  }
}

function olFeature(id, geometry, properties) {
  const feature = new Feature(geometry);
  feature.setId(id);
  feature.setProperties(properties);
  return feature;
}

const nothing = { in: async () => [] };

const description = json('map.json', { cache: 'no-cache' });
export const land = json('land.json');
land.catch(() => {}); // reported by the layer

export async function openMap() {
  const map = await description;
  if (map.format !== FORMAT) throw new Error(`format ${map.format} of the data; reload the page`);
  const url = (name) => `${map.folder}/${map.files[name]}`;
  const layer = (name) => (map.files[name] ? new Layer(url(name)) : nothing);
  const points = new Points(map.files.points ? await columns(url('points')) : {});
  let ids;
  return {
    ...map,
    points,
    outlines: layer('sites'),
    sceneAreas: layer('scenes'),
    samples: map.samples ?? [],
    // The points of a sample, to be reviewed one after the other.
    sample: ({ file }) => json(`${map.folder}/${file}`),
    // The ids of all slumps by number; read when the first is needed.
    ids: () => (ids ??= map.files.ids ? columns(url('ids')).then((table) => table.slump_id) : Promise.resolve([])),
  };
}

const KEPT = 16;
const recent = new Map();

// The features of one slump, a site per year; those of the last slumps are kept, and of the next one in a review.
export function sitesOf(map, slump) {
  if (!recent.has(slump)) {
    const sites = readSites(map, slump);
    sites.catch(() => recent.delete(slump));
    recent.set(slump, sites);
    if (recent.size > KEPT) recent.delete(recent.keys().next().value);
  }
  return recent.get(slump);
}

async function readSites(map, slump) {
  const [minX, minY, maxX, maxY] = map.points.bounds(slump);
  const features = await map.outlines.in([minX - 2, minY - 2, maxX + 2, maxY + 2]);
  return features
    .filter((feature) => feature.get('slump') === slump)
    .sort((a, b) => a.get('year') - b.get('year'));
}

export async function scenesAt(map, [x, y]) {
  const features = await map.sceneAreas.in([x - 2, y - 2, x + 2, y + 2]);
  return new Map(features.map((feature) => [feature.get('scene_id'), feature.getProperties()]));
}
