// The routing inspector: frames with masks, the blocks that ran, quality and work over time.
// One front end for two hosts: a widget in JupyterLab (default export) and a page without a kernel (openPage).
//
// The model's keys:
//   menu      [name]            videos to choose from
//   sequence  name              the chosen one; the host answers with its `video` and `runs`
//   video     {name, width, height, frames: [JPEG], files: [name], objects: [{id, colour}], truth: masks or null, depth, starts: [block], always_on: [block],
//             first?: index of its first frame, which has had others before; live?: whether more frames come, which a view of the last one follows}
//   runs      {name, runs: [{name, masks, active: "0110...", keep: [thousandths], reasons: [text], quality: {id: [J or null]}, mean: blocks or null}]}
//   shown     [A, B]            names of runs, "" for none
//   frame     index from 0
//   routing   {} or {budget, tau or null, budgets: [], taus: [tau or null], blocks: [count]}; without a tau a budget runs its count of blocks;
//             a host that gives these takes {budget, tau or null} as a message and answers {error}
// Binary values are DataViews (widget) or base64 text (page). Masks are deflated label maps, frames x height x width bytes;
// `active` and `keep` have one value per block, frame after frame. Lengths in the code are CSS pixels.

const LINES = ["#222222", "#D55E00"]; // of run A and run B; B is dashed as well
const RAMP = [[0, [222, 232, 241]], [0.5, [86, 160, 208]], [1, [0, 56, 102]]]; // keep probability to colour
const LEFT = 44, RIGHT = 8, STAGE_GAP = 4; // axis left of all plots, so that frames line up from plot to plot
const SPEEDS = [2, 5, 10, 24];
const QUIET = "#666666", FONT = "11px system-ui, sans-serif";

const ICONS = {
  first: "M3 3h2v10H3zM14 3v10L6 8z", previous: "M12 3v10L4 8z", play: "M4 2v12l10-6z", pause: "M3 2h4v12H3zM9 2h4v12H9z", next: "M4 3v10l8-5z", last: "M11 3h2v10h-2zM2 3v10l8-5z",
};

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const range = (n) => Array.from({ length: n }, (_, i) => i);
const spoken = (reason) => reason.replaceAll("_", " ");

function h(tag, props = {}, ...children) {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
}

function icon(name) {
  const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", width: 12, height: 12, "aria-hidden": "true" })) svg.setAttribute(key, value);
  path.setAttribute("d", ICONS[name]), path.setAttribute("fill", "currentColor");
  svg.append(path);
  return svg;
}

function bytes(value) {
  if (typeof value === "string") return Uint8Array.from(atob(value), (letter) => letter.charCodeAt(0));
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

async function inflate(value) {
  const stream = new Blob([bytes(value)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function shade(p) {
  const n = p < 0.5 ? 0 : 1, [[low, from], [high, to]] = [RAMP[n], RAMP[n + 1]];
  return `rgb(${from.map((value, i) => Math.round(value + ((to[i] - value) * (p - low)) / (high - low)))})`;
}

/** Size a canvas in CSS pixels, sharp on dense screens, and return its cleared context. */
function fit(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale), canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`, canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.font = FONT, context.textBaseline = "middle";
  return context;
}

/** Columns of a plot over n frames: where frame t starts and which frame lies at x. */
function columns(width, n) {
  const step = (width - LEFT - RIGHT) / n;
  return { step, x: (t) => LEFT + t * step, middle: (t) => LEFT + (t + 0.5) * step, at: (x) => clamp(Math.floor((x - LEFT) / step), 0, n - 1) };
}

function frameTicks(context, column, n, y, first = 0) {
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((step) => step * column.step >= 34) || 5000;
  context.fillStyle = QUIET, context.textAlign = "center";
  for (let t = (every - (first % every)) % every; t < n; t += every) context.fillText(String(first + t), column.middle(t), y);
}

function drawHeat(context, width, run, video) {
  const { depth, starts } = video, n = run.reasons.length, column = columns(width, n), rows = heatRows(video);
  const pixel = (x) => Math.round(x * devicePixelRatio) / devicePixelRatio, gap = column.step > 7 ? 1 : 0;
  for (let t = 0; t < n; t++) {
    const x = pixel(column.x(t)), w = pixel(column.x(t + 1)) - x - gap;
    for (let i = 0; i < depth; i++) {
      const k = t * depth + i, y = rows.y(i), ran = run.active[k] === "1";
      context.fillStyle = shade(run.keep[k] / 1000);
      if (ran) context.fillRect(x, y, w, rows.height - 1);
      else context.fillRect(x, y + Math.floor((rows.height - 1) / 2), w, 1);
    }
  }
  context.lineWidth = 1, context.strokeStyle = "#999999", context.fillStyle = QUIET;
  starts.forEach((start, stage) => {
    const top = rows.y(start), bottom = rows.y((starts[stage + 1] ?? depth) - 1) + rows.height - 1;
    context.textAlign = "center", context.fillText(String(stage + 1), 5, (top + bottom) / 2 + 0.5);
    context.beginPath(), context.moveTo(11.5, top), context.lineTo(11.5, bottom), context.stroke();
  });
  for (const i of range(depth)) {
    const isK = video.always_on.includes(i);
    if (!isK && (i % 8 || video.always_on.some((k) => Math.abs(k - i) < 3))) continue;
    context.textAlign = "right", context.fillStyle = QUIET;
    context.fillText(String(i), LEFT - 15, rows.y(i) + rows.height / 2);
    if (isK) context.fillStyle = "#222222", context.textAlign = "left", context.fillText("K", LEFT - 12, rows.y(i) + rows.height / 2);
  }
  frameTicks(context, column, n, rows.end + 10, video.first);
}

function heatRows({ depth, starts }) {
  const height = clamp(Math.floor(260 / depth), 4, 10);
  const y = (i) => 8 + i * height + STAGE_GAP * (starts.filter((start) => start <= i).length - 1);
  const at = (position) => range(depth).findLast((i) => y(i) <= position) ?? 0;
  return { height, y, at, end: y(depth - 1) + height };
}

/** The stages of the encoder on one frame: a bar per block. */
function drawEncoder(context, width, run, video, t) {
  const bars = encoderBars(width, video), { depth, starts, always_on } = video, foot = 84, tall = 62;
  context.fillStyle = QUIET, context.textAlign = "right";
  [0, 0.5, 1].forEach((value) => context.fillText(String(value), LEFT - 8, foot - value * tall));
  context.strokeStyle = "#dddddd", context.lineWidth = 1;
  [0.5, 1].forEach((value) => { context.beginPath(), context.moveTo(LEFT, foot - value * tall + 0.5), context.lineTo(width - RIGHT, foot - value * tall + 0.5), context.stroke(); });
  context.textAlign = "center";
  starts.forEach((start, stage) => {
    const end = starts[stage + 1] ?? depth, wide = bars.x(end - 1) + bars.width - bars.x(start);
    context.fillText(wide > 50 ? `stage ${stage + 1}` : String(stage + 1), bars.x(start) + wide / 2, 8);
  });
  for (const i of range(depth)) {
    const tallness = Math.max(1, (run.keep[t * depth + i] / 1000) * tall), x = bars.x(i) + 0.5, w = bars.width - 2;
    context.fillStyle = context.strokeStyle = "#0072B2";
    if (run.active[t * depth + i] === "1") context.fillRect(x, foot - tallness, w, tallness);
    else context.fillStyle = "#ffffff", context.fillRect(x, foot - tallness, w, tallness), context.strokeRect(x + 0.5, foot - tallness + 0.5, w - 1, tallness - 1);
    if (always_on.includes(i)) context.fillStyle = "#222222", context.fillText("K", x + w / 2, foot + 8);
  }
  context.strokeStyle = "#999999";
  context.beginPath(), context.moveTo(LEFT, foot + 0.5), context.lineTo(width - RIGHT, foot + 0.5), context.stroke();
}

function encoderBars(width, { depth, starts }) {
  const gap = 10, step = (width - LEFT - RIGHT - gap * (starts.length - 1)) / depth;
  const x = (i) => LEFT + i * step + gap * (starts.filter((start) => start <= i).length - 1);
  return { width: step, x, at: (position) => range(depth).findLast((i) => x(i) <= position) ?? 0 };
}

/** Lines over time, null where there is no value; `top` is the value at the upper end. */
function drawLines(context, width, series, top, ticks, first) {
  const n = series[0].length, column = columns(width, n), level = chartLevel(top);
  context.lineWidth = 1, context.textAlign = "right";
  for (const tick of ticks) {
    context.strokeStyle = "#dddddd", context.fillStyle = QUIET;
    context.beginPath(), context.moveTo(LEFT, level(tick) + 0.5), context.lineTo(width - RIGHT, level(tick) + 0.5), context.stroke();
    context.fillText(String(tick), LEFT - 8, level(tick));
  }
  series.forEach((values, r) => {
    context.strokeStyle = LINES[r], context.lineWidth = 1.8, context.setLineDash(r ? [5, 3] : []);
    context.beginPath();
    values.forEach((value, t) => {
      if (value === null) return;
      if (t === 0 || values[t - 1] === null) context.moveTo(column.middle(t) - (values[t + 1] == null ? 2 : 0), level(value));
      context.lineTo(column.middle(t), level(value));
    });
    context.stroke(), context.setLineDash([]);
  });
  frameTicks(context, column, n, 113, first);
}

const chartLevel = (top) => (value) => 100 - (92 * value) / top;

/** A label map with every pixel as zoom x zoom pixels, so that outlines are thin on small videos too. */
function enlarge(labels, width, zoom) {
  if (zoom === 1) return labels;
  const large = new Uint8Array(labels.length * zoom * zoom), wide = width * zoom;
  for (let k = 0; k < large.length; k++) large[k] = labels[Math.floor(k / wide / zoom) * width + Math.floor((k % wide) / zoom)];
  return large;
}

/** Fill RGBA pixels with the masks of one frame, then the outline of the truth in black and white. */
function paintMasks(pixels, width, labels, truth, colours) {
  const height = pixels.length / width, r = Math.max(1, Math.round(width / 400));
  const isEdge = (map, k, x, y, reach) => x < reach || y < reach || x >= width - reach || y >= height - reach || map[k - reach] !== map[k]
    || map[k + reach] !== map[k] || map[k - reach * width] !== map[k] || map[k + reach * width] !== map[k];
  pixels.fill(0);
  for (let y = 0, k = 0; y < height; y++) {
    for (let x = 0; x < width; x++, k++) {
      const colour = colours[labels[k]];
      if (colour) pixels[k] = isEdge(labels, k, x, y, r) ? colour | 0xff000000 : colour | 0x66000000; // 0x66: ALPHA of paint.py
      if (truth && colours[truth[k]] && isEdge(truth, k, x, y, 2 * r)) pixels[k] = isEdge(truth, k, x, y, r) ? 0xffffffff : 0xff000000;
    }
  }
}

class Inspector {
  constructor(model, el) {
    Object.assign(this, { model, t: 0, turn: 0, hidden: new Set(), truthShown: true, shown: [], masks: new Map(), busy: false, wanted: null });
    this.build(el);
    this.handlers = {
      "change:video": () => this.load(), "change:runs": () => this.load(), "change:shown": () => this.load(), "change:routing": () => this.setRouting(),
      "change:frame": () => this.saving || this.go(model.get("frame")), "msg:custom": (message) => this.routed(message),
    };
    for (const [name, handler] of Object.entries(this.handlers)) model.on(name, handler);
    this.resized = new ResizeObserver(() => this.root.clientWidth !== this.laidOut && this.layout());
    this.resized.observe(this.root);
    this.setRouting();
    this.load();
  }

  close() {
    this.pause();
    clearTimeout(this.saving), clearTimeout(this.releasing);
    this.resized.disconnect();
    for (const [name, handler] of Object.entries(this.handlers)) this.model.off(name, handler);
  }

  build(el) {
    const row = (className = "rds-row") => h("div", { className });
    const pick = (label, onchange) => h("select", { ariaLabel: label, onchange });
    const button = (content, label, onclick) => h("button", { type: "button", ariaLabel: label, title: label, onclick }, ICONS[content] ? icon(content) : content);
    this.sequence = pick("video", () => this.choose(this.sequence.value));
    this.picks = ["A", "B"].map((name) => pick(`run ${name}`, () => this.set("shown", this.picks.map((select) => select.value))));
    this.status = h("span", { className: "rds-status", role: "status" });
    this.playing = button("play", "play (Space)", () => this.toggle());
    this.scrub = h("input", { type: "range", className: "rds-scrub", min: 0, value: 0, ariaLabel: "frame", oninput: () => this.go(Number(this.scrub.value)) });
    this.count = h("span", { className: "rds-count" });
    this.speed = h("select", { ariaLabel: "speed", onchange: () => this.timer && (this.pause(), this.play()) }, ...SPEEDS.map((fps) => h("option", { value: fps, textContent: `${fps} frames/s`, selected: fps === 10 })));
    this.legend = row("rds-bar"), this.live = row("rds-bar rds-live"), this.tip = h("div", { className: "rds-tip" });
    const swatch = (background) => h("i", { className: "rds-chip", style: `background:${background}` });
    const key = h("div", { className: "rds-bar rds-key" }, h("label", {}, swatch("#0072B2"), "ran: full cell or bar"),
      h("label", {}, swatch("linear-gradient(#fff 40%, #0072B2 40% 60%, #fff 60%)"), "skipped: thin line or hollow bar"),
      h("label", {}, "keep probability 0", swatch(`linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(shade)})`), "1"), h("label", {}, "K: always runs"), h("label", {}, "far left: stage"));
    this.rows = { frames: row(), heat: row(), encoder: row(), charts: row() };
    const { frames, heat, encoder, charts } = this.rows;
    this.printed = [frames, this.legend, heat, key, encoder, charts];
    this.root = h("div", { className: "rds-inspector", tabIndex: 0, ariaLabel: "routing inspector", role: "group", onkeydown: (event) => this.onKey(event) },
      h("div", { className: "rds-bar" }, h("label", {}, "Video", this.sequence), h("label", {}, "A", this.picks[0]), h("label", {}, "B", this.picks[1]), this.status,
        h("span", { className: "rds-end" }, button("Export PNG", "save the view as a PNG", () => this.exportPng()))),
      frames, this.legend,
      h("div", { className: "rds-bar" }, button("first", "first frame (Home)", () => this.go(0)), button("previous", "previous frame (←)", () => this.go(this.t - 1)), this.playing,
        button("next", "next frame (→)", () => this.go(this.t + 1)), button("last", "last frame (End)", () => this.go(Infinity)), this.scrub, this.count, this.speed),
      heat, key, encoder, charts, this.live, this.tip);
    this.root.dataset.lmSuppressShortcuts = "true";
    const pane = (kind, r) => this.makePane(kind, r);
    this.panes = { frame: [pane("frame", 0), pane("frame", 1)], heat: [pane("heat", 0), pane("heat", 1)], encoder: [pane("encoder", 0), pane("encoder", 1)], quality: pane("quality"), work: pane("work") };
    el.append(this.root);
  }

  makePane(kind, r) {
    const canvas = h("canvas", { className: kind === "heat" || kind === "quality" || kind === "work" ? "rds-seek" : "" });
    const title = h("span"), note = h("span");
    const pane = { figure: h("figure", {}, h("figcaption", {}, title, note), canvas), canvas, title, note, base: document.createElement("canvas") };
    pane.figure.dataset.pane = kind + (r === undefined ? "" : "AB"[r]);
    canvas.addEventListener("pointermove", (event) => {
      const { t, text } = this.point(kind, r, event.offsetX, event.offsetY);
      if (event.buttons & 1 && canvas.hasPointerCapture(event.pointerId)) this.go(t);
      this.showTip(event, text);
    });
    canvas.addEventListener("pointerleave", () => (this.tip.style.visibility = "hidden"));
    if (canvas.className) canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.go(this.point(kind, r, event.offsetX, event.offsetY).t);
    });
    return pane;
  }

  /** What lies under a point of a pane: a frame, and words about it. */
  point(kind, r, x, y) {
    const { video } = this, run = this.shown[r], width = (this.panes[kind][r] ?? this.panes[kind]).size[0], isStill = kind === "encoder" || kind === "frame";
    const t = isStill ? this.t : columns(width, this.length).at(x);
    if (kind === "frame") return { t, text: "" };
    if (run) {
      const i = kind === "heat" ? heatRows(video).at(y) : encoderBars(width, video).at(x), k = t * video.depth + i;
      const what = `frame ${this.number(t)}, block ${i}: keep probability ${(run.keep[k] / 1000).toFixed(2)}, ${run.active[k] === "1" ? "ran" : "skipped"}; ${spoken(run.reasons[t])}`;
      return { t, text: what };
    }
    const values = this.shown.map((one) => `${one.name}: ${kind === "work" ? `${one.counts[t]} blocks` : one.J[t] === null ? "no J" : `J ${one.J[t].toFixed(2)}`}`);
    return { t, text: `frame ${this.number(t)} - ${values.join(", ")}` };
  }

  /** The index in its video of frame t. */
  number(t) {
    return t + (this.video.first ?? 0);
  }

  showTip(event, text) {
    const { left, top, width } = this.root.getBoundingClientRect();
    this.tip.textContent = text;
    this.tip.style.visibility = text ? "visible" : "hidden";
    this.tip.style.left = `${clamp(event.clientX - left + 14, 0, width - this.tip.offsetWidth - 6)}px`;
    this.tip.style.top = `${event.clientY - top + 16}px`;
  }

  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  choose(name) {
    this.pause();
    this.say("loading...");
    this.set("sequence", name);
  }

  say(text, isError = false) {
    this.status.textContent = text;
    this.status.classList.toggle("rds-error", isError);
  }

  /** Decode what is new of the model's video and runs, then draw; a later call overtakes an earlier one. */
  async load() {
    const video = this.model.get("video"), runs = this.model.get("runs"), turn = ++this.turn;
    await Promise.resolve(); // video, runs and shown may come in one message, as three changes
    if (turn !== this.turn || !video.name || video.name !== runs.name) return;
    const named = this.model.get("shown").map((name) => runs.runs.find((run) => run.name === name));
    const shown = [named[0] ?? named[1] ?? runs.runs[0], ...(named[0] && named[1] ? [named[1]] : [])];
    const images = video === this.video ? this.images : await Promise.all(video.frames.map((jpeg) => createImageBitmap(new Blob([bytes(jpeg)], { type: "image/jpeg" }))));
    const truth = video === this.video ? this.truth : video.truth && (await inflate(video.truth));
    const masks = await Promise.all(shown.map((run) => this.masks.get(run) ?? inflate(run.masks)));
    if (turn !== this.turn) return;
    const wasLast = !this.video?.live || this.t === this.length - 1, live = video.live && { t: wasLast ? Infinity : this.t + this.video.first - video.first };
    if (video !== this.video) this.images?.forEach((image) => image.close()), live || this.hidden.clear();
    this.masks = new Map(shown.map((run, r) => [run, masks[r]]));
    Object.assign(this, { video, images, truth, length: images.length, shown: shown.map((run) => ({ ...run })) });
    for (const run of this.shown) run.counts = range(this.length).map((t) => run.active.slice(t * video.depth, (t + 1) * video.depth).replaceAll("0", "").length);
    shown.forEach((run, r) => (this.shown[r].labels = this.masks.get(run)));
    this.t = clamp(live ? live.t : this.model.get("frame"), 0, this.length - 1);
    if (!this.busy) this.say("");
    this.fill(runs.runs.map((run) => run.name));
    this.layout();
  }

  /** Menus and legend of the loaded video. */
  fill(names) {
    const options = (select, values, chosen) => select.replaceChildren(...values.map(([value, text]) => h("option", { value, textContent: text, selected: value === chosen })));
    options(this.sequence, this.model.get("menu").map((name) => [name, name]), this.video.name);
    options(this.picks[0], names.map((name) => [name, name]), this.shown[0].name);
    options(this.picks[1], [["", "none"], ...names.map((name) => [name, name])], this.shown[1]?.name ?? "");
    this.scrub.max = this.length - 1;
    const box = (text, checked, onchange, chip) => h("label", {}, h("input", { type: "checkbox", checked, onchange }), ...chip, text);
    this.legend.replaceChildren(...this.video.objects.map(({ id, colour }) =>
      box(`object ${id}`, !this.hidden.has(id), () => (this.hidden.has(id) ? this.hidden.delete(id) : this.hidden.add(id), this.layout()), [h("span", { className: "rds-chip", style: `background:${colour}` })])));
    if (this.truth) this.legend.append(box("outline of the ground truth", this.truthShown, () => ((this.truthShown = !this.truthShown), this.draw()),
      [h("span", { className: "rds-chip", style: "border:2px solid #000;box-shadow:inset 0 0 0 2px #fff, inset 0 0 0 3px #999" })]));
  }

  /** Place the panes for the width at hand and draw all that does not change from frame to frame. */
  layout() {
    this.laidOut = this.root.clientWidth, this.tip.style.visibility = "hidden";
    if (!this.video || this.laidOut < 120) return; // hidden, or too narrow to draw anything
    const { frames, heat, encoder, charts } = this.rows, { panes, shown, video } = this;
    const isDouble = shown.length > 1, figures = (kind) => panes[kind].slice(0, shown.length).map((pane) => pane.figure);
    this.root.classList.toggle("rds-narrow", this.laidOut < 620), this.root.classList.toggle("rds-double", isDouble);
    frames.replaceChildren(...figures("frame"), ...(isDouble ? [] : figures("heat")));
    heat.replaceChildren(...(isDouble ? figures("heat") : []));
    encoder.replaceChildren(...figures("encoder"));
    const chosen = video.objects.filter(({ id }) => !this.hidden.has(id)).map(({ id }) => id);
    for (const run of shown) run.J = meanQuality(run, chosen, this.length);
    const hasJ = shown.some((run) => Object.keys(run.quality).length);
    charts.replaceChildren(...(hasJ ? [panes.quality.figure] : []), panes.work.figure);
    this.colours = new Uint32Array(256);
    for (const { id, colour } of video.objects) if (chosen.includes(id)) this.colours[id] = pixelOf(colour);
    this.zoom = Math.ceil(640 / video.width);
    this.overlay = new OffscreenCanvas(video.width * this.zoom, video.height * this.zoom).getContext("2d");
    this.pixels = this.overlay.createImageData(video.width * this.zoom, video.height * this.zoom);
    const base = (pane, height, draw) => {
      pane.size = [pane.figure.clientWidth, height], fit(pane.canvas, ...pane.size);
      if (draw) draw(fit(pane.base, ...pane.size), pane.size[0]);
    };
    shown.forEach((run, r) => {
      const name = isDouble ? `${"AB"[r]}: ${run.name}` : run.name, width = panes.frame[r].figure.clientWidth, scale = Math.min(width / video.width, 440 / video.height);
      panes.frame[r].size = [Math.round(video.width * scale), Math.round(video.height * scale)], fit(panes.frame[r].canvas, ...panes.frame[r].size);
      base(panes.heat[r], heatRows(video).end + 18, (context, wide) => drawHeat(context, wide, run, video));
      base(panes.encoder[r], 98);
      panes.frame[r].title.textContent = name, panes.heat[r].title.textContent = `${name}, blocks by frame`, panes.encoder[r].title.textContent = `${name}, keep probability`;
      panes.heat[r].note.textContent = run.mean === null ? "" : `mean ${run.mean.toFixed(1)} of ${video.depth}`;
    });
    const half = video.depth / 2;
    if (hasJ) base(panes.quality, 120, (context, wide) => drawLines(context, wide, shown.map((run) => run.J), 1, [0, 0.5, 1], video.first));
    base(panes.work, 120, (context, wide) => drawLines(context, wide, shown.map((run) => run.counts), video.depth, [0, half, video.depth], video.first));
    panes.quality.title.textContent = chosen.length === video.objects.length ? "J, mean over objects" : `J of ${chosen.length ? `object ${chosen.join(", ")}` : "no object"}`;
    panes.work.title.textContent = "active blocks";
    this.draw();
  }

  go(t) {
    if (!this.video) return;
    this.t = clamp(t, 0, this.length - 1);
    this.draw();
    clearTimeout(this.saving);
    this.saving = setTimeout(() => { this.saving = 0, this.set("frame", this.t); }, 200);
  }

  /** Everything of the current frame. */
  draw() {
    const { t, panes, video, shown, length } = this, size = video.width * video.height;
    if (!(this.laidOut >= 120)) return; // layout draws once there is room
    const map = (labels) => enlarge(labels.subarray(t * size, (t + 1) * size), video.width, this.zoom), truth = this.truth && this.truthShown ? map(this.truth) : null;
    const blit = (pane) => { const context = pane.canvas.getContext("2d"); context.clearRect(0, 0, ...pane.size), context.drawImage(pane.base, 0, 0, ...pane.size); return context; };
    shown.forEach((run, r) => {
      const [width, height] = panes.frame[r].size, context = panes.frame[r].canvas.getContext("2d");
      paintMasks(new Uint32Array(this.pixels.data.buffer), this.pixels.width, map(run.labels), truth, this.colours);
      this.overlay.putImageData(this.pixels, 0, 0);
      context.imageSmoothingQuality = "high";
      context.drawImage(this.images[t], 0, 0, width, height), context.drawImage(this.overlay.canvas, 0, 0, width, height);
      const J = run.J[t] === null ? "" : `, J ${run.J[t].toFixed(2)}`;
      panes.frame[r].note.textContent = `${run.counts[t]} of ${video.depth} blocks, ${spoken(run.reasons[t])}${J}`;
      const column = columns(panes.heat[r].size[0], length), heat = blit(panes.heat[r]), rows = heatRows(video);
      for (const [colour, line] of [["#ffffff", 4], ["#D55E00", 2]]) heat.strokeStyle = colour, heat.lineWidth = line, heat.strokeRect(column.x(t) - 1, 5, column.step + 1, rows.end - 4);
      const encoder = panes.encoder[r].canvas.getContext("2d");
      encoder.clearRect(0, 0, ...panes.encoder[r].size), drawEncoder(encoder, panes.encoder[r].size[0], run, video, t);
      panes.encoder[r].note.textContent = `frame ${this.number(t)}`;
    });
    for (const [pane, top, values, text] of [[panes.quality, 1, "J", (value) => value.toFixed(2)], [panes.work, video.depth, "counts", String]]) {
      if (!pane.figure.isConnected) continue;
      const context = blit(pane), x = columns(pane.size[0], length).middle(t);
      context.strokeStyle = "#888888", context.lineWidth = 1;
      context.beginPath(), context.moveTo(x, 4), context.lineTo(x, 104), context.stroke();
      shown.forEach((run, r) => {
        if (run[values][t] === null) return;
        context.fillStyle = LINES[r], context.beginPath(), context.arc(x, chartLevel(top)(run[values][t]), 3.5, 0, 7), context.fill();
      });
      pane.note.replaceChildren(...shown.map((run, r) => h("span", { textContent: `${r ? "- -" : "—"} ${run.name}: ${run[values][t] === null ? "none" : text(run[values][t])}`, style: `color:${LINES[r]}` })));
    }
    this.scrub.value = t;
    const of = video.first ? `the last ${length} are kept` : `${length} ${video.live ? "so far" : "in all"}`;
    this.count.textContent = `frame ${this.number(t)} (${video.files[t]}), ${of}`;
    Object.assign(this.root.dataset, { frame: t, run: shown.map((run) => run.name).join(" | "), sequence: video.name });
  }

  onKey(event) {
    const { key, target } = event, isButton = target.tagName === "BUTTON", isSlider = target === this.scrub;
    const actions = { " ": () => this.toggle(), ArrowLeft: () => this.go(this.t - 1), ArrowRight: () => this.go(this.t + 1), Home: () => this.go(0), End: () => this.go(Infinity) };
    event.stopPropagation();
    const isOwn = ["SELECT", "INPUT"].includes(target.tagName) && !(isSlider && key === " ") || (isButton && key === " ");
    if (isOwn || !actions[key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[key]();
  }

  toggle() {
    this.timer ? this.pause() : this.play();
  }

  play() {
    if (!this.video) return;
    if (this.t === this.length - 1) this.go(0);
    this.timer = setInterval(() => (this.t < this.length - 1 ? this.go(this.t + 1) : this.pause()), 1000 / this.speed.value);
    this.showPlaying("pause");
  }

  pause() {
    clearInterval(this.timer);
    this.timer = 0;
    this.showPlaying("play");
  }

  showPlaying(name) {
    this.playing.replaceChildren(icon(name));
    this.playing.title = this.playing.ariaLabel = `${name} (Space)`;
  }

  /** The sliders that make the kernel track again; a host that cannot leaves `routing` empty. */
  setRouting() {
    const { budget, tau, budgets, taus, blocks } = this.model.get("routing"), step = 0.05;
    const of = (list, value) => list[clamp(Math.round((value - budgets[0]) / step), 0, budgets.length - 1)];
    this.live.style.display = budgets ? "" : "none";
    if (!budgets || this.busy) return;
    const slider = (label, options) => h("input", { type: "range", ariaLabel: label, ...options });
    const ofBudget = slider("budget", { min: budgets[0], max: budgets.at(-1), step, value: budget }), ofTau = slider("threshold", { min: 0, max: 1, step: 0.01, value: tau ?? 0.5 });
    const budgetText = h("output"), tauText = h("output");
    const request = { budget, tau: tau === of(taus, budget) ? null : tau };
    const show = () => {
      budgetText.textContent = request.budget.toFixed(2);
      const own = of(taus, request.budget), counted = `none: ${of(blocks, request.budget)} blocks`;
      tauText.textContent = request.tau !== null ? request.tau.toFixed(2) : own === null ? counted : `${own.toFixed(2)} (calibrated)`;
    };
    ofBudget.oninput = () => {
      request.budget = Number(ofBudget.value), request.tau = null;
      ofTau.value = of(taus, request.budget) ?? ofTau.value;
      show();
    };
    ofTau.oninput = () => { request.tau = Number(ofTau.value), show(); };
    ofBudget.onchange = ofTau.onchange = () => {
      clearTimeout(this.releasing);
      this.releasing = setTimeout(() => this.reroute({ ...request }), 400);
    };
    show();
    this.live.replaceChildren(h("span", { textContent: "Track again with" }), h("label", {}, "budget", ofBudget, budgetText), h("label", {}, "threshold", ofTau, tauText));
  }

  reroute(request) {
    if (this.busy) return void (this.wanted = request);
    this.busy = true;
    this.say("tracking...");
    this.model.send(request);
  }

  /** The kernel has tracked, or says why not. */
  routed({ error }) {
    this.busy = false;
    this.say(error ?? "", Boolean(error));
    const next = this.wanted;
    this.wanted = null;
    if (next) this.reroute(next);
  }

  /** Draw all printed rows on one canvas, under a line of title, and save it. */
  exportPng() {
    const scale = Math.max(2, devicePixelRatio), rows = this.printed.filter((row) => row.offsetHeight), head = 34, margin = 14;
    const canvas = h("canvas", { width: (this.root.clientWidth + 2) * scale, height: scale * (head + margin + rows.reduce((sum, row) => sum + row.offsetHeight + 8, 0)) });
    const context = canvas.getContext("2d"), left = this.root.getBoundingClientRect().left;
    context.scale(scale, scale), context.fillStyle = "#ffffff", context.fillRect(0, 0, canvas.width, canvas.height);
    context.textBaseline = "middle", context.fillStyle = "#222222", context.font = "600 15px system-ui, sans-serif";
    context.fillText(`${this.video.name}, frame ${this.number(this.t)}`, margin, head / 2);
    let top = head;
    for (const row of rows) {
      const origin = row.getBoundingClientRect().top - top, place = (element) => { const box = element.getBoundingClientRect(); return [box.left - left, box.top - origin, box.width, box.height]; };
      for (const chip of row.querySelectorAll(".rds-chip")) drawChip(context, chip, place(chip));
      for (const picture of row.querySelectorAll("canvas")) context.drawImage(picture, ...place(picture));
      for (const text of textNodes(row)) drawText(context, text, left, origin);
      top += row.offsetHeight + 8;
    }
    canvas.toBlob((blob) => {
      const url = URL.createObjectURL(blob), name = this.video.name.replace(/[^\w.-]+/g, "_");
      h("a", { href: url, download: `${name}-frame-${this.number(this.t)}.png` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    });
  }
}

/** J per frame, mean over those of the chosen objects that have one there; null where none has. */
function meanQuality(run, chosen, length) {
  return range(length).map((t) => {
    const values = chosen.map((id) => run.quality[id]?.[t] ?? null).filter((value) => value !== null);
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
  });
}

/** "#rrggbb" as the lower three bytes of an RGBA pixel in memory order. */
const pixelOf = (colour) => parseInt(colour.slice(5, 7) + colour.slice(3, 5) + colour.slice(1, 3), 16);

function textNodes(row) {
  const walker = document.createTreeWalker(row, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) if (walker.currentNode.data.trim()) found.push(walker.currentNode);
  return found;
}

function drawText(context, node, left, origin) {
  const around = document.createRange(), { fontWeight, fontSize, fontFamily, color } = getComputedStyle(node.parentElement);
  around.selectNodeContents(node);
  const box = around.getBoundingClientRect();
  context.font = `${fontWeight} ${fontSize} ${fontFamily}`, context.fillStyle = color, context.textAlign = "left";
  context.fillText(node.data.trim(), box.left - left, box.top - origin + box.height / 2);
}

function drawChip(context, chip, [x, y, width, height]) {
  const { backgroundColor, backgroundImage, borderTopWidth } = getComputedStyle(chip);
  context.fillStyle = backgroundColor, context.fillRect(x, y, width, height);
  const thin = backgroundImage.includes("40%");
  if (thin) context.fillStyle = "#0072B2", context.fillRect(x, y + height * 0.4, width, height * 0.2);
  else if (backgroundImage !== "none") range(width).forEach((i) => { context.fillStyle = shade(i / width), context.fillRect(x + i, y, 1, height); });
  if (borderTopWidth !== "0px") context.lineWidth = 2, context.strokeStyle = "#000000", context.strokeRect(x + 1, y + 1, width - 2, height - 2);
}

/** What a page has in place of the widget's model: the same keys, all videos at hand, nobody to send to. */
function pageModel({ videos, runs, ...state }) {
  const handlers = {};
  const choose = (name) => Object.assign(state, { sequence: name, video: videos[name], runs: runs[name] });
  choose(state.menu[0]);
  return {
    get: (name) => state[name],
    set(name, value) {
      if (name === "sequence") choose(value), handlers["change:video"]?.();
      else state[name] = value, handlers[`change:${name}`]?.();
    },
    save_changes() {},
    on: (name, handler) => (handlers[name] = handler),
    off: (name) => delete handlers[name],
  };
}

function render({ model, el }) {
  const inspector = new Inspector(model, el);
  return () => inspector.close();
}

/** Show a page's data in an element. */
export function openPage(data, el) {
  const close = render({ model: pageModel(data), el });
  el.querySelector(".rds-inspector").focus({ preventScroll: true }); // so that the keys work at once
  return close;
}

export default { render };
