// What is reviewed: the slumps that the map shows, or the points of a sample.
import { boundingExtent } from 'ol/extent.js';
import { preload, preloadPoint } from './card.js';
import { sitesOf } from './data.js';
import { containing, pointRecord, record } from './verdicts.js';

const AROUND = 450; // metres around a point

// A number for each slump and reviewer, the same each time: a random order in which one can continue.
function shuffled(text, number) {
  let hash = 2166136261 ^ number;
  for (const character of text) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 2246822507);
  return (hash ^ (hash >>> 13)) >>> 0;
}

// Items of the queue are rows of the points of all sites.
export class SlumpTask {
  kind = 'slump';
  text = 'Is it a thaw slump? One slump after the other, of those that the map shows.';
  hasOptions = true;
  showsOutlines = true;
  verdicts = ['yes', 'no', 'unsure', 'redraw'];

  constructor(map, view, page) {
    this.map = map;
    this.view = view;
    this.page = page;
    this.ids = [];
    this.feature = null;
  }

  async open() {
    this.ids = await this.map.ids();
  }

  begin() {}

  end() {}

  // Verdicts belong to places: a slump that has another id since is recognized by its outline.
  placed(own) {
    const { points } = this.map;
    const known = new Set(this.ids);
    const all = Array.from({ length: points.length }, (_, row) => row);
    for (const each of [...own.values()].filter(({ outline, slump_id }) => outline && !known.has(slump_id))) {
      const row = containing(each.outline, points, all);
      if (row >= 0 && !own.has(this.ids[points.slump[row]])) own.set(this.ids[points.slump[row]], each);
    }
    return own;
  }

  queue(reviewer, order, onlyView, onlyNew) {
    const { points } = this.map;
    const inView = Array.from(onlyView ? this.view.points.inside(this.view.extent(), 0).all : this.view.points.rows);
    const rows = onlyNew ? inView.filter((row) => points.verdict[row] === 0) : inView;
    const rank = {
      place: (row) => points.slump[row],
      uncertain: (row) => Math.abs(points.probability[row] - 50),
      random: (row) => shuffled(reviewer, points.slump[row]),
    }[order];
    return rows.sort((a, b) => rank(a) - rank(b) || points.slump[a] - points.slump[b]);
  }

  id(row) {
    return this.ids[this.map.points.slump[row]];
  }

  question(position) {
    return `Slump ${position}: is it a thaw slump?`;
  }

  // Whether the slump could be read.
  async show(row) {
    const { points } = this.map;
    const asked = (this.asked = {});
    this.feature = null;
    const features = await this.page.select(points.slump[row], { moves: false });
    if (asked !== this.asked) return false;
    this.feature = features.find((feature) => feature.get('year') === points.year[row]) ?? features[features.length - 1] ?? null;
    if (!this.feature) return false;
    const extents = features.map((feature) => feature.getGeometry().getExtent());
    const all = boundingExtent(extents.flatMap(([a, b, c, d]) => [[a, b], [c, d]]));
    const margin = Math.max(0.5 * (all[2] - all[0]), 0.5 * (all[3] - all[1]), 80);
    this.view.goTo([all[0] - margin, all[1] - margin, all[2] + margin, all[3] + margin], { still: true });
    return true;
  }

  prefetch(row) {
    sitesOf(this.map, this.map.points.slump[row]).then(preload, () => {});
  }

  record(reviewer, verdict, note) {
    return record(reviewer, verdict, note, this.feature, this.map);
  }
}

// Items of the queue are points of the sample, in the order of their numbers, which is random.
export class PointTask {
  kind = 'point';
  hasOptions = false;
  showsOutlines = false;
  verdicts = ['yes', 'no', 'unsure'];

  constructor(map, view, page, sample) {
    this.map = map;
    this.view = view;
    this.page = page;
    this.sample = sample;
    this.text = `Did the point lie in a thaw slump in ${sample.year}? One random point after the other; outlines are hidden until you have decided.`;
  }

  async open() {
    this.points ??= (await this.map.sample(this.sample)).points;
  }

  begin() {
    this.view.reviewPoints(this.sample.year);
  }

  end() {
    this.view.reviewPoints(null);
  }

  placed(own) {
    return own;
  }

  queue() {
    return this.points;
  }

  id(point) {
    return point.sample_id;
  }

  question(position) {
    return `Point ${position}: in a thaw slump in ${this.sample.year}?`;
  }

  async show(point) {
    this.point = point;
    this.showsOutlines = false;
    this.view.showSlumps(false);
    this.page.showPoint(point, this.sample);
    this.view.goTo([point.x - AROUND, point.y - AROUND, point.x + AROUND, point.y + AROUND], { still: true });
    return true;
  }

  toggleOutlines() {
    this.showsOutlines = !this.showsOutlines;
    this.view.showSlumps(this.showsOutlines);
  }

  prefetch(point) {
    preloadPoint(point);
  }

  record(reviewer, verdict, note) {
    return pointRecord(reviewer, verdict, note, this.point, this.sample);
  }
}
