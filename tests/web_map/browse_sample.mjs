// Reviews the points of a sample in headless Chromium, and prints what the page shows as JSON; test_page.py asserts.
//   node browse_sample.mjs NODE_MODULES CHROMIUM ADDRESS_OF_THE_PAGE FOLDER_FOR_SCREENSHOTS ADDRESS_OF_A_REVIEW
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [, , modules, chromium, address, folder, reviewAddress] = process.argv;
const require = createRequire(`${modules}/`);
const { chromium: browserType } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core'), 'utf8');

const browser = await browserType.launch({ executablePath: chromium, args: ['--no-sandbox', '--force-color-profile=srgb'] });
const problems = [];

async function opened(url) {
  const made = await browser.newContext({ viewport: { width: 1280, height: 820 }, acceptDownloads: true });
  const page = await made.newPage();
  page.on('pageerror', (error) => problems.push(`error: ${error.message}`));
  page.on('console', (message) => message.type() === 'error' && problems.push(`console: ${message.text()}`));
  await page.goto(url);
  await painted(page);
  return page;
}

const painted = (page) => page.waitForFunction(() => performance.getEntriesByName('painted').length > 0);
const isShown = (page) => page.waitForFunction(() => document.querySelector('#review-bar').dataset.point);
const point = (page) => page.locator('#review-bar').getAttribute('data-point');
const layers = (page) => page.evaluate(() => ['points', 'outlines', 'scenes'].map((name) => window.page.view[name].getVisible()));
const rendered = (page) => page.evaluate(() => new Promise((done) => { window.page.view.ol.once('rendercomplete', done); window.page.view.ol.render(); }));

async function begin(page, name) {
  if (!(await page.locator('#review-dialog').evaluate((dialog) => dialog.open))) await page.locator('#start-review').press('Enter');
  const tasks = await page.locator('#task option').allInnerTexts();
  await page.locator('#task').selectOption({ index: tasks.findIndex((text) => text.startsWith('Area sample')) });
  await page.locator('#reviewer').fill(name);
  const dialog = { tasks, text: await page.locator('#review-task-text').innerText(), order: await page.locator('#order').isVisible() };
  await page.keyboard.press('Enter');
  await isShown(page);
  return dialog;
}

// One verdict; resolves when the next point is shown.
async function judge(page, key) {
  const before = await point(page);
  await page.keyboard.press(key);
  await page.waitForFunction((id) => ![id, ''].includes(document.querySelector('#review-bar').dataset.point), before);
  return before;
}

async function endpoint() {
  const page = await opened(reviewAddress);
  const found = { dialog: await begin(page, 'Ada'), layers: await layers(page) };
  found.question = await page.locator('#review-question').innerText();
  found.buttons = await page.locator('[data-verdict]:visible').evaluateAll((all) => all.map((each) => each.dataset.verdict));
  found.panel = await page.locator('#panel').isVisible();
  found.card = await page.locator('#card').innerText();
  await page.locator('.point-picture img').waitFor();
  found.picture = await page.locator('.point-picture img').evaluate(async (image) => { await image.decode(); return image.naturalWidth; });
  await page.locator('.scenes li button').first().waitFor();
  found.scenes = await page.locator('.scenes > ul > li').count();
  found.centre = await page.evaluate(() => window.page.view.position());
  await rendered(page);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  found.axe = violations.filter(({ id, impact }) => ['serious', 'critical'].includes(impact) || id === 'color-contrast').map(({ id }) => id);
  await page.screenshot({ path: `${folder}/point.png` });

  // Outlines are shown only after the verdict, and slumps cannot be opened.
  await page.keyboard.press('o');
  found.early = await layers(page);
  await page.keyboard.press('r');
  found.redraw = await page.locator('#review-progress').innerText();
  found.points = [await judge(page, 'y')];
  await page.keyboard.press('k');
  await page.waitForFunction((id) => document.querySelector('#review-bar').dataset.point === id, found.points[0]);
  found.back = await page.locator('.verdict[aria-pressed="true"]').getAttribute('data-verdict');
  await page.keyboard.press('o');
  found.late = await layers(page);
  await rendered(page);
  await page.screenshot({ path: `${folder}/point-outlines.png` });
  await page.keyboard.press('j');
  await isShown(page);
  found.hiddenAgain = await layers(page);
  await page.keyboard.press('m');
  await page.keyboard.type('a note, yes');
  await page.keyboard.press('Escape');
  found.points.push(await judge(page, 'n'), await judge(page, 'u'));
  found.progress = await page.locator('#review-progress').innerText();
  await page.waitForFunction(() => document.querySelector('#review-status').textContent.includes('all stored'));

  await page.reload();
  await painted(page);
  await begin(page, 'Ada');
  found.resumed = [await page.locator('#review-progress').innerText(), await point(page)];
  while (!(await page.locator('#no-picture').count())) await judge(page, 'n');
  found.noPicture = [await point(page), await page.locator('#no-picture').innerText()];
  await page.screenshot({ path: `${folder}/point-without-picture.png` });
  await page.keyboard.press('Escape');
  found.after = [await layers(page), await page.locator('#panel').isVisible(), await page.locator('#review-bar').isHidden()];

  // The review of slumps is as before.
  await page.locator('#close').click();
  await page.locator('#start-review').press('Enter');
  await page.locator('#task').selectOption({ index: 0 });
  found.slumpOptions = await page.locator('#order').isVisible();
  await page.keyboard.press('Tab');
  await page.locator('#review-dialog button[type="submit"]').click();
  await page.waitForFunction(() => document.querySelector('#review-bar').dataset.slump);
  found.slumps = [await page.locator('#review-progress').innerText(), await page.locator('[data-verdict]:visible').count()];
  return found;
}

async function exported() {
  const page = await opened(address);
  await begin(page, 'Grace');
  await judge(page, 'y');
  const [download] = await Promise.all([page.waitForEvent('download'), page.keyboard.press('e')]);
  return JSON.parse(readFileSync(await download.path(), 'utf8'));
}

const result = { endpoint: await endpoint(), exported: await exported(), problems };
await browser.close();
console.log(JSON.stringify(result));
