// Uses the map in headless Chromium as people do, and prints what it shows as JSON; test_page.py asserts.
//   node browse.mjs NODE_MODULES CHROMIUM ADDRESS_OF_THE_PAGE FOLDER_FOR_SCREENSHOTS SLUMP ADDRESS_OF_A_REVIEW
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [, , modules, chromium, address, folder, slump, reviewAddress] = process.argv;
const require = createRequire(`${modules}/`);
const { chromium: browserType } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core'), 'utf8');

const browser = await browserType.launch({ executablePath: chromium, args: ['--no-sandbox', '--force-color-profile=srgb'] });
const seen = { hosts: new Set(), problems: [], axe: {}, ranges: [] };
const MODES = { desktop: { viewport: { width: 1280, height: 820 } }, phone: { viewport: { width: 375, height: 720 }, deviceScaleFactor: 2, hasTouch: true } };
const REVIEWER = 'Ada <img src=x onerror=alert(1)>';

async function context(mode) {
  const made = await browser.newContext({ ...MODES[mode], acceptDownloads: true });
  made.on('page', (page) => {
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.protocol.startsWith('http')) seen.hosts.add(url.host);
    });
    page.on('response', (response) => {
      if (response.url().endsWith('.fgb')) seen.ranges.push([response.status(), Number(response.headers()['content-length']), response.request().headers().range ?? '']);
    });
    page.on('pageerror', (error) => seen.problems.push(`error: ${error.message}`));
    page.on('console', (message) => message.type() === 'error' && seen.problems.push(`console: ${message.text()}`));
    page.on('dialog', (dialog) => { seen.problems.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  });
  return made;
}

async function open(made, url = address) {
  const page = await made.newPage();
  await page.goto(url);
  await painted(page);
  return page;
}

const painted = (page) => page.waitForFunction(() => performance.getEntriesByName('painted').length > 0);
const still = async (page) => {
  await page.waitForFunction(() => !window.page.view.view.getAnimating());
  await page.evaluate(() => new Promise((done) => { window.page.view.ol.once('rendercomplete', done); window.page.view.ol.render(); }));
};
// The page applies its controls in the next frame.
const text = async (page, selector) => {
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  return page.locator(selector).innerText();
};
const view = (page) => page.evaluate(() => window.page.view.position());
const inked = (page) => page.evaluate(() => {
  const canvas = document.querySelector('canvas.points');
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const colours = new Set();
  for (let i = 0; i < data.length; i += 4) if (data[i + 3]) colours.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
  return colours.size;
});

async function accessible(page, name) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  seen.axe[name] = violations
    .filter(({ id, impact }) => ['serious', 'critical'].includes(impact) || id === 'color-contrast')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ').slice(0, 300)}`);
}

const shot = (page, name) => page.screenshot({ path: `${folder}/${name}.png` });
const cardIsRead = (page) => page.waitForFunction(() => document.querySelector('#card').dataset.slump);

async function explore() {
  const made = await context('desktop');
  const page = await open(made);
  const found = { summary: await text(page, '#summary'), legend: await text(page, '#legend'), listed: await page.locator('#list button').count(), colours: await inked(page) };
  await accessible(page, 'home');
  await shot(page, 'home');

  // The keyboard alone: to the map by Tab, move, zoom.
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  found.focusAfterSkip = await page.evaluate(() => document.activeElement.id);
  const start = await view(page);
  await page.keyboard.press('ArrowRight');
  await still(page);
  const moved = await view(page);
  await page.keyboard.press('+');
  await still(page);
  const zoomed = await view(page);
  found.moved = moved.x - start.x;
  found.zoomed = zoomed.r / moved.r;
  await page.keyboard.press('Home');
  await still(page);

  // Dragging moves too.
  const box = await page.locator('#map').boundingBox();
  await page.mouse.move(box.x + 300, box.y + 300);
  await page.mouse.down();
  await page.mouse.move(box.x + 400, box.y + 300, { steps: 4 });
  await page.mouse.up();
  await still(page);
  found.dragged = (await view(page)).x - start.x;
  await page.locator('#map').press('Home');
  await still(page);

  // Slider, modes, filters and the two colourings.
  await page.locator('#year').press('ArrowLeft');
  found.onlyYear = [await text(page, '#summary'), await text(page, '#year-value')];
  await page.locator('input[value="upto"]').check();
  found.upTo = await text(page, '#summary');
  await page.locator('input[value="all"]').check();
  await page.locator('#probability').fill('80');
  found.probable = await text(page, '#summary');
  await page.locator('#probability').fill('0');
  await page.locator('#seen').fill('5');
  found.seen = await text(page, '#summary');
  await page.locator('#seen').fill('1');
  await page.locator('#share').fill('60');
  found.share = await text(page, '#summary');
  await page.locator('#share').fill('0');
  await page.locator('#rejected').check();
  found.rejected = [await text(page, '#summary'), await text(page, '#legend')];
  await page.locator('#reviewed').check();
  found.reviewed = await text(page, '#summary');
  await page.locator('#reviewed').uncheck();
  await page.locator('#rejected').uncheck();
  await page.locator('input[value="support"]').check();
  found.support = await text(page, '#legend');
  await page.waitForFunction(() => location.hash.includes('colour=support'));
  found.hash = await page.evaluate(() => location.hash);
  await page.locator('input[value="probability"]').check();
  for (const name of ['footprints', 'coverage']) {
    await page.locator(`#${name}`).check();
    await still(page);
    await page.waitForFunction(() => window.page.view.scenes.getSource().getFeatures().length);
    found[name] = await page.evaluate(() => window.page.view.scenes.getSource().getFeatures().length);
    await shot(page, name);
    await page.locator(`#${name}`).uncheck();
  }

  // The card, by a click on a point and by the keyboard.
  const [x, y, clicked] = await page.evaluate(() => {
    const { view: { ol, points }, map } = window.page;
    const rows = Array.from(points.rows);
    const alone = rows.find((row) => rows.every((other) => other === row || Math.hypot(map.points.x[row] - map.points.x[other], map.points.y[row] - map.points.y[other]) > 1e5));
    return [...ol.getPixelFromCoordinate([map.points.x[alone], map.points.y[alone]]), map.points.slump[alone]];
  });
  await page.mouse.click(box.x + x, box.y + y);
  await cardIsRead(page);
  found.clicked = [clicked, await page.evaluate(() => window.page.slump)];
  await page.keyboard.press('Escape');
  found.closed = await page.locator('#side').isHidden();
  await page.evaluate(() => { delete document.querySelector('#card').dataset.slump; });
  await page.locator('#map').press('Enter');
  await cardIsRead(page);
  await still(page);
  await page.waitForFunction(() => window.page.view.outlines.getSource().getFeatures().length);
  found.entered = await page.evaluate(() => [document.activeElement.id, window.page.view.outlines.getSource().getFeatures().length]);
  found.view = await page.evaluate(() => location.hash);

  // An address of a slump, with a token, which stays where it is and goes nowhere else.
  const linked = await open(made, `${address}#token=secret&slump=${encodeURIComponent(slump)}`);
  await cardIsRead(linked);
  await still(linked);
  found.linked = {
    slump: await linked.evaluate(() => document.querySelector('#card').dataset.slump),
    hash: await linked.evaluate(() => location.hash),
    link: await linked.locator('.links a').getAttribute('href'),
  };
  found.card = {
    facts: await text(linked, '#card dl'),
    pictures: await linked.evaluate(() => Promise.all([...document.querySelectorAll('.chips figure')].map(async (figure) => {
      for (let i = 0; i < 100 && !figure.querySelector('img'); i++) await new Promise((done) => setTimeout(done, 20));
      const image = figure.querySelector('img');
      await image?.decode();
      return [figure.innerText.replace(/\s+/g, ' ').trim(), image?.naturalWidth ?? 0];
    }))),
    curve: await linked.locator('.curve').getAttribute('aria-label'),
    dots: await linked.locator('.curve circle').count(),
    years: await linked.locator('#card tbody a').evaluateAll((links) => links.map((each) => each.href)),
  };
  await linked.locator('#card summary').click();
  await linked.locator('.scenes li').first().waitFor();
  await linked.locator('.scenes button').first().click();
  await linked.locator('.scenes li li').first().waitFor();
  found.scene = {
    text: (await linked.locator('.scenes li').first().innerText()).replace(/\s+/g, ' '),
    links: await linked.locator('.scenes li').first().locator('a').evaluateAll((links) => links.map((each) => each.href)),
  };
  await accessible(linked, 'card');
  await shot(linked, 'card');

  // The address of a view.
  const same = await open(made, `${address}#x=-2000000&y=100000&r=500&mode=only&year=2021&seen=3`);
  found.restored = [await view(same), await text(same, '#year-value'), await same.locator('#seen').inputValue()];
  const missing = await open(made, `${address}#slump=rts-none`);
  await missing.waitForFunction(() => document.querySelector('#summary').textContent.includes('rts-none'));
  found.missing = await text(missing, '#summary');
  await made.close();
  return found;
}

const queued = (page) => page.waitForFunction(() => document.querySelector('#review-bar').dataset.slump);

async function begin(page, name) {
  if (!(await page.locator('#review-dialog').evaluate((dialog) => dialog.open))) await page.locator('#start-review').press('Enter');
  if (name !== null) await page.locator('#reviewer').fill(name);
  const filled = await page.locator('#reviewer').inputValue();
  await page.keyboard.press('Enter');
  await queued(page);
  return filled;
}

// One verdict; resolves when the next slump is shown.
async function judge(page, key) {
  const before = await page.locator('#review-bar').getAttribute('data-slump');
  await page.keyboard.press(key);
  await page.waitForFunction((slump) => ![slump, ''].includes(document.querySelector('#review-bar').dataset.slump), before);
  return before;
}

async function review(url, prefix) {
  const made = await context('desktop');
  const page = await open(made, url);
  const found = {};
  if (prefix === 'static') {
    await page.locator('#start-review').click();
    await page.locator('#reviewer').fill('  ');
    await page.keyboard.press('Enter');
    found.nameless = await text(page, '#review-error');
    await accessible(page, 'dialog');
    await shot(page, 'dialog');
  }
  await begin(page, REVIEWER);
  await page.keyboard.press('m');
  await page.keyboard.type('a note <script>alert(2)</script> y n');
  await page.keyboard.press('Escape');
  found.keys = [];
  found.slumps = [];
  for (let i = 0; i < 20; i++) {
    const key = 'ynur'[i % 4];
    found.slumps.push(await judge(page, key));
    found.keys.push(key);
  }
  found.progress = await text(page, '#review-progress');
  found.who = await text(page, '#review-who');
  await page.keyboard.press('k');
  await page.waitForFunction((slump) => document.querySelector('#review-bar').dataset.slump === slump, found.slumps[19]);
  found.back = await page.locator('[data-verdict][aria-pressed="true"]').getAttribute('data-verdict');
  await page.keyboard.press('j');
  if (prefix === 'static') {
    await queued(page);
    await accessible(page, 'review');
  }
  await shot(page, `${prefix}-review`);
  if (prefix === 'endpoint') await page.waitForFunction(() => document.querySelector('#review-status').textContent.includes('all stored'));

  await page.reload();
  await painted(page);
  found.remembered = await begin(page, null);
  found.resumed = [await text(page, '#review-progress'), await page.locator('#review-bar').getAttribute('data-slump')];
  found.hashAfterReload = await page.evaluate(() => location.hash);
  await page.keyboard.press('Escape');

  await begin(page, 'Grace');
  found.second = [await text(page, '#review-progress'), await page.locator('#review-bar').getAttribute('data-slump')];
  await judge(page, 'n');
  if (prefix === 'endpoint') await page.waitForFunction(() => document.querySelector('#review-status').textContent.includes('all stored'));
  const [download] = await Promise.all([page.waitForEvent('download'), page.keyboard.press('e')]);
  found.exported = JSON.parse(readFileSync(await download.path(), 'utf8'));
  found.file = download.suggestedFilename();
  await page.keyboard.press('Escape');
  if (prefix === 'endpoint') {
    await begin(page, 'Former');
    found.former = await text(page, '#review-progress');
    await page.keyboard.press('Escape');
  }
  await page.locator('#start-review').press('Enter');
  await page.locator('#only-new').check();
  await begin(page, 'Somebody');
  found.unreviewed = await text(page, '#review-progress');
  found.injected = await page.locator('img[src="x"], #review-bar img, #review-bar script').count();
  await made.close();
  return found;
}

async function phone() {
  const made = await context('phone');
  const page = await open(made);
  const fits = () => page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  const found = { home: await fits() };
  await shot(page, 'phone');
  await page.locator('#toggle-panel').tap();
  found.panel = [await page.locator('#panel').isVisible(), ...(await fits())];
  await shot(page, 'phone-panel');
  await accessible(page, 'phone panel');
  await page.locator('#list button').first().tap();
  await cardIsRead(page);
  await still(page);
  const map = await page.locator('#map').boundingBox();
  const side = await page.locator('#side').boundingBox();
  found.card = [...(await fits()), Math.round(map.height), Math.round(side.height), await page.locator('#panel').isVisible()];
  await accessible(page, 'phone card');
  await shot(page, 'phone-card');
  await page.locator('#start-review').tap();
  await page.locator('#reviewer').fill('Ada');
  await page.locator('#review-dialog button[type="submit"]').tap();
  await queued(page);
  found.review = await fits();
  found.first = await page.locator('#review-bar').getAttribute('data-slump');
  await page.locator('[data-verdict="yes"]').tap();
  await page.waitForFunction((slump) => ![slump, ''].includes(document.querySelector('#review-bar').dataset.slump), found.first);
  found.progress = await text(page, '#review-progress');
  await shot(page, 'phone-review');
  await made.close();
  return found;
}

const result = {
  explore: await explore(),
  review: await review(address, 'static'),
  phone: await phone(),
  endpoint: await review(reviewAddress, 'endpoint'),
};
await browser.close();
console.log(JSON.stringify({ ...result, ...seen, hosts: [...seen.hosts] }));
