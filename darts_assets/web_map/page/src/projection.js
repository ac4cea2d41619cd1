// The projection of the data files and of the page: polar stereographic, 45 degrees west at the bottom.
import { addCoordinateTransforms, addProjection } from 'ol/proj.js';
import Projection from 'ol/proj/Projection.js';
import proj4 from 'proj4/lib/core.js';
import Proj from 'proj4/lib/Proj.js';
import longlat from 'proj4/lib/projections/longlat.js';
import stere from 'proj4/lib/projections/stere.js';

// Of the projections of proj4, only these are part of the bundle.
Proj.projections.add(stere);
Proj.projections.add(longlat);
const converter = proj4(
  '+proj=longlat +datum=WGS84 +no_defs',
  '+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs',
);
export const toMap = (lonLat) => converter.forward(lonLat);
export const toLonLat = (xy) => converter.inverse(xy);

export const projection = new Projection({ code: 'EPSG:3413', units: 'm', extent: [-6e6, -6e6, 6e6, 6e6] });
addProjection(projection);
addCoordinateTransforms('EPSG:4326', projection, toMap, toLonLat);
