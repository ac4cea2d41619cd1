// Which sites are shown: the state of the controls, and the rows of the points that pass.

export const REJECTED = 2; // position of "no" among the verdicts

export const initial = (years) => ({
  mode: 'all', // 'all' years, 'upto' a year, 'only' a year
  year: years[years.length - 1] ?? 0,
  colour: 'probability',
  probability: 0,
  seen: 1,
  share: 0,
  rejected: false,
  reviewed: false,
  footprints: false,
  coverage: false,
});

export const within = (state, year) =>
  state.mode === 'all' || (state.mode === 'upto' ? year <= state.year : year === state.year);

// The row that stands for a slump: its last site within the years; -1 if there is none.
export function rowOf(points, state, slump) {
  for (let row = points.starts[slump + 1] - 1; row >= points.starts[slump]; row--) {
    if (within(state, points.year[row])) return row;
  }
  return -1;
}

export function passes(points, state, row) {
  const known = points.probability[row] !== 255;
  return (
    (known ? points.probability[row] >= state.probability : state.probability === 0) &&
    points.seen[row] >= state.seen &&
    100 * points.seen[row] >= state.share * points.observable[row] &&
    (state.rejected || points.verdict[row] !== REJECTED) &&
    (!state.reviewed || points.verdict[row] > 0)
  );
}

// Rows that are shown, the strongest last (on top).
export function shown(points, state, scale) {
  const rows = [];
  for (let slump = 0; slump < points.slumps; slump++) {
    const row = rowOf(points, state, slump);
    if (row >= 0 && passes(points, state, row)) rows.push(row);
  }
  const classes = Array.from({ length: scale.colours.length + 1 }, () => []);
  for (const row of rows) {
    const value = scale.value(points, row);
    classes[points.verdict[row] === REJECTED || Number.isNaN(value) ? 0 : scale.classOf(value) + 1].push(row);
  }
  return Int32Array.from(classes.flat());
}
