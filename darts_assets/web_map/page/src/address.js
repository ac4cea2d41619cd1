// The state of the page in the fragment of its address. The token of a review also stands there: it stays in the
// address of this page, and never enters a link for others.

const params = () => new URLSearchParams(location.hash.slice(1));

export const given = params();
export const token = given.get('token');
export const hasEndpoint = new URLSearchParams(location.search).has('review');

export function remember(values) {
  const own = params();
  const next = new URLSearchParams();
  if (own.has('token')) next.set('token', own.get('token'));
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== '') next.set(name, value);
  }
  const fragment = next.toString();
  history.replaceState(null, '', fragment ? `#${fragment}` : location.pathname + location.search);
}

export const linkTo = (slump) =>
  `${location.origin}${location.pathname}#${new URLSearchParams({ slump }).toString()}`;
