// Review by keyboard: one slump after the other; the queue is what the map shows.
import { boundingExtent } from 'ol/extent.js';
import { hasEndpoint, token } from './address.js';
import { preload } from './card.js';
import { sitesOf } from './data.js';
import { byId, el, number, say } from './dom.js';
import { containing, exported, LocalVerdicts, record, ServerVerdicts, VERDICTS } from './verdicts.js';

const KEYS = { y: 'yes', n: 'no', u: 'unsure', r: 'redraw' };
const NAME = 'darts-reviewer';
const ORDERS = { place: 'by place', uncertain: 'the least certain first', random: 'at random' };
const LONGEST_NAME = 80;
const LONGEST_NOTE = 1000;

// A number for each slump and reviewer, the same each time: a random order in which one can continue.
function shuffled(text, number) {
  let hash = 2166136261 ^ number;
  for (const character of text) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 2246822507);
  return (hash ^ (hash >>> 13)) >>> 0;
}

export class Review {
  constructor(map, view, page) {
    this.map = map;
    this.view = view;
    this.page = page;
    this.records = hasEndpoint ? new ServerVerdicts(token, () => this.refresh()) : new LocalVerdicts();
    this.own = new Map();
    this.queue = [];
    this.index = 0;
    this.active = false;
    this.busy = false;
    this.reviewer = '';
    this.build();
  }

  build() {
    const known = localStorage.getItem(NAME) ?? '';
    const order = Object.entries(ORDERS).map(([value, text]) => el('option', { value }, text));
    byId('review-start').append(
      el('h2', { id: 'review-heading' }, 'Review'),
      el('p', {}, 'Is it a thaw slump? One slump after the other, of those that the map shows.'),
      el('label', { for: 'reviewer' }, 'Your name'),
      el('input', { id: 'reviewer', maxlength: LONGEST_NAME, autocomplete: 'name', required: true, value: known }),
      el('label', { for: 'order' }, 'Order'),
      el('select', { id: 'order' }, order),
      el('label', { class: 'check' }, el('input', { type: 'checkbox', id: 'only-view' }), ' only those in view'),
      el('label', { class: 'check' }, el('input', { type: 'checkbox', id: 'only-new' }), ' only those that nobody has reviewed'),
      el('p', { class: 'error', id: 'review-error', role: 'alert' }),
      el('div', { class: 'row' }, el('button', { type: 'submit', class: 'primary' }, 'Start'), el('button', { type: 'button', onclick: () => this.closeStart() }, 'Cancel')),
    );
    byId('review-start').addEventListener('submit', (event) => {
      event.preventDefault();
      this.start();
    });
    byId('review-dialog').addEventListener('cancel', () => this.page.focusMap());
    const button = ([key, verdict]) =>
      el('button', { type: 'button', class: `verdict ${verdict}`, 'data-verdict': verdict, 'aria-keyshortcuts': key, onclick: () => this.give(verdict) }, VERDICTS[verdict], ' ', el('kbd', {}, key));
    byId('review-bar').append(
      el('div', { class: 'row wide' }, el('strong', { id: 'review-who' }), el('span', { id: 'review-progress' })),
      el('p', { class: 'question', id: 'review-question' }),
      el('div', { class: 'verdicts', role: 'group', 'aria-label': 'Verdict' }, Object.entries(KEYS).map(button)),
      el('label', { for: 'note' }, 'Note ', el('kbd', {}, 'm')),
      el('textarea', { id: 'note', rows: 2, maxlength: LONGEST_NOTE, placeholder: 'Note (optional)', 'aria-label': 'Note' }),
      el(
        'div',
        { class: 'row wide' },
        el('button', { type: 'button', onclick: () => this.move(-1), 'aria-keyshortcuts': 'k' }, 'Back ', el('kbd', {}, 'k')),
        el('button', { type: 'button', onclick: () => this.move(1), 'aria-keyshortcuts': 'j' }, 'Next ', el('kbd', {}, 'j')),
        el('button', { type: 'button', id: 'export', onclick: () => this.save(), 'aria-keyshortcuts': 'e' }, 'Export ', el('kbd', {}, 'e')),
        el('button', { type: 'button', onclick: () => this.stop(), 'aria-keyshortcuts': 'Escape' }, 'End ', el('kbd', {}, 'Esc')),
      ),
      el('p', { class: 'quiet', id: 'review-status', role: 'status' }),
    );
    document.addEventListener('keydown', (event) => this.key(event));
  }

  open() {
    byId('review-error').textContent = '';
    byId('review-dialog').showModal();
    byId('reviewer').focus();
  }

  closeStart() {
    byId('review-dialog').close();
    this.page.focusMap();
  }

  async start() {
    const reviewer = byId('reviewer').value.trim().slice(0, LONGEST_NAME);
    if (!reviewer) {
      byId('review-error').textContent = 'Enter a name: verdicts of several reviewers are compared.';
      return;
    }
    try {
      const [own, ids] = await Promise.all([this.records.load(reviewer), this.map.ids()]);
      this.ids = ids;
      this.own = this.placed(own);
    } catch (error) {
      byId('review-error').textContent = error.message;
      return;
    }
    this.reviewer = reviewer;
    localStorage.setItem(NAME, reviewer);
    this.queue = this.sorted(byId('order').value, byId('only-view').checked, byId('only-new').checked);
    byId('review-dialog').close();
    if (!this.queue.length) {
      say('The map shows no slump to review');
      this.page.focusMap();
      return;
    }
    const open = this.queue.findIndex((row) => !this.verdictOf(row));
    this.index = open < 0 ? 0 : open;
    this.active = true;
    document.body.classList.add('reviewing');
    byId('review-bar').hidden = false;
    await this.show();
  }

  // Verdicts belong to places: a slump that has another id since is recognized by its outline.
  placed(own) {
    const { points } = this.map;
    const known = new Set(this.ids);
    const all = Array.from({ length: points.length }, (_, row) => row);
    for (const record of [...own.values()].filter((each) => !known.has(each.slump_id))) {
      const row = containing(record.outline, points, all);
      if (row >= 0 && !own.has(this.ids[points.slump[row]])) own.set(this.ids[points.slump[row]], record);
    }
    return own;
  }

  sorted(order, onlyView, onlyNew) {
    const { points } = this.map;
    const inView = Array.from(onlyView ? this.view.points.inside(this.view.extent(), 0).all : this.view.points.rows);
    const rows = onlyNew ? inView.filter((row) => points.verdict[row] === 0) : inView;
    const rank = {
      place: (row) => points.slump[row],
      uncertain: (row) => Math.abs(points.probability[row] - 50),
      random: (row) => shuffled(this.reviewer, points.slump[row]),
    }[order];
    return rows.sort((a, b) => rank(a) - rank(b) || points.slump[a] - points.slump[b]);
  }

  slumpId(row) {
    return this.ids[this.map.points.slump[row]];
  }

  verdictOf(row) {
    return this.own.get(this.slumpId(row));
  }

  async show() {
    const row = this.queue[this.index];
    const { points } = this.map;
    this.busy = true;
    this.feature = null;
    this.refresh();
    const features = await this.page.select(points.slump[row], { moves: false });
    if (this.queue[this.index] !== row) return;
    this.feature = features.find((feature) => feature.get('year') === points.year[row]) ?? features[features.length - 1] ?? null;
    if (this.feature) {
      const extents = features.map((feature) => feature.getGeometry().getExtent());
      const all = boundingExtent(extents.flatMap(([a, b, c, d]) => [[a, b], [c, d]]));
      const margin = Math.max(0.5 * (all[2] - all[0]), 0.5 * (all[3] - all[1]), 80);
      this.view.goTo([all[0] - margin, all[1] - margin, all[2] + margin, all[3] + margin], { still: true });
    }
    byId('note').value = this.verdictOf(row)?.note ?? '';
    this.busy = false;
    this.refresh();
    byId('review-bar').focus({ preventScroll: true });
    this.prefetch();
  }

  // Reads the next slump while this one is looked at.
  prefetch() {
    const next = this.queue[this.index + 1];
    if (next !== undefined) sitesOf(this.map, this.map.points.slump[next]).then(preload, () => {});
  }

  refresh() {
    if (!this.active) return;
    const done = this.queue.reduce((count, row) => count + (this.verdictOf(row) ? 1 : 0), 0);
    byId('review-who').textContent = this.reviewer;
    byId('review-progress').textContent = `${number(done)} of ${number(this.queue.length)} reviewed`;
    byId('review-question').textContent = `Slump ${number(this.index + 1)}: is it a thaw slump?`;
    byId('review-status').textContent = this.records.status && `Verdicts: ${this.records.status}`;
    const given = this.verdictOf(this.queue[this.index])?.verdict;
    for (const button of document.querySelectorAll('[data-verdict]')) {
      button.setAttribute('aria-pressed', String(button.dataset.verdict === given));
    }
    byId('review-bar').dataset.slump = this.busy ? '' : this.slumpId(this.queue[this.index]);
  }

  async give(verdict) {
    if (this.busy || !this.feature) return;
    const one = record(this.reviewer, verdict, byId('note').value.trim().slice(0, LONGEST_NOTE), this.feature, this.map);
    try {
      await this.records.add(one);
    } catch (error) {
      byId('review-status').textContent = `This verdict could not be kept: ${error.message}`;
      return;
    }
    this.own.set(one.slump_id, one);
    say(`${VERDICTS[verdict]}, ${this.index + 1} of ${this.queue.length}`);
    await this.move(1);
  }

  async move(step) {
    const next = this.index + step;
    if (next < 0) return;
    if (next >= this.queue.length) {
      this.refresh();
      byId('review-question').textContent = 'This was the last one. Thank you!';
      say('This was the last one');
      return;
    }
    this.index = next;
    await this.show();
  }

  async save() {
    const url = URL.createObjectURL(exported(await this.records.all()));
    const name = `verdicts-${this.reviewer.replace(/[^\p{L}\p{N}]+/gu, '-')}-${new Date().toISOString().slice(0, 10)}.json`;
    el('a', { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  stop() {
    this.active = false;
    document.body.classList.remove('reviewing');
    byId('review-bar').hidden = true;
    delete byId('review-bar').dataset.slump;
    this.page.focusMap();
  }

  key(event) {
    if (!this.active || event.ctrlKey || event.metaKey || event.altKey || byId('review-dialog').open) return;
    if (event.target === byId('note')) {
      if (event.key === 'Escape') {
        byId('review-bar').focus();
        event.preventDefault();
        event.stopPropagation();
      }
      return;
    }
    if (event.target.matches('input, select, textarea')) return;
    const key = event.key.toLowerCase();
    const actions = {
      j: () => this.move(1),
      k: () => this.move(-1),
      e: () => this.save(),
      m: () => byId('note').focus(),
      escape: () => this.stop(),
    };
    const action = KEYS[key] ? () => this.give(KEYS[key]) : actions[key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}
