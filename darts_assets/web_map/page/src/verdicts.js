// Verdicts of a reviewer: in the store through the endpoint, or in this browser, from where a file is exported.
import { containsCoordinate, createEmpty, extend } from 'ol/extent.js';
import Polygon from 'ol/geom/Polygon.js';
import { toLonLat, toMap } from './projection.js';

export const VERDICTS = { yes: 'Yes', no: 'No', unsure: 'Unsure', redraw: 'Redraw' };
const ENDPOINT = '../../api/verdicts';
const MOST_RECORDS = 50; // the endpoint takes 100 records and 256 KiB in a request
const MOST_CHARACTERS = 180_000;
const MOST_VERTICES = 2000;
const LOCAL = 'darts-verdicts';
const UNSENT = 'darts-verdicts-unsent';

function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // `randomUUID` is missing on hosts without https
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

function stored(key) {
  try {
    const value = JSON.parse(localStorage.getItem(key) ?? '[]');
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}

const keep = (key, records) => localStorage.setItem(key, JSON.stringify(records));

const rounded = ([x, y]) => toLonLat([x, y]).map((value) => Number(value.toFixed(7)));

// The row of a point within the outline of a verdict, -1 if there is none.
export function containing(outline, points, rows) {
  const polygons = (outline.type === 'Polygon' ? [outline.coordinates] : outline.coordinates).map(
    (rings) => new Polygon(rings.map((ring) => ring.map(toMap))),
  );
  const extent = polygons.reduce((all, each) => extend(all, each.getExtent()), createEmpty());
  return (
    rows.find((row) => {
      const at = [points.x[row], points.y[row]];
      return containsCoordinate(extent, at) && polygons.some((polygon) => polygon.intersectsCoordinate(at));
    }) ?? -1
  );
}

// GeoJSON in longitude and latitude; simplified until it has few enough vertices.
export function outlineOf(geometry) {
  let simple = geometry;
  const count = (each) => each.getCoordinates().flat(3).length / 2;
  for (let tolerance = 1; count(simple) > MOST_VERTICES; tolerance *= 2) simple = geometry.simplify(tolerance);
  const polygons = simple.getCoordinates().map((rings) => rings.filter((ring) => ring.length > 3).map((ring) => ring.map(rounded)));
  return { type: 'MultiPolygon', coordinates: polygons.filter((rings) => rings.length) };
}

export function record(reviewer, verdict, note, feature, map) {
  const probability = feature.get('mean_probability');
  return {
    id: uuid(),
    time: new Date().toISOString(),
    reviewer,
    verdict,
    note,
    slump_id: feature.get('slump_id'),
    site_id: feature.get('site_id'),
    year: feature.get('year'),
    outline: outlineOf(feature.getGeometry()),
    mean_probability: Number.isFinite(probability) ? probability : null,
    inventory_version: map.inventory_version,
  };
}

// A verdict about a point of a sample: it is about no slump.
export function pointRecord(reviewer, verdict, note, point, sample) {
  return {
    id: uuid(),
    time: new Date().toISOString(),
    reviewer,
    verdict,
    note,
    sample_id: point.sample_id,
    point: [point.lon, point.lat],
    year: sample.year,
    inventory_version: sample.inventory_version,
  };
}

// What a verdict is about: a slump, or a point of a sample.
export const subjectOf = (each) => each.sample_id ?? each.slump_id;

const latest = (records, reviewer) => {
  const own = new Map();
  for (const each of [...records].sort((a, b) => a.time.localeCompare(b.time))) {
    if (each.reviewer === reviewer) own.set(subjectOf(each), each);
  }
  return own;
};

// As many records as fit into a request; at least one.
function firstOf(records) {
  let length = 0;
  const fits = records.slice(0, MOST_RECORDS).findIndex((each) => (length += JSON.stringify(each).length) > MOST_CHARACTERS);
  return records.slice(0, fits < 0 ? MOST_RECORDS : Math.max(1, fits));
}

export const exported = (records) =>
  new Blob([JSON.stringify({ type: 'darts-verdicts', version: 1, verdicts: records }, null, 1)], { type: 'application/json' });

// Kept in this browser only.
export class LocalVerdicts {
  status = 'kept in this browser; export them as a file';

  async load(reviewer) {
    return latest(stored(LOCAL), reviewer);
  }

  async add(one) {
    keep(LOCAL, [...stored(LOCAL), one]);
  }

  async all() {
    return stored(LOCAL);
  }
}

// Stored by `darts-assets review`. What could not be sent stays in this browser and is sent with the next one.
export class ServerVerdicts {
  status = '';

  constructor(token, onStatus) {
    this.headers = { Authorization: `Bearer ${token ?? ''}` };
    this.onStatus = onStatus;
    this.sent = new Map();
    this.sending = Promise.resolve();
  }

  async request(path, options = {}) {
    const response = await fetch(ENDPOINT + path, { ...options, headers: { ...this.headers, ...options.headers }, cache: 'no-store' });
    if (response.ok) return response.json();
    if (response.status === 401) throw new Error('The token is not valid. Open the link that `darts-assets review` has printed.');
    const { error } = await response.json().catch(() => ({}));
    throw new Error(error ?? `The server answers HTTP ${response.status}.`);
  }

  async load(reviewer) {
    const { verdicts } = await this.request(`?reviewer=${encodeURIComponent(reviewer)}`);
    this.sent = latest(verdicts, reviewer);
    const own = new Map([...this.sent, ...latest(stored(UNSENT), reviewer)]);
    this.flush();
    return own;
  }

  async add(one) {
    keep(UNSENT, [...stored(UNSENT), one]);
    this.report('being stored …');
    this.flush();
  }

  flush() {
    this.sending = this.sending.then(() => this.send());
    return this.sending;
  }

  async send() {
    try {
      for (let waiting = stored(UNSENT); waiting.length; waiting = stored(UNSENT)) {
        const batch = firstOf(waiting);
        await this.request('', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ verdicts: batch }) });
        const done = new Set(batch.map((each) => each.id));
        keep(UNSENT, stored(UNSENT).filter((each) => !done.has(each.id)));
        for (const each of batch) this.sent.set(subjectOf(each), each);
      }
      this.report('all stored');
    } catch (error) {
      this.report(`${stored(UNSENT).length} not stored yet: ${error.message}`);
    }
  }

  report(status) {
    this.status = status;
    this.onStatus();
  }

  async all() {
    return [...this.sent.values(), ...stored(UNSENT)];
  }
}
