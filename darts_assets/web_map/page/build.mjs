// Bundles src/ into ../bundle/, and records the hashes of both, by which a test finds a bundle that is not theirs.
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const page = fileURLToPath(new URL('.', import.meta.url));
const bundle = process.argv[2] ?? fileURLToPath(new URL('../bundle', import.meta.url));
mkdirSync(bundle, { recursive: true });
await build({
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

const sources = ['build.mjs', 'package.json', 'package-lock.json', ...readdirSync(`${page}/src`).map((name) => `src/${name}`)];
const hashes = (folder, names) =>
  Object.fromEntries(names.sort().map((name) => [name, createHash('sha256').update(readFileSync(`${folder}/${name}`)).digest('hex')]));
const record = { sources: hashes(page, sources), bundle: hashes(bundle, ['app.css', 'app.js', 'index.html']) };
writeFileSync(`${bundle}/hashes.json`, `${JSON.stringify(record, null, 1)}\n`);
