// Review by keyboard: one slump after the other, or one point of a sample after the other.
import { hasEndpoint, token } from './address.js';
import { byId, el, number, say } from './dom.js';
import { PointTask, SlumpTask } from './reviewtasks.js';
import { exported, LocalVerdicts, ServerVerdicts, subjectOf, VERDICTS } from './verdicts.js';

const KEYS = { y: 'yes', n: 'no', u: 'unsure', r: 'redraw' };
const NAME = 'darts-reviewer';
const ORDERS = { place: 'by place', uncertain: 'the least certain first', random: 'at random' };
const LONGEST_NAME = 80;
const LONGEST_NOTE = 1000;

export class Review {
  constructor(map, view, page) {
    this.map = map;
    this.view = view;
    this.page = page;
    this.records = hasEndpoint ? new ServerVerdicts(token, () => this.refresh()) : new LocalVerdicts();
    this.own = new Map();
    this.task = null;
    this.queue = [];
    this.index = 0;
    this.active = false;
    this.busy = false;
    this.reviewer = '';
    this.tasks = [
      ...(map.points.length ? [['Slumps of the map', () => new SlumpTask(map, view, page)]] : []),
      ...map.samples.map((sample) => [
        `Area sample ${sample.sample} of ${sample.year}: ${number(sample.points)} points`,
        () => new PointTask(map, view, page, sample),
      ]),
    ];
    this.build();
  }

  get hasTasks() {
    return this.tasks.length > 0;
  }

  build() {
    const known = localStorage.getItem(NAME) ?? '';
    const order = Object.entries(ORDERS).map(([value, text]) => el('option', { value }, text));
    byId('review-start').append(
      el('h2', { id: 'review-heading' }, 'Review'),
      el('p', { id: 'review-task-text' }),
      el('label', { for: 'reviewer' }, 'Your name'),
      el('input', { id: 'reviewer', maxlength: LONGEST_NAME, autocomplete: 'name', required: true, value: known }),
      el(
        'div',
        { hidden: this.tasks.length < 2 },
        el('label', { for: 'task' }, 'What'),
        el('select', { id: 'task', onchange: () => this.describe() }, this.tasks.map(([name], index) => el('option', { value: index }, name))),
      ),
      el(
        'div',
        { id: 'slump-options' },
        el('label', { for: 'order' }, 'Order'),
        el('select', { id: 'order' }, order),
        el('label', { class: 'check' }, el('input', { type: 'checkbox', id: 'only-view' }), ' only those in view'),
        el('label', { class: 'check' }, el('input', { type: 'checkbox', id: 'only-new' }), ' only those that nobody has reviewed'),
      ),
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
        el('button', { type: 'button', id: 'outlines', hidden: true, onclick: () => this.toggleOutlines(), 'aria-keyshortcuts': 'o' }, 'Outlines ', el('kbd', {}, 'o')),
        el('button', { type: 'button', id: 'export', onclick: () => this.save(), 'aria-keyshortcuts': 'e' }, 'Export ', el('kbd', {}, 'e')),
        el('button', { type: 'button', onclick: () => this.stop(), 'aria-keyshortcuts': 'Escape' }, 'End ', el('kbd', {}, 'Esc')),
      ),
      el('p', { class: 'quiet', id: 'review-status', role: 'status' }),
    );
    document.addEventListener('keydown', (event) => this.key(event));
  }

  // The task that is chosen in the dialog.
  chosen() {
    return this.tasks[Number(byId('task').value) || 0][1]();
  }

  describe() {
    const { text, hasOptions } = this.chosen();
    byId('review-task-text').textContent = text;
    byId('slump-options').hidden = !hasOptions;
  }

  open() {
    byId('review-error').textContent = '';
    this.describe();
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
    const task = this.chosen();
    try {
      const [own] = await Promise.all([this.records.load(reviewer), task.open()]);
      this.own = task.placed(own);
    } catch (error) {
      byId('review-error').textContent = error.message;
      return;
    }
    if (this.active) this.stop();
    this.task = task;
    this.reviewer = reviewer;
    localStorage.setItem(NAME, reviewer);
    this.queue = task.queue(reviewer, byId('order').value, byId('only-view').checked, byId('only-new').checked);
    byId('review-dialog').close();
    if (!this.queue.length) {
      say('There is nothing to review');
      this.page.focusMap();
      return;
    }
    const open = this.queue.findIndex((item) => !this.verdictOf(item));
    this.index = open < 0 ? 0 : open;
    this.active = true;
    document.body.classList.add('reviewing');
    document.body.classList.toggle('reviewing-points', !task.hasOptions);
    for (const button of document.querySelectorAll('[data-verdict]')) button.hidden = !task.verdicts.includes(button.dataset.verdict);
    byId('outlines').hidden = task.hasOptions;
    task.begin();
    byId('review-bar').hidden = false;
    await this.show();
  }

  verdictOf(item) {
    return this.own.get(this.task.id(item));
  }

  async show() {
    const item = this.queue[this.index];
    this.busy = true;
    this.isShown = false;
    this.refresh();
    const isShown = await this.task.show(item);
    if (this.queue[this.index] !== item || !this.active) return;
    this.isShown = isShown;
    byId('note').value = this.verdictOf(item)?.note ?? '';
    this.busy = false;
    this.refresh();
    byId('review-bar').focus({ preventScroll: true });
    const next = this.queue[this.index + 1];
    if (next !== undefined) this.task.prefetch(next); // while this one is looked at
  }

  // Of a point, only after its verdict.
  toggleOutlines() {
    if (this.task.hasOptions) return;
    if (this.verdictOf(this.queue[this.index])) this.task.toggleOutlines();
    else say('Outlines can be shown after the verdict');
    this.refresh();
  }

  refresh() {
    if (!this.active) return;
    const done = this.queue.reduce((count, item) => count + (this.verdictOf(item) ? 1 : 0), 0);
    byId('review-who').textContent = this.reviewer;
    byId('review-progress').textContent = `${number(done)} of ${number(this.queue.length)} reviewed`;
    byId('review-question').textContent = this.task.question(this.index + 1);
    byId('review-status').textContent = this.records.status && `Verdicts: ${this.records.status}`;
    const given = this.verdictOf(this.queue[this.index])?.verdict;
    for (const button of document.querySelectorAll('[data-verdict]')) {
      button.setAttribute('aria-pressed', String(button.dataset.verdict === given));
    }
    byId('outlines').disabled = !given;
    byId('outlines').setAttribute('aria-pressed', String(this.task.showsOutlines));
    byId('review-bar').dataset[this.task.kind] = this.busy ? '' : this.task.id(this.queue[this.index]);
  }

  async give(verdict) {
    if (this.busy || !this.isShown || !this.task.verdicts.includes(verdict)) return;
    const one = this.task.record(this.reviewer, verdict, byId('note').value.trim().slice(0, LONGEST_NOTE));
    try {
      await this.records.add(one);
    } catch (error) {
      byId('review-status').textContent = `This verdict could not be kept: ${error.message}`;
      return;
    }
    this.own.set(subjectOf(one), one);
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
    document.body.classList.remove('reviewing', 'reviewing-points');
    byId('review-bar').hidden = true;
    delete byId('review-bar').dataset[this.task.kind];
    this.task.end();
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
      o: () => this.toggleOutlines(),
      escape: () => this.stop(),
    };
    const action = KEYS[key] ? () => this.give(KEYS[key]) : actions[key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}
