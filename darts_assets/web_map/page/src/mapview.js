// The map: layers, view, and what is under the pointer.
import { ScaleLine, Zoom } from 'ol/control.js';
import { createEmpty, extend, getCenter } from 'ol/extent.js';
import Feature from 'ol/Feature.js';
import Point from 'ol/geom/Point.js';
import { defaults as interactions } from 'ol/interaction.js';
import VectorLayer from 'ol/layer/Vector.js';
import { bbox } from 'ol/loadingstrategy.js';
import OlMap from 'ol/Map.js';
import VectorSource from 'ol/source/Vector.js';
import { Circle, Fill, RegularShape, Stroke, Style } from 'ol/style.js';
import View from 'ol/View.js';
import { COAST_RESOLUTION, graticuleLayer, landLayer } from './background.js';
import { colourOf, SCALES } from './colours.js';
import { PointLayer } from './pointlayer.js';
import { projection } from './projection.js';
import { passes, rowOf, shown, within } from './selection.js';

export const OUTLINE_RESOLUTION = 15; // metres per pixel; nearer, outlines are read
const ARCTIC = [-3.9e6, -3.9e6, 3.9e6, 3.9e6];
const YEAR_RAMP = ['#8fd0c5', '#3f9fb5', '#27629e', '#2c2f7c', '#160f3d'];

export const yearColour = (years, year) =>
  YEAR_RAMP[years.length < 2 ? 4 : Math.round((4 * years.indexOf(year)) / (years.length - 1))];

const loader = (layer, onError) =>
  async function load(extent, _resolution, _projection, success, failure) {
    try {
      const features = await layer.in(extent);
      this.addFeatures(features);
      success(features);
    } catch (error) {
      this.removeLoadedExtent(extent);
      failure();
      onError(error);
    }
  };

const footprint = new Style({ stroke: new Stroke({ color: 'rgba(20, 84, 128, 0.7)', width: 1 }) });

export class MapView {
  constructor(map, state, center, onError) {
    this.map = map;
    this.state = state;
    this.points = new PointLayer(map.points, { zIndex: 5, minResolution: OUTLINE_RESOLUTION });
    this.outlines = new VectorLayer({
      source: new VectorSource({ strategy: bbox, loader: loader(map.outlines, onError) }),
      maxResolution: OUTLINE_RESOLUTION,
      zIndex: 4,
      style: (feature) => this.outlineStyle(feature),
    });
    this.scenes = new VectorLayer({
      source: new VectorSource({ strategy: bbox, loader: loader(map.sceneAreas, onError) }),
      visible: false,
      zIndex: 2,
      style: (feature) => this.sceneStyle(feature),
    });
    this.selected = new VectorLayer({ source: new VectorSource(), zIndex: 6, updateWhileAnimating: true });
    this.graticule = graticuleLayer();
    this.graticule.setZIndex(1);
    const extent = map.bounds ? extend(createEmpty(), map.bounds) : ARCTIC;
    this.view = new View({
      projection,
      center: [0, 0],
      resolution: 7000,
      minResolution: 0.5,
      maxResolution: 16000,
      extent: [-5.5e6, -5.5e6, 5.5e6, 5.5e6],
      showFullExtent: true,
      enableRotation: false,
    });
    this.ol = new OlMap({
      target: 'map',
      view: this.view,
      controls: [new Zoom({ zoomInLabel: '+', zoomOutLabel: '−' }), new ScaleLine({ minWidth: 90 })],
      interactions: interactions({ altShiftDragRotate: false, pinchRotate: false }),
      layers: [this.graticule, this.scenes, this.outlines, this.points, this.selected],
      maxTilesLoading: 4,
    });
    this.pointYear = null; // while the points of a sample of that year are reviewed
    this.home = extent;
    this.goHome();
    if (center) {
      this.view.setCenter(center.slice(0, 2));
      this.view.setResolution(center[2]);
    }
    this.ol.on('moveend', () => this.settle());
    this.settle(); // the first frame has no end of a move
    landLayer().then((land) => this.ol.getLayers().insertAt(0, land), onError);
  }

  settle() {
    this.graticule.update(this.extent(), this.view.getResolution());
    // Nearer than the coastlines are drawn, the ground is neither land nor sea.
    this.ol.getTargetElement().classList.toggle('near', this.view.getResolution() < COAST_RESOLUTION);
  }

  extent() {
    return this.view.calculateExtent(this.ol.getSize());
  }

  goHome() {
    this.view.fit(this.home, { padding: [40, 40, 40, 40], minResolution: 40 });
  }

  goTo(extent, options = {}) {
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    this.view.fit(extent, { padding: [60, 60, 60, 60], minResolution: 1, duration: still || options.still ? 0 : 450 });
  }

  // Draw what the state selects; returns the number of slumps.
  update() {
    const { points, state } = { points: this.map.points, state: this.state };
    const scale = SCALES[state.colour];
    const rows = shown(points, state, scale);
    this.points.show(rows, scale);
    this.outlines.changed();
    this.scenes.setVisible(state.footprints || state.coverage || this.pointYear !== null);
    this.scenes.changed();
    return rows.length;
  }

  outlineStyle(feature) {
    const { points } = this.map;
    const row = rowOf(points, this.state, feature.get('slump'));
    if (row < 0 || points.year[row] !== feature.get('year') || !passes(points, this.state, row)) return null;
    return this.styleOf(colourOf(SCALES[this.state.colour], points, row));
  }

  styleOf(colour) {
    this.styles ??= new Map();
    if (!this.styles.has(colour)) {
      this.styles.set(colour, [
        new Style({ stroke: new Stroke({ color: '#ffffff', width: 3.6 }), fill: new Fill({ color: `${colour}66` }) }),
        new Style({ stroke: new Stroke({ color: '#20242b', width: 2.2 }) }),
        new Style({ stroke: new Stroke({ color: colour, width: 1.2 }) }),
      ]);
    }
    return this.styles.get(colour);
  }

  sceneStyle(feature) {
    if (this.pointYear !== null) return feature.get('year') === this.pointYear ? footprint : null;
    if (!within(this.state, feature.get('year'))) return null;
    const { footprints, coverage } = this.state;
    return new Style({
      stroke: new Stroke({ color: footprints ? 'rgba(20, 84, 128, 0.7)' : 'rgba(20, 84, 128, 0.12)', width: 1 }),
      fill: coverage ? new Fill({ color: 'rgba(18, 98, 140, 0.045)' }) : undefined,
    });
  }

  // Outlines of the selected slump in all years, the latest darkest, and a ring that is visible from far.
  showSelected(features, row) {
    const source = this.selected.getSource();
    source.clear();
    if (row === null) return;
    const years = features.map((feature) => feature.get('year'));
    for (const feature of features) {
      const mark = new Feature(feature.getGeometry());
      mark.setStyle([
        new Style({ stroke: new Stroke({ color: 'rgba(255, 255, 255, 0.9)', width: 6 }) }),
        new Style({ stroke: new Stroke({ color: yearColour(years, feature.get('year')), width: 3 }) }),
      ]);
      source.addFeature(mark);
    }
    const ring = new Feature(new Point([this.map.points.x[row], this.map.points.y[row]]));
    const circle = (color, width) =>
      new Style({ image: new Circle({ radius: 11, stroke: new Stroke({ color, width }) }) });
    ring.setStyle((_, resolution) =>
      resolution < OUTLINE_RESOLUTION && features.length ? null : [circle('#ffffff', 5), circle('#111827', 2.4)],
    );
    source.addFeature(ring);
  }

  // While points are reviewed, the slumps are hidden: knowing them would bias the verdicts. null ends it.
  reviewPoints(year) {
    this.pointYear = year;
    this.showSlumps(year === null);
    this.selected.getSource().clear();
    this.update();
  }

  showSlumps(isShown) {
    this.slumpsShown = isShown;
    this.points.setVisible(isShown);
    this.outlines.setVisible(isShown);
  }

  showPoint(at) {
    const cross = new Feature(new Point(at));
    const shape = (color, width) =>
      new Style({ image: new RegularShape({ points: 4, radius: 15, radius2: 0, stroke: new Stroke({ color, width }) }) });
    cross.setStyle([shape('#ffffff', 5), shape('#111827', 2)]);
    const source = this.selected.getSource();
    source.clear();
    source.addFeature(cross);
  }

  // The slump at a pixel, null if there is none.
  slumpAt(pixel) {
    if (this.pointYear !== null) return null;
    const feature = this.ol.forEachFeatureAtPixel(pixel, (each) => each, {
      layerFilter: (layer) => layer === this.outlines,
      hitTolerance: 4,
    });
    if (feature) return feature.get('slump');
    const row = this.points.nearest(this.ol.getCoordinateFromPixel(pixel), 12 * this.view.getResolution());
    return row < 0 ? null : this.map.points.slump[row];
  }

  position() {
    const [x, y] = getCenter(this.extent());
    return { x: Math.round(x), y: Math.round(y), r: Number(this.view.getResolution().toPrecision(3)) };
  }
}
