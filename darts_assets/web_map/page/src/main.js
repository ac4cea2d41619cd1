// Starts the page: controls, list, card, address.
import 'ol/ol.css';
import './app.css';
import { boundingExtent } from 'ol/extent.js';
import { given, hasEndpoint, remember } from './address.js';
import { showCard, showPointCard } from './card.js';
import { NEUTRAL, SCALES } from './colours.js';
import { openMap, sitesOf } from './data.js';
import { byId, degrees, el, link, number, say } from './dom.js';
import { MapView } from './mapview.js';
import { toLonLat } from './projection.js';
import { Review } from './review.js';
import { initial, rowOf } from './selection.js';

const LISTED = 25;
const NUMBERS = ['probability', 'seen', 'share'];
const CHECKS = ['rejected', 'reviewed', 'footprints', 'coverage'];

class Page {
  constructor(map) {
    this.map = map;
    this.state = initial(map.years);
    this.slump = null;
    this.asked = 0;
    this.restore();
    this.view = new MapView(map, this.state, this.position(), (error) => this.report(error));
    this.review = new Review(map, this.view, this);
    this.controls();
    this.update();
    this.view.ol.on('moveend', () => this.moved());
    this.moved();
    this.view.ol.on('click', (event) => this.pick(event.pixel));
    this.view.ol.on('pointermove', (event) => {
      if (!event.dragging) this.view.ol.getTargetElement().style.cursor = this.view.slumpAt(event.pixel) === null ? '' : 'pointer';
    });
    this.view.ol.once('rendercomplete', () => performance.mark('painted'));
    byId('close').addEventListener('click', () => this.close());
    byId('map').addEventListener('keydown', (event) => this.key(event));
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && !this.review.active && this.slump !== null && !byId('review-dialog').open) this.close();
    });
    const start = byId('start-review');
    start.disabled = !this.review.hasTasks;
    start.addEventListener('click', () => this.review.open());
    byId('toggle-panel').addEventListener('click', () => this.togglePanel());
    if (given.get('slump')) this.openLinked(given.get('slump'));
    if (hasEndpoint && this.review.hasTasks) this.review.open();
  }

  restore() {
    const { state } = this;
    for (const name of ['mode', 'colour']) {
      const value = given.get(name);
      if (value && document.querySelector(`input[name="${name}"][value="${CSS.escape(value)}"]`)) state[name] = value;
    }
    for (const name of [...NUMBERS, 'year']) {
      const value = Number(given.get(name));
      if (given.has(name) && Number.isFinite(value)) state[name] = value;
    }
    for (const name of CHECKS) state[name] = given.has(name) ? given.get(name) === '1' : state[name];
    if (!this.map.years.includes(state.year)) state.year = this.map.years[this.map.years.length - 1] ?? 0;
  }

  // Centre and resolution in the address, if there.
  position() {
    const values = ['x', 'y', 'r'].map((name) => (given.has(name) ? Number(given.get(name)) : NaN));
    return values.every(Number.isFinite) && values[2] > 0 ? values : null;
  }

  controls() {
    const { state, map } = this;
    const { years } = map;
    const year = byId('year');
    year.min = years[0] ?? 0;
    year.max = years[years.length - 1] ?? 0;
    year.value = state.year;
    for (const name of NUMBERS) byId(name).value = state[name];
    for (const name of CHECKS) byId(name).checked = state[name];
    for (const name of ['mode', 'colour']) document.querySelector(`input[name="${name}"][value="${state[name]}"]`).checked = true;
    byId('controls').addEventListener('input', (event) => {
      const { id, name, value, type, checked } = event.target;
      if (type === 'radio') state[name] = value;
      else state[id] = type === 'checkbox' ? checked : Number(value);
      // The slider of the years is of use at once.
      if (id === 'year' && state.mode === 'all') {
        state.mode = 'only';
        document.querySelector('input[name="mode"][value="only"]').checked = true;
      }
      this.schedule();
    });
    byId('controls').addEventListener('submit', (event) => event.preventDefault());
    const licence = map.licence_url ? link(map.licence, map.licence_url, { rel: 'license' }) : map.licence;
    byId('about').append(
      el('p', {}, 'Detected by segmentation models in satellite scenes. Years and scenes that do not show a slump count too (k of n). Coastlines: Natural Earth, schematic.'),
      el('p', {}, `Updated ${map.updated.slice(0, 10)}. Licence: `, licence, '. ', link('Catalog', '../catalog.json'), ' · ', link('Software', 'licences.txt')),
    );
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = requestAnimationFrame(() => {
      this.scheduled = null;
      this.update();
      this.moved();
    });
  }

  update() {
    const { state, map } = this;
    const count = this.view.update();
    byId('year').disabled = map.years.length < 2;
    byId('year-value').textContent = state.mode === 'all' ? `${map.years[0] ?? ''}–${map.years[map.years.length - 1] ?? ''}` : String(state.year);
    byId('probability-value').textContent = (state.probability / 100).toFixed(2);
    byId('seen-value').textContent = `${state.seen} ${state.seen === 1 ? 'scene' : 'scenes'}`;
    byId('share-value').textContent = `${state.share} %`;
    byId('summary').textContent = map.points.length
      ? `${number(count)} of ${number(map.slumps)} slumps · ${number(map.sites)} sites in ${number(map.years.length)} ${map.years.length === 1 ? 'year' : 'years'}`
      : 'The inventory is empty.';
    const scale = SCALES[state.colour];
    byId('legend-title').textContent = scale.title;
    const entries = scale.labels.map((label, index) => [scale.colours[index], label]);
    if (state.rejected) entries.push([NEUTRAL, 'rejected']);
    byId('legend').replaceChildren(...entries.map(([colour, label]) => el('li', {}, swatch(colour), label)));
  }

  moved() {
    const found = this.view.points.inside(this.view.extent(), LISTED);
    byId('in-view').textContent = found.total
      ? `${number(found.total)} ${found.total === 1 ? 'slump' : 'slumps'}${found.total > LISTED ? `, the ${LISTED} nearest to the centre:` : ''}`
      : 'No slump with this selection.';
    const { points } = this.map;
    byId('list').replaceChildren(
      ...found.nearest.map((row) =>
        el(
          'li',
          {},
          el(
            'button',
            { type: 'button', 'aria-current': points.slump[row] === this.slump ? 'true' : null, onclick: () => this.select(points.slump[row], { focus: true }) },
            el('span', {}, degrees(toLonLat([points.x[row], points.y[row]]), 3)),
            el('small', {}, this.short(row)),
          ),
        ),
      ),
    );
    this.address();
  }

  short(row) {
    const { points } = this.map;
    const probability = points.probability[row] === 255 ? '' : ` · ${(points.probability[row] / 100).toFixed(2)}`;
    return `${points.year[row]}${probability} · ${points.seen[row]} of ${points.observable[row]}`;
  }

  address() {
    const { state, map } = this;
    const defaults = initial(map.years);
    const changed = Object.fromEntries(
      Object.entries(state).filter(([name, value]) => value !== defaults[name]).map(([name, value]) => [name, value === true ? '1' : value]),
    );
    remember({ ...changed, ...this.view.position(), slump: this.slumpId });
  }

  pick(pixel) {
    const slump = this.view.slumpAt(pixel);
    if (slump !== null) this.select(slump, { focus: false, moves: false });
  }

  // Opens the card of a slump; returns its sites.
  async select(slump, { focus = false, moves = true } = {}) {
    const asked = ++this.asked;
    this.slump = slump;
    const row = rowOf(this.map.points, this.state, slump);
    const shownRow = row < 0 ? this.map.points.starts[slump + 1] - 1 : row;
    this.view.showSelected([], shownRow);
    byId('side').hidden = false;
    byId('side').scrollTop = 0;
    document.body.classList.add('with-card');
    this.togglePanel(false);
    let features = [];
    try {
      features = await sitesOf(this.map, slump);
    } catch (error) {
      this.report(error);
    }
    if (asked !== this.asked) return features;
    if (!features.length) {
      byId('card').replaceChildren(el('h2', { id: 'card-title', tabindex: '-1' }, 'This slump cannot be read'));
      return features;
    }
    this.slumpId = features[features.length - 1].get('slump_id');
    showCard(byId('card'), this.map, features);
    this.view.ol.updateSize();
    this.view.showSelected(features, shownRow);
    byId('card').dataset.slump = this.slumpId;
    if (moves) {
      const extents = features.map((feature) => feature.getGeometry().getExtent());
      const all = boundingExtent(extents.flatMap(([a, b, c, d]) => [[a, b], [c, d]]));
      const margin = Math.max(all[2] - all[0], all[3] - all[1], 120);
      this.view.goTo([all[0] - margin, all[1] - margin, all[2] + margin, all[3] + margin]);
    }
    if (focus) byId('card-title').focus();
    else say(`Card of the slump at ${byId('card-title').textContent}`);
    this.address();
    return features;
  }

  // Shows a point of a sample.
  showPoint(point, sample) {
    this.asked++;
    this.slump = null;
    this.slumpId = null;
    byId('side').hidden = false;
    byId('side').scrollTop = 0;
    document.body.classList.add('with-card');
    this.togglePanel(false);
    delete byId('card').dataset.slump;
    showPointCard(byId('card'), this.map, point, sample);
    this.view.ol.updateSize();
    this.view.showPoint([point.x, point.y]);
    this.address();
  }

  async openLinked(id) {
    const slump = (await this.map.ids()).indexOf(id);
    if (slump < 0) {
      say(`The inventory does not contain ${id}`);
      byId('summary').textContent += ` · ${id} is not among them`;
      return;
    }
    await this.select(slump, { moves: !given.has('x') });
  }

  close() {
    this.asked++;
    this.slump = null;
    this.slumpId = null;
    if (this.review.active) this.review.stop();
    byId('side').hidden = true;
    document.body.classList.remove('with-card');
    this.view.ol.updateSize();
    this.view.showSelected([], null);
    this.moved();
    this.focusMap();
  }

  focusMap() {
    byId('map').focus({ preventScroll: true });
  }

  key(event) {
    if (event.key === 'Enter' && this.view.pointYear === null) {
      const [row] = this.view.points.inside(this.view.extent(), 1).nearest;
      if (row !== undefined) this.select(this.map.points.slump[row], { focus: true });
    } else if (event.key === 'Home') {
      this.view.goHome();
    }
  }

  // The panel of narrow screens.
  togglePanel(isOpen) {
    const open = document.body.classList.toggle('with-panel', isOpen);
    byId('toggle-panel').setAttribute('aria-expanded', String(open));
  }

  report(error) {
    console.error(error);
    const text = `Data could not be read: ${error.message}. They may have been replaced: reload the page.`;
    say(text);
    byId('summary').textContent = text;
  }
}

function swatch(colour) {
  const canvas = el('canvas', { width: 14, height: 14, 'aria-hidden': 'true' });
  const context = canvas.getContext('2d');
  context.fillStyle = colour;
  context.strokeStyle = '#20242b';
  context.beginPath();
  context.arc(7, 7, 5.5, 0, 7);
  context.fill();
  context.stroke();
  return canvas;
}

openMap().then(
  (map) => {
    window.page = new Page(map); // for tests and curious people
  },
  (error) => {
    console.error(error);
    byId('summary').textContent = `The map cannot be read: ${error.message}`;
  },
);
