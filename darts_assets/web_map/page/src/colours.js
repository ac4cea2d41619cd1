// Two sequential ramps that also differ for colour-blind readers and in grey; each class has a dark rim on the map.

export const NEUTRAL = '#8b9099'; // rejected, or without a value

const PROBABILITY = {
  title: 'Mean probability',
  colours: ['#f6d27a', '#f0a04b', '#df6a4e', '#b33f66', '#74206e', '#35114f'],
  labels: ['below 0.5', '0.5–0.6', '0.6–0.7', '0.7–0.8', '0.8–0.9', '0.9–1'],
  value: (points, row) => (points.probability[row] === 255 ? NaN : points.probability[row] / 100),
  classOf: (value) => Math.max(0, Math.min(5, Math.floor(value * 10 + 1e-9) - 4)),
};

const SUPPORT = {
  title: 'Scenes that detect it, of those that observe it',
  colours: ['#d8e8a8', '#97cf93', '#4fae91', '#20829a', '#1f5a8c', '#1d2c66'],
  labels: ['below 20 %', '20–40 %', '40–60 %', '60–80 %', '80–99 %', 'all'],
  value: (points, row) => (points.observable[row] ? points.seen[row] / points.observable[row] : NaN),
  classOf: (value) => (value >= 1 ? 5 : Math.min(4, Math.floor(value * 5 + 1e-9))),
};

export const SCALES = { probability: PROBABILITY, support: SUPPORT };

export function colourOf(scale, points, row) {
  const value = scale.value(points, row);
  return points.verdict[row] === 2 || Number.isNaN(value) ? NEUTRAL : scale.colours[scale.classOf(value)];
}
