// Chooses a step, and tells the numbers under the pointer or the cursor keys.
'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const SVG = 'http://www.w3.org/2000/svg';
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  let chosen = data.chosen;

  // ---- numbers
  const short = (value, digits = 4) => {
    if (value === null || value === undefined || !Number.isFinite(value)) return '–';
    if (value === 0) return '0';
    const size = Math.abs(value);
    return size >= 1e-3 && size < 1e6 ? String(Number(value.toPrecision(digits))) : value.toExponential(digits - 2);
  };
  const pair = (value, error) => (error === null || error === undefined ? short(value) : `${short(value)} ± ${short(error, 3)}`);

  // ---- axes: asinh(value / 2 threshold), as the figures have it
  const position = (value, threshold) => (threshold ? Math.asinh(value / (2 * threshold)) : value);
  const places = data.columns.reduce((most, column) => Math.max(most, column ? column.mean.length : 0), 0);
  const placeAt = (index) => data.places[0] + (index / Math.max(places - 1, 1)) * (data.places[1] - data.places[0]);
  const eigenvalueAt = (index) => 2 * data.threshold * Math.sinh(placeAt(index));
  const indexOf = (place) =>
    clamp(Math.round(((place - data.places[0]) / (data.places[1] - data.places[0])) * (places - 1)), 0, places - 1);
  const nearest = (steps, step) =>
    steps.reduce((best, other, index) => (Math.abs(other - step) < Math.abs(steps[best] - step) ? index : best), 0);

  // ---- drawings: each figure has a wide and a narrow one, of which one is seen
  const element = (name, attributes, parent) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  };
  class Plot {
    constructor(box) {
      this.box = box;
      this.svg = box.querySelector('svg');
      this.frame = JSON.parse(box.dataset.frame);
      this.view = this.svg.viewBox.baseVal;
      this.marks = element('g', {}, this.svg);
      this.hover = element('g', {}, this.svg);
      this.tip = box.parentElement.querySelector('.tip');
    }
    x(u) {
      const { x, u: ends } = this.frame;
      return x[0] + clamp((u - ends[0]) / (ends[1] - ends[0]), 0, 1) * (x[1] - x[0]);
    }
    y(v) {
      const { y, v: ends } = this.frame;
      return y[1] - clamp((v - ends[0]) / (ends[1] - ends[0]), 0, 1) * (y[1] - y[0]);
    }
    seen() {
      return this.box.getClientRects().length > 0;
    }
    // Where a pointer is, in positions; null beside the area.
    at(event) {
      const rectangle = this.svg.getBoundingClientRect();
      const left = ((event.clientX - rectangle.left) / rectangle.width) * this.view.width;
      const top = ((event.clientY - rectangle.top) / rectangle.height) * this.view.height;
      const { x, y, u, v } = this.frame;
      if (left < x[0] || left > x[1] || top < y[0] || top > y[1]) return null;
      return [u[0] + ((left - x[0]) / (x[1] - x[0])) * (u[1] - u[0]), v[0] + ((y[1] - top) / (y[1] - y[0])) * (v[1] - v[0])];
    }
    show(text, u, v, cross) {
      this.hover.replaceChildren();
      const { x, y } = this.frame;
      const [left, top] = [this.x(u), this.y(v)];
      element('line', { class: 'cursor', x1: left, x2: left, y1: y[0], y2: y[1] }, this.hover);
      if (cross) element('line', { class: 'cursor', x1: x[0], x2: x[1], y1: top, y2: top }, this.hover);
      element('circle', { class: 'dot', cx: left, cy: top, r: 9 }, this.hover);
      this.tip.textContent = text;
      const scale = this.svg.getBoundingClientRect().width / this.view.width;
      const width = this.tip.offsetWidth;
      const place = left * scale + 14;
      const room = this.tip.parentElement.clientWidth;
      this.tip.style.left = `${place + width > room ? Math.max(left * scale - width - 14, 0) : place}px`;
      this.tip.style.top = `${clamp(top * scale - this.tip.offsetHeight - 8, 0, this.view.height * scale)}px`;
    }
    hide() {
      this.hover.replaceChildren();
      this.tip.textContent = '';
    }
  }

  // ---- what each figure tells: `tell(cursor)` gives text and place, `move(cursor, key)` the next cursor
  const figures = [];
  class Figure {
    constructor(name) {
      this.node = document.getElementById(`figure-${name}`);
      this.plots = [...this.node.querySelectorAll('.drawing')].map((box) => new Plot(box));
      this.cursor = null;
      const area = this.node.querySelector('.plot');
      area.addEventListener('pointermove', (event) => this.point(event));
      area.addEventListener('pointerdown', (event) => this.point(event));
      area.addEventListener('pointerleave', () => this.hide());
      area.addEventListener('click', (event) => this.choose(event));
      area.addEventListener('focus', () => this.focus());
      area.addEventListener('blur', () => this.hide());
      area.addEventListener('keydown', (event) => this.key(event));
      figures.push(this);
    }
    plot() {
      return this.plots.find((plot) => plot.seen());
    }
    point(event) {
      const plot = this.plot();
      const at = plot && plot.at(event);
      if (!at) return this.hide();
      this.cursor = this.under(at);
      this.show();
    }
    focus() {
      // A pointer that focuses has its own cursor.
      if (this.cursor === null) this.cursor = this.start();
      this.show();
    }
    show() {
      const plot = this.plot();
      if (!plot || this.cursor === null) return;
      const [text, u, v, cross] = this.tell(this.cursor);
      plot.show(text, u, v, cross);
    }
    hide() {
      this.cursor = null;
      this.plots.forEach((plot) => plot.hide());
    }
    choose() {}
    key(event) {
      if (event.key === 'Escape') return this.hide();
      if (!['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'Home', 'End'].includes(event.key)) return;
      const next = this.move(this.cursor === null ? this.start() : this.cursor, event.key);
      if (next === null) return;
      event.preventDefault();
      this.cursor = next;
      this.show();
    }
    refresh() {}
    mark() {
      for (const plot of this.plots) {
        plot.marks.replaceChildren();
        const { y, u } = plot.frame;
        const step = data.steps[chosen];
        if (step < u[0] || step > u[1]) continue;
        const x = plot.x(step);
        element('line', { class: 'chosen', x1: x, x2: x, y1: y[0], y2: y[1] }, plot.marks);
      }
    }
  }
  const along = (index, key, count) =>
    clamp({ ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: count - 1 }[key] ?? index, 0, count - 1);

  class Density extends Figure {
    start() {
      const { mean } = data.columns[chosen] || { mean: [0] };
      return mean.reduce((best, value, index) => (value > mean[best] ? index : best), 0);
    }
    under([u]) {
      return indexOf(u);
    }
    move(index, key) {
      return key === 'ArrowUp' || key === 'ArrowDown' ? null : along(index, key, places);
    }
    tell(index) {
      const column = data.columns[chosen];
      const value = eigenvalueAt(index);
      if (!column) return ['no nodes at this step', placeAt(index), 0, false];
      const hidden = Math.abs(value) < column.floor ? '\nunresolved: the noise hides it' : '';
      const text = `λ = ${short(value)}\n${pair(column.mean[index], column.error && column.error[index])} per decade${hidden}`;
      return [text, placeAt(index), this.height(column.mean[index]), false];
    }
    height(perDecade) {
      return position(Math.max(perDecade, data.fewest), this.plots[0].frame.threshold);
    }
    mark() {}
    // The curve of the step, in place of that which the page came with.
    refresh() {
      const column = data.columns[chosen];
      for (const plot of this.plots) {
        const parts = ['zone', 'band', 'curve'].map((name) => `[fill="var(--${name})"],[stroke="var(--${name})"]`);
        plot.svg.querySelectorAll(parts.join()).forEach((part) => part.remove());
        plot.marks.replaceChildren();
        // Behind the grid, as it was.
        plot.svg.prepend((plot.zone = plot.zone || document.createElementNS(SVG, 'g')));
        plot.zone.replaceChildren();
        if (!column) continue;
        const { y } = plot.frame;
        if (column.floor > 0) {
          const [left, right] = [-1, 1].map((sign) => plot.x(position(sign * column.floor, data.threshold)));
          element('rect', { fill: 'var(--zone)', x: left, width: right - left, y: y[0], height: y[1] - y[0] }, plot.zone);
        }
        const point = (index, perDecade) => `${plot.x(placeAt(index)).toFixed(1)} ${plot.y(this.height(perDecade)).toFixed(1)}`;
        if (column.error) {
          const all = column.mean.map((mean, index) => [index, mean, column.error[index]]);
          const upper = all.map(([index, mean, error]) => point(index, mean + error));
          const lower = all.map(([index, mean, error]) => point(index, mean - error)).reverse();
          element('path', { fill: 'var(--band)', d: `M${upper.concat(lower).join('L')}Z` }, plot.marks);
        }
        let path = '';
        let drawing = false;
        column.mean.forEach((mean, index) => {
          const there = mean > data.fewest;
          if (there) path += `${drawing ? 'L' : 'M'}${point(index, mean)}`;
          drawing = there;
        });
        element('path', { fill: 'none', stroke: 'var(--curve)', 'stroke-width': 4, d: path }, plot.marks);
      }
    }
  }

  class HeatMap extends Figure {
    start() {
      return [chosen, figureOf.density ? figureOf.density.start() : 0];
    }
    under([u, v]) {
      return [nearest(data.steps, u), indexOf(v)];
    }
    move([step, index], key) {
      if (key === 'ArrowUp' || key === 'ArrowDown') return [step, clamp(index + (key === 'ArrowUp' ? 1 : -1), 0, places - 1)];
      const next = along(step, key, data.steps.length);
      set(next);
      return [next, index];
    }
    choose(event) {
      const at = this.plot().at(event);
      if (at) set(nearest(data.steps, at[0]));
    }
    tell([step, index]) {
      const column = data.columns[step];
      const value = eigenvalueAt(index);
      const found = column ? pair(column.mean[index], column.error && column.error[index]) : '–';
      const hidden = column && Math.abs(value) < column.floor ? '\nunresolved: the noise hides it' : '';
      return [`step ${data.steps[step]}, λ = ${short(value)}\n${found} per decade${hidden}`, data.steps[step], placeAt(index), true];
    }
  }

  class Series extends Figure {
    constructor({ name, series }) {
      super(name);
      this.series = series;
      this.steps = [...new Set(series.flatMap(({ points }) => points.map(([step]) => step)))].sort((a, b) => a - b);
    }
    start() {
      return nearest(this.steps, data.steps[chosen]);
    }
    under([u]) {
      return nearest(this.steps, u);
    }
    move(index, key) {
      if (key === 'ArrowUp' || key === 'ArrowDown') return null;
      const next = along(index, key, this.steps.length);
      const same = data.steps.indexOf(this.steps[next]);
      if (same >= 0) set(same);
      return next;
    }
    choose(event) {
      const at = this.plot().at(event);
      if (at) set(nearest(data.steps, at[0]));
    }
    tell(index) {
      const step = this.steps[index];
      const here = this.series
        .map(({ name, points }) => [name, points.find(([other]) => other === step)])
        .filter(([, point]) => point);
      const lines = here.map(([name, [, value, error]]) => `${name} ${pair(value, error)}`);
      const first = here[0][1][1];
      return [[`step ${step}`, ...lines].join('\n'), step, position(first, this.plots[0].frame.threshold), false];
    }
  }

  // ---- the chosen step
  const range = document.getElementById('step');
  const which = document.getElementById('which');
  const [before, after] = ['before', 'after'].map((id) => document.getElementById(id));
  const sections = [...document.querySelectorAll('section.step')];
  function set(index) {
    chosen = clamp(index, 0, data.steps.length - 1);
    const step = String(data.steps[chosen]);
    range.value = String(chosen);
    range.setAttribute('aria-valuetext', `step ${step}`);
    which.textContent = step;
    document.querySelectorAll('.which').forEach((node) => (node.textContent = step));
    before.disabled = chosen === 0;
    after.disabled = chosen === data.steps.length - 1;
    sections.forEach((section) => (section.hidden = Number(section.dataset.index) !== chosen));
    document.querySelectorAll('.course tbody tr').forEach((row) => {
      row.classList.toggle('here', row.firstElementChild.textContent === step);
    });
    figures.forEach((figure) => {
      figure.mark();
      figure.refresh();
    });
  }
  const figureOf = {};
  const there = (name) => document.getElementById(`figure-${name}`);
  if (there('density')) figureOf.density = new Density('density');
  if (there('heat_map')) figureOf.map = new HeatMap('heat_map');
  data.series.forEach((series) => new Series(series));
  range.addEventListener('input', () => set(Number(range.value)));
  before.addEventListener('click', () => set(chosen - 1));
  after.addEventListener('click', () => set(chosen + 1));
  document.querySelector('.chooser').hidden = data.steps.length < 2;
  set(chosen);
})();
