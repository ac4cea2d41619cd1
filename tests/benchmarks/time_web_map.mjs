// Times the map in headless Chromium: node time_web_map.mjs NODE_MODULES CHROMIUM ADDRESS
import { createRequire } from 'node:module';

const [, , modules, chromium, address] = process.argv;
const { chromium: browserType } = createRequire(`${modules}/`)('playwright-core');
const browser = await browserType.launch({ executablePath: chromium, args: ['--no-sandbox'] });
const runs = [];
for (let run = 0; run < 3; run++) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 820 } });
  const page = await context.newPage();
  let bytes = {};
  page.on('response', (response) => {
    const name = new URL(response.url()).pathname.split('/').pop();
    bytes[name] = (bytes[name] ?? 0) + Number(response.headers()['content-length'] ?? 0);
  });
  await page.goto(address);
  await page.waitForFunction(() => performance.getEntriesByName('painted').length > 0);
  const painted = await page.evaluate(() => performance.getEntriesByName('painted')[0].startTime);
  const first = bytes;
  const timed = (action) =>
    page.evaluate(async (source) => {
      const start = performance.now();
      const { view } = window.page;
      const done = new Promise((resolve) => view.ol.once('rendercomplete', resolve));
      new Function(source)();
      await done;
      return performance.now() - start;
    }, action);
  const filtered = await timed("const e = document.querySelector('#probability'); e.value = 80; e.dispatchEvent(new Event('input', { bubbles: true }));");
  const year = await timed("const e = document.querySelector('#year'); e.value = e.min; e.dispatchEvent(new Event('input', { bubbles: true }));");
  const panned = await timed('const v = window.page.view.view; const [x, y] = v.getCenter(); v.setCenter([x + 3e5, y]);');
  bytes = {};
  const near = await timed("document.querySelector('#list button').click();");
  await page.waitForFunction(() => document.querySelector('#card').dataset.slump && !window.page.view.view.getAnimating());
  await page.waitForLoadState('networkidle');
  const sum = (counts) => Object.values(counts).reduce((total, each) => total + each, 0);
  runs.push({ painted, filtered, year, panned, near, firstBytes: sum(first), first, cardBytes: sum(bytes) });
  await context.close();
}
await browser.close();
console.log(JSON.stringify(runs));
