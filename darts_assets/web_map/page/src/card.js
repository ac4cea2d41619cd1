// The card of a slump: facts, pictures of each year, area over the years, scenes and their files.
import { getCenter } from 'ol/extent.js';
import { linkTo } from './address.js';
import { json, range, ROOT, scenesAt } from './data.js';
import { degrees, el, link, number, say, svg } from './dom.js';
import { yearColour } from './mapview.js';

const VERDICT = { yes: 'a thaw slump', no: 'not a thaw slump', unsure: 'unsure', redraw: 'a thaw slump, to be redrawn' };
const many = (count, noun) => `${number(count)} ${noun}${count === 1 ? '' : 's'}`;
const list = (text) => (text ? text.split(',').map((each) => each.trim()).filter(Boolean) : []);

function chipsOf(features) {
  for (const feature of features) {
    try {
      const chips = JSON.parse(feature.get('chips') ?? '[]');
      if (Array.isArray(chips) && chips.length) return chips;
    } catch {
      // no pictures
    }
  }
  return [];
}

// Fills an element with the card of a slump.
export function showCard(target, map, features) {
  const last = features[features.length - 1].getProperties();
  const sites = features.map((feature) => feature.getProperties());
  const place = [last.lon, last.lat];
  const seen = sites.reduce((sum, site) => sum + site.seen, 0);
  const observable = sites.reduce((sum, site) => sum + site.observable, 0);
  const facts = [
    ['Detected', sites.length > 1 ? `in ${many(sites.length, 'year')}, ${sites[0].year}–${last.year}` : `in ${last.year}`],
    ['First and last date', `${sites[0].first_date} – ${last.last_date}`],
    ['Area', `${number(last.area_ha, 2)} ha in ${last.year}${change(sites)}`],
    ['k of n', `${number(seen)} of ${number(observable)} observing scenes detect it`],
    ['Mean probability', Number.isFinite(last.mean_probability) ? `${last.mean_probability.toFixed(2)} in ${last.year}` : 'unknown'],
    ['Review', review(last)],
  ];
  target.replaceChildren(
    el('p', { class: 'id' }, last.slump_id),
    el('h2', { id: 'card-title', tabindex: '-1' }, degrees(place)),
    pictures(chipsOf(features)),
    el('dl', {}, facts.map(([term, value]) => el('div', {}, el('dt', {}, term), el('dd', {}, value)))),
    el('h3', {}, 'Area over the years'),
    areaCurve(sites),
    yearTable(sites, map),
    scenesPart(map, features, sites),
    el('p', { class: 'links' }, link('Link to this slump', linkTo(last.slump_id)), ' ', copyButton(last.slump_id)),
  );
}

// Fills an element with what is known about a point of a sample, without what the inventory contains there.
export function showPointCard(target, map, point, sample) {
  const scenes = el('ul', {}, el('li', { class: 'quiet' }, 'Reading …'));
  target.replaceChildren(
    el('p', { class: 'id' }, point.sample_id),
    el('h2', { id: 'card-title', tabindex: '-1' }, degrees([point.lon, point.lat], 5)),
    pointPicture(point),
    el('p', {}, `Year: ${sample.year}. For other images: `, el('code', { id: 'point-place' }, `${point.lat.toFixed(6)}, ${point.lon.toFixed(6)}`)),
    el('h3', {}, `Scenes of ${sample.year}`),
    el('div', { class: 'scenes' }, scenes),
  );
  scenesAt(map, [point.x, point.y]).then(
    (found) => {
      const contains = ({ geometry, year }) => year === sample.year && geometry.intersectsCoordinate([point.x, point.y]);
      const known = [...found].filter(([, scene]) => contains(scene));
      known.sort(([, a], [, b]) => a.datetime.localeCompare(b.datetime));
      scenes.replaceChildren(...known.map(([id, scene]) => sceneRow(map, id, scene, true)));
    },
    () => scenes.replaceChildren(el('li', { class: 'quiet' }, 'cannot be read')),
  );
}

function pointPicture(point) {
  if (!point.scene) return el('p', { class: 'quiet', id: 'no-picture' }, 'There is no picture of this point.');
  if (!point.length) {
    return el('p', { class: 'quiet', id: 'no-picture' }, `There is no picture: no tile of the scenes that observe the point is stored. The clearest scene is of ${point.datetime}.`);
  }
  const frame = el('div', { class: 'frame' });
  const cross = [[50, 30, 50, 45], [50, 55, 50, 70], [30, 50, 45, 50], [55, 50, 70, 50]];
  const lines = (name) => cross.map(([x1, y1, x2, y2]) => svg('line', { class: name, x1, y1, x2, y2 }));
  load(point).then(
    (url) =>
      frame.replaceChildren(
        el('img', { src: url, alt: `Satellite picture of ${point.datetime}, ${number(point.width_m)} m wide; the point is in its centre`, title: point.scene }),
        svg('svg', { viewBox: '0 0 100 100', 'aria-hidden': 'true' }, lines('under'), lines('over')),
      ),
    () => frame.replaceChildren(el('span', {}, 'no picture')),
  );
  return el('figure', { class: 'point-picture' }, frame, el('figcaption', {}, `${point.datetime}, ${number(point.width_m)} m wide`));
}

export function preloadPoint(point) {
  if (point.length) load(point).catch(() => {});
}

function change(sites) {
  if (sites.length < 2 || !sites[0].area_ha) return '';
  const percent = (100 * (sites[sites.length - 1].area_ha - sites[0].area_ha)) / sites[0].area_ha;
  return ` (${percent < 0 ? '−' : '+'}${number(Math.abs(percent))} % since ${sites[0].year})`;
}

function review(site) {
  if (!site.verdict) return 'not reviewed';
  const agreement = Number.isFinite(site.agreement) ? `, agreement ${Math.round(100 * site.agreement)} %` : '';
  return `${VERDICT[site.verdict] ?? site.verdict} (${many(site.reviewers ?? 0, 'reviewer')}${agreement})`;
}

function copyButton(slump) {
  if (!navigator.clipboard) return null;
  return el('button', { type: 'button', class: 'plain', onclick: () => navigator.clipboard.writeText(linkTo(slump)).then(() => say('Link copied')) }, 'Copy');
}

export function preload(features) {
  for (const each of chipsOf(features)) load(each).catch(() => {});
}

function pictures(chips) {
  if (!chips.length) return el('p', { class: 'quiet' }, 'The store has no pictures of this slump.');
  return el('div', { class: 'chips', role: 'group', 'aria-label': 'Pictures of each year' }, chips.map(chip));
}

function chip(each) {
  const width = Number.isFinite(each.width_m) ? `, ${number(each.width_m)} m wide` : '';
  const text = `${each.datetime ?? each.year}: ${each.detected ? 'detected' : 'not detected'}${width}`;
  const frame = el('div', { class: 'frame' });
  load(each).then(
    (url) => frame.replaceChildren(el('img', { src: url, alt: `Satellite picture, ${text}`, title: each.scene })),
    () => frame.replaceChildren(el('span', {}, 'no picture')),
  );
  return el(
    'figure',
    { class: each.detected ? 'detected' : 'missed' },
    frame,
    el('figcaption', {}, el('b', {}, String(each.year)), ` ${(each.datetime ?? '').slice(5)}`, el('br'), each.detected ? 'detected' : 'not detected'),
  );
}

const loaded = new Map();

function load({ key, offset, length }) {
  const name = `${key}@${offset}`;
  if (!loaded.has(name)) {
    if (loaded.size > 400) {
      loaded.values().next().value.then(URL.revokeObjectURL, () => {});
      loaded.delete(loaded.keys().next().value);
    }
    loaded.set(name, range(ROOT + key, offset, length).then((bytes) => URL.createObjectURL(new Blob([bytes], { type: 'image/webp' }))));
  }
  return loaded.get(name);
}

// Area over the years as a curve, with a point per year.
function areaCurve(sites) {
  const [width, height, left, right, top, bottom] = [340, 134, 40, 14, 18, 24];
  const years = sites.map((site) => site.year);
  const areas = sites.map((site) => site.area_ha);
  const [first, last] = [years[0], years[years.length - 1]];
  const most = nice(Math.max(...areas));
  const x = (year) => (first === last ? (left + width - right) / 2 : left + ((year - first) / (last - first)) * (width - left - right));
  const y = (area) => height - bottom - (area / most) * (height - top - bottom);
  const text = (at, up, value, anchor) => svg('text', { x: at, y: up, 'text-anchor': anchor }, value);
  const ticks = [0, most / 2, most];
  const shownYears = years.filter((year, index) => years.length <= 7 || index % Math.ceil(years.length / 7) === 0);
  return svg(
    'svg',
    { class: 'curve', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `Area: ${sites.map((site) => `${site.year} ${number(site.area_ha, 2)} ha`).join(', ')}` },
    ticks.map((tick) => svg('line', { class: 'grid', x1: left, x2: width - right, y1: y(tick), y2: y(tick) })),
    ticks.map((tick) => text(left - 6, y(tick) + 4, String(Number(tick.toPrecision(3))), 'end')),
    shownYears.map((year) => text(x(year), height - 7, String(year), 'middle')),
    text(2, 9, 'ha', 'start'),
    svg('polyline', { class: 'line', points: sites.map((site) => `${x(site.year)},${y(site.area_ha)}`).join(' ') }),
    sites.map((site) => svg('circle', { cx: x(site.year), cy: y(site.area_ha), r: 4, fill: yearColour(years, site.year) }, svg('title', {}, `${site.year}: ${number(site.area_ha, 2)} ha`))),
  );
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return ([1, 2, 4, 5, 10].find((factor) => factor * power >= value) ?? 10) * power;
}

function yearTable(sites, map) {
  const years = sites.map((site) => site.year);
  const rows = [...sites].reverse().map((site) =>
    el(
      'tr',
      {},
      el('th', { scope: 'row' }, mark(yearColour(years, site.year)), partition(map, 'inventory/rts', String(site.year), String(site.year))),
      el('td', {}, number(site.area_ha, 2)),
      el('td', {}, `${site.seen} of ${site.observable}`),
      el('td', {}, Number.isFinite(site.mean_probability) ? site.mean_probability.toFixed(2) : '–'),
      el('td', {}, site.event ?? ''),
    ),
  );
  const heads = ['Year', 'Area, ha', 'Scenes', 'Probability', 'Change'];
  return el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, el('tr', {}, heads.map((head) => el('th', { scope: 'col' }, head)))), el('tbody', {}, rows)));
}

function mark(colour) {
  return svg('svg', { class: 'mark', viewBox: '0 0 10 10', 'aria-hidden': 'true' }, svg('rect', { x: 0, y: 3.5, width: 10, height: 3, fill: colour }));
}

// A link to a partition in Dagster's UI, if the map has its address.
function partition(map, asset, key, text) {
  if (!map.ui_url) return text;
  return link(text, `${map.ui_url}/assets/${asset}?view=partitions&partition=${encodeURIComponent(key)}`, { target: '_blank', rel: 'noopener', title: `${asset} in Dagster` });
}

function scenesPart(map, features, sites) {
  const body = el('div', { class: 'scenes' });
  const count = sites.reduce((sum, site) => sum + list(site.scenes).length, 0);
  const details = el('details', {}, el('summary', {}, `${many(count, 'scene')} with a detection, and their files`), body);
  details.addEventListener('toggle', async () => {
    if (!details.open || body.childElementCount) return;
    body.replaceChildren(el('p', { class: 'quiet' }, 'Reading …'));
    const known = new Map();
    try {
      for (const feature of features) {
        for (const [id, scene] of await scenesAt(map, getCenter(feature.getGeometry().getExtent()))) known.set(id, scene);
      }
    } catch {
      // the ids are shown without links
    }
    body.replaceChildren(
      ...[...sites].reverse().flatMap((site) => [
        el('h4', {}, String(site.year)),
        el('ul', {}, list(site.scenes).map((id) => sceneRow(map, id, known.get(id), true)), list(site.scenes_without).map((id) => sceneRow(map, id, known.get(id), false))),
      ]),
    );
  });
  return details;
}

// Date, tile and satellite of a Sentinel-2 id; otherwise the id itself.
function sceneName(id, time) {
  const parts = /^(S2[A-D])_MSIL\w+_(\d{4})(\d\d)(\d\d)T\d+_N\d+_R(\d{3})_(T\w{5})_/.exec(id);
  if (parts) return `${parts[2]}-${parts[3]}-${parts[4]} ${parts[6]} ${parts[1]} R${parts[5]}`;
  return time ? `${time.slice(0, 10)} ${id}` : id;
}

function sceneRow(map, id, scene, isDetected) {
  const row = el('li', { title: id }, sceneName(id, scene?.datetime), isDetected ? null : el('span', { class: 'quiet' }, ' (not detected)'));
  if (!scene) return row;
  if (scene.item) {
    const files = el('span', {});
    const button = el('button', { type: 'button', class: 'plain', 'aria-expanded': 'false' }, 'files');
    button.addEventListener('click', () => showFiles(button, files, scene.item));
    row.append(' · ', link('item', scene.item, { target: '_blank' }), ' · ', button, files);
  }
  if (map.ui_url) row.append(' · ', partition(map, `${scene.family}/products`, id, 'Dagster'));
  return row;
}

async function showFiles(button, target, item) {
  if (target.childElementCount) {
    target.replaceChildren();
    button.setAttribute('aria-expanded', 'false');
    return;
  }
  button.setAttribute('aria-expanded', 'true');
  try {
    const { assets } = await json(item);
    const base = new URL(item, document.baseURI);
    target.replaceChildren(
      el('ul', {}, Object.entries(assets).filter(isFile).map(([name, asset]) => el('li', {}, href(name, asset, base), asset.title ? ` – ${asset.title}` : ''))),
    );
  } catch (error) {
    target.replaceChildren(el('span', { class: 'quiet' }, ` cannot be read (${error.message})`));
  }
}

// Zarr stores are folders, and not among what is served.
const isFile = ([, asset]) => !asset.type?.includes('zarr');

const href = (name, asset, base) => link(name, new URL(asset.href, base).href, { target: '_blank' });
