// The viewer: two pictures, a divider between them, zoom and pan. Everything is in device pixels of the canvas.

const MOST_ZOOM = 16; // device pixels for a pixel of the photo
const FIT_ZOOM = 3; // a small photo is enlarged this much at most
const SHARP = 2; // from this zoom on, pixels are drawn as squares
const GRIP = 24; // CSS pixels from the divider in which a finger takes hold of it
const STEP = 1.25;

export class Stage {
  /** `elements`: root, canvas, bar, and the tags of both sides. `onView()` is called when zoom or divider have changed. */
  constructor({ root, canvas, bar, tags }, onView) {
    Object.assign(this, { root, canvas, bar, tags, onView });
    this.context = canvas.getContext("2d");
    this.split = 0.5;
    this.pointers = new Map();
    this.clear();
    new ResizeObserver(() => this.resize()).observe(root);
    root.addEventListener("pointerdown", (event) => this.press(event));
    root.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) root.addEventListener(name, (event) => this.lift(event));
    root.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    root.addEventListener("dblclick", (event) => this.toggle(event));
    root.addEventListener("keydown", (event) => this.key(event));
  }

  clear() {
    Object.assign(this, { before: null, after: null, size: null, strength: 1, overlays: {} });
    this.bar.hidden = true; // not only from the next frame on
    this.changed();
  }

  /** Shows levels of bitmaps; either may be null. The view is kept while the size stays. */
  show({ before = this.before, after = this.after, strength = this.strength }) {
    const full = (after ?? before)?.[0], old = this.size;
    Object.assign(this, { before, after, strength, size: full ? { width: full.width, height: full.height } : null });
    if (this.size && (old?.width !== full.width || old?.height !== full.height)) this.fit();
    this.changed();
  }

  /** `{left, right}`: what is drawn over each side, `(context, view) => void`. */
  cover(overlays) {
    this.overlays = overlays;
    this.changed();
  }

  get fitted() {
    if (!this.size) return 1;
    return Math.min(this.canvas.width / this.size.width, this.canvas.height / this.size.height, FIT_ZOOM);
  }

  get zoomed() {
    return this.zoom > this.fitted * 1.001;
  }

  /** The divider's place on the canvas. */
  get edge() {
    const [left, right] = this.visible();
    return left + this.split * (right - left);
  }

  visible() {
    return [Math.max(0, this.x), Math.min(this.canvas.width, this.x + this.size.width * this.zoom)];
  }

  resize() {
    const ratio = devicePixelRatio || 1, fit = this.size && !this.zoomed;
    this.canvas.width = Math.max(1, Math.round(this.root.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.root.clientHeight * ratio));
    if (fit) this.fit();
    else if (this.size) this.place(this.x, this.y);
    this.draw(); // at once: a canvas is blank after it has changed its size
  }

  fit() {
    this.zoom = this.fitted;
    this.place(0, 0);
  }

  /** Zooms to `zoom`; the point (x, y) of the canvas stays where it is. */
  zoomTo(zoom, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    if (!this.size) return;
    const next = Math.min(Math.max(zoom, Math.min(1, this.fitted)), MOST_ZOOM), change = next / this.zoom;
    this.zoom = next;
    this.place(x - (x - this.x) * change, y - (y - this.y) * change);
  }

  zoomBy(steps, x, y) {
    this.zoomTo(this.zoom * STEP ** steps, x, y);
  }

  place(x, y) {
    const clamp = (at, room, extent) => (extent <= room ? (room - extent) / 2 : Math.min(0, Math.max(room - extent, at)));
    this.x = Math.round(clamp(x, this.canvas.width, this.size.width * this.zoom));
    this.y = Math.round(clamp(y, this.canvas.height, this.size.height * this.zoom));
    this.changed();
  }

  moveSplit(share) {
    this.split = Math.min(1, Math.max(0, share));
    this.changed();
  }

  changed() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
    });
  }

  draw() {
    const { context, canvas } = this, start = performance.now();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const divided = Boolean(this.before && this.after);
    this.bar.hidden = !divided;
    if (this.size) {
      const edge = divided ? Math.round(this.edge) : this.after ? 0 : canvas.width;
      this.side(0, edge, [[this.before, 1]], this.overlays.left);
      this.side(edge, canvas.width, [[this.strength < 1 && this.before, 1], [this.after, this.strength]], this.overlays.right);
      this.root.style.setProperty("--shape", (this.size.width / this.size.height).toFixed(4));
      if (divided) this.arrange(edge);
    }
    this.root.classList.toggle("divided", divided);
    this.root.classList.toggle("zoomed", Boolean(this.size) && this.zoomed);
    this.drawn = performance.now() - start;
    this.onView();
  }

  /** Puts the divider and the tags where the picture is seen. */
  arrange(edge) {
    const ratio = this.canvas.width / this.root.clientWidth, [left, right] = this.visible();
    const top = Math.max(0, this.y) / ratio, bottom = Math.min(this.canvas.height, this.y + this.size.height * this.zoom) / ratio;
    Object.assign(this.bar.style, { left: `${edge / ratio}px`, top: `${top}px`, height: `${bottom - top}px` });
    const low = `${this.root.clientHeight - bottom}px`; // a label of a box stands above it, so the tags stand below
    Object.assign(this.tags[0].style, { left: `${left / ratio}px`, bottom: low });
    Object.assign(this.tags[1].style, { right: `${this.root.clientWidth - right / ratio}px`, bottom: low });
    this.tags[0].style.visibility = (edge - left) / ratio < this.tags[0].offsetWidth + 24 ? "hidden" : "";
    this.tags[1].style.visibility = (right - edge) / ratio < this.tags[1].offsetWidth + 24 ? "hidden" : "";
  }

  side(left, right, layers, overlay) {
    const { context, canvas } = this;
    if (right <= left) return;
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, canvas.height);
    context.clip();
    for (const [levels, alpha] of layers) if (levels && alpha > 0) this.picture(levels, alpha, left, right);
    overlay?.(context, { x: this.x, y: this.y, zoom: this.zoom, ...this.size });
    context.restore();
  }

  /** Draws what is seen of a picture between two columns, from the smallest level that is fine enough. */
  picture(levels, alpha, left, right) {
    const { context, canvas, size, zoom } = this;
    const level = levels.findLast((bitmap) => bitmap.width >= size.width * zoom * 0.999) ?? levels[0];
    const [across, down] = [level.width / size.width, level.height / size.height];
    const span = (from, to, at, share, most) => {
      const first = Math.max(0, Math.floor(((from - at) / zoom) * share) - 1);
      const last = Math.min(most, Math.ceil(((to - at) / zoom) * share) + 1);
      return [first, Math.max(0, last - first), at + (first / share) * zoom, (Math.max(0, last - first) / share) * zoom];
    };
    const [sx, sw, dx, dw] = span(left, right, this.x, across, level.width);
    const [sy, sh, dy, dh] = span(0, canvas.height, this.y, down, level.height);
    if (!sw || !sh) return;
    context.globalAlpha = alpha;
    context.imageSmoothingEnabled = zoom < SHARP;
    context.imageSmoothingQuality = "medium";
    context.drawImage(level, sx, sy, sw, sh, dx, dy, dw, dh);
    context.globalAlpha = 1;
  }

  point(event) {
    const box = this.root.getBoundingClientRect(), ratio = this.canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio, ratio];
  }

  press(event) {
    if (!this.size || event.button > 0 || event.target.closest("button")) return;
    const [x, y, ratio] = this.point(event);
    this.root.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [x, y]);
    if (this.pointers.size > 1) {
      this.mode = "pinch";
    } else if (this.after && this.before && (!this.zoomed || Math.abs(x - this.edge) < GRIP * ratio)) {
      this.mode = "split";
      this.bar.focus({ preventScroll: true });
      this.splitAt(x);
    } else {
      this.mode = "pan";
      this.root.focus({ preventScroll: true });
    }
    this.root.dataset.mode = this.mode;
    if (event.pointerType === "mouse") event.preventDefault();
  }

  drag(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const [x, y] = this.point(event);
    if (this.mode === "split") this.splitAt(x);
    else if (this.mode === "pan") this.place(this.x + x - last[0], this.y + y - last[1]);
    else if (this.mode === "pinch" && this.pointers.size === 2) this.pinch(event.pointerId, last, [x, y]);
    this.pointers.set(event.pointerId, [x, y]);
  }

  pinch(id, last, next) {
    const other = [...this.pointers].find(([key]) => key !== id)[1];
    const apart = ([x, y]) => Math.max(1, Math.hypot(x - other[0], y - other[1]));
    const middle = ([x, y]) => [(x + other[0]) / 2, (y + other[1]) / 2];
    const [from, to] = [middle(last), middle(next)];
    this.zoomTo(this.zoom * (apart(next) / apart(last)), ...from);
    this.place(this.x + to[0] - from[0], this.y + to[1] - from[1]);
  }

  lift(event) {
    this.pointers.delete(event.pointerId);
    this.mode = this.pointers.size ? "pan" : null;
    this.root.dataset.mode = this.mode ?? "";
  }

  splitAt(x) {
    const [left, right] = this.visible();
    this.moveSplit((x - left) / Math.max(1, right - left));
  }

  wheel(event) {
    // Where the page itself scrolls, a wheel alone must go on to scroll it.
    const scrolls = document.documentElement.scrollHeight > innerHeight + 1;
    if (!this.size || (scrolls && !event.ctrlKey)) return;
    event.preventDefault();
    const [x, y] = this.point(event);
    this.zoomBy(-event.deltaY / (event.deltaMode ? 3 : 100) * (event.ctrlKey ? 3 : 1), x, y);
  }

  toggle(event) {
    const [x, y] = this.point(event);
    if (event.target.closest("button")) return;
    if (this.zoomed) this.fit();
    else this.zoomTo(Math.max(1, this.fitted * 2), x, y);
  }

  key(event) {
    if (!this.size || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button")) return;
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const onBar = event.target === this.bar || !this.zoomed;
    const jump = { PageUp: 0.1, PageDown: -0.1, Home: -1, End: 1 }[event.key];
    if (direction && onBar) {
      const [x, y] = direction;
      this.moveSplit(this.split + (x - y) * (event.shiftKey ? 0.1 : 0.01));
    } else if (direction) {
      const far = 60 * (devicePixelRatio || 1);
      this.place(this.x - direction[0] * far, this.y - direction[1] * far);
    } else if (jump && onBar) this.moveSplit(this.split + jump);
    else if (event.key === "+" || event.key === "=") this.zoomBy(1);
    else if (event.key === "-") this.zoomBy(-1);
    else if (event.key === "0") this.fit();
    else if (event.key === "1") this.zoomTo(1);
    else return;
    event.preventDefault();
  }
}
