// Bundles src/ into ../bundle/ with the licences of the packages in it, and records the hashes of sources and bundle, by
// which a test finds a bundle that is not theirs.
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const page = fileURLToPath(new URL('.', import.meta.url));
const bundle = process.argv[2] ?? fileURLToPath(new URL('../bundle', import.meta.url));
mkdirSync(bundle, { recursive: true });
const { metafile } = await build({
  metafile: true,
  absWorkingDir: page,
  entryPoints: { app: 'src/main.js' },
  outdir: bundle,
  bundle: true,
  minify: true,
  format: 'iife',
  target: ['chrome109', 'firefox115', 'safari16'],
  pure: ['console.debug'],
  legalComments: 'none',
  logLevel: 'warning',
});
copyFileSync(`${page}/src/index.html`, `${bundle}/index.html`);

const packages = new Set(Object.keys(metafile.inputs).map((path) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter(Boolean));
const licences = [...packages].sort().map((name) => {
  const folder = `${page}/node_modules/${name}`;
  const { version, license, author } = JSON.parse(readFileSync(`${folder}/package.json`));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  const text = file && existsSync(`${folder}/${file}`) ? readFileSync(`${folder}/${file}`, 'utf8').trim() : `${author?.name ?? author ?? ''}`;
  return `${name} ${version} (${license})\n\n${text}\n`;
});
writeFileSync(`${bundle}/licences.txt`, licences.join(`\n${'-'.repeat(80)}\n\n`).replace(/[ \t]+$/gm, '').replace(/\r/g, ''));

const sources = ['build.mjs', 'package.json', 'package-lock.json', ...readdirSync(`${page}/src`).map((name) => `src/${name}`)];
const hashes = (folder, names) =>
  Object.fromEntries(names.sort().map((name) => [name, createHash('sha256').update(readFileSync(`${folder}/${name}`)).digest('hex')]));
const record = { sources: hashes(page, sources), bundle: hashes(bundle, ['app.css', 'app.js', 'index.html', 'licences.txt']) };
writeFileSync(`${bundle}/hashes.json`, `${JSON.stringify(record, null, 1)}\n`);
