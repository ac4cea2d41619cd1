// Elements. All text goes through text nodes: names, notes and ids are never parsed as HTML.

export const byId = (id) => document.getElementById(id);

export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, properties, children);
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  fill(element, attributes, children);
  return element;
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
}

// A link, or plain text if the address is not one that a page may open.
export function link(text, href, properties = {}) {
  let url = null;
  try {
    url = new URL(href, document.baseURI);
  } catch {
    return el('span', {}, text);
  }
  if (!['http:', 'https:'].includes(url.protocol)) return el('span', {}, text);
  return el('a', { href: url.href, ...properties }, text);
}

export function say(text) {
  byId('announcer').textContent = text;
}

export const number = (value, digits = 0) =>
  value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });

export function degrees([lon, lat], digits = 4) {
  const side = (value, positive, negative) => `${Math.abs(value).toFixed(digits)}° ${value < 0 ? negative : positive}`;
  return `${side(lat, 'N', 'S')}, ${side(lon, 'E', 'W')}`;
}
